"""Notices that files have changed, by looking at them: it works on every file system, and misses no way of writing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: What is compared of a file: when it was written, its size, and which file it is (editors write by rename).
_Stamp = tuple[int, int, int] | None
#: At most so many files are looked at.
_MOST: Final = 20_000


class FileWatch:
    """The files that a program was made of, and how they looked when it read them."""

    def __init__(self) -> None:
        self._stamps: dict[str, _Stamp] = {}
        #: Files that had changed already when they were added.
        self._late: set[str] = set()

    def add(self, files: Iterable[str], *, read_since: float | None = None) -> None:
        """Look at further files. One that was written after `read_since` (seconds since the epoch) has changed."""
        for file in files:
            if file in self._stamps or len(self._stamps) >= _MOST:
                continue
            stamp = self._stamps[file] = _stamp(file)
            # A file from the future says nothing: a clock is wrong.
            if stamp is not None and read_since is not None and read_since < stamp[0] / 1e9 <= time.time():
                self._late.add(file)

    def changed(self) -> set[str]:
        """Return the files that have changed since the last call: written, replaced, deleted or made."""
        found, self._late = self._late, set()
        for file, before in self._stamps.items():
            now = _stamp(file)
            if now != before:
                self._stamps[file] = now
                found.add(file)
        return found

    def folders(self) -> set[str]:
        """Return the folders of the files, in which a missing one may appear."""
        return {os.path.dirname(file) for file in self._stamps}


def _stamp(file: str) -> _Stamp:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def shown_files(files: Iterable[str], most: int = 3) -> str:
    """Return files for people: relative to this folder, and only some of many."""
    here = Path.cwd()
    names = sorted(str(Path(f).relative_to(here)) if Path(f).is_relative_to(here) else f for f in files)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
