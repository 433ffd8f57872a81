"""`celeriac init`: write a small project that works as it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from celeriac.cli.options import on_this_machine
from celeriac.cli.output import print_line
from celeriac.errors import SettingsError

_TEMPLATE: Final = files("celeriac.cli") / "new_project"
_PYTEST_INI: Final = "pytest.ini"
#: The files of a project. They are real files of the package: `celeriac/cli/new_project`.
_FILES: Final = ("mytasks.py", "celeriac.yaml", _PYTEST_INI, "tests/test_mytasks.py")
#: Where pytest looks for its configuration, and by what it knows it.
_PYTEST_SECTIONS: Final = {"pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Run")(on_this_machine(init))


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to; it is made if it does not exist.", show_default="here")
    ] = Path(),
) -> None:
    """Write a small project that works as it is: a task type, its configuration and its tests.

    No existing file is overwritten: if one is in the way, nothing is written, and the exit code is 2.

    For example:  celeriac init reports
    """
    wanted = [name for name in _FILES if name != _PYTEST_INI or not _configures_pytest(folder)]
    if taken := sorted({str(path) for name in wanted for path in _in_the_way(folder, name)}):
        exist = "exists" if len(taken) == 1 else "exist"
        raise SettingsError(f"{', '.join(taken)} {exist} already, and nothing was written: name another folder")
    _write(folder, wanted)
    print_line(f"Wrote {', '.join(str(folder / name) for name in wanted)}.")
    for line in _next_steps(folder, wanted):
        print_line(line)


def _in_the_way(folder: Path, name: str) -> Iterator[Path]:
    """Yield what has the name of this file, also a link that leads nowhere, and what is not a folder but has to be."""
    path = folder / name
    if path.exists() or path.is_symlink():
        yield path
    yield from (parent for parent in path.parents if parent.is_symlink() or parent.exists() if not parent.is_dir())


def _configures_pytest(folder: Path) -> bool:
    """Return whether the project in this folder has a configuration of pytest: ours would go before it."""
    if any((folder / name).exists() for name in (_PYTEST_INI, f".{_PYTEST_INI}")):
        return True
    for name, section in _PYTEST_SECTIONS.items():
        with suppress(OSError, ValueError):
            if section in (folder / name).read_text("utf-8"):
                return True
    return False


def _write(folder: Path, names: list[str]) -> None:
    """Write all files or none; raises `SettingsError` if one has appeared meanwhile, and `OSError`."""
    with _undone_on_error() as made:
        for name in names:
            path = folder / name
            for missing in reversed([parent for parent in (path, *path.parents)[1:] if not parent.exists()]):
                missing.mkdir()
                made.append(missing)
            try:
                with path.open("x", encoding="utf-8") as file:
                    made.append(path)
                    file.write((_TEMPLATE / name).read_text("utf-8"))
            except FileExistsError as exc:
                raise SettingsError(f"{path} exists already, and nothing was written: name another folder") from exc


@contextmanager
def _undone_on_error() -> Iterator[list[Path]]:
    """Remove the files and folders of the yielded list, the last one first, if the block raises."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _next_steps(folder: Path, written: list[str]) -> Iterator[str]:
    yield ""
    yield "Next:"
    if folder != Path():
        yield f"  cd {shlex.quote(str(folder))}"
    if find_spec("redis") is None:
        yield "  pip install 'celeriac[server]'   # what `celeriac up` needs"
    yield "  celeriac up                      # runs the tasks"
    yield "  python mytasks.py                # in another terminal: submits one, and waits for its result"
    if find_spec("pytest") is None:
        yield "  pip install pytest"
    yield "  pytest                           # tests them in milliseconds, without a server"
    if _PYTEST_INI not in written:
        yield 'This folder configures pytest itself: see to it that pythonpath = ["."] is set.'
