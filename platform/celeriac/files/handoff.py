"""A file becomes a task's: the step that must neither lose it nor leave it in two places.

Before anything is moved, a journal entry in `{storage}/.handoff/` names the source. On the same file
system the file is renamed; else it is copied under another name, written to the disk and renamed, and
the source gets a hidden name, so that nobody hands it in once more; it is removed when the task's record
is stored, and the entry says so first. Until the entry is gone, the task's folder is locked. Where the
lock is free and the entry is there, the process died: `Leftover` goes on from whatever is on the disk,
towards the task if its record exists, else back to the source.

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
#: What a copy is called until it is whole.
PARTIAL: Final = ".original.partial"
#: A journal entry of a copy whose task's record is stored: from now on its source may be gone through us.
STORED: Final = ".stored"
#: A journal entry of a handoff that went back, while its submission may still arrive.
VOID: Final = ".void"

_TASK_ID: Final = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True)
class HandedOver:
    """A file that is in its task's folder, and is not quite the task's until `Handoff.finish`."""

    task_id: str
    source: SourceFile
    target: Path
    #: Whether the source is still there, too.
    copied: bool
    #: Descriptors that hold locks: the task's folder, and the source of a copy.
    locks: tuple[int, ...]


class Handoff:
    """Hands files over to the folders of tasks below `storage`; `durable` waits for the disk also after a rename."""

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
        """Stop the copies that are under way: they fail, and their sources stay."""
        self._stopped.set()

    def folder(self, task_id: str) -> Path:
        """Return the folder of a task's files."""
        return self.storage / VIDEOS / task_id

    def renames(self, source: SourceFile) -> bool:
        """Whether the handoff is probably one rename, and no copy."""
        return source.stat.st_dev == os.stat(self.storage / VIDEOS).st_dev

    # --- there

    def take(self, source: SourceFile, task_id: str, name: str) -> HandedOver:
        """Put `source` into the task's folder as `name`; `finish` or `give_back` must follow.

        On success `source` is closed by those. Raises `FileMissingError`, `FileNotAllowedError`,
        `FileBusyError` or `StorageFullError`: then the source is as it was and nothing else is left.
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
                raise FileBusyError("the server is stopping: the file was not taken") from exc
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
            # Another file was put there between our look and the rename.
            self._move_back(target, source.name, source.folder)
            raise FileBusyError(f"{source.path} was replaced while it was taken")
        if self._durable:
            self._disk.sync_folder(target.parent)
        return False

    def _copy(self, source: SourceFile, target: Path, locks: list[int]) -> None:
        if not os.access(os.path.dirname(source.path), os.W_OK | os.X_OK):
            raise FileNotAllowedError(f"{source.path} is in a folder that the server may not take files out of")
        opened = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.folder)
        # Two handoffs of one file: the other one has it, and will remove it.
        locks.append(_lock_file(opened, source.path))
        free = os.statvfs(target.parent)
        if source.stat.st_blocks * 512 > free.f_bavail * free.f_frsize:
            raise StorageFullError(f"the storage has no room for {source.stat.st_size} bytes")
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
        """The task's record is stored: now the file is the task's alone."""
        try:
            journal = self._journal(handed.task_id)
            if handed.copied:
                journal = self._mark_stored(journal)
                self._disk.remove_source(_hidden(handed.source.name, handed.target), handed.source.folder)
            self._disk.drop_note(journal)
        except OSError as exc:
            # The journal entry is still there: the sweeper tries again.
            log.warning("task %s: its source %s is still there: %s", handed.task_id, handed.source.path, exc)
        finally:
            _close(handed.locks)
            handed.source.close()

    def give_back(self, handed: HandedOver, *, certain: bool = True) -> None:
        """There will be no task: put the file where it was. `certain` says that no record can appear any more."""
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
            # The journal entry is still there: the sweeper tries again.
            log.error("task %s: %s did not go back to %s: %s", handed.task_id, handed.target, handed.source.path, exc)
        finally:
            _close(handed.locks)
            handed.source.close()

    # --- what a crash left

    def left_over(self, older_than_s: float) -> Iterator[str]:
        """Yield the tasks with a journal entry of at least this age that nobody works on, as far as one can see."""
        entries = self._entries(older_than_s)
        yield from (entry.removesuffix(STORED) for entry in entries if not entry.endswith(VOID))

    def voided(self) -> Iterator[tuple[str, float]]:
        """Yield the tasks that must not come to be any more, each with the age of its entry in seconds."""
        for entry in self._entries(0):
            if entry.endswith(VOID):
                yield entry.removesuffix(VOID), self._age_s(entry)

    def forget(self, task_id: str) -> None:
        """Drop the entry of a handoff that went back."""
        self._disk.drop_note(_void(self._journal(task_id)))

    def seize(self, task_id: str) -> Leftover | None:
        """Return the handoff that a dead process left, locked; None when somebody is at it, or nothing is left."""
        folder, journal = self.folder(task_id), self._journal(task_id)
        try:
            lock = _lock(folder)
        except BlockingIOError:
            return None
        except FileNotFoundError:
            # It died before it made the folder: nothing else has happened.
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
            # Somebody wrote another file of this name: that one stays, ours stands beside it.
            aside = _aside(name, target)
            log.warning("%s is taken by another file: what was handed in goes back as %s", name, aside)
            self._disk.move_back(target, aside, folder)

    def _mark_stored(self, journal: Path) -> Path:
        stored = journal.with_name(journal.name + STORED)
        self._disk.move_note(journal, stored)
        # The source is on another file system, whose changes may reach the disk before those of this one.
        self._disk.sync_folder(journal.parent)
        return stored

    def _unhide(self, target: Path, name: str, folder: int) -> None:
        hidden = _hidden(name, target)
        try:
            self._disk.unhide(hidden, folder, name)
        except FileExistsError:
            aside = _aside(name, target)
            log.warning("%s is taken by another file: what was handed in goes back as %s", name, aside)
            self._disk.unhide(hidden, folder, aside)

    def _clear(self, folder: Path, *files: Path) -> None:
        for file in files:
            self._disk.remove(file)
        try:
            self._disk.drop_folder(folder)
        except OSError as exc:
            log.warning("%s is not empty and stays: %s", folder, exc)


class Leftover:
    """A handoff that a dead process left behind. Its folder is locked until one of the two ends."""

    def __init__(self, handoff: Handoff, task_id: str, journal: Path, note: str, lock: int) -> None:
        self.task_id = task_id
        self._handoff = handoff
        self._journal = journal
        self._lock = lock
        self._identity, self._name, self.source = _read_note(note)
        self._target = handoff.folder(task_id) / self._name
        self._hidden = _hidden(os.path.basename(self.source), self._target)

    def release(self) -> None:
        """Leave it as it is."""
        os.close(self._lock)

    def settle(self, *, known: bool) -> str:
        """Finish the handoff if the task's record is `known`, else undo it; returns what was done, for the log."""
        disk = self._handoff._disk
        try:
            if known:
                done = self._complete()
                disk.drop_note(self._journal)
            elif self._journal.name.endswith(STORED):
                log.error("task %s: its record was stored and is gone; its file is %s", self.task_id, self._target)
                done = "kept the file of a task whose record is gone"
                disk.drop_note(self._journal)
            else:
                done = self._undo()
                # The record may still be on its way: the entry stays, under another name, for a while.
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
                    # A second name of the very file, or a copy. Its source is not gone through us: it is still
                    # there, or was handed in once more, or its owner did away with it.
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
        """Whether what is in place is the very file that was handed in, and no copy of it."""
        found = os.lstat(self._target)
        return (found.st_dev, found.st_ino) == self._identity[:2]


class _SourcePlace:
    """Where a file came from, as it is now; `folder` is -1 where even that is gone."""

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
        """Whether the file of this identity is there, unchanged."""
        try:
            found = self.stat()
        except OSError:
            return False
        return identity == (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
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
    """Return what the source of a copy is called until the copy is the task's."""
    return f".{_aside(name, target)}"


def _aside(name: str, target: Path) -> str:
    # File systems allow 255 bytes.
    return f"{os.fsencode(name)[:200].decode('utf-8', 'ignore')}.{target.parent.name}"


def _void(journal: Path) -> Path:
    return journal.with_name(journal.name + VOID)


def _lock(folder: Path) -> int:
    """Return a descriptor that locks the folder until it is closed, or the process dies; raises `BlockingIOError`."""
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
        raise FileBusyError(f"{path} is being handed over already") from exc
    except OSError:
        pass  # a file system without locks: two handoffs at the same moment would both get it
    return opened


def _close(descriptors: list[int] | tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _refusal(exc: OSError, path: str) -> CeleriacError:
    if isinstance(exc, FileNotFoundError):
        return FileMissingError(f"there is no file {path}")
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFullError(f"the storage has no room for the file: {exc.strerror}")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
        return FileNotAllowedError(f"{path} may not be taken by the server: {exc.strerror}")
    return CeleriacError(f"{path} could not be handed over: {exc}")
