"""How commands print: JSON for scripts, text for people, and errors in one line."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import (
    ApiError,
    ApiUnavailableError,
    CeleriacError,
    HistoryUnavailableError,
    KeyFullError,
    QueueFullError,
    StoreUnavailableError,
)
from celeriac.standard_streams import drop_output

#: Exit codes other than 0: the task failed or was cancelled; the input is wrong or names nothing; try again later.
FAILED: Final = 1
WRONG_INPUT: Final = 2
NOT_NOW: Final = 3
INTERRUPTED: Final = 130

#: Control characters beyond those that JSON escapes, and characters that change the direction of text.
_STEERING: Final = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")

_LATER: Final = (StoreUnavailableError, HistoryUnavailableError, ApiUnavailableError, QueueFullError, KeyFullError)


def print_json(document: Any, *, one_line: bool = False) -> None:
    """Write one JSON document to standard output."""
    text = _safe(json_text.describe(document, text=str, indent=not one_line))
    _write(text if _can_write(text) else _NOT_ASCII.sub(_escaped, text))


def print_line(text: str) -> None:
    """Write one line for people to standard output."""
    _write(text)


def print_error(text: str) -> None:
    """Write one line to standard error; do nothing if that is not possible."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"celeriac: {printable(text)}\n")
        sys.stderr.flush()


def finish_output(code: int) -> int:
    """Write what is still buffered, and return the exit code: `code`, or 1 if the output cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
    except (OSError, ValueError) as exc:
        drop_output()
        if not code:
            print_error(output_problem(exc))
            return FAILED
    return code


def output_problem(error: Exception) -> str:
    """Return what is wrong with standard output."""
    return f"cannot write the output: {getattr(error, 'strerror', None) or error}"


def _write(text: str) -> None:
    """Write one line; raises `OSError` if that is not possible. If its reader is gone, exit with 0."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # `celeriac types | head`: nobody reads the rest, which is not an error.
        drop_output()
        raise SystemExit(0) from None
    except OSError as exc:
        raise OSError(exc.errno, output_problem(exc)) from exc


def _escaped(found: re.Match[str]) -> str:
    """Return characters of a JSON text as its escapes, which every encoding has."""
    units = found[0].encode("utf-16-be").hex(" ", 2).split()
    return "".join(f"\\u{unit}" for unit in units)


def _safe(text: str) -> str:
    """Return a JSON text with escapes in place of characters that steer a terminal and that JSON lets through."""
    return _STEERING.sub(_escaped, text)


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable(text: str) -> str:
    """Return `text` on one line and without control characters: a task's text must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.splitlines()))


def indented(value: Any) -> str:
    """Return `value` as indented JSON that is safe on a terminal."""
    return _safe(json_text.describe(value, text=str, indent=True))


def exit_code(error: CeleriacError) -> int:
    """Return the exit code by which a script tells what kind of error this is."""
    later = isinstance(error, _LATER) or (isinstance(error, ApiError) and (error.status >= 500 or error.status == 429))
    return NOT_NOW if later else WRONG_INPUT


def error_text(error: CeleriacError) -> str:
    """Return what went wrong; what a server says is its own sentence, without codes."""
    return error.detail if isinstance(error, ApiError) else str(error)
