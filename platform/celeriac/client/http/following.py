"""Follows a task or a workflow live: one event stream after another, so that no event is lost or repeated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from celeriac import json_text
from celeriac.calling.access import Ended
from celeriac.client.http.api import Api
from celeriac.client.http.calls import Call, LostConnectionError, task_path, workflow_path
from celeriac.client.http.event_stream import EventReader, ServerEvent
from celeriac.client.http.retrying import TRANSIENT, retry_after_s
from celeriac.client.outputs import error_of
from celeriac.client.reports import ended_of, report_of
from celeriac.errors import ApiUnavailableError
from celeriac.model import Progress

#: A stream that lasted this long did not fail, even if no event came: many proxies cut a quiet connection.
_STEADY_S: Final = 5.0
#: Pause if the store does not have the last event that was read: it lost the last moments before a crash.
_AHEAD_S: Final = 1.0


async def follow(api: Api, task_id: str) -> AsyncGenerator[Progress | Ended]:
    """Yield every report of the task from the first one on, live, and finally `Ended`; raises as `streamed` does."""
    async with aclosing(task_events(api, task_id, "/progress/stream")) as events:
        async for event in events:
            if event.name == "done":
                yield ended_of(event)
            elif event.name == "progress":
                yield report_of(event)


def task_events(
    api: Api, task_id: str, stream_path: str, query: tuple[tuple[str, str], ...] = ()
) -> AsyncGenerator[ServerEvent]:
    """Yield every event of a stream of the task, as `streamed` does; raises `TaskNotFoundError` too."""

    async def end() -> dict[str, Any] | None:
        status = await api.status(task_id)
        return {"task_id": task_id, "status": status.wire} if status.final else None

    return streamed(api, task_path(task_id) + stream_path, end, query)


def workflow_events(api: Api, workflow_id: str) -> AsyncGenerator[ServerEvent]:
    """Yield every event of a workflow, as `streamed` does; raises `WorkflowNotFoundError` too."""
    path = workflow_path(workflow_id)

    async def end() -> dict[str, Any] | None:
        record = await api.document(Call("GET", path))
        running = record.get("status") == "running"
        return None if running else {name: record.get(name) for name in ("workflow_id", "status", "counts")}

    return streamed(api, f"{path}/stream", end)


async def streamed(
    api: Api,
    path: str,
    end: Callable[[], Awaitable[dict[str, Any] | None]],
    query: tuple[tuple[str, str], ...] = (),
) -> AsyncGenerator[ServerEvent]:
    """Yield every event of a stream from the first one on, live; the last one is `done`.

    If a stream breaks off, the next one begins after the last event that was read completely. If the server says that
    nothing follows, `end` returns what `done` tells, None if it has not ended. Raises `ApiUnavailableError` if streams
    fail again and again.
    """
    last_id: str | None = None
    failures = 0
    while True:
        began, asked_s = api.clock.now(), 0.0
        try:
            async with api.opened(_subscription(path, query, last_id)) as stream:
                answer = stream.answer
                if answer.status == 200:
                    reader = EventReader(last_id)
                    while chunk := await stream.read():
                        for event in reader.feed(chunk):
                            last_id, failures = event.last_id, 0
                            yield event
                            if event.name == "done":
                                return
                    reason = "the event stream ended early"
                elif answer.status == 204:
                    if (ended := await end()) is not None:
                        yield ServerEvent("done", json_text.write(ended), last_id)
                        return
                    reason, failures, asked_s = "the store lost events that were read before", 0, _AHEAD_S
                elif answer.status in TRANSIENT:
                    reason, asked_s = str(error_of(answer)), retry_after_s(answer.headers)
                else:
                    raise error_of(answer)
        except LostConnectionError as exc:
            reason = str(exc)
        failures = 1 if api.clock.now() - began > _STEADY_S else failures + 1
        pause_s = api.retrying.pause_s(failures, asked_s)
        if pause_s is None:
            raise ApiUnavailableError(api.url, reason)
        await api.clock.sleep(pause_s)


def _subscription(path: str, query: tuple[tuple[str, str], ...], last_id: str | None) -> Call:
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    return Call("GET", path, query=query, headers=headers)
