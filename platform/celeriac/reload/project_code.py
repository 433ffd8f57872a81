"""The code and the configuration of a project: whether they can be used, and when they change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from celeriac.reload.file_watch import FileWatch
from celeriac.reload.import_check import Checked, check_imports

#: How often the files are looked at, and how long all of them must stay the same after a change (seconds).
_LOOK_S: Final = 0.3
_QUIET_S: Final = 0.15
#: After this long (seconds) a change counts although others follow it.
_LONGEST_S: Final = 5.0
#: Most folders in which a missing module is looked for, and most names of each.
_MOST_FOLDERS: Final = 200
_MOST_NAMES: Final = 2000


class ProjectCode:
    """What a project's processes are made of. `argv` only imports it (see `check_imports`); None: it has no code.

    `configuration` are files that need not exist. `tie`: see `check_imports`.
    """

    def __init__(
        self,
        argv: Sequence[str] | None,
        *,
        environ: Mapping[str, str],
        configuration: Iterable[str] = (),
        tie: Callable[[], None] | None = None,
    ) -> None:
        self.configuration = frozenset(configuration)
        #: What keeps the project from being imported, as of the last check.
        self.problem: str | None = None
        self._argv = argv
        self._tie = tie
        self._environ = environ
        self._watch = FileWatch()
        self._watch.add(self.configuration)
        self._listings: dict[str, frozenset[str]] = {}

    async def check(self) -> str | None:
        """Import the project in a process of its own; returns what is wrong with it, in one sentence."""
        checked = Checked() if self._argv is None else await check_imports(self._argv, self._environ, tie=self._tie)
        self.add(checked.files, checked.began)
        self.problem = checked.problem
        # A module that is missing may appear.
        self._listings = {} if checked.problem is None else _listings_of(self._watch.folders())
        return self.problem

    def add(self, files: Iterable[str], read_since: float) -> None:
        """Watch files that a process has imported which began at that time (seconds since the epoch)."""
        self._watch.add(files, read_since=read_since)

    async def next_change(self) -> set[str]:
        """Wait until files have changed and nothing more does, and return them; empty if only a new one appeared."""
        clock = asyncio.get_running_loop().time
        while True:
            found = self._watch.changed()
            appeared = self._listings != {folder: _listing(folder) for folder in self._listings}
            if found or appeared:
                break
            await asyncio.sleep(_LOOK_S)
        until = clock() + _LONGEST_S
        while clock() < until:
            await asyncio.sleep(_QUIET_S)
            more = self._watch.changed()
            if not more:
                break
            found |= more
        if appeared:
            self._listings = {folder: _listing(folder) for folder in self._listings}
        return found


def _listings_of(folders: set[str]) -> dict[str, frozenset[str]]:
    here = os.getcwd()
    below = [os.path.join(here, name) for name in _listing(here)]
    every = sorted({here, *folders, *(path for path in below if os.path.isdir(path))})
    return {folder: _listing(folder) for folder in every[:_MOST_FOLDERS]}


def _listing(folder: str) -> frozenset[str]:
    """Return the modules of a folder, and its folders in which there may be some."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_NAMES), strict=False)]
    except OSError:
        return frozenset()
    return frozenset(name for name in names if name.endswith(".py") or not ("." in name or name.startswith("__")))
