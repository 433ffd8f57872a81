"""A task's progress and its log as watchers receive them, live and from the history.

A stream has `progress` events (or `line` events of the log) and one `done`, and then ends. Its ids are those of the
task's events, so a watcher that comes back with the last id goes on where it was, on any process.

A final status becomes `done` only if it is still the last event of the task. If an ended task was retried, its old end
is an event like any other.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from celeriac.errors import StoreUnavailableError, TaskNotFoundError, WorkflowNotFoundError
from celeriac.model import Event, Status, Task, ms_from_utc, rfc3339, severity, stream_position, utc_from_ms
from celeriac.store.patience import until_back
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.tasks.record import error_record, log_line_record, plain_number, progress_record
from celeriac.tasks.service import Tasks

#: Where the stream of a task begins.
START: Final = "-"
#: A task's first event is written with its record. Servers before 7 read the clock twice for that (ms).
_CREATION_SLACK_MS: Final = 100


class StreamEvent(NamedTuple):
    """One event: `progress`, `status`, `line` or `done`, its JSON-ready data, and its id if it has one."""

    name: str
    data: dict[str, Any]
    id: str | None


#: None stands for a quiet moment: nothing happened for the time after which the watcher wants to hear so.
StreamEvents: TypeAlias = AsyncGenerator[StreamEvent | None]


class LiveStream(ABC):
    """One watcher's view of something, that goes on when a failover has lost what the watcher saw last.

    Then it begins anew with the present state, as for a watcher that comes back and whose place is gone.
    """

    def __init__(self, hub: LiveHub, *, position: str, snapshot: bool) -> None:
        self._hub = hub
        #: Up to where it was read.
        self._position = position
        #: Whether the present state comes first.
        self._snapshot = snapshot
        self._connections = hub.connections

    async def events(self) -> StreamEvents:
        """Yield what happened; ends after `done`, when the record is gone, or when the hub stops."""
        again = True
        while again:
            again = False
            seen = self._position
            async with contextlib.aclosing(self._events()) as events:
                async for event in events:
                    if again := await self._has_lost(seen):
                        self._snapshot = True
                        break
                    yield event
                    seen = self._position

    @abstractmethod
    def _events(self) -> StreamEvents: ...

    @abstractmethod
    async def _lacks(self, seen: str) -> bool: ...

    async def _has_lost(self, seen: str) -> bool:
        """Return whether the store may be another one than before, and does not have the event of this id."""
        connections = self._hub.connections
        if self._connections == connections or seen == START:
            return False
        try:
            lost = await self._lacks(seen)
        except (StoreUnavailableError, TaskNotFoundError, WorkflowNotFoundError):
            return False
        self._connections = connections
        return lost


class TaskStream(LiveStream):
    """One client's view of one task, from a position on.

    `position` is the id of the last event that the client has seen; `-` is the beginning. `snapshot` says that later
    events are gone, so the client gets the present state instead.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        hub: LiveHub,
        task_id: str,
        position: str = START,
        snapshot: bool = False,
        with_status: bool = False,
        keepalive_s: float = 15.0,
    ) -> None:
        super().__init__(hub, position=position, snapshot=snapshot)
        self._store = store
        self._task_id = task_id
        self._with_status = with_status
        self._keepalive_s = keepalive_s

    @classmethod
    async def resume(
        cls, last_event_id: str | None, *, store: TaskStore, task_id: str, **options: Any
    ) -> TaskStream | None:
        """Return the stream for a client that saw `last_event_id` (well-formed) last, or None if nothing follows.

        Raises `TaskNotFoundError`, `StoreUnavailableError`.
        """
        # The record is read first. If it has an end, the events have it too.
        task = await store.get(task_id)
        seen = None if last_event_id is None else stream_position(last_event_id)
        if last_event_id is None or seen is None or seen == (0, 0):
            return cls(store=store, task_id=task_id, **options)
        first, last = await store.event_bounds(task_id)
        last_seen = stream_position(last) if last is not None else None
        if last_seen is None or (seen == last_seen and task.status.final):
            return None
        if seen > last_seen:
            # It was there and a failover has lost it, unless it is of a time that is still to come.
            lost = await store.is_past(seen)
            return cls(store=store, task_id=task_id, snapshot=True, **options) if lost else None
        first_seen = stream_position(first) if first is not None else None
        if first_seen is not None and seen < first_seen and await cls._trimmed(store, task, first_seen):
            return cls(store=store, task_id=task_id, snapshot=True, **options)
        return cls(store=store, task_id=task_id, position=f"{seen[0]}-{seen[1]}", **options)

    @staticmethod
    async def _trimmed(store: TaskStore, task: Task, first: tuple[int, int]) -> bool:
        """Return whether the first events were dropped, so that the first one held is not the task's creation."""
        if first[0] > ms_from_utc(task.created_at) + _CREATION_SLACK_MS:
            return True
        held = await store.events(task.task_id, count=1)
        return not held or held[0].kind != "status"

    async def _lacks(self, seen: str) -> bool:
        await self._store.get(self._task_id)
        return await self._hub.lacks(self._task_id, seen)

    async def _events(self) -> StreamEvents:
        """Yield what happened; ends after `done`, when the task's record is gone, or when the hub stops."""
        if self._snapshot:
            last, data, final = await self._present()
            # The last event of an ended task becomes `done`, so it must not count as seen yet.
            yield StreamEvent("progress", data, None if final else last)
            if final:
                done = await self._done(last)
                if done is not None:
                    yield done
                    return
            self._position = last
        async with contextlib.aclosing(self._follow()) as events:
            async for event in events:
                if event is None:
                    if (end := await self._ended_unheard()) is None:
                        yield None
                        continue
                    if end != "gone":
                        yield end
                    return
                self._position = event.id
                if event.kind == "progress":
                    yield StreamEvent("progress", progress_data(self._task_id, event), event.id)
                elif event.kind == "status":
                    if _is_final(event) and (done := await self._done(event.id)) is not None:
                        yield done
                        return
                    if self._with_status:
                        yield StreamEvent("status", status_data(self._task_id, event), event.id)

    def _follow(self) -> AsyncGenerator[Event | None, None]:
        return self._hub.follow(self._task_id, after=self._position, idle_s=self._keepalive_s)

    async def _present(self) -> tuple[str, dict[str, Any], bool]:
        """Return the last event's id, the task's progress at least as new as that, and whether it has ended."""

        async def look() -> tuple[str | None, Task]:
            _, last = await self._store.event_bounds(self._task_id)
            return last, await self._store.get(self._task_id)

        last, task = await until_back(look, what="an event stream")
        data = {
            "task_id": self._task_id,
            **progress_record(task.progress, created_at=task.created_at),
            "snapshot": True,
            "recovered": False,
        }
        return last or START, data, task.status.final

    async def _done(self, event_id: str) -> StreamEvent | None:
        """Return the `done` event if the final status `event_id` is still the task's last event, else None."""

        async def look() -> tuple[str | None, Task]:
            # In this order: if no event has followed by the second read, the record of the first read has the end that
            # the event reports.
            task = await self._store.get(self._task_id)
            _, last = await self._store.event_bounds(self._task_id)
            return last, task

        try:
            last, task = await until_back(look, what="an event stream")
        except TaskNotFoundError:
            return None
        return self._end(task, event_id) if last == event_id and task.status.final else None

    async def _ended_unheard(self) -> StreamEvent | Literal["gone"] | None:
        """Check in a quiet moment whether the task ended without an event.

        An external processor may write only the record. Returns the `done` event, `"gone"` when
        the record is gone (its retention is over), None when the task goes on.
        """
        try:
            task = await self._store.get(self._task_id)
            if not task.status.final:
                return None
            _, last = await self._store.event_bounds(self._task_id)
        except StoreUnavailableError:
            return None
        except TaskNotFoundError:
            return "gone"
        position = None if self._position == START else self._position
        return self._end(task, position) if last == position else None

    def _end(self, task: Task, event_id: str | None) -> StreamEvent:
        return StreamEvent("done", _end_data(task), event_id)


class PastStream:
    """A task's events from the history, after the store removed the task. `seen` is the last id of the client."""

    def __init__(self, task: Task, events: Sequence[Event], *, seen: tuple[int, int] | None, with_status: bool) -> None:
        self._task = task
        self._events = events
        self._snapshot = seen is not None and seen != (0, 0)
        self._with_status = with_status

    @classmethod
    def resume(
        cls, last_event_id: str | None, *, task: Task, events: Sequence[Event], with_status: bool
    ) -> PastStream | None:
        """Return the stream for a client that saw `last_event_id` last, or None if nothing follows."""
        seen = None if last_event_id is None else stream_position(last_event_id)
        last = stream_position(events[-1].id) if events else None
        if seen is not None and last is not None and seen >= last:
            return None
        return cls(task, events, seen=seen, with_status=with_status)

    async def events(self) -> StreamEvents:
        """Yield what happened, `done` last."""
        task = self._task
        if self._snapshot:
            # The history does not keep every report, so the events after that position may be incomplete.
            progress = progress_record(task.progress, created_at=task.created_at)
            yield StreamEvent(
                "progress", {"task_id": task.task_id, **progress, "snapshot": True, "recovered": False}, None
            )
        else:
            for event in self._events[:-1]:
                if event.kind == "progress":
                    yield StreamEvent("progress", progress_data(task.task_id, event), event.id)
                elif event.kind == "status" and self._with_status:
                    yield StreamEvent("status", status_data(task.task_id, event), event.id)
        yield StreamEvent("done", _end_data(task), self._events[-1].id if self._events else None)


class LogStream:
    """One watcher's view of a task's log, from the stream id `position` on (`-` is from the beginning)."""

    def __init__(self, *, hub: LiveHub, task_id: str, position: str, level: str, keepalive_s: float) -> None:
        self._hub = hub
        self._task_id = task_id
        self._position = position
        self._least = severity(level)
        self._keepalive_s = keepalive_s

    async def events(self) -> StreamEvents:
        """Yield each `line`, then `done`; ends early when the task's record is gone, or when the hub stops."""
        followed = self._hub.follow_log(self._task_id, self._position, idle_s=self._keepalive_s)
        with contextlib.suppress(TaskNotFoundError):
            async with contextlib.aclosing(followed) as items:
                async for item in items:
                    if item is None:
                        yield None
                    elif isinstance(item, Task):
                        # It has the id of the last line: a client that comes back with it gets only the end again.
                        seen = None if self._position == START else self._position
                        yield StreamEvent("done", {"task_id": self._task_id, "status": item.status.wire}, seen)
                    else:
                        self._position = item.id
                        if severity(item.level) >= self._least:
                            yield StreamEvent("line", {"task_id": self._task_id, **log_line_record(item)}, item.id)


async def resumed(
    tasks: Tasks,
    hub: LiveHub,
    task_id: str,
    *,
    last_event_id: str | None = None,
    with_status: bool = False,
    keepalive_s: float = 15.0,
    most_events: int,
) -> TaskStream | PastStream | None:
    """Return the stream of a task after what a watcher saw last, wherever the task is; None if nothing follows.

    It holds at most `most_events` of a task that only the history has. Raises `TaskNotFoundError`,
    `StoreUnavailableError`, and `HistoryUnavailableError` while only the history could know.
    """
    try:
        return await TaskStream.resume(
            last_event_id,
            store=tasks.store,
            hub=hub,
            task_id=task_id,
            with_status=with_status,
            keepalive_s=keepalive_s,
        )
    except TaskNotFoundError:
        task = (await tasks.kept(task_id)).task
        if not task.status.final or tasks.history is None:
            # It is in no place where it could go on.
            raise
        events = await tasks.history.events(task_id, count=most_events)
        return PastStream.resume(last_event_id, task=task, events=events, with_status=with_status)


def event_record(task_id: str, event: Event) -> dict[str, Any]:
    """Return an event of a timeline as every front door writes it: `id`, `kind`, `at`, and its data."""
    match event.kind:
        case "progress":
            data = progress_data(task_id, event)
        case "deduplicated":
            data = _conflict_data(task_id, event)
        case _:
            data = status_data(task_id, event)
    at_ms = int(event.id.partition("-")[0])
    return {"id": event.id, "kind": event.kind, "at": rfc3339(utc_from_ms(at_ms)), **data}


def _conflict_data(task_id: str, event: Event) -> dict[str, Any]:
    """Return the data of a submission whose key of `once` this task holds; `next` is its task, if it became one."""
    return {
        "task_id": task_id,
        "on_conflict": event.fields.get("on_conflict", ""),
        "next": event.fields.get("next") or None,
        "timestamp_ms": int(event.id.partition("-")[0]),
    }


def progress_data(task_id: str, event: Event) -> dict[str, Any]:
    """Return the data of a progress event as watchers receive it."""
    fields = event.fields
    return {
        "task_id": task_id,
        "percentage": _number(fields.get("percentage", "")),
        "stage": fields.get("stage", ""),
        "message": fields.get("message", ""),
        "timestamp_ms": int(_number(fields.get("timestamp_ms", ""))),
        **_damage(fields),
    }


def status_data(task_id: str, event: Event) -> dict[str, Any]:
    """Return the data of a status event as watchers receive it."""
    fields = event.fields
    data: dict[str, Any] = {
        "task_id": task_id,
        "status": fields.get("status", "").lower(),
        "attempt": int(_number(fields.get("attempt", ""))),
        "worker": fields.get("worker"),
        "error": None,
        "timestamp_ms": int(event.id.partition("-")[0]),
        **_damage(fields),
    }
    if "replaced_by" in fields:
        data["replaced_by"] = fields["replaced_by"]
    if "code" in fields:
        data["error"] = {
            "code": fields["code"],
            "message": fields.get("message", ""),
            "retryable": fields.get("retryable") == "1",
        }
    return data


def _damage(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what an event says of itself that history cannot read."""
    return {"damaged": fields["damaged"]} if "damaged" in fields else {}


def _end_data(task: Task) -> dict[str, Any]:
    data = {
        "task_id": task.task_id,
        "status": task.status.wire,
        "result": task.result,
        "error": error_record(task.error),
    }
    return data if task.damage is None else {**data, "damaged": task.damage}


def _is_final(event: Event) -> bool:
    try:
        return Status(event.fields.get("status", "")).final
    except ValueError:
        return False


def _number(text: str) -> int | float:
    try:
        value = float(text)
        return plain_number(value) if value - value == 0 else 0
    except ValueError:
        return 0
