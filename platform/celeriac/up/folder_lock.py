"""Allow one `celeriac up` per data folder: a lock that the kernel releases when its process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from celeriac.errors import SettingsError

NAME = "up.lock"


class FolderLock:
    """A context manager that holds the lock `DATA_DIR/up.lock`. The file contains the holder's process id."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._handle: int | None = None

    def __enter__(self) -> Self:
        """Take the lock; raises `SettingsError`, which names the process that holds it."""
        import fcntl

        # The file is never removed: otherwise two processes could lock two files of the same name.
        handle = os.open(self._data_dir / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise SettingsError(
                f"`celeriac up` already runs on {self._data_dir} (pid {holder}): stop it, or name another"
                " folder with --data-dir"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        return self

    def __exit__(self, *exc: object) -> None:
        """Release the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
