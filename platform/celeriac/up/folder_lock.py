"""One `celeriac up` per data folder: a lock that the kernel drops with its process, however that ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from celeriac.errors import SettingsError

NAME = "up.lock"


class FolderLock:
    """Holds `DATA_DIR/up.lock`, which names its holder's process id. A context manager."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._handle: int | None = None

    def __enter__(self) -> Self:
        """Take the lock at once, or raise `SettingsError` that names who holds it."""
        import fcntl

        # The file stays when the lock is dropped: removing it would let two processes lock two files of one name.
        handle = os.open(self._data_dir / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise SettingsError(
                f"`celeriac up` already runs on {self._data_dir} (pid {holder}): stop it, or choose another"
                " folder with --data-dir"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        return self

    def __exit__(self, *exc: object) -> None:
        """Drop the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
