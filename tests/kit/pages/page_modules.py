"""The pages' modules without a document, in a process of Node that answers questions."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.command_line import REPOSITORY
from tests.kit.remote.node_packages import node

STATIC = REPOSITORY / "api/celeriac_api/pages/static"
PROGRAM = REPOSITORY / "tests/kit/pages/graph_program.mjs"
#: Runs first: it stands for what Node lacks and a browser has.
READER = REPOSITORY / "tests/kit/pages/reader.mjs"


class PageModules:
    """A process of Node with the modules."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **question: Any) -> Any:
        """Return what `graph_program.mjs` answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)


@contextmanager
def page_modules(folder: Path) -> Iterator[PageModules]:
    """Run the program in `folder`, beside copies of the modules: Node needs to hear that they are modules."""
    for name in ("graph", "texts"):
        shutil.copytree(STATIC / name, folder / name)
    for name in ("dom.js", "schema-form.js", "text.js"):
        shutil.copy(STATIC / name, folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    program = shutil.copy(PROGRAM, folder)
    with subprocess.Popen(
        [node(), "--import", READER.as_uri(), str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield PageModules(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
