"""Finds and checks the file that a task works on."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celeriac.errors import FileMissingError, FileNotAllowedError
from celeriac.files.handoff import VIDEOS
from celeriac.files.objects import ObjectStore, object_store
from celeriac.files.roots import AllowedRoots, kind_of
from celeriac.handlers.context import Context
from celeriac.settings import FilesSettings
from celeriac.tasks.types.file_process import FilePayload
from celeriac_tasks.files.refusals import InvalidInputError, UnsupportedMediaError
from celeriac_tasks.files.workplace import folder_name


@dataclass(frozen=True)
class Source:
    """A file to work on, and the folder for its outputs."""

    path: Path
    folder: Path
    #: The shared storage that the file was fetched from. If set, the folder is temporary: `close` removes it.
    objects: ObjectStore | None = None

    def share(self, task_id: str, paths: Sequence[Path]) -> list[str]:
        """Return the places of the outputs: their local paths, or their URLs after an upload to the shared storage."""
        if self.objects is None:
            return [str(path) for path in paths]
        for path in paths:
            self.objects.put(f"{VIDEOS}/{task_id}/{path.name}", path)
        return [self.objects.url_of(f"{VIDEOS}/{task_id}/{path.name}") for path in paths]

    def close(self) -> None:
        """Remove the folder if it is temporary."""
        if self.objects is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def source_of(payload: FilePayload, ctx: Context, files: FilesSettings, roots: AllowedRoots) -> Source:
    """Return the file that the task works on; raises `InvalidInputError`, or `UnsupportedMediaError` if it is empty.

    A file that was handed over belongs to the task, and its results are stored beside it. A file that the payload
    names by path stays where it is, inside the allowed roots, and its results go to the task's folder. Blocks.
    """
    handed_over = ctx.original_file_path
    objects = object_store(files)
    if handed_over and objects is not None and "://" in handed_over:
        return _fetched(handed_over, objects, files.storage_path)
    if handed_over:
        source = Source(Path(handed_over), Path(handed_over).parent)
    elif payload.path is not None:
        folder = files.storage_path.absolute() / VIDEOS / folder_name(ctx.task_id)
        source = Source(real_path(payload.path, files, roots), folder)
    else:
        raise InvalidInputError("the task does not have a file: submit it with a path or the file_id of an upload")
    check_file(source.path)
    source.folder.mkdir(parents=True, exist_ok=True)
    return source


def _fetched(url: str, objects: ObjectStore, storage: Path) -> Source:
    """Fetch a file from the shared storage into a temporary folder for one attempt."""
    lent = storage.absolute() / ".fetched"
    lent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=lent))
    try:
        key = objects.key_of(url)
        path = folder / key.rpartition("/")[2]
        objects.fetch(key, path)
        check_file(path)
    except BaseException as exc:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, FileMissingError | FileNotAllowedError):
            raise InvalidInputError(str(exc)) from exc
        raise
    return Source(path, folder, objects)


def real_path(path: str, files: FilesSettings, roots: AllowedRoots) -> Path:
    """Return `path` with its links resolved; raises `InvalidInputError` unless a task may read the file there.

    A task may read the files that could be handed over, and the files of tasks.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise InvalidInputError("the path is not absolute")
    real = Path(os.path.realpath(path))
    if real.is_relative_to(os.path.realpath(files.storage_path / VIDEOS)):
        return real
    try:
        return Path(roots.resolve(path))
    except FileNotAllowedError as exc:
        raise InvalidInputError(str(exc)) from exc


def check_file(path: Path) -> None:
    """Raise an error unless `path` is a regular, readable file that is not empty; does not follow links."""
    try:
        # The type is checked before the file is opened: a FIFO would block, and a device may do anything.
        kind = os.lstat(path)
        if not stat.S_ISREG(kind.st_mode):
            raise InvalidInputError(f"{path.name} is {kind_of(kind.st_mode)}, not a file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise InvalidInputError(f"{path.name} cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise InvalidInputError(f"the path is not valid: {exc}") from exc
    try:
        opened = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(opened.st_mode):
        raise InvalidInputError(f"{path.name} is {kind_of(opened.st_mode)}, not a file")
    if opened.st_size == 0:
        raise UnsupportedMediaError("the file is empty")
