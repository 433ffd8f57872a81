"""Which file of a task may be read, and as what it is sent."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from celeriac.errors import FileMissingError, FileNotAllowedError
from celeriac.files.names import media_type_of, safe_extension
from celeriac.files.objects import ObjectStore
from celeriac.model import Status, Task
from celeriac.tasks.types.file_process import FILE_PROCESS

#: What a browser may show: it runs no script and refers to nothing. SVG and HTML are not among it.
_INERT: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/tiff"),
        *("video/mp4", "video/webm", "video/quicktime", "video/x-matroska", "video/mp2t", "video/x-msvideo"),
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/flac", "audio/x-wav", "audio/wav", "audio/webm"),
        *("text/plain", "application/json", "application/zip", "application/gzip", "application/zstd"),
    }
)


@dataclass(frozen=True)
class Download:
    """A file to send, on the disk or in a shared storage. `name` is what a browser calls it, `etag` is a strong one."""

    path: str
    name: str
    media_type: str
    size: int
    modified_s: float
    etag: str
    #: Of a file on the disk.
    stat: os.stat_result | None = None
    #: Where it is otherwise; `path` is its key there.
    objects: ObjectStore | None = None

    @property
    def shows(self) -> bool:
        """Whether a browser can show or play it."""
        return self.media_type.partition("/")[0] in ("image", "video", "audio")


def result_path(task: Task) -> str:
    """Return where the result of a task is; raises `FileMissingError` while there is none."""
    path = task.extra.get("result_file_path")
    if task.status is not Status.COMPLETED:
        raise FileMissingError(f"task {task.task_id} is {task.status.wire}: it has no result file")
    if not path:
        raise FileMissingError(f"the result of task {task.task_id} is no file")
    return path


def original_path(task: Task) -> str:
    """Return where the file that a task works on is; raises `FileMissingError` where there is none."""
    path = task.extra.get("original_file_path")
    if not path and task.type == FILE_PROCESS.name and isinstance(task.payload, dict):
        path = task.payload.get("path")
    if not path or not isinstance(path, str):
        raise FileMissingError(f"task {task.task_id} was given no file")
    return path


def original_display_name(task: Task) -> str:
    """Return what the original was called by whoever handed it in, as far as that is known."""
    return task.extra.get("original_file_name") or Path(original_path(task)).name


def open_download(real: str, name: str) -> Download:
    """Return the file at a real path that may be read; raises `FileMissingError` or `FileNotAllowedError`. Blocks."""
    try:
        found = os.lstat(real)
    except OSError as exc:
        raise FileMissingError("the file is gone") from exc
    if not stat.S_ISREG(found.st_mode):
        raise FileNotAllowedError("that is no regular file")
    identity = f"{found.st_dev}-{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    return Download(real, name, _sent_as(name, real), found.st_size, found.st_mtime, _etag(identity), stat=found)


def open_object(objects: ObjectStore, url: str, name: str) -> Download:
    """Return a file of the shared storage; raises `FileMissingError` or `FileNotAllowedError`. Blocks."""
    key = objects.key_of(url)
    found = objects.stat(key)
    etag, modified_s = _etag(found.etag), found.modified.timestamp()
    return Download(key, name, _sent_as(name, key), found.size, modified_s, etag, objects=objects)


def _sent_as(name: str, path: str) -> str:
    kind = media_type_of(name if safe_extension(name) else path) or ""
    return kind if kind in _INERT else "application/octet-stream"


def _etag(identity: str) -> str:
    return f'"{sha256(identity.encode()).hexdigest()[:32]}"'
