"""The stream of all changes on the platform, which the dashboard shows, and the tasks that run now."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from celeriac.access.principal import Principal, PrincipalKind
from celeriac.groups.record import group_record
from celeriac.model import Task
from celeriac.store.watching.activity import ActivityFeed, PlatformActivity, Watcher, running_tasks
from celeriac.tasks.record import LARGE, task_record, worker_record
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ, STREAM
from celeriac_api.http.event_stream import (
    Events,
    EventStreamResponse,
    LastEventId,
    LastEventIdQuery,
    frame,
    last_event_seen,
)
from celeriac_api.http.problems import TooManyWatchersError, instance_of, problem_of
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import RunningTasks
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["operations"])


_EXAMPLE = """\
retry: 1000

event: state
data: {"groups":[{"name":"default","waiting":2,"running":1,…}],"workers":[…],"delayed":0}

event: tasks
id: 1896076803000-0
data: {"tasks":[{"task_id":"0f0f…","status":"processing","progress":{"percentage":40,…},…}],"left_out":0}

event: rates
data: {"rates":[{"at_ms":1896076803000,"span_ms":1000,"submitted":12,"started":12,"completed":11,…}]}

"""


class LiveStream:
    """One watcher's view as server-sent events."""

    def __init__(self, parts: Parts, caller: Principal, *, after: str | None, repeat_s: float) -> None:
        self._parts = parts
        self._repeat_s = repeat_s
        self._caller = caller
        self._after = after

    async def events(self) -> Events:
        """Yield what to send until the process is about to stop."""
        feed: ActivityFeed = self._parts.activity
        watcher = await feed.watch(after=self._after, repeat_s=self._repeat_s)
        try:
            while not feed.closed:
                watcher.woken.clear()
                for part in self._parts_of(watcher):
                    yield part
                try:
                    async with asyncio.timeout(self._parts.settings.sse_keepalive):
                        await watcher.woken.wait()
                except TimeoutError:
                    yield None
        finally:
            feed.leave(watcher)

    def _parts_of(self, watcher: Watcher) -> list[bytes]:
        found = []
        if (state := watcher.state) is not None:
            watcher.state = None
            found.append(frame("state", _state_record(self._parts, state, self._caller), None))
        if (changes := watcher.take()) is not None:
            data = {
                "tasks": [_light_record(task) for task in changes.tasks if self._caller.sees(task.user_id)],
                "left_out": changes.left_out,
            }
            found.append(frame("tasks", data, changes.position))
        if watcher.rates:
            rates = [asdict(rate) for rate in watcher.rates]
            watcher.rates.clear()
            found.append(frame("rates", {"rates": rates}, None))
        return found


class _LiveResponse(EventStreamResponse):
    """Sends the stream if there is a place for one more."""

    def __init__(self, parts: Parts, caller: Principal, *, after: str | None, repeat_s: float) -> None:
        super().__init__(LiveStream(parts, caller, after=after, repeat_s=repeat_s).events())
        self._pages = parts.settings.pages
        self._streams = parts.activity.streams
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream or a refusal."""
        if (why := self._refusal()) is not None:
            await problem_of(TooManyWatchersError(why), instance_of(scope))(scope, receive, send)
            return
        name = self._caller.name
        self._streams[name] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]

    def _refusal(self) -> str | None:
        pages, caller, count = self._pages, self._caller, self._streams.total()
        most = pages.live_watchers if caller.admin else max(pages.live_watchers - pages.live_watchers_for_admins, 1)
        if count >= most:
            return f"{count} clients watch this process already (setting pages.live_watchers): try again later"
        if caller.kind is not PrincipalKind.LOCAL and self._streams[caller.name] >= pages.live_watchers_per_user:
            most = pages.live_watchers_per_user
            return f"you watch {most} times already (setting pages.live_watchers_per_user): close one"
        return None


@router.get(
    "/live",
    access=STREAM,
    summary="Watch everything",
    description=(
        "Server-sent events for a dashboard. `state` (groups, workers, and how many tasks wait for a time) comes at "
        "the beginning and when it changes. `tasks` has the tasks that changed, newest change first, without payload, "
        "result, metadata and `depends_on`. It comes several times a second and is bounded: `left_out` is the number "
        "of missing changes. `rates` comes once a second. A client that comes back with `Last-Event-ID` gets what "
        "changed meanwhile, and a new one with `repeat_s` what changed of late: with that, a list that was read just "
        "before is complete."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems("invalid_header", "too_many_watchers", "store_unavailable"),
    },
)
async def watch_everything(
    parts: PartsOf,
    caller: CallerOf,
    last_event_id: LastEventId = None,
    last_event_id_query: LastEventIdQuery = None,
    repeat_s: Annotated[
        float, Query(ge=0, le=60, description="Begin with what changed in so many seconds, as far as it fits.")
    ] = 0.0,
) -> Response:
    """Answer with the stream."""
    seen = last_event_seen(last_event_id, last_event_id_query)
    return _LiveResponse(parts, caller, after=seen, repeat_s=repeat_s)


@router.get(
    "/running",
    access=READ,
    summary="List what runs now",
    description="The tasks that workers run, the last started first, read from the store, without "
    "payload, result, metadata and `depends_on`.",
    response_model=RunningTasks,
    responses=problems("invalid_request", "store_unavailable"),
)
async def list_running(
    parts: PartsOf,
    caller: CallerOf,
    limit: Annotated[int, Query(ge=1, le=1000, description="The most tasks to list.")] = 200,
) -> Response:
    """Answer with the running tasks."""
    own = caller.confined_to
    most_bytes = parts.settings.max_page_bytes
    tasks, left_out = await running_tasks(parts.store, limit, most_bytes=most_bytes, user_id=own)
    seen = [task for task in tasks if caller.sees(task.user_id)]
    records = [_light_record(task) for task in await parts.activity.with_titles(seen)]
    return json_response({"tasks": records, "left_out": left_out})


def _light_record(task: Task) -> dict[str, Any]:
    record = task_record(task)
    for name in LARGE:
        del record[name]
    return record


def _state_record(parts: Parts, state: PlatformActivity, caller: Principal) -> dict[str, Any]:
    return {
        "groups": [group_record(stats, parts.groups.queues) for stats in state.groups],
        # Workers show hosts, and the tasks of all users.
        "workers": [worker_record(worker) for worker in state.workers] if caller.admin else [],
        "delayed": state.delayed,
    }
