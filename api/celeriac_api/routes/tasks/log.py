"""The log of a task: page by page, and live."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query
from starlette.responses import Response

from celeriac.errors import TaskNotFoundError
from celeriac.model import LogLevel, severity
from celeriac.tasks.record import log_line_record
from celeriac.tasks.stream import START, LogStream
from celeriac_api.access.rights import READ, STREAM
from celeriac_api.http.event_stream import EventStreamResponse, framed, last_event_seen, place_of
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import TaskLog
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH
from celeriac_api.routes.tasks.task import TaskId
from celeriac_api.routing import Router

router = Router(prefix=f"{PATH}/{{task_id}}/log", tags=["progress"])

_Level = Annotated[LogLevel, Query(description="The lowest level to show.")]

_STREAM_EXAMPLE = """\
retry: 1000

event: line
id: 1896076800000-0
data: {"task_id":"0f0f…","id":"1896076800000-0","at":"2030-01-31T08:00:00.000Z","attempt":1,"level":"info","message":"page written","data":{"page":3}}

event: done
id: 1896076800000-0
data: {"task_id":"0f0f…","status":"completed"}

"""  # noqa: E501


@router.get(
    "",
    access=READ,
    summary="Read a task's log",
    description="What the handler wrote with `ctx.log`, and why attempts failed, with tracebacks, from the first line. "
    "The log has the last lines of all attempts (settings `task_log`) while the store keeps the task "
    "(`retention`). Afterwards the history has the last lines of failed tasks (settings `ledger.log`).",
    response_model=TaskLog,
    responses=problems("task_not_found", "invalid_request", "store_unavailable", "ledger_unavailable"),
)
async def read_log(
    task_id: TaskId,
    parts: PartsOf,
    level: _Level = LogLevel.DEBUG,
    limit: Annotated[int, Query(ge=1, le=1000, description="Lines per page.")] = 200,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the previous page.")] = None,
) -> Response:
    """Answer with a page of lines."""
    after = place_of(cursor)
    most_bytes = parts.settings.max_page_bytes
    found = await parts.tasks.timeline.log(
        task_id, after=after, least=severity(level), count=limit, most_bytes=most_bytes
    )
    return json_response({"items": [log_line_record(line) for line in found.items], "next_cursor": found.next_cursor})


@router.get(
    "/stream",
    access=STREAM,
    summary="Follow a task's log",
    description="Server-sent events: a `line` for each line from the first on, live as they come, and one `done` with "
    "`task_id` and `status` when the task has ended; then the stream ends. A client that comes back with "
    "`Last-Event-ID` goes on after that line.",
    response_class=Response,
    responses={
        200: {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM_EXAMPLE}},
        },
        **problems("invalid_header", "task_not_found", "invalid_request", "store_unavailable"),
    },
)
async def follow_log(
    task_id: TaskId,
    parts: PartsOf,
    last_event_id: Annotated[
        str | None,
        Header(description="The id of the last line that the client received; browsers send it automatically."),
    ] = None,
    last_event_id_query: Annotated[
        str | None,
        Query(alias="last_event_id", description="The same, for clients that cannot set headers; the header wins."),
    ] = None,
    level: _Level = LogLevel.DEBUG,
) -> Response:
    """Answer with the event stream."""
    seen = last_event_seen(last_event_id, last_event_id_query)
    if not (await parts.store.known([task_id]))[0]:
        raise TaskNotFoundError(task_id)
    stream = LogStream(
        hub=parts.hub,
        task_id=task_id,
        position=seen or START,
        level=level,
        keepalive_s=parts.settings.sse_keepalive,
    )
    return EventStreamResponse(framed(stream.events()))
