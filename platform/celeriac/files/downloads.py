"""Finds the files of a task that may be downloaded, and the media type to send them with."""

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
from celeriac.tasks.task_type import TypeHooks

#: Types that a browser may show, because they cannot run scripts or refer to other resources. SVG and HTML can.
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
    """A file to send, from the disk or a shared storage. `name` is the browser's file name; `etag` is strong."""

    path: str
    name: str
    media_type: str
    size: int
    modified_s: float
    etag: str
    #: Set for a file on the disk.
    stat: os.stat_result | None = None
    #: Set for a file in a shared storage; `path` is then its key there.
    objects: ObjectStore | None = None

    @property
    def shows(self) -> bool:
        """Whether a browser can show or play it."""
        return self.media_type.partition("/")[0] in ("image", "video", "audio")


def result_path(task: Task) -> str:
    """Return the path or URL of a task's result file; raises `FileMissingError` if there is none."""
    path = task.result_file_path
    if task.status is not Status.COMPLETED:
        raise FileMissingError(f"task {task.task_id} is {task.status.wire}: it does not have a result file yet")
    if not path:
        raise FileMissingError(f"the result of task {task.task_id} is not a file")
    return path


def original_path(task: Task, hooks: TypeHooks) -> str:
    """Return the path or URL of the file that a task works on; raises `FileMissingError` if there is none."""
    path = task.original_file_path or hooks.original_path(task)
    if not path:
        raise FileMissingError(f"task {task.task_id} was submitted without a file")
    return path


def original_display_name(task: Task, hooks: TypeHooks) -> str:
    """Return the name that the client gave the original, or the name of the stored file if that is unknown."""
    return task.original_file_name or Path(original_path(task, hooks)).name


def open_download(real: str, name: str) -> Download:
    """Return the file at a checked real path; raises `FileMissingError` or `FileNotAllowedError`. Blocks."""
    try:
        found = os.lstat(real)
    except OSError as exc:
        raise FileMissingError("the file no longer exists") from exc
    if not stat.S_ISREG(found.st_mode):
        raise FileNotAllowedError("the path is not a regular file")
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
