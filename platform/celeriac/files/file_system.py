"""The steps of a handoff on the disk. Each step is one atomic change, so a crash can only happen between two steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from celeriac.files.copying import copy_content

#: Errors that mean that the file system does not support hard links, or not to this file.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class FileSystem:
    """The real file system. In all methods, `folder` is a descriptor of the folder that contains `name`."""

    def note(self, path: Path, text: str) -> None:
        """Write a journal entry: a symbolic link whose target is the text.

        The entry appears whole or not at all. It does not need an fsync, because file systems that journal their
        metadata write it before a later rename.
        """
        os.symlink(text, path)

    def move_note(self, path: Path, to: Path) -> None:
        """Rename a journal entry."""
        os.rename(path, to)

    def drop_note(self, path: Path) -> None:
        """Remove a journal entry."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder that does not exist yet."""
        path.mkdir()

    def drop_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def move_in(self, name: str, folder: int, to: Path) -> None:
        """Move a file to `to`, which does not exist yet, on the same file system."""
        os.rename(name, to, src_dir_fd=folder)

    def move_back(self, path: Path, name: str, folder: int) -> None:
        """Move a file to a name that must be free; raises `FileExistsError`."""
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
        """Copy an open file to a new file; returns when the copy is on the disk."""
        target = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            copy_content(source, target, size, stopped=stopped)
            os.fchmod(target, mode)
            os.fsync(target)
        finally:
            os.close(target)

    def rename(self, path: Path, to: Path) -> None:
        """Rename a file within its folder; returns when the change is on the disk."""
        os.rename(path, to)
        self.sync_folder(to.parent)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def hide(self, name: str, folder: int, hidden: str) -> None:
        """Give the source of a copy a hidden name, so that no caller can hand it in again."""
        os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)

    def unhide(self, hidden: str, folder: int, name: str) -> None:
        """Give the hidden source its name back; raises `FileExistsError`."""
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
        """Remove the source of a copy."""
        os.unlink(name, dir_fd=folder)

    def sync_folder(self, path: Path) -> None:
        """Wait until the changes in a folder are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_existing(name: str, folder: int) -> None:
    """Raise `FileExistsError` if the name is taken. The check and a later rename are not atomic."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
