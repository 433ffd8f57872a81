"""Sync the embedded store's writes to the disk, once a second."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from celeriac.store.roles.role import Role
from celeriac.up.embedded import EmbeddedStore

_INTERVAL_S = 1.0


class DiskSync(Role):
    """Does what `appendfsync everysec` would do, without its gap (docs/decisions/0013).

    While the server syncs by itself, it may answer before it has passed a write to the operating system, and would
    lose that write if it were killed. So this process syncs, and the server passes on every write before it answers.
    """

    def __init__(self, *, store: EmbeddedStore, say: Callable[[str], None]) -> None:
        super().__init__()
        self._store = store
        self._say = say
        self._failed = False

    async def step(self) -> float:
        """Sync once. If that fails, the server syncs by itself from now on, and refuses writes until it can."""
        try:
            await asyncio.to_thread(self._sync)
        except OSError as exc:
            if not self._failed:
                self._say(f"cannot sync the store's append-only file to the disk: {exc.strerror or exc}")
            self._failed = True
            with suppress(OSError, TimeoutError):
                await self._store.sync_by_itself()
        return _INTERVAL_S

    def _sync(self) -> None:
        for path in self._store.append_only_files():
            with suppress(FileNotFoundError):  # rewritten a moment ago
                handle = os.open(path, os.O_RDONLY)
                try:
                    _to_disk(handle)
                finally:
                    os.close(handle)


def _to_disk(handle: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # on macOS, fsync only reaches the drive's cache
    elif sys.platform != "win32":
        os.fdatasync(handle)
