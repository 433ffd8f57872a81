"""The steps of a handoff on the disk. Each is one change that is there or is not; a crash falls between two."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from celeriac.files.copying import copy_content

#: What says that there are no hard links here, or not of this file.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class FileSystem:
    """The system's files. `folder` is a descriptor of the folder that `name` is in."""

    def note(self, path: Path, text: str) -> None:
        """Write a journal entry: a symbolic link that leads nowhere holds the text.

        It appears whole or not at all, and costs no fsync: file systems that journal their metadata
        write it before a rename that comes after it.
        """
        os.symlink(text, path)

    def move_note(self, path: Path, to: Path) -> None:
        """Give a journal entry another name."""
        os.rename(path, to)

    def drop_note(self, path: Path) -> None:
        """Remove a journal entry."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder that is not there yet."""
        path.mkdir()

    def drop_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def move_in(self, name: str, folder: int, to: Path) -> None:
        """Move a file to `to`, on the same file system; nothing is there yet."""
        os.rename(name, to, src_dir_fd=folder)

    def move_back(self, path: Path, name: str, folder: int) -> None:
        """Move a file to where nothing must be; raises `FileExistsError`."""
        try:
            os.link(path, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            _refuse_existing(name, folder)
            os.rename(path, name, dst_dir_fd=folder)
        else:
            self.remove(path)

    def copy(self, source: int, to: Path, size: int, mode: int, *, stopped: Callable[[], bool]) -> None:
        """Copy an open file to a new one, until it is on the disk."""
        target = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            copy_content(source, target, size, stopped=stopped)
            os.fchmod(target, mode)
            os.fsync(target)
        finally:
            os.close(target)

    def rename(self, path: Path, to: Path) -> None:
        """Rename a file within its folder, until that is on the disk."""
        os.rename(path, to)
        self.sync_folder(to.parent)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def hide(self, name: str, folder: int, hidden: str) -> None:
        """Give the file that was copied another name, under which nobody hands it in again."""
        os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)

    def unhide(self, hidden: str, folder: int, name: str) -> None:
        """Give it its name back; raises `FileExistsError`."""
        try:
            os.link(hidden, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            _refuse_existing(name, folder)
            os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            self.remove_source(hidden, folder)

    def remove_source(self, name: str, folder: int) -> None:
        """Remove the file that was copied."""
        os.unlink(name, dir_fd=folder)

    def sync_folder(self, path: Path) -> None:
        """Wait until what changed in a folder is on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_existing(name: str, folder: int) -> None:
    """Raise `FileExistsError` if it is so; between this look and a rename there is a moment."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
