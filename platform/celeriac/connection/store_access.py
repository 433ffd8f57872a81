"""Tasks through the store itself."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Final

from celeriac import json_text
from celeriac.calling.access import Ended
from celeriac.calling.options import NewTask, Payload, submission_document, to_json
from celeriac.connection.on_demand import FilesOnDemand, HistoryOnDemand
from celeriac.errors import SettingsError, StoreUnavailableError, TaskNotFoundError, WaitTimeoutError
from celeriac.model import Event, LogLine, Outcome, Progress, Status, Submitted, Task, severity, stream_position
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.ends import Ends, EndWait
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
#: The pauses between two looks at a task of which the store has no record (seconds).
_FIRST_PAUSE_S: Final = 0.02
_LAST_PAUSE_S: Final = 1.0
#: How many calls of this process may wait at once: it bounds nothing that the process would not hold anyway.
_MOST_WAITERS: Final = 1_000_000
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
        self._ends: Ends | None = None
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
        if self._ends is not None:
            await self._ends.stop()
        if self._hub is not None:
            await self._hub.stop()
        await self._stack.aclose()
        await self._store.stop()

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """See `TaskAccess.submit`."""
        submitted = await self._submit(task)
        return submitted.task_id, submitted.status

    async def submit_as(self, task_id: str, task: NewTask) -> tuple[str, Status]:
        """Submit a task under an id that was chosen before, once; raises as `submit` does."""
        submitted = await self._tasks.submit_as(task_id, json_text.read(to_json(submission_document(task))))
        return submitted.task_id, submitted.status

    async def run(self, task: NewTask) -> Outcome:
        """See `TaskAccess.run`. The end comes with the result, so that nothing is read."""
        ends = await self._waiting()
        async with ends.waiting() as wait:
            submitted = await self._submit(task, wait)
            end = await wait.after(submitted, None)
        return await self.outcome(submitted.task_id, None) if end is None else _outcome_of(end)

    async def _submit(self, task: NewTask, wait: EndWait | None = None) -> Submitted:
        key = task.get("idempotency_key")
        if key is not None:
            check_idempotency_key(key)
        request = read_request(json_text.read(to_json(submission_document(task))))
        return await self._tasks.submit(request, idempotency_key=key or secrets.token_urlsafe(24), wait=wait)

    async def get(self, task_id: str) -> Task:
        """See `TaskAccess.get`."""
        return await self._tasks.find(task_id)

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`."""
        end = await self._end(task_id, timeout)
        return end if isinstance(end, Task) else await self._tasks.find(task_id)

    async def outcome(self, task_id: str, timeout: float | None) -> Outcome:
        """See `TaskAccess.outcome`."""
        return _outcome_of(await self._end(task_id, timeout))

    async def _end(self, task_id: str, timeout: float | None) -> Task | Outcome:
        clock = asyncio.get_running_loop().time
        began = clock()
        status, pause_s = Status.PENDING, _FIRST_PAUSE_S
        ends = await self._waiting()
        try:
            # One look is made however short the time is.
            async with asyncio.timeout(None if timeout is None else max(timeout, _ONE_LOOK_S)) as limit:
                while True:
                    task = await self._tasks.find(task_id)
                    status = task.status
                    if status.final:
                        return task
                    limit.reschedule(None if timeout is None else began + timeout)
                    async with ends.waiting() as wait:
                        if (end := await wait.of(task_id, None)) is not None:
                            return end
                    # Its record is gone from the store, and history may know more later; or this connection is closed.
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        except TimeoutError:
            raise WaitTimeoutError(task_id, status, timeout or 0.0) from None

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

    async def _waiting(self) -> Ends:
        if self._ends is None:
            hub = await self._listening()
            if self._ends is None:
                self._ends = Ends(store=self._store, hub=hub, most=_MOST_WAITERS)
                await self._ends.start()
        return self._ends


def _outcome_of(end: Task | Outcome) -> Outcome:
    return Outcome.of(end) if isinstance(end, Task) else end


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
