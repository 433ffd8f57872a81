"""The code of README.md and docs/: a stranger does what each page says, in an empty folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.kit.command_line import REPOSITORY
from tests.kit.docs.notebook import Notebook
from tests.kit.docs.pages import blocks_of, pages
from tests.kit.docs.reader import Reader
from tests.kit.docs.terminal import Terminal
from tests.kit.servers import free_port
from tests.kit.up.running_up import RunningUp

#: What `make up` runs.
_QUICKSTART = ("--config", str(REPOSITORY / "examples" / "quickstart.yaml"))


#: They look at everything that a platform does, so they have one for themselves.
_ALONE = {"docs/operations.md"}


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def has_code(path: Path) -> bool:
    return any(block.not_run is None for block in blocks_of(path))


@contextmanager
def running_make_up(data_dir: Path) -> Iterator[Path]:
    executor = f"127.0.0.1:{free_port()}"
    name = "CELERIAC_GRPC_SERVICES__SERVICES__DEMO__ADDRESS"
    with RunningUp(data_dir, *_QUICKSTART, cwd=REPOSITORY, **{name: executor}) as up:
        asyncio.run(up.ready())
        yield data_dir


@pytest.fixture(scope="module")
def make_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The platform of `make up`, which the pages share that need none of their own; its data folder."""
    with running_make_up(tmp_path_factory.mktemp("make-up") / "data") as data_dir:
        yield data_dir


@pytest.mark.parametrize("path", [path for path in pages() if has_code(path)], ids=named)
def test_what_the_page_says_works(path: Path, make_up: Path, valkey_url: str, tmp_path: Path) -> None:
    folder, home = tmp_path / "folder", tmp_path / "bin"
    folder.mkdir()
    home.mkdir()
    with ExitStack() as stack:
        platform = stack.enter_context(running_make_up(tmp_path / "data")) if named(path) in _ALONE else make_up
        terminal = stack.enter_context(Terminal(folder, home))
        notebook = stack.enter_context(Notebook(folder)) if path.name == "notebook.md" else None
        Reader(terminal, make_up=platform, redis=valkey_url, notebook=notebook).read(blocks_of(path))
