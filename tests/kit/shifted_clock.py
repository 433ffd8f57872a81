"""Processes whose clock is wrong, and jumps while they run (libfaketime)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

LIBRARY: Final = next(
    (
        library
        for folder in ("x86_64-linux-gnu/faketime", "aarch64-linux-gnu/faketime", "faketime")
        if (library := Path("/usr/lib", folder, "libfaketimeMT.so.1")).exists()
    ),
    None,
)

#: For tests that cannot do without it. Their programs must start in an interpreter of their own: it is a library.
needs_faketime: Final = pytest.mark.skipif(
    LIBRARY is None, reason="libfaketime is missing, which shifts clocks: apt install faketime"
)


class ShiftedClock:
    """How far the clock of a process is ahead of this machine's; a negative number of hours is behind."""

    def __init__(self, file: Path, hours: float) -> None:
        self._file = file
        self.jump(hours)

    def jump(self, hours: float) -> None:
        """Set the clock anew, also of processes that run already."""
        # A process reads the file at every look at its clock, so it must not find half of a line.
        new = self._file.with_suffix(".new")
        new.write_text(f"{round(hours * 3600):+d}s\n")
        new.replace(self._file)

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment for a process with this clock. Pauses and timeouts last as long as they say."""
        return {
            **(os.environ if base is None else base),
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
