"""What a task's handler logged: page by page, and live."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from celeriac.errors import TaskNotFoundError, Violation
from celeriac.model import LogLevel, LogLine, severity
from celeriac.record import log_line_record
from celeriac_api.log_stream import LogStream
from celeriac_api.openapi import problems
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.problems import RequestError
from celeriac_api.recall import find_kept
from celeriac_api.responses import json_response
from celeriac_api.routes.tasks import TaskId
from celeriac_api.schemas import TaskLog
from celeriac_api.sse import START, EventStreamResponse, last_event_seen, parse_event_id
from celeriac_api.submitting import PATH

router = APIRouter(prefix=f"{PATH}/{{task_id}}/log", tags=["progress"])

#: Lines read from the store at once.
_PAGE: Final = 500

_Level = Annotated[LogLevel, Query(description="The least severe lines to show.")]

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
    summary="Read a task's log",
    description="What its handler said by `ctx.log` and why attempts failed, with tracebacks, from the first line on. "
    "The log has the last lines of all attempts (settings `task_log`), and lives as long as the store keeps the "
    "task (`retention`): of a task that only the history has it is empty.",
    response_model=TaskLog,
    responses=problems("task_not_found", "invalid_request", "store_unavailable", "ledger_unavailable"),
)
async def read_log(
    task_id: TaskId,
    parts: PartsOf,
    level: _Level = LogLevel.DEBUG,
    limit: Annotated[int, Query(ge=1, le=1000, description="Lines of one page.")] = 200,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Answer with a page of lines."""
    if cursor is not None and parse_event_id(cursor) is None:
        message = "is no cursor: take `next_cursor` of a page as it is"
        raise RequestError("invalid_request", f"cursor: {message}", [Violation("cursor", message)])
    if not (await parts.store.known([task_id]))[0]:
        await find_kept(parts, task_id)
    found = await _lines(parts, task_id, after=cursor or START, least=severity(level), count=limit + 1)
    items = [log_line_record(line) for line in found[:limit]]
    return json_response({"items": items, "next_cursor": found[limit - 1].id if len(found) > limit else None})


@router.get(
    "/stream",
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
        str | None, Header(description="The id of the last line that was received; browsers send it by themselves.")
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
    return EventStreamResponse(
        LogStream(
            hub=parts.hub,
            task_id=task_id,
            position=seen or START,
            level=level,
            keepalive_s=parts.settings.sse_keepalive,
        )
    )


async def _lines(parts: Parts, task_id: str, *, after: str, least: int, count: int) -> list[LogLine]:
    """Return up to `count` lines after the stream id `after` that are at least that severe."""
    found: list[LogLine] = []
    while len(found) < count:
        page = await parts.store.log_lines(task_id, after=after, count=_PAGE)
        found += [line for line in page if severity(line.level) >= least]
        if len(page) < _PAGE:
            break
        after = page[-1].id
    return found[:count]
