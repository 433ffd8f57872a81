"""The upload area: unfinished uploads, and complete files that wait for a task.

    {area}/{file_id}.mp4              a complete file; a task may name its path
    {area}/.incoming/{file_id}.part   an unfinished file; locked while a writer has it open
    {area}/.incoming/{file_id}.json   the facts of an upload, from its start until a task takes it

The length of an unfinished file is the progress of the upload; there is no other counter. Everything here blocks.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from celeriac import json_text
from celeriac.errors import (
    ChecksumMismatchError,
    FileBusyError,
    FileMissingError,
    PayloadTooLargeError,
    StorageFullError,
)
from celeriac.files.names import display_name, safe_extension
from celeriac.files.roots import INCOMING
from celeriac.files.upload_limits import (
    Usage,
    check_number,
    check_room,
    check_size,
    check_type,
    counted_size,
    quota_step,
)
from celeriac.settings import FilesSettings

_FILE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_READ: Final = 1024**2


@dataclass(frozen=True)
class UploadInfo:
    """The facts of an upload. If the client did not send its length, `length` is None until the upload ends."""

    file_id: str
    name: str
    media_type: str
    length: int | None
    created_s: float
    sha256: str | None = None
    #: The text that the client sent (tus: `Upload-Metadata`).
    metadata: str = ""
    resumable: bool = False
    #: The user who made it; None if the caller did not have a user id.
    owner: str | None = None


@dataclass(frozen=True)
class StoredUpload:
    """A complete file in the upload area."""

    info: UploadInfo
    path: Path
    size: int


class UploadArea:
    """The folder of uploads and its rules. Any number of processes may use it at once.

    `known_callers`: whether there is authentication.
    """

    def __init__(self, folder: Path, settings: FilesSettings, *, known_callers: bool = False) -> None:
        self.folder = folder.absolute()
        self.settings = settings
        self._incoming = self.folder / INCOMING
        self._known_callers = known_callers
        #: Who made the uploads that are there; it never changes, so it is read once.
        self._owners: dict[str, str | None] = {}

    def prepare(self) -> None:
        """Make the folders."""
        self._incoming.mkdir(parents=True, exist_ok=True)

    # --- beginning

    def begin(
        self,
        *,
        name: str,
        media_type: str,
        length: int | None,
        metadata: str = "",
        resumable: bool = False,
        owner: str | None = None,
    ) -> UploadInfo:
        """Start a new upload.

        Raises `PayloadTooLargeError`, `FileTypeRefusedError` or `StorageFullError`, and then leaves nothing behind.
        """
        self.prepare()
        kind = check_type(name, media_type, self.settings)
        check_size(length or 0, self.settings)
        info = UploadInfo(
            file_id=str(uuid.uuid4()), name=display_name(name), media_type=kind, length=length,
            created_s=time.time(), metadata=metadata, resumable=resumable, owner=owner,
        )  # fmt: skip
        with _no_room(), self._counting():
            everyone, own = self.usage(owner)
            check_number(everyone, own, self.settings)
            check_room(everyone, own, length or 0, self.settings)
            self._part(info.file_id).touch(exist_ok=False)
            self._write_info(info)
        return info

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Let only one process at a time check for room and take it."""
        with open(self._incoming / "lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def usage(self, owner: str | None = None) -> tuple[Usage, Usage | None]:
        """Return what all uploads take, and what those of `owner` take, None if nobody has a share of their own.

        With authentication, all callers without a user id have one share together.
        """
        everyone, own = Usage(), Usage() if owner is not None or self._known_callers else None
        owners: dict[str, str | None] = {}

        def count(file_id: str, size: int) -> None:
            everyone.add(size)
            if own is not None:
                owners[file_id] = self._owners[file_id] if file_id in self._owners else self._owner(file_id)
                if owners[file_id] == owner:
                    own.add(size)

        with os.scandir(self.folder) as entries:
            for entry in entries:
                if _FILE_ID.fullmatch(file_id := entry.name[:36]):
                    count(file_id, _size(entry))
        with os.scandir(self._incoming) as entries:
            for entry in entries:
                if entry.name.endswith(".part"):
                    file_id = entry.name.removesuffix(".part")
                    info, arrived = self._peek(file_id)
                    count(file_id, counted_size(arrived, info.length if info else 0))
        if own is not None:
            # Only of the uploads that are there.
            self._owners = owners
        return everyone, own

    def _owner(self, file_id: str) -> str | None:
        try:
            return self.info(file_id).owner
        except FileMissingError:
            return None

    def life_s(self, info: UploadInfo, offset: int) -> float:
        """Return how long an unfinished upload is kept after its last change (seconds)."""
        own, empty = self.settings.upload_ttl, self.settings.empty_upload_ttl
        return min(own, empty) if info.resumable and offset == 0 and info.length else own

    def every_id(self) -> list[str]:
        """Return the ids of all uploads that have facts."""
        names = os.listdir(self._incoming) if self._incoming.is_dir() else []
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    # --- writing

    def open(self, file_id: str) -> UploadWriter:
        """Return a writer for an unfinished upload; the upload is locked until the writer is closed.

        Raises `FileMissingError`, and `FileBusyError` while another writer has the upload open.
        """
        self.check_id(file_id)
        try:
            descriptor = os.open(self._part(file_id), os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise FileMissingError(f"there is no unfinished upload {file_id}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise FileMissingError(f"there is no unfinished upload {file_id}")
            info = self.info(file_id)
            self._drop_unverified(file_id, descriptor)
            return UploadWriter(self, info, descriptor)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise FileBusyError(f"another request is writing to the upload {file_id}: try again later") from exc
        except BaseException:
            os.close(descriptor)
            raise

    def offset(self, file_id: str) -> int:
        """Return the number of bytes of an upload that have arrived; raises `FileMissingError`."""
        try:
            return self.look_up(file_id).size
        except FileMissingError:
            info, offset = self._peek(file_id)
            if info is None:
                raise
            return offset

    def _peek(self, file_id: str) -> tuple[UploadInfo | None, int]:
        """Return the facts of an unfinished upload, and the number of its bytes without unverified ones."""
        try:
            info = self.info(file_id)
            offset = self._part(file_id).stat().st_size
            marker = self._unverified(file_id)
            return info, min(offset, int(marker.read_text())) if marker.exists() else offset
        except (FileMissingError, FileNotFoundError, ValueError):
            return None, 0

    # --- whole files

    def look_up(self, file_id: str) -> StoredUpload:
        """Return a complete upload; raises `FileMissingError`."""
        info = self.info(file_id)
        path = self.path_of(info)
        try:
            return StoredUpload(info, path, path.stat(follow_symlinks=False).st_size)
        except FileNotFoundError as exc:
            raise FileMissingError(f"the upload {file_id} is not complete yet, or a task has taken it") from exc

    def digest(self, stored: StoredUpload) -> StoredUpload:
        """Return `stored` with its sha-256, which is computed now if the upload arrived in pieces."""
        if stored.info.sha256 is not None:
            return stored
        try:
            with open(stored.path, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as exc:
            raise FileMissingError(f"a task has taken the upload {stored.info.file_id}") from exc
        info = replace(stored.info, sha256=sha256)
        self._write_info(info)
        return replace(stored, info=info)

    def info(self, file_id: str) -> UploadInfo:
        """Return the facts of an upload; raises `FileMissingError`."""
        self.check_id(file_id)
        try:
            return UploadInfo(**json_text.read(self._info(file_id).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError) as exc:
            raise FileMissingError(f"there is no upload {file_id}") from exc

    def path_of(self, info: UploadInfo) -> Path:
        """Return the path of an upload's file once it is complete."""
        return self.folder / f"{info.file_id}{safe_extension(info.name)}"

    def by_path(self, path: str) -> StoredUpload | None:
        """Return the upload whose complete file has this real path, or None."""
        found = Path(path)
        if str(found.parent) != os.path.realpath(self.folder) or not _FILE_ID.fullmatch(found.name[:36]):
            return None
        try:
            stored = self.look_up(found.name[:36])
        except FileMissingError:
            return None
        return stored if stored.path.name == found.name else None

    def forget(self, file_id: str) -> None:
        """Remove the facts of an upload that a task has taken."""
        self._info(file_id).unlink(missing_ok=True)

    def discard(self, file_id: str) -> None:
        """Remove an upload; raises `FileMissingError`, and `FileBusyError` while a writer has it open."""
        info = self.info(file_id)
        try:
            writer = self.open(file_id)
        except FileMissingError:
            self.path_of(info).unlink(missing_ok=True)
            self.forget(file_id)
        else:
            writer.discard()

    def last_touched_s(self, file_id: str) -> float:
        """Return the time of the last change of an upload, in seconds since the epoch; 0 if nothing is left of it."""
        moments = [0.0]
        for path in (self._info(file_id), self._part(file_id)):
            try:
                moments.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
        return max(moments)

    @staticmethod
    def check_id(file_id: str) -> None:
        """Raise `FileMissingError` if the text cannot be the id of an upload."""
        if _FILE_ID.fullmatch(file_id) is None:
            raise FileMissingError("there is no upload with this id")

    # --- places

    def _part(self, file_id: str) -> Path:
        return self._incoming / f"{file_id}.part"

    def _info(self, file_id: str) -> Path:
        return self._incoming / f"{file_id}.json"

    def _unverified(self, file_id: str) -> Path:
        """Return the path of a file that holds the verified length while an unverified chunk is written."""
        return self._incoming / f"{file_id}.unverified"

    def _write_info(self, info: UploadInfo) -> None:
        draft = self._incoming / f"{info.file_id}.draft"
        draft.write_bytes(json_text.write_bytes(asdict(info)))
        draft.replace(self._info(info.file_id))

    def _drop_unverified(self, file_id: str, descriptor: int) -> None:
        marker = self._unverified(file_id)
        try:
            verified = int(marker.read_text())
        except (FileNotFoundError, ValueError):
            return
        os.ftruncate(descriptor, min(verified, os.fstat(descriptor).st_size))
        marker.unlink()


class UploadWriter:
    """The only writer of an unfinished upload; it appends to the file."""

    def __init__(self, area: UploadArea, info: UploadInfo, descriptor: int) -> None:
        self.info = info
        self.offset = os.fstat(descriptor).st_size
        self._area = area
        self._descriptor = descriptor
        self._sha256 = hashlib.sha256() if self.offset == 0 else None
        self._step = quota_step(area.settings)
        self._chunk: Any = None
        self._chunk_start = 0
        # A request that waits for a write may be cancelled and close the writer while its thread still writes.
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the upload to other writers. Idempotent."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def write(self, data: bytes) -> None:
        """Append; raises `PayloadTooLargeError` beyond the limit or the announced length, and `StorageFullError`."""
        end = self.offset + len(data)
        check_size(end, self._area.settings)
        if self.info.length is not None and end > self.info.length:
            raise PayloadTooLargeError("the upload", end, self.info.length)
        with self._lock, _no_room():
            if self.offset // self._step != end // self._step:
                wanted = len(data) if self.info.length is None else 0
                check_room(*self._area.usage(self.info.owner), wanted, self._area.settings)
            view = memoryview(data)
            while view:
                written = os.write(self._descriptor, view)
                if self._sha256 is not None:
                    self._sha256.update(view[:written])
                if self._chunk is not None:
                    self._chunk.update(view[:written])
                self.offset += written
                view = view[written:]

    def begin_chunk(self, algorithm: str) -> None:
        """Start a chunk whose bytes count only after `end_chunk` has verified their digest."""
        self._chunk = hashlib.new(algorithm, usedforsecurity=False)
        self._chunk_start = self.offset
        self._area._unverified(self.info.file_id).write_text(str(self.offset))

    def end_chunk(self, expected: bytes | None) -> None:
        """Keep the chunk if its digest is `expected`; otherwise drop it. None means that the chunk is incomplete.

        Raises `ChecksumMismatchError` if the digest differs.
        """
        with self._lock:
            right = expected is not None and self._chunk.digest() == expected
            if not right:
                os.ftruncate(self._descriptor, self._chunk_start)
                self.offset = self._chunk_start
                self._sha256 = None
            self._chunk = None
        self._area._unverified(self.info.file_id).unlink(missing_ok=True)
        if not right and expected is not None:
            raise ChecksumMismatchError("the chunk does not match the checksum sent with it: send the chunk again")

    def digest(self) -> bytes:
        """Return the sha-256 of the bytes that have arrived so far."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256()
            position = 0
            while data := os.pread(self._descriptor, _READ, position):
                self._sha256.update(data)
                position += len(data)
        return self._sha256.digest()

    def finish(self) -> StoredUpload:
        """Complete the upload and write it to the disk; raises `StorageFullError`."""
        area, info = self._area, self.info
        sha256 = self._sha256.hexdigest() if self._sha256 is not None else None
        info = replace(info, length=self.offset, sha256=sha256)
        path = area.path_of(info)
        with _no_room():
            os.fsync(self._descriptor)
            area._write_info(info)
            os.rename(area._part(info.file_id), path)
            _sync_folder(area.folder)
        self.close()
        return StoredUpload(info, path, self.offset)

    def discard(self) -> None:
        """Remove the upload with all its bytes."""
        self._area._part(self.info.file_id).unlink(missing_ok=True)
        self._area._unverified(self.info.file_id).unlink(missing_ok=True)
        self._area.forget(self.info.file_id)
        self.close()


def parse_metadata(text: str) -> Mapping[str, bytes]:
    """Parse tus' `Upload-Metadata`: pairs of a key and a base64 value, separated by commas; raises `ValueError`."""
    found: dict[str, bytes] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise ValueError(f"the key {key} appears twice")
        found[key] = base64.b64decode(value, validate=True)
    return found


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # taken by a task meanwhile
        return 0


@contextmanager
def _no_room() -> Iterator[None]:
    """Raise `StorageFullError` if the disk is full."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError(f"the upload area has no room: {exc.strerror}") from exc
        raise
