"""The standard streams of a process, usable wherever it was started: closed, full, or in an encoding of few letters.

A shell can start a program with `>&-`. Then the program has no standard output, and the next file that it opens gets
number 1: what it prints would end in that file. A terminal or a pipe may have an encoding that lacks most characters,
and a text from elsewhere may have half a surrogate pair, which no encoding has.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Final, TextIO

#: If this variable is `1`, a parent process shows what this one writes on a terminal with colours.
COLOURS_MARK: Final = "_CELERIAC_COLOURS"


def prepare_standard_streams() -> None:
    """Open what is closed, and let characters that a stream cannot write become `?`. It may be called again."""
    _occupy()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = _Closed() if name == "stdout" else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


def shows_colours(stream: TextIO) -> bool:
    """Return whether to write colours to a stream: it is a terminal, and nobody has set `NO_COLOR` (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty() or os.environ.get(COLOURS_MARK) == "1"


def drop_output() -> None:
    """Let what is still to be written to standard output vanish, so that the interpreter ends without a word."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    except OSError:  # no file descriptor is left: the interpreter ends with its own complaint
        return


def _occupy() -> None:
    """Open the null device as each standard file that is closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, because those below it are open.
            os.open(os.devnull, os.O_RDWR)


class _Closed(io.TextIOBase):
    """A standard output that was closed before the process began: writing fails, as it does on a closed file."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return 1

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")
