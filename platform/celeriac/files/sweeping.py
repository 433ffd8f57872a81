"""The roles that clean up after a crash or an absent client. Any number may run on one storage."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

from celeriac.errors import CeleriacError, FileBusyError, FileMissingError, IllegalTransitionError, TaskNotFoundError
from celeriac.files.handoff import VIDEOS, Handoff
from celeriac.files.objects import ObjectStore
from celeriac.files.service import Files
from celeriac.files.uploads import UploadArea
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: How old a journal entry must be before its process may be dead (seconds); only its lock tells for certain.
_GRACE_S: Final = 5.0
#: How long a submission without an answer may still arrive (seconds).
_VOID_S: Final = 3600.0
#: How long an upload in one piece may make no progress without a writer (seconds).
_DEAD_WRITER_S: Final = 60.0


class HandoffSweeper(Role):
    """Finishes or undoes the handoffs whose process died; cancels tasks whose file was given back."""

    def __init__(
        self, *, store: TaskStore, handoff: Handoff, objects: ObjectStore | None = None, grace_s: float = _GRACE_S
    ) -> None:
        super().__init__()
        self._store = store
        self._objects = objects
        self._handoff = handoff
        self._grace_s = grace_s

    async def step(self) -> float:
        """Check each journal entry once."""
        for task_id in await asyncio.to_thread(lambda: list(self._handoff.left_over(self._grace_s))):
            leftover = await asyncio.to_thread(self._handoff.seize, task_id)
            if leftover is None:
                continue
            try:
                known = await self._known(task_id)
            except BaseException:
                leftover.release()
                raise
            try:
                done = await asyncio.to_thread(leftover.settle, known=known)
            except OSError as exc:
                log.warning("task %s: cannot settle the handoff of %s yet: %s", task_id, leftover.source, exc)
            else:
                log.warning("task %s: settled an interrupted handoff of %s: %s", task_id, leftover.source, done)
                if self._objects is not None:
                    await asyncio.to_thread(self._tidy, self._objects, task_id, known=known)
        for task_id, age_s in await asyncio.to_thread(lambda: list(self._handoff.voided())):
            await self._void(task_id, age_s)
        return self._grace_s

    def _tidy(self, objects: ObjectStore, task_id: str, *, known: bool) -> None:
        """Remove the redundant copy: the local files if the task is `known`, else the files in the shared storage."""
        if known:
            shutil.rmtree(self._handoff.folder(task_id), ignore_errors=True)
            return
        try:
            for key in list(objects.list(f"{VIDEOS}/{task_id}")):
                objects.delete(key)
        except OSError as exc:
            log.warning("task %s: cannot remove its files from the shared storage: %s", task_id, exc)

    async def _known(self, task_id: str) -> bool:
        try:
            await self._store.get(task_id)
        except TaskNotFoundError:
            return False
        return True

    async def _void(self, task_id: str, age_s: float) -> None:
        """Cancel the task if its unanswered submission has arrived after all."""
        try:
            await self._store.cancel(task_id, "its submission was not answered, so its file was given back")
        except TaskNotFoundError:
            if age_s < _VOID_S:
                return
        except IllegalTransitionError:
            pass
        await asyncio.to_thread(self._handoff.forget, task_id)


class UploadSweeper(Role):
    """Removes uploads that no task took, and uploads that their client did not finish."""

    def __init__(self, *, uploads: UploadArea, interval_s: float = 60.0) -> None:
        super().__init__()
        self._uploads = uploads
        self._interval_s = interval_s

    async def step(self) -> float:
        """Check each upload once."""
        for file_id in await asyncio.to_thread(self._uploads.every_id):
            if await asyncio.to_thread(self._sweep, file_id):
                log.info("removed the abandoned upload %s", file_id)
        return self._interval_s

    def _sweep(self, file_id: str) -> bool:
        area = self._uploads
        idle_s = time.time() - area.last_touched_s(file_id)
        try:
            info = area.info(file_id)
            life_s = area.settings.upload_ttl
            if not _whole(area, file_id):
                life_s = area.life_s(info, area.offset(file_id)) if info.resumable else min(_DEAD_WRITER_S, life_s)
            if idle_s < life_s:
                return False
            area.discard(file_id)
        except (FileMissingError, FileBusyError):
            return False
        return True


class StorageSweeper(Role):
    """Removes the files of tasks whose record no longer exists, if the settings ask for that (`files.keep`)."""

    def __init__(self, *, store: TaskStore, storage: Path, keep_s: float, interval_s: float = 300.0) -> None:
        super().__init__()
        self._store = store
        self._videos = storage / VIDEOS
        self._keep_s = keep_s
        self._interval_s = interval_s

    async def step(self) -> float:
        """Check each task's folder once."""
        for name in await asyncio.to_thread(_names, self._videos):
            folder = self._videos / name
            if not await asyncio.to_thread(self._old, folder):
                continue
            try:
                await self._store.get(name)
            except TaskNotFoundError:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                log.info("removed the files of task %s, whose record no longer exists", name)
            except CeleriacError:
                break
        return self._interval_s

    def _old(self, folder: Path) -> bool:
        try:
            return time.time() - folder.stat().st_mtime > self._keep_s
        except OSError:
            return False


def file_roles(intake: Files) -> list[Role]:
    """Return the background roles of a process that takes files in."""
    roles: list[Role] = [
        HandoffSweeper(store=intake.store, handoff=intake.handoff, objects=intake.objects),
        UploadSweeper(uploads=intake.uploads),
    ]
    keep_s = intake.settings.files.keep
    if keep_s is not None:
        roles.append(StorageSweeper(store=intake.store, storage=intake.handoff.storage, keep_s=keep_s))
    return roles


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _whole(area: UploadArea, file_id: str) -> bool:
    try:
        area.look_up(file_id)
    except FileMissingError:
        return False
    return True
