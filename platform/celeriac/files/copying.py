"""Copies the content of a file by the fastest method that the kernel has for the two file systems."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from celeriac.errors import FileBusyError

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows
    fcntl = None  # type: ignore[assignment]

#: `_IOW(0x94, 9, int)`, linux/fs.h: share the source's blocks (btrfs, XFS, bcachefs).
_FICLONE: Final = 0x40049409
#: How much one system call copies; small enough to notice a stop soon (bytes).
_PIECE: Final = 64 * 1024**2
_BUFFER: Final = 1024**2

#: Errors that mean that a method does not work for these two file systems, not that the copy failed.
_NOT_THIS_WAY: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.EPERM, errno.EACCES}
)


class CopyStoppedError(Exception):
    """The copy was stopped."""


def copy_content(source: int, target: int, size: int, *, stopped: Callable[[], bool] = lambda: False) -> str:
    """Copy `size` bytes between two open files, keep holes as holes, and return the name of the method used.

    Raises `FileBusyError` if the source became shorter, `CopyStoppedError`, and `OSError`.
    """
    if _reflink(source, target):
        return "reflink"
    means = [_copy_file_range, _sendfile, _read_write]
    for start, end in _extents(source, size):
        while start < end:
            if stopped():
                raise CopyStoppedError
            try:
                copied = means[0](source, target, start, min(end - start, _PIECE))
            except OSError as exc:
                if exc.errno not in _NOT_THIS_WAY or len(means) == 1:
                    raise
                copied = -1
            if copied > 0:
                start += copied
            elif len(means) > 1:
                # Some file systems return 0 if they do not support the method.
                del means[0]
            else:
                raise FileBusyError("the file became shorter while it was copied")
    os.ftruncate(target, size)
    return means[0].__name__.removeprefix("_")


def _reflink(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except (OSError, AttributeError):
        return False
    return True


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which the source has data; one range if the file system cannot tell."""
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # the rest is a hole
                return
            start, end = position, size
        yield start, min(end, size)
        position = end


def _copy_file_range(source: int, target: int, offset: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset, offset)


def _sendfile(source: int, target: int, offset: int, count: int) -> int:
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)


def _read_write(source: int, target: int, offset: int, count: int) -> int:
    data = os.pread(source, min(count, _BUFFER), offset)
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        offset += written
        view = view[written:]
    return len(data)
