"""Tasks through the store itself."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Final

from celeriac import json_text
from celeriac.calling.access import Ended
from celeriac.calling.options import NewTask, Payload, submission_document, to_json
from celeriac.connection.on_demand import FilesOnDemand, HistoryOnDemand
from celeriac.errors import SettingsError, StoreUnavailableError, TaskNotFoundError, WaitTimeoutError
from celeriac.model import Event, LogLine, Progress, Status, Task, severity, stream_position
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.task_fields import number_of, status_of
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.request import check_idempotency_key, read_request
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES

#: How long a call waits for a store that is away (seconds): as long as a client waits for an API.
_PATIENCE_S: Final = 12.0
#: How often a quiet task is looked at: a program may have written its record without an event (seconds).
_LOOK_S: Final = 5.0
#: However many reports come, there is a pause between two looks at one task: an eighth of the time waited so far, and
#: at most this (seconds).
_PAUSE_S: Final = 0.02
#: How long one look may take, however short the caller's time is (seconds).
_ONE_LOOK_S: Final = 1.0
#: Lines or events of one page.
_PAGE: Final = 500


class StoreAccess:
    """A connection to the store, for one event loop. It connects when it is used."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url is not None
        try:
            self._store = TaskStore(settings.redis_url, settings.store, patience_s=_PATIENCE_S)
        except ValueError as exc:
            raise SettingsError(f"redis_url: {exc}") from exc
        self._stack = AsyncExitStack()
        self._hub: LiveHub | None = None
        history = None if settings.database_url is None else HistoryOnDemand(settings, self._stack)
        self._tasks = Tasks(
            store=self._store,
            types=TypeCatalog(registry, self._store),
            settings=settings,
            history=history,
            intakes={FILES: FilesOnDemand(self._store, settings)},
        )

    @property
    def access(self) -> StoreAccess:
        """Itself."""
        return self

    async def close(self) -> None:
        """Disconnect. Idempotent."""
        if self._hub is not None:
            await self._hub.stop()
        await self._stack.aclose()
        await self._store.stop()

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """See `TaskAccess.submit`."""
        key = task.get("idempotency_key")
        if key is not None:
            check_idempotency_key(key)
        request = read_request(json_text.read(to_json(submission_document(task))))
        submitted = await self._tasks.submit(request, idempotency_key=key or secrets.token_urlsafe(24))
        return submitted.task_id, submitted.status

    async def get(self, task_id: str) -> Task:
        """See `TaskAccess.get`."""
        return await self._tasks.find(task_id)

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`."""
        began = asyncio.get_running_loop().time()
        status = Status.PENDING
        news = asyncio.Event()
        hub = await self._listening()
        stop_listening = await hub.listen(keys.live(task_id), lambda _: news.set())
        try:
            # One look is made however short the time is.
            async with asyncio.timeout(None if timeout is None else max(timeout, _ONE_LOOK_S)) as limit:
                while True:
                    news.clear()
                    task = await self._tasks.find(task_id)
                    status = task.status
                    if status.final:
                        return task
                    limit.reschedule(None if timeout is None else began + timeout)
                    await asyncio.sleep(min((asyncio.get_running_loop().time() - began) / 8, _PAUSE_S))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), _LOOK_S)
        except TimeoutError:
            raise WaitTimeoutError(task_id, status, timeout or 0.0) from None
        finally:
            stop_listening()

    async def cancel(self, task_id: str) -> Status:
        """See `TaskAccess.cancel`."""
        return await self._tasks.cancel(task_id)

    async def retry(self, task_id: str, payload: Payload | None) -> Status:
        """See `TaskAccess.retry`."""
        plain = None if payload is None else json_text.read(to_json({"payload": payload}))["payload"]
        return await self._tasks.retry(task_id, payload=plain, key=secrets.token_urlsafe(24))

    async def follow(self, task_id: str) -> AsyncGenerator[Progress | Ended]:
        """See `TaskAccess.follow`."""
        task = await self._tasks.find(task_id)
        position = "-"
        if (await self._store.known([task_id]))[0]:
            hub = await self._listening()
            async for event in hub.follow(task_id, idle_s=_LOOK_S):
                if event is not None:
                    position = event.id
                    if event.kind == "progress":
                        yield _progress_of(event)
                if (event is None or _is_end(event)) and (end := await self._end_after(task_id, position)) is not None:
                    yield Ended(end)
                    return
            raise StoreUnavailableError("the connection to the store was closed")
        async for event in self._past(task_id):
            yield _progress_of(event)
        yield Ended(task.status)

    async def _past(self, task_id: str) -> AsyncGenerator[Event]:
        after = (-1, 0)
        while True:
            page = await self._tasks.events(task_id, after=after, count=_PAGE, kinds=("progress",))
            for event in page:
                yield event
            if len(page) < _PAGE:
                return
            after = stream_position(page[-1].id) or after

    async def _end_after(self, task_id: str, position: str) -> Status | None:
        """Return the status of a task that has ended, if no event followed; None if it goes on."""
        try:
            task = await self._tasks.find(task_id)
            if task.status.final and not await self._store.events(task_id, position, 1):
                return task.status
        except (StoreUnavailableError, TaskNotFoundError):
            return None
        return None

    async def log(self, task_id: str, level: str) -> AsyncGenerator[LogLine]:
        """See `TaskAccess.log`."""
        after = (-1, 0)
        while True:
            page = await self._tasks.log(task_id, after=after, count=_PAGE, least=severity(level))
            for line in page:
                yield line
            if len(page) < _PAGE:
                return
            after = stream_position(page[-1].id) or after

    async def _listening(self) -> LiveHub:
        if self._hub is None:
            self._hub = LiveHub(store=self._store)
            await self._hub.start()
        return self._hub


def _is_end(event: Event) -> bool:
    try:
        return event.kind == "status" and status_of(event.fields.get("status", "")).final
    except ValueError:
        return False


def _progress_of(event: Event) -> Progress:
    fields = event.fields
    return Progress(
        percentage=_number(fields.get("percentage", "")),
        stage=fields.get("stage", ""),
        message=fields.get("message", ""),
        timestamp_ms=int(_number(fields.get("timestamp_ms", ""))),
    )


def _number(text: str) -> float:
    try:
        return number_of(text)
    except ValueError:
        return 0.0
