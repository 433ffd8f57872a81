"""The progress of a task: the latest, and all of it live."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from celeriac.errors import Violation
from celeriac.tasks.record import progress_record
from celeriac.tasks.stream import resumed
from celeriac_api.access.rights import READ, STREAM
from celeriac_api.http.event_stream import EventStreamResponse, LastEventId, LastEventIdQuery, framed, last_event_seen
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.openapi.responses import event_stream, problems
from celeriac_api.openapi.schemas import TaskProgress
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH
from celeriac_api.routes.tasks.task import TaskId
from celeriac_api.routing import Router

router = Router(prefix=f"{PATH}/{{task_id}}/progress", tags=["progress"])

_STREAM_EXAMPLE = """\
retry: 1000

event: progress
id: 1896076800000-0
data: {"task_id":"0f0f…","percentage":40,"stage":"counting","message":"2 of 5","timestamp_ms":1896076800000}

event: done
id: 1896076803000-0
data: {"task_id":"0f0f…","status":"completed","result":{"counted":5},"error":null}

"""


@router.get(
    "",
    access=READ,
    summary="Read the latest progress",
    description="The fields of the latest `progress` event, and the status. It is at 0 percent before any report.",
    response_model=TaskProgress,
    responses=problems("task_not_found", "store_unavailable", "ledger_unavailable"),
)
async def read_progress(task_id: TaskId, parts: PartsOf) -> Response:
    """Answer with the latest progress."""
    task = await parts.tasks.find(task_id)
    progress = progress_record(task.progress, created_at=task.created_at)
    return json_response({"task_id": task_id, **progress, "status": task.status.wire})


@router.get(
    "/stream",
    access=STREAM,
    summary="Watch a task",
    description=(
        "Server-sent events: every `progress` report from the first on, live as they come, and finally one `done` with "
        "`task_id`, `status`, `result` and `error`; then the stream ends. A client that comes back with "
        "`Last-Event-ID` goes on after that event. If later events are gone already, the stream begins with a "
        '`progress` event that carries the present state and `"snapshot": true, "recovered": false`.'
    ),
    response_class=Response,
    responses={
        **event_stream(_STREAM_EXAMPLE),
        **problems("invalid_header", "task_not_found", "invalid_request", "store_unavailable", "ledger_unavailable"),
    },
)
async def watch_progress(
    task_id: TaskId,
    parts: PartsOf,
    last_event_id: LastEventId = None,
    last_event_id_query: LastEventIdQuery = None,
    include: Annotated[
        str | None,
        Query(description="With `status` the stream also has `status` events, one for each transition before the end."),
    ] = None,
) -> Response:
    """Answer with the event stream."""
    seen = last_event_seen(last_event_id, last_event_id_query)
    wanted = {part.strip() for part in include.split(",") if part.strip()} if include else set()
    if wanted - {"status"}:
        raise RequestError(
            "invalid_request", "include can only hold: status", [Violation("include", "can only hold: status")]
        )
    stream = await resumed(
        parts.tasks,
        parts.hub,
        task_id,
        last_event_id=seen,
        with_status="status" in wanted,
        keepalive_s=parts.settings.sse_keepalive,
        most_events=parts.settings.max_task_events,
    )
    return (
        Response(status_code=204, headers=HEADERS) if stream is None else EventStreamResponse(framed(stream.events()))
    )
