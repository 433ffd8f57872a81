"""How commands print: JSON for scripts, text for people, and errors in one line."""

from __future__ import annotations

import sys
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import CeleriacError, HistoryUnavailableError, QueueFullError, StoreUnavailableError

#: Exit codes other than 0: the task failed or was cancelled; the input is wrong or names nothing; try again later.
FAILED: Final = 1
WRONG_INPUT: Final = 2
NOT_NOW: Final = 3
INTERRUPTED: Final = 130

_LATER: Final = (StoreUnavailableError, HistoryUnavailableError, QueueFullError)


def print_json(document: Any, *, one_line: bool = False) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json_text.describe(document, text=str, indent=not one_line) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """Write one line for people to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"celeriac: {printable(text)}\n")


def printable(text: str) -> str:
    """Return `text` on one line and without control characters: a task's text must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.splitlines()))


def indented(value: Any) -> str:
    """Return `value` as indented JSON that is safe on a terminal (JSON escapes control characters)."""
    return json_text.describe(value, text=str, indent=True)


def exit_code(error: CeleriacError) -> int:
    """Return the exit code by which a script tells what kind of error this is."""
    return NOT_NOW if isinstance(error, _LATER) else WRONG_INPUT
