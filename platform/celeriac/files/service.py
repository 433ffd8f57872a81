"""The service of files: uploads, and the only way to turn a file and a submission into a task.

The order is: id, path, folder, handoff, record, message, answer. If a step fails, the file is where it was.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

from celeriac.access.principal import LOCAL, Principal
from celeriac.errors import (
    FileBusyError,
    FileMissingError,
    FileNotAllowedError,
    ForbiddenError,
    InvalidSubmissionError,
    StoreUnavailableError,
    Violation,
)
from celeriac.files.file_system import FileSystem
from celeriac.files.handoff import VIDEOS, HandedOver, Handoff
from celeriac.files.names import display_name, media_type_of, original_name
from celeriac.files.objects import object_store
from celeriac.files.roots import AllowedRoots, SourceFile
from celeriac.files.uploads import StoredUpload, UploadArea
from celeriac.model import Delivery, Submission, Submitted
from celeriac.settings import Settings, configuration_files
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import SubmitRequest
from celeriac.tasks.submission import build_submission
from celeriac.tasks.types.file_process import FILE_PROCESS, FilePayload

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)

#: Numbers of threads: for work of a few milliseconds, for copies (as slow as the disk), and for uploads.
_QUICK: Final = 8
_COPIES: Final = 4
_STREAMS: Final = 8

_TYPES: Final = Registry([FILE_PROCESS])


@dataclass
class _Caller:
    """The caller that waits for the answer; `gone` once it has hung up."""

    gone: bool = False


class Files:
    """Takes files in. It belongs to one event loop. Tests pass a `disk` to look between the steps."""

    def __init__(self, *, store: TaskStore, settings: Settings, disk: FileSystem | None = None) -> None:
        self.settings = settings
        self.store = store
        self.roots = AllowedRoots.of(settings, configuration=configuration_files())
        self.uploads = UploadArea(settings.upload_folder(), settings.files, known_callers=settings.access.on)
        self.handoff = Handoff(settings.files.storage_path, disk=disk, durable=settings.durability == "fsync")
        #: The shared storage for the files of tasks; None if they stay in the local storage.
        self.objects = object_store(settings.files)
        self._quick = ThreadPoolExecutor(_QUICK, thread_name_prefix="files")
        self._copies = ThreadPoolExecutor(_COPIES, thread_name_prefix="copy")
        self._streams = ThreadPoolExecutor(_STREAMS, thread_name_prefix="stream")
        self._working: set[asyncio.Task[Submitted]] = set()

    async def stop(self) -> None:
        """Wait for running work to end. Copies are abandoned, and their sources stay. Idempotent."""
        self.handoff.stop()
        while self._working:
            await asyncio.wait(self._working)
        self._quick.shutdown()
        self._copies.shutdown()
        self._streams.shutdown()

    async def run(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a short call that uses the disk, off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, call, *arguments)

    async def stream(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a call that moves or reads much data, off the loop and apart from the short calls."""
        return await asyncio.get_running_loop().run_in_executor(self._streams, call, *arguments)

    # --- tasks

    async def create(self, temp_file_path: str, *, caller: Principal = LOCAL) -> Submitted:
        """Take over a file and submit a `file_process` task for it (`CreateTask`, docs/task-service.md).

        Raises `ForbiddenError`, `FileMissingError`, `FileNotAllowedError`, `FileBusyError`, `StorageFullError`,
        `QueueFullError` or `StoreUnavailableError`. After an error the file is where it was.
        """
        self.check_path_allowed(caller)
        name = original_name(temp_file_path, unknown=".mp4")
        payload: dict[str, Any] = {"processor": processor_for(name)}
        request = SubmitRequest(type=FILE_PROCESS.name, payload=payload, user_id=caller.user_id)
        submission = build_submission(request, self.settings, _TYPES)
        return await self._until_done(self._take_over, temp_file_path, submission, name)

    async def submit(self, submission: Submission, payload: FilePayload, caller: Principal = LOCAL) -> Submitted:
        """Submit a `file_process` whose payload names its file, by upload or by path.

        An upload is handed over. A file that lies elsewhere inside the allowed roots stays where it is
        and is read there, unless a foreign program processes the task. The file must be one that `caller`
        may hand in: see `check`. Raises as `create` does, and `InvalidSubmissionError`.
        """
        if submission.idempotency_key is not None:
            # The first submission of this key has taken the file already.
            known = await self.store.made_under(submission.user_id, submission.idempotency_key)
            if known is not None:
                if await self.run(self.handoff.is_doubtful, known.task_id):
                    raise FileBusyError(
                        "an earlier submission with this key is not done, and may be undone: try again in a moment"
                    )
                await self.store.confirm(known.task_id)
                return known
        await self.check(payload, caller)
        path = await self._path_of(payload)
        upload = await self.run(self.uploads.by_path, path)
        if upload is None and submission.delivery is not Delivery.EXTERNAL:
            await self._check_readable(path)
            return await self.store.submit(submission)
        name = original_name(path, unknown="")
        return await self._until_done(self._take_over, path, submission, name, upload)

    async def check(self, payload: FilePayload, caller: Principal) -> None:
        """Raise `InvalidSubmissionError` if `caller` may not hand in the file.

        A caller may not name another user's upload. Admins may name any path inside the roots. Other callers may do
        so only if the settings name the roots: then the operator has decided that these files are for everybody.
        """
        if caller.admin:
            return
        if payload.file_id is not None:
            try:
                await self.check_owner(payload.file_id, caller)
            except FileMissingError as exc:
                raise InvalidSubmissionError([Violation("payload.file_id", str(exc))]) from exc
        if payload.path is None:
            return
        try:
            self.check_path_allowed(caller)
            path = await self.run(self.roots.resolve, payload.path)
            if (upload := await self.run(self.uploads.by_path, path)) is not None and not caller.sees(
                upload.info.owner
            ):
                raise FileNotAllowedError(f"{payload.path} is another user's upload")
        except (FileNotAllowedError, ForbiddenError) as exc:
            raise InvalidSubmissionError([Violation("payload.path", str(exc))]) from exc

    def check_path_allowed(self, caller: Principal) -> None:
        """Raise `ForbiddenError` unless `caller` may name files on the server by their paths."""
        if not caller.admin and self.settings.files.allowed_roots is None:
            raise ForbiddenError(
                "only an admin may name a file on the server: upload the file and use its file_id, or ask the operator"
                " to set ALLOWED_FILE_ROOTS"
            )

    async def check_owner(self, file_id: str, caller: Principal) -> None:
        """Raise `FileMissingError` if another user owns the upload, as if it did not exist."""
        if not caller.sees((await self.run(self.uploads.info, file_id)).owner):
            raise FileMissingError(f"there is no upload {file_id}")

    async def _path_of(self, payload: FilePayload) -> str:
        if payload.file_id is not None:
            try:
                return str((await self.run(self.uploads.look_up, payload.file_id)).path)
            except FileMissingError as exc:
                raise InvalidSubmissionError([Violation("payload.file_id", str(exc))]) from exc
        if payload.path is None:
            message = "is required, unless payload.file_id names an upload"
            raise InvalidSubmissionError([Violation("payload.path", message)])
        try:
            return await self.run(self.real_path, payload.path)
        except FileNotAllowedError as exc:
            raise InvalidSubmissionError([Violation("payload.path", str(exc))]) from exc

    def real_path(self, path: str) -> str:
        """Return the real path of a file that a task may read: inside the roots, or a file of a task. Blocks."""
        videos = str((self.handoff.storage / "videos").resolve())
        real = str(Path(path).resolve()) if path and "\0" not in path else ""
        return real if real.startswith(f"{videos}/") else self.roots.resolve(path)

    async def _check_readable(self, path: str) -> None:
        """Raise `InvalidSubmissionError` unless the file exists now; the worker checks again."""
        if not await self.run(Path(path).exists):
            raise InvalidSubmissionError([Violation("payload.path", f"there is no file {path}")])
        if not await self.run(Path(path).is_file):
            raise InvalidSubmissionError([Violation("payload.path", f"{path} is not a file")])

    async def _until_done(self, work: Callable[..., Any], *arguments: Any) -> Submitted:
        """Run `work` to its end even if the caller hangs up meanwhile, because a handoff must not stay half done."""
        caller = _Caller()
        task: asyncio.Task[Submitted] = asyncio.create_task(work(caller, *arguments), name="handoff")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller.gone = True
            task.add_done_callback(_note_end)
            raise

    async def _take_over(
        self, caller: _Caller, path: str, submission: Submission, name: str, upload: StoredUpload | None = None
    ) -> Submitted:
        source = await self.run(self.roots.open, path)
        handed = await self._hand_over(source, submission.task_id, name)
        try:
            if caller.gone:
                raise asyncio.CancelledError
            shown = upload.info.name if upload is not None else display_name(path)
            place = await self._share(handed)
            submission = replace(submission, original_file_path=place, original_file_name=shown)
            submitted = await self.store.submit(submission)
        except BaseException as exc:
            # The record may have been stored even though its answer was lost.
            await self._give_back(handed, certain=not isinstance(exc, StoreUnavailableError))
            raise
        if not submitted.created:
            await self._give_back(handed, certain=True)
            return submitted
        await self.run(self._finish, handed)
        if upload is not None:
            await self.run(self.uploads.forget, upload.info.file_id)
        return submitted

    async def _hand_over(self, source: SourceFile, task_id: str, name: str) -> HandedOver:
        loop = asyncio.get_running_loop()
        try:
            await self.run(self.handoff.prepare)
            renames = await self.run(self.handoff.renames, source)
            threads = self._quick if renames else self._copies
            return await loop.run_in_executor(threads, self.handoff.take, source, task_id, name)
        except BaseException:
            source.close()
            raise

    async def _share(self, handed: HandedOver) -> str:
        """Upload the file to the shared storage, if there is one; returns the path or URL for the record."""
        if self.objects is None:
            return str(handed.target)
        key = key_of(handed.task_id, handed.target.name)
        try:
            await asyncio.get_running_loop().run_in_executor(self._copies, self.objects.put, key, handed.target)
        except OSError as exc:
            raise StoreUnavailableError(f"the file could not be stored: {exc}") from exc
        return self.objects.url_of(key)

    def _finish(self, handed: HandedOver) -> None:
        self.handoff.finish(handed)
        if self.objects is not None:
            shutil.rmtree(handed.target.parent, ignore_errors=True)

    async def _give_back(self, handed: HandedOver, *, certain: bool) -> None:
        await self.run(partial(self.handoff.give_back, handed, certain=certain))
        if self.objects is not None:
            with suppress(OSError):
                await self.stream(self.objects.delete, key_of(handed.task_id, handed.target.name))


def key_of(task_id: str, name: str) -> str:
    """Return the key of a task's file in the shared storage."""
    return f"{VIDEOS}/{task_id}/{name}"


def processor_for(name: str) -> str:
    """Return the processor that `CreateTask` runs on an original with this name."""
    kind = (media_type_of(name) or "").partition("/")[0]
    return {"image": "image", "audio": "probe"}.get(kind, "video")


def _note_end(task: asyncio.Task[Submitted]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("the caller of a handoff hung up and the handoff failed; the file is back in its place: %s", error)
