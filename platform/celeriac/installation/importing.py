"""Imports code of a project, and says in one line where and why that failed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from celeriac.errors import CeleriacError, SettingsError

#: Code of these packages only carries out an import; it is not where it failed.
_CARRIERS: Final = ("importlib", "celery", "kombu", "celeriac", "celeriac_tasks", "django")
#: How much of an exception's text is shown (characters).
_SHOWN: Final = 300


class _ImportFailedError(SettingsError):
    """Says already where an import failed and why."""


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Raise whatever the import of `name` in this block raises as a `SettingsError` with file and line."""
    try:
        yield
    except (KeyboardInterrupt, _ImportFailedError):
        raise
    except BaseException as exc:  # a module may end the process, too
        raise failed_import(name, exc) from exc


def failed_import(name: str, error: BaseException) -> SettingsError:
    """Return the error for an import that raised: where, and what in one line."""
    said = " ".join(str(error).split())[:_SHOWN]
    if isinstance(error, SyntaxError):
        said = f"{type(error).__name__}: {error.msg}"
    elif not isinstance(error, CeleriacError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    place = place_of(error)
    return _ImportFailedError(f"importing {name} failed{f' in {place}' if place else ''}: {said}")


def place_of(error: BaseException) -> str | None:
    """Return the file and line of the project's code that raised, None if it was not code of the project."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not any(Path(frame.filename).is_relative_to(p) for p in _carriers())
    ]
    # The project's own code says more than what it calls.
    here = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())] or frames
    return f"{_shown(here[-1].filename)}, line {here[-1].lineno}" if here else None


def files_of(error: BaseException) -> list[str]:
    """Return the files that an error names: those of its traceback, and those of the errors behind it."""
    files = [error.filename] if isinstance(error, SyntaxError) and error.filename else []
    files += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    behind = error.__cause__ or error.__context__
    return files + (files_of(behind) if behind is not None else [])


def _carriers() -> list[Path]:
    return [Path(file).parent for name in _CARRIERS if (file := getattr(sys.modules.get(name), "__file__", None))]


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
