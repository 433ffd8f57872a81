"""Which files may be handed in: regular files inside the allowed roots, except the platform's own files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

from celeriac.errors import FileMissingError, FileNotAllowedError
from celeriac.settings import Settings

#: With this flag, opening a folder on the way does not need permission to list it.
_O_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
#: The longest path. A journal entry contains it and is a symbolic link, which holds at most 4,095 bytes.
MAX_PATH_BYTES: Final = 3800
#: The folder in the upload area for unfinished files and the facts of each upload.
INCOMING: Final = ".incoming"

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class SourceFile:
    """A file that may be handed in, found without following links that could change meanwhile.

    `path` is its real path; `folder` is an open descriptor of the folder that contains `name`.
    """

    path: str
    name: str
    folder: int
    stat: os.stat_result

    def close(self) -> None:
        """Close the folder's descriptor."""
        os.close(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def same(self, other: os.stat_result) -> bool:
        """Whether `other` is the same file, unchanged."""
        return _identity(self.stat) == _identity(other)


class AllowedRoots:
    """The folders that files may come from. Nothing in `protected` may be handed in."""

    def __init__(self, roots: Iterable[Path], *, protected: Iterable[Path] = ()) -> None:
        self._rules = {os.path.realpath(path): True for path in roots}
        # What is protected comes last: a root that is the same folder does not open it. A root inside of it does.
        self._rules |= {os.path.realpath(path): False for path in protected}

    @classmethod
    def of(cls, settings: Settings, *, configuration: Iterable[Path] = ()) -> Self:
        """Return the roots that the settings allow, with the platform's own files protected.

        These are the whole data folder (but not the upload area), the files of tasks, the files that hold the
        `configuration`, the history's file, and the files that hold keys of TLS.
        """
        files, data_dir = settings.files, settings.data_dir
        storage, uploads = files.storage_path, files.upload_folder(data_dir)
        own = [data_dir, storage / "videos", storage / ".handoff", storage / ".fetched", uploads / INCOMING]
        # Names with which a file of the data folder cannot be reached through a root inside of it.
        own += [data_dir / name for name in ("valkey", "run.json", "up.lock", "token_secret", "flower_password")]
        own += [*configuration, *_history_files(settings.history_url), *_key_files(settings)]
        roots = files.roots(data_dir)
        if any(_within(uploads, root) for root in roots):
            roots = [uploads, *roots]
        return cls(roots, protected=own)

    def contain(self, path: str) -> bool:
        """Whether a real path is inside the roots; the rule for the deepest folder decides."""
        while True:
            if (rule := self._rules.get(path)) is not None:
                return rule
            parent = os.path.dirname(path)
            if parent == path:
                return False
            path = parent

    def resolve(self, path: str) -> str:
        """Return the real path; raises `FileNotAllowedError` if it is outside the roots."""
        if not path:
            raise FileNotAllowedError("the path is empty")
        if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
            raise FileNotAllowedError("the path is not valid: it is too long or contains a zero byte")
        real = os.path.realpath(path)
        if not self.contain(real):
            raise FileNotAllowedError(f"{path} is outside the folders that files may come from (ALLOWED_FILE_ROOTS)")
        return real

    def open(self, path: str) -> SourceFile:
        """Find a file that may be handed in; the caller must close it.

        Raises `FileNotAllowedError` if it is not a regular file inside the roots, and `FileMissingError`.
        """
        real = self.resolve(path)
        try:
            return _find(real, path)
        except FileNotFoundError as exc:
            raise FileMissingError(f"there is no file {path}") from exc
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotAllowedError(f"a part of the path {path} is not a folder") from exc
            raise FileNotAllowedError(f"{path} cannot be reached: {exc.strerror}") from exc


def kind_of(mode: int) -> str:
    """Return a readable name for the kind of a path that is not a regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def open_folder(path: str) -> int:
    """Return a descriptor of the folder with this real path; does not follow symbolic links on the way."""
    folder = os.open("/", _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in filter(None, path.split("/")):
            deeper = os.open(part, _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = deeper
    except BaseException:
        os.close(folder)
        raise
    return folder


def _history_files(url: str) -> list[Path]:
    """Return the file of a SQLite database, and those that SQLite keeps beside it."""
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite") or not path:
        return []
    file = unquote(path.partition("?")[0])
    return [Path(f"{file}{end}") for end in ("", "-wal", "-shm", "-journal")]


def _within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _key_files(settings: Settings) -> list[Path]:
    """Return the files of TLS that settings name."""
    sections = [settings.access.tls, *(service.tls for service in settings.grpc_services.services.values())]
    return [path for tls in sections if tls is not None for path in (tls.key_file, tls.cert_file) if path is not None]


def _find(real: str, path: str) -> SourceFile:
    folder = open_folder(os.path.dirname(real))
    try:
        name = os.path.basename(real)
        found = os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotAllowedError(f"{path} is {kind_of(found.st_mode)}, not a file")
        return SourceFile(real, name, folder, found)
    except BaseException:
        os.close(folder)
        raise


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
