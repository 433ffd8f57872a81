"""Tasks, through their service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

from celeriac.chart_buckets import MAX_PARTS
from celeriac.cli.reach.direct.auditing import note
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.platform import BulkAction, Record
from celeriac.error_filter import MAX_ERRORS, ErrorFilter, ErrorSort
from celeriac.errors import StoreUnavailableError
from celeriac.model import rfc3339, severity, stream_position
from celeriac.signals.records import wait_record
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import TIMELINE
from celeriac.store.watching.hub import LiveHub
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.reasons import reason_records, why_record
from celeriac.tasks.record import listed_record, log_line_record, task_record, unread_columns
from celeriac.tasks.request import read_request
from celeriac.tasks.stream import START, LogStream, StreamEvents, event_record, resumed
from celeriac.tasks.timeline import START as BEFORE_ALL

#: Tasks and lines that are read at once.
_PAGE: Final = 500
#: How often a quiet task is looked at (seconds): its stream may have been trimmed, or its record may have expired.
_LOOK_S: Final = 5.0
#: How long the store may be away before watching ends (seconds): longer than a restart takes.
_PATIENCE_S: Final = 30.0


class DirectTasks:
    """See `TaskCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def submit(self, document: Mapping[str, Any], *, idempotency_key: str | None) -> Record:
        """See `TaskCalls.submit`."""
        request = read_request(document)
        tasks = await self._opened.tasks(checked_here=True)
        submitted = await tasks.submit(request, idempotency_key=idempotency_key)
        warnings = {"warnings": reason_records(submitted.warnings)} if submitted.warnings else {}
        known = {"task_id": submitted.task_id, "status": submitted.status.wire, "created": submitted.created}
        return {**known, **submitted.known_as, **warnings}

    async def find(self, task_id: str) -> Record:
        """See `TaskCalls.find`."""
        return task_record(await (await self._opened.tasks()).find(task_id))

    async def why(self, task_id: str) -> Record:
        """See `TaskCalls.why`."""
        return why_record(await (await self._opened.tasks()).why(task_id))

    async def ids(self, prefix: str, limit: int) -> list[str]:
        """See `TaskCalls.ids`."""
        return await (await self._opened.tasks()).ids(prefix, limit=limit)

    async def recent_ids(self, prefix: str, limit: int) -> list[str]:
        """See `TaskCalls.recent_ids`."""
        return await (await self._opened.tasks()).recent_ids(prefix, limit=limit)

    async def cancel(self, task_id: str) -> Record:
        """See `TaskCalls.cancel`."""
        tasks = await self._opened.tasks()
        reached = await tasks.cancel(task_id)
        await note(tasks.store, "task.cancel", task_id)
        return {"task_id": task_id, "status": reached.wire}

    async def run_now(self, task_id: str) -> Record:
        """See `TaskCalls.run_now`."""
        tasks = await self._opened.tasks()
        reached = await tasks.run_now(task_id)
        await note(tasks.store, "task.run_now", task_id)
        return {"task_id": task_id, "status": reached.wire}

    async def retry(self, task_id: str, payload: Any | None, from_step: str | None = None) -> Record:
        """See `TaskCalls.retry`."""
        tasks = await self._opened.tasks(checked_here=True)
        reached = await tasks.retry(task_id, payload=payload, from_step=from_step or "")
        await note(tasks.store, "task.retry", task_id)
        return {"task_id": task_id, "status": reached.wire}

    async def signal(self, task_id: str, name: str, value: Any) -> Record:
        """See `TaskCalls.signal`."""
        tasks = await self._opened.tasks()
        received = await tasks.signals.send(task_id, name, value)
        await note(tasks.store, "task.signal", task_id)
        return {"task_id": task_id, "signal": name, "received_at": rfc3339(received)}

    async def waits(self, limit: int) -> AsyncGenerator[Record]:
        """See `TaskCalls.waits`."""
        signals, cursor, left = (await self._opened.tasks()).signals, None, limit
        while True:
            found, cursor = await signals.waits(limit=min(left, _PAGE) if limit else _PAGE, cursor=cursor)
            for wait in found:
                yield wait_record(wait)
            left -= len(found)
            if cursor is None or (limit and left <= 0):
                return

    async def bulk(self, action: BulkAction, chosen: Mapping[str, Any]) -> Record:
        """See `TaskCalls.bulk`."""
        tasks = await self._opened.tasks()
        submitted = await tasks.bulk({"action": action, "filter": chosen})
        await note(tasks.store, "task.bulk", submitted.task_id)
        return {"task_id": submitted.task_id, "status": submitted.status.wire}

    async def count(self, action: BulkAction, chosen: Mapping[str, Any]) -> int:
        """See `TaskCalls.count`."""
        return await (await self._opened.tasks()).count({"action": action, "filter": chosen})

    async def listed(
        self, chosen: TaskFilter, sort: Sort, limit: int, fields: Sequence[str] = ()
    ) -> AsyncGenerator[Record]:
        """See `TaskCalls.listed`."""
        history = await self._opened.history()
        cursor: str | None = None
        seen = 0
        while True:
            size = min(_PAGE, limit - seen) if limit else _PAGE
            page = await history.find(chosen, sort=sort, limit=size, cursor=cursor, without=unread_columns(fields))
            tasks = [kept.task for kept in page.tasks]
            if not fields or "waiting_for" in fields:
                # The history answers without the store, too.
                with suppress(StoreUnavailableError):
                    tasks = await (await self._opened.store()).with_waits(tasks)
            for kept, task in zip(page.tasks, tasks, strict=True):
                yield listed_record(kept, task, fields)
            seen += len(page.tasks)
            cursor = page.next_cursor
            if cursor is None or (limit and seen >= limit):
                return

    async def errors(
        self, start: datetime, end: datetime, chosen: Mapping[str, Any], *, sort: ErrorSort, limit: int
    ) -> AsyncGenerator[Record]:
        """See `TaskCalls.errors`."""
        from celeriac.history.error_list import error_span, errors_record

        span, wanted = error_span(start, end), ErrorFilter(**chosen)
        history = await self._opened.history()
        cursor: str | None = None
        left = limit
        while True:
            size = min(MAX_ERRORS, left) if limit else MAX_ERRORS
            page = await history.errors(span, wanted, sort=sort, limit=size, cursor=cursor)
            for record in errors_record(span, page)["items"]:
                yield record
            left -= len(page.items)
            cursor = page.next_cursor
            if cursor is None or (limit and left <= 0):
                return

    async def events(self, task_id: str, limit: int) -> list[Record]:
        """See `TaskCalls.events`."""
        found = await (await self._opened.tasks()).events(task_id, count=limit, kinds=TIMELINE)
        return [event_record(task_id, event) for event in found]

    async def watch(self, task_id: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.watch`."""
        tasks = await self._opened.tasks()
        async with listening(tasks.store) as hub:
            stream = await resumed(
                tasks,
                hub,
                task_id,
                with_status=True,
                keepalive_s=_LOOK_S,
                most_events=self._opened.settings.max_task_events,
            )
            assert stream is not None, "only a watcher that has seen events can have seen all"
            async with aclosing(patient(stream.events(), tasks.store)) as events:
                async for event in events:
                    yield event

    async def log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.log`."""
        tasks = await self._opened.tasks()
        after = BEFORE_ALL
        while page := await tasks.log(task_id, after=after, count=_PAGE, least=severity(level)):
            for line in page:
                yield log_line_record(line)
            after = stream_position(page[-1].id) or after

    async def follow_log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.follow_log`."""
        store = await self._opened.store()
        await store.get(task_id)
        async with listening(store) as hub:
            stream = LogStream(hub=hub, task_id=task_id, position=START, level=level, keepalive_s=_LOOK_S)
            async with aclosing(patient(stream.events(), store)) as events:
                async for event in events:
                    if event["event"] == "line":
                        yield {name: value for name, value in event.items() if name not in ("event", "task_id")}

    async def stats(
        self, start: datetime, end: datetime, bucket: str, *, task_type: str | None, queue: str | None, key: str | None
    ) -> Record:
        """See `TaskCalls.stats`."""
        from celeriac.history.chart_record import chart_record, span_of

        span = span_of(start, end, bucket)
        history = await self._opened.history()
        chart = await history.stats(
            span.start_ms, span.end_ms, span.bucket_ms, task_type=task_type, queue=queue, key=key
        )
        return chart_record(span, chart)

    async def types_of(self, start: datetime, end: datetime) -> list[Record]:
        """See `TaskCalls.types_of`."""
        from celeriac.history.chart_record import part_records, span_of

        every: Any = {"task_type": None, "queue": None, "user_id": None, "key": None}
        history = await self._opened.history()
        return part_records(await history.parts("type", span_of(start, end, None), most=MAX_PARTS, **every))


@asynccontextmanager
async def listening(store: TaskStore) -> AsyncIterator[LiveHub]:
    """Yield what hears of events as they come."""
    hub = LiveHub(store=store)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


async def patient(events: StreamEvents, store: TaskStore) -> AsyncGenerator[Record]:
    """Yield each event as a record; raises `StoreUnavailableError` if the store has been away for half a minute."""
    clock = asyncio.get_running_loop().time
    last_answer = clock()
    async with aclosing(events):
        async for event in events:
            if event is not None:
                last_answer = clock()
                yield {"event": event.name, "id": event.id, **event.data}
                continue
            try:
                await store.ping()
            except StoreUnavailableError:
                if clock() - last_answer > _PATIENCE_S:
                    raise
            else:
                last_answer = clock()
