"""The handoff of a file to a task, which must neither lose the file nor leave it in two places.

Before the file is moved, a journal entry in `{storage}/.handoff/` names the source. On the same file system the
file is renamed. Across file systems it is copied under a temporary name, written to the disk and renamed; then the
source gets a hidden name, so that no caller can hand it in again. When the task's record is stored, the entry is
marked and the source is removed. The task's folder is locked until the entry is gone. If the lock is free but the
entry exists, the process died. `Leftover` then continues from the state of the disk: it completes the handoff if
the task's record exists, and undoes it otherwise.

Everything here blocks.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from celeriac.errors import CeleriacError, FileBusyError, FileMissingError, FileNotAllowedError, StorageFullError
from celeriac.files.copying import CopyStoppedError
from celeriac.files.file_system import FileSystem
from celeriac.files.roots import SourceFile, open_folder

log = logging.getLogger(__name__)

VIDEOS: Final = "videos"
JOURNAL: Final = ".handoff"
#: The name of a copy until it is complete.
PARTIAL: Final = ".original.partial"
#: Marks the journal entry of a copy whose task's record is stored: the handoff may now remove the source.
STORED: Final = ".stored"
#: Marks the journal entry of a handoff that was undone while its submission may still arrive.
VOID: Final = ".void"

_TASK_ID: Final = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True)
class HandedOver:
    """A file in its task's folder; it belongs to the task only after `Handoff.finish`."""

    task_id: str
    source: SourceFile
    target: Path
    #: Whether the file was copied, so that its source still exists.
    copied: bool
    #: Descriptors that hold the locks of the task's folder and of a copy's source.
    locks: tuple[int, ...]


class Handoff:
    """Hands files over to the folders of tasks below `storage`. If `durable`, a rename waits for the disk too."""

    def __init__(self, storage: Path, *, disk: FileSystem | None = None, durable: bool = False) -> None:
        self.storage = storage.absolute()
        self._disk = disk or FileSystem()
        self._durable = durable
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Make the storage's folders."""
        (self.storage / VIDEOS).mkdir(parents=True, exist_ok=True)
        (self.storage / JOURNAL).mkdir(exist_ok=True)

    def stop(self) -> None:
        """Stop running copies: they fail, and their sources stay."""
        self._stopped.set()

    def folder(self, task_id: str) -> Path:
        """Return the folder of a task's files."""
        return self.storage / VIDEOS / task_id

    def renames(self, source: SourceFile) -> bool:
        """Whether the handoff is probably a rename and not a copy."""
        return source.stat.st_dev == os.stat(self.storage / VIDEOS).st_dev

    # --- there

    def take(self, source: SourceFile, task_id: str, name: str) -> HandedOver:
        """Put `source` into the task's folder as `name`; the caller must then call `finish` or `give_back`.

        These two close `source`. Raises `FileMissingError`, `FileNotAllowedError`, `FileBusyError` or
        `StorageFullError`; then the source is as it was and nothing else is left behind.
        """
        journal, folder = self._journal(task_id), self.folder(task_id)
        locks: list[int] = []
        made = False
        try:
            self._disk.note(journal, _note(source, name))
            self._disk.make_folder(folder)
            made = True
            locks.append(_lock(folder))
            copied = self._put(source, folder / name, locks)
            return HandedOver(task_id, source, folder / name, copied, tuple(locks))
        except BaseException as exc:
            if made:
                self._clear(folder, folder / PARTIAL)
            self._disk.drop_note(journal)
            _close(locks)
            if isinstance(exc, OSError):
                raise _refusal(exc, source.path) from exc
            if isinstance(exc, CopyStoppedError):
                raise FileBusyError("the server is stopping, so the file was not taken: try again later") from exc
            raise

    def _put(self, source: SourceFile, target: Path, locks: list[int]) -> bool:
        try:
            self._disk.move_in(source.name, source.folder, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self._copy(source, target, locks)
            return True
        moved = os.lstat(target)
        if (moved.st_dev, moved.st_ino) != (source.stat.st_dev, source.stat.st_ino):
            # Another file was put there between the check and the rename.
            self._move_back(target, source.name, source.folder)
            raise FileBusyError(f"{source.path} was replaced while it was taken")
        if self._durable:
            self._disk.sync_folder(target.parent)
        return False

    def _copy(self, source: SourceFile, target: Path, locks: list[int]) -> None:
        if not os.access(os.path.dirname(source.path), os.W_OK | os.X_OK):
            raise FileNotAllowedError(f"the server does not have permission to move {source.path} out of its folder")
        opened = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.folder)
        # If another handoff of the same file holds the lock, that one has the file and will remove it.
        locks.append(_lock_file(opened, source.path))
        free = os.statvfs(target.parent)
        if source.stat.st_blocks * 512 > free.f_bavail * free.f_frsize:
            raise StorageFullError(f"the storage does not have room for {source.stat.st_size} bytes")
        partial = target.parent / PARTIAL
        before = os.fstat(opened)
        if not source.same(before):
            raise FileBusyError(f"{source.path} changed while it was taken")
        self._disk.copy(opened, partial, before.st_size, before.st_mode & 0o777, stopped=self._stopped.is_set)
        self._disk.rename(partial, target)
        self._disk.sync_folder(target.parent.parent)
        hidden = _hidden(source.name, target)
        self._disk.hide(source.name, source.folder, hidden)
        moved = os.stat(hidden, dir_fd=source.folder, follow_symlinks=False)
        if not (source.same(moved) and source.same(os.fstat(opened))):
            self._unhide(target, source.name, source.folder)
            self._disk.remove(target)
            raise FileBusyError(f"{source.path} was written to, or replaced, while it was copied")

    def finish(self, handed: HandedOver) -> None:
        """Make the file the task's own, after the task's record is stored."""
        try:
            journal = self._journal(handed.task_id)
            if handed.copied:
                journal = self._mark_stored(journal)
                self._disk.remove_source(_hidden(handed.source.name, handed.target), handed.source.folder)
            self._disk.drop_note(journal)
        except OSError as exc:
            # The journal entry still exists, so the sweeper tries again.
            log.warning("task %s: cannot remove the source %s yet: %s", handed.task_id, handed.source.path, exc)
        finally:
            _close(handed.locks)
            handed.source.close()

    def give_back(self, handed: HandedOver, *, certain: bool = True) -> None:
        """Put the file back where it was, because there will be no task.

        `certain` means that a record of the task cannot appear any more.
        """
        journal = self._journal(handed.task_id)
        try:
            if handed.copied:
                self._unhide(handed.target, handed.source.name, handed.source.folder)
                self._disk.remove(handed.target)
            else:
                self._move_back(handed.target, handed.source.name, handed.source.folder)
            self._clear(handed.target.parent)
            if certain:
                self._disk.drop_note(journal)
            else:
                self._disk.move_note(journal, _void(journal))
        except OSError as exc:
            # The journal entry still exists, so the sweeper tries again.
            log.error("task %s: cannot move %s back to %s: %s", handed.task_id, handed.target, handed.source.path, exc)
        finally:
            _close(handed.locks)
            handed.source.close()

    # --- what a crash left

    def left_over(self, older_than_s: float) -> Iterator[str]:
        """Yield the tasks whose journal entry has at least this age, so that its process may have died."""
        entries = self._entries(older_than_s)
        yield from (entry.removesuffix(STORED) for entry in entries if not entry.endswith(VOID))

    def voided(self) -> Iterator[tuple[str, float]]:
        """Yield the tasks that must not be created any more, each with the age of its entry in seconds."""
        for entry in self._entries(0):
            if entry.endswith(VOID):
                yield entry.removesuffix(VOID), self._age_s(entry)

    def is_doubtful(self, task_id: str) -> bool:
        """Return whether a task's record does not prove that it has its file: the handoff goes on, or was undone."""
        journal = self._journal(task_id)
        return os.path.lexists(journal) or os.path.lexists(_void(journal))

    def forget(self, task_id: str) -> None:
        """Drop the entry of a handoff that was undone."""
        self._disk.drop_note(_void(self._journal(task_id)))

    def seize(self, task_id: str) -> Leftover | None:
        """Return the locked handoff of a dead process; None if a process still works on it or nothing is left."""
        folder, journal = self.folder(task_id), self._journal(task_id)
        try:
            lock = _lock(folder)
        except BlockingIOError:
            return None
        except FileNotFoundError:
            # The process died before it made the folder, so nothing else has happened.
            self._disk.drop_note(journal)
            return None
        for entry in (journal, journal.with_name(task_id + STORED)):
            try:
                return Leftover(self, task_id, entry, os.readlink(entry), lock)
            except FileNotFoundError:
                continue
        os.close(lock)
        return None

    def _entries(self, older_than_s: float) -> Iterator[str]:
        try:
            entries = os.listdir(self.storage / JOURNAL)
        except FileNotFoundError:
            return
        for entry in entries:
            if _TASK_ID.fullmatch(entry.removesuffix(VOID).removesuffix(STORED)) and self._age_s(entry) >= older_than_s:
                yield entry

    def _age_s(self, entry: str) -> float:
        try:
            return time.time() - os.lstat(self.storage / JOURNAL / entry).st_mtime
        except FileNotFoundError:
            return -1.0

    # --- parts

    def _journal(self, task_id: str) -> Path:
        return self.storage / JOURNAL / task_id

    def _move_back(self, target: Path, name: str, folder: int) -> None:
        try:
            self._disk.move_back(target, name, folder)
        except FileExistsError:
            # A new file with this name was written meanwhile. It stays, and ours is put beside it.
            aside = _aside(name, target)
            log.warning("another file is now called %s: the file that was handed in goes back as %s", name, aside)
            self._disk.move_back(target, aside, folder)

    def _mark_stored(self, journal: Path) -> Path:
        stored = journal.with_name(journal.name + STORED)
        self._disk.move_note(journal, stored)
        # The source is on another file system, and its changes may reach the disk before this file system's.
        self._disk.sync_folder(journal.parent)
        return stored

    def _unhide(self, target: Path, name: str, folder: int) -> None:
        hidden = _hidden(name, target)
        try:
            self._disk.unhide(hidden, folder, name)
        except FileExistsError:
            aside = _aside(name, target)
            log.warning("another file is now called %s: the file that was handed in goes back as %s", name, aside)
            self._disk.unhide(hidden, folder, aside)

    def _clear(self, folder: Path, *files: Path) -> None:
        for file in files:
            self._disk.remove(file)
        try:
            self._disk.drop_folder(folder)
        except OSError as exc:
            log.warning("cannot remove the folder %s: %s", folder, exc)


class Leftover:
    """A handoff that a dead process left behind. Its folder is locked until `settle` or `release`."""

    def __init__(self, handoff: Handoff, task_id: str, journal: Path, note: str, lock: int) -> None:
        self.task_id = task_id
        self._handoff = handoff
        self._journal = journal
        self._lock = lock
        self._identity, self._name, self.source = _read_note(note)
        self._target = handoff.folder(task_id) / self._name
        self._hidden = _hidden(os.path.basename(self.source), self._target)

    def release(self) -> None:
        """Leave the handoff as it is and release the lock."""
        os.close(self._lock)

    def settle(self, *, known: bool) -> str:
        """Finish the handoff if the task's record is `known`, else undo it; returns a description for the log."""
        disk = self._handoff._disk
        try:
            if known:
                done = self._complete()
                disk.drop_note(self._journal)
            elif self._journal.name.endswith(STORED):
                log.error("task %s: its record no longer exists, but its file does: %s", self.task_id, self._target)
                done = "kept the file of a task whose record no longer exists"
                disk.drop_note(self._journal)
            else:
                done = self._undo()
                # The record may still arrive, so the entry stays under another name for a while.
                disk.move_note(self._journal, _void(self._journal))
            return done
        finally:
            self.release()

    def _complete(self) -> str:
        self._handoff._disk.remove(self._target.parent / PARTIAL)
        with _SourcePlace(self.source) as place:
            if self._target.exists():
                if place.has(self._hidden):
                    self._handoff._disk.remove_source(self._hidden, place.folder)
                    return "removed the source of a copy"
                return "the file is in its place"
            if place.holds(self._identity):
                source = SourceFile(self.source, place.name, place.folder, place.stat())
                locks: list[int] = []
                try:
                    if self._handoff._put(source, self._target, locks):
                        self._handoff._disk.remove_source(self._hidden, place.folder)
                finally:
                    _close(locks)
                return "moved the file into its place"
        log.error("task %s: its file is neither at %s nor at %s", self.task_id, self._target, self.source)
        return "the file is gone"

    def _undo(self) -> str:
        disk = self._handoff._disk
        done = "nothing had been taken"
        with _SourcePlace(self.source) as place:
            if place.has(self._hidden):
                if place.holds(self._identity):  # it has both names
                    disk.remove_source(self._hidden, place.folder)
                else:
                    self._handoff._unhide(self._target, place.name, place.folder)
                done = f"gave {self.source} its name back"
            if self._target.exists():
                if place.holds(self._identity) or not self._is_moved():
                    # It is a second name of the same file, or a copy. This handoff did not remove the source: it
                    # still exists, or it was handed in again, or its owner removed it.
                    disk.remove(self._target)
                    done += ", removed the copy"
                elif place.folder >= 0:
                    self._handoff._move_back(self._target, place.name, place.folder)
                    done = f"put the file back to {self.source}"
                else:
                    raise FileNotFoundError(errno.ENOENT, "the source's folder is gone", self.source)
        self._handoff._clear(self._target.parent, self._target.parent / PARTIAL)
        return done

    def _is_moved(self) -> bool:
        """Whether the file in the task's folder is the one that was handed in, and not a copy of it."""
        found = os.lstat(self._target)
        return (found.st_dev, found.st_ino) == self._identity[:2]


class _SourcePlace:
    """The current state of the place that a file came from; `folder` is -1 if the folder no longer exists."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = os.path.basename(path)
        self.folder = -1

    def __enter__(self) -> _SourcePlace:
        try:
            self.folder = open_folder(os.path.dirname(self._path))
        except OSError:
            self.folder = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder >= 0:
            os.close(self.folder)

    def stat(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def holds(self, identity: tuple[int, ...]) -> bool:
        """Whether the file with this identity is there, unchanged."""
        try:
            found = self.stat()
        except OSError:
            return False
        return identity == (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def has(self, name: str) -> bool:
        """Whether the folder has a file with this name."""
        try:
            os.stat(name, dir_fd=self.folder, follow_symlinks=False)
        except OSError:
            return False
        return True


def _note(source: SourceFile, name: str) -> str:
    found = source.stat
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {name} {source.path}"


def _read_note(note: str) -> tuple[tuple[int, ...], str, str]:
    device, inode, size, mtime, name, path = note.split(" ", 5)
    return (int(device), int(inode), int(size), int(mtime)), name, path


def _hidden(name: str, target: Path) -> str:
    """Return the name of a copy's source until the copy belongs to the task."""
    return f".{_aside(name, target)}"


def _aside(name: str, target: Path) -> str:
    # File systems allow 255 bytes.
    return f"{os.fsencode(name)[:200].decode('utf-8', 'ignore')}.{target.parent.name}"


def _void(journal: Path) -> Path:
    return journal.with_name(journal.name + VOID)


def _lock(folder: Path) -> int:
    """Return a descriptor that locks the folder until it is closed or the process dies; raises `BlockingIOError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_file(opened: int, path: str) -> int:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(opened)
        raise FileBusyError(f"{path} is already being handed over") from exc
    except OSError:
        pass  # a file system without locks: two simultaneous handoffs would both get the file
    return opened


def _close(descriptors: list[int] | tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _refusal(exc: OSError, path: str) -> CeleriacError:
    if isinstance(exc, FileNotFoundError):
        return FileMissingError(f"there is no file {path}")
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFullError(f"the storage does not have room for the file: {exc.strerror}")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
        return FileNotAllowedError(f"the server may not take {path}: {exc.strerror}")
    return CeleriacError(f"cannot hand over {path}: {exc}")
