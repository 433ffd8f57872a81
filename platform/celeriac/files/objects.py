"""Storage for files that several machines share; `files.storage_url` selects the kind.

    file:///mnt/shared           a folder that every machine has mounted
    s3://bucket/prefix           S3, or a storage that speaks its protocol (extra `s3`)

A key names an object, e.g. `videos/{task_id}/result.mp4`; records contain its URL. An object appears whole or not
at all. Everything here blocks.
"""

from __future__ import annotations

import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from celeriac.errors import FileMissingError, FileNotAllowedError, SettingsError
from celeriac.settings import FilesSettings

#: How much is read at once (bytes).
PIECE: Final = 1024**2


@dataclass(frozen=True)
class ObjectFacts:
    """The current facts of an object; `etag` is unquoted and changes with the content."""

    size: int
    etag: str
    modified: datetime


class ObjectStore(ABC):
    """Files by key. Raises `FileMissingError`, and `OSError` if the storage is unavailable or refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def url_of(self, key: str) -> str:
        """Return the URL that names an object in records."""
        return f"{self.url}/{key}"

    def key_of(self, url: str) -> str:
        """Return the key of a URL; raises `FileNotAllowedError` if the URL is not in this storage."""
        key = url.removeprefix(f"{self.url}/")
        if key == url or any(part in ("", ".", "..") for part in key.split("/")):
            raise FileNotAllowedError(f"{url} is not in the storage")
        return key

    @abstractmethod
    def put(self, key: str, path: Path) -> None:
        """Store a file under `key`; an existing object is replaced."""

    @abstractmethod
    def stat(self, key: str) -> ObjectFacts:
        """Return the facts of an object."""

    @abstractmethod
    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `end`."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a folder-like prefix, e.g. `videos/{task_id}`."""

    def fetch(self, key: str, path: Path) -> None:
        """Write an object to a local file, which appears only when it is complete."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with draft.open("xb") as file:
                for piece in self.read(key):
                    file.write(piece)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


class FolderObjects(ObjectStore):
    """Objects stored as files in a folder."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._root = Path(unquote(urlsplit(url).path))

    def put(self, key: str, path: Path) -> None:
        """Store a file; it is on the disk when this returns."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with path.open("rb") as source, draft.open("xb") as file:
                shutil.copyfileobj(source, file, PIECE)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def stat(self, key: str) -> ObjectFacts:
        """Return the facts of an object."""
        try:
            found = (self._root / key).stat()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FileMissingError(f"there is no {key} in the storage") from exc
        return ObjectFacts(
            found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}", datetime.fromtimestamp(found.st_mtime, UTC)
        )

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield a range."""
        try:
            file = (self._root / key).open("rb")
        except FileNotFoundError as exc:
            raise FileMissingError(f"there is no {key} in the storage") from exc
        with file:
            file.seek(start)
            left = None if end is None else end - start
            while piece := file.read(PIECE if left is None else min(PIECE, left)):
                left = None if left is None else left - len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """Remove an object."""
        (self._root / key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix."""
        folder = self._root / prefix
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self._root).as_posix()


def object_store(files: FilesSettings) -> ObjectStore | None:
    """Return the shared storage that the settings select, or None for the local disk; raises `SettingsError`."""
    url = files.storage_url
    if url is None:
        return None
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return FolderObjects(url)
    if scheme == "s3":
        try:
            from celeriac.files.s3 import S3Objects
        except ImportError as exc:
            raise SettingsError("files.storage_url: S3 needs an extra: pip install 'celeriac[s3]'") from exc
        return S3Objects(url, files.s3)
    raise SettingsError(f"files.storage_url: {url!r} is neither s3://BUCKET/PREFIX nor file:///FOLDER")
