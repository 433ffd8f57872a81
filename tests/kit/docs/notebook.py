"""A Jupyter notebook in a folder: a real kernel, in an interpreter of its own."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.kit import warm_python
from tests.kit.command_line import clean_environment
from tests.kit.waiting import PATIENCE_S


class Notebook:
    """Cells, run one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._document = nbformat.v4.new_notebook()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        manager = KernelManager()
        assert manager.kernel_spec is not None
        manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self._client = NotebookClient(self._document, km=manager, timeout=int(PATIENCE_S))
        # The kernel gets a socket of its parent, which a program of the warm server cannot.
        with warm_python.fresh():
            self._stack.enter_context(self._client.setup_kernel(cwd=str(self._folder), env=clean_environment()))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, cell: str) -> str:
        """Run a cell and return what it printed; raises `AssertionError` with its traceback if it fails."""
        self._document.cells.append(nbformat.v4.new_code_cell(cell))
        done = self._client.execute_cell(self._document.cells[-1], len(self._document.cells) - 1)
        return "".join(output.get("text", "") for output in done.outputs)
