"""History: filtered lists, dead letters, the timeline of a task, charts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from celeriac.access.principal import Principal
from celeriac.chart_buckets import BUCKETS
from celeriac.database.cursor import BadCursorError
from celeriac.errors import InvalidSubmissionError, StoreUnavailableError, Violation
from celeriac.history.chart_record import chart_record, span_of
from celeriac.model import Status
from celeriac.moments import Moment
from celeriac.store.watching.feed import TIMELINE
from celeriac.task_filter import DEFAULT_LIMIT, MAX_LIMIT, Sort, TaskFilter
from celeriac.tasks.record import task_record
from celeriac.tasks.service import SHORTEST_PREFIX
from celeriac.tasks.stream import event_record
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ
from celeriac_api.http.event_stream import place_of
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Chart, TaskEvents, TaskIds, TaskPage
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.tasks.task import TaskId
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["history"])

_Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Tasks per page.")]
_Cursor = Annotated[
    str | None,
    Field(max_length=1000, description="The `next_cursor` of the previous page, with the same filter and sort."),
]


class ListQuery(TaskFilter):
    """The parameters of a list."""

    sort: Annotated[Sort, Field(description="`-` lists the newest first; `finished_at` lists only ended tasks.")] = (
        Sort.CREATED_DOWN
    )
    limit: _Limit = DEFAULT_LIMIT
    cursor: _Cursor = None


class DeadQuery(ListQuery):
    """The parameters of the dead letters."""

    sort: Annotated[Sort, Field(description="`-` lists the newest first.")] = Sort.FINISHED_DOWN


_LIST_TEXT: Final = (
    " Pages are read from the history, which is normally less than a second behind (see `/readyz`). "
    "A payload or result above 64 KiB is `null` here and listed in `omitted`: read the task itself."
)


@router.get(
    "/tasks",
    access=READ,
    summary="List tasks",
    description="The tasks that match all conditions, page by page. Every page costs the same. Sorted by "
    "`created_at`, each task is on exactly one page, however many arrive meanwhile." + _LIST_TEXT,
    response_model=TaskPage,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def list_tasks(query: Annotated[ListQuery, Query()], parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with a page of tasks."""
    return await _page(parts, query, caller)


@router.get(
    "/dead",
    access=READ,
    summary="List the dead letters",
    description="The tasks that failed for good, the last one first. Retry one with another payload, or many with "
    "`/bulk`." + _LIST_TEXT,
    response_model=TaskPage,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def list_dead(query: Annotated[DeadQuery, Query()], parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with a page of failed tasks."""
    if set(query.status) - {Status.FAILED}:
        message = "only failed tasks are dead letters: leave status out"
        raise RequestError("invalid_request", message, [Violation("status", message)])
    return await _page(parts, query.model_copy(update={"status": (Status.FAILED,)}), caller)


async def _page(parts: Parts, query: ListQuery, caller: Principal) -> Response:
    if not caller.admin:
        query = query.model_copy(update={"user_id": caller.own_user})
    try:
        page = await parts.history.find(query, sort=query.sort, limit=query.limit, cursor=query.cursor)
    except BadCursorError as exc:
        raise RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))]) from exc
    try:
        tasks = await parts.store.with_waits([kept.task for kept in page.tasks])
    except StoreUnavailableError:
        # The history answers without the store, too.
        tasks = [kept.task for kept in page.tasks]
    items = [{**task_record(task), "omitted": list(kept.omitted)} for task, kept in zip(tasks, page.tasks, strict=True)]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@router.get(
    "/task-ids",
    access=READ,
    summary="Find ids by their beginning",
    description="The first ids of tasks that begin so, in order, whether the store or only the history has the task. A "
    f"task that was submitted a moment ago is among them. With fewer than {SHORTEST_PREFIX} characters it is only the "
    "task whose id this is.",
    response_model=TaskIds,
    responses=problems("invalid_request", "store_unavailable", "ledger_unavailable"),
)
async def list_task_ids(
    parts: PartsOf,
    caller: CallerOf,
    prefix: Annotated[str, Query(max_length=256, description="How the ids begin.")] = "",
    recent: Annotated[
        bool,
        Query(description="Only tasks that something happened to lately, the latest first, for any `prefix` and none."),
    ] = False,
    limit: Annotated[int, Query(ge=1, le=100, description="How many ids at most.")] = 10,
) -> Response:
    """Answer with the ids."""
    find = parts.tasks.recent_ids if recent else parts.tasks.ids
    return json_response({"task_ids": await find(prefix, caller=caller, limit=limit)})


@router.get(
    "/tasks/{task_id}/events",
    access=READ,
    summary="Read a task's timeline",
    description="What happened to the task, from the first event on: each change of status, and its progress. The "
    "history keeps the last report of each attempt (setting `ledger.progress`); while the store has the task, all are "
    "here.",
    response_model=TaskEvents,
    responses=problems(
        "task_not_found", "invalid_request", "store_unavailable", "ledger_missing", "ledger_unavailable"
    ),
)
async def list_events(
    task_id: TaskId,
    parts: PartsOf,
    kind: Annotated[
        Literal["status", "progress", "deduplicated"] | None, Query(description="Only events of this kind.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Events per page.")] = 200,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the previous page.")] = None,
) -> Response:
    """Answer with a page of events."""
    after = place_of(cursor)
    kinds = TIMELINE if kind is None else (kind,)
    most_bytes = parts.settings.max_page_bytes
    found = await parts.tasks.timeline.events(task_id, after=after, count=limit, kinds=kinds, most_bytes=most_bytes)
    items = [event_record(task_id, event) for event in found.items]
    return json_response({"items": items, "next_cursor": found.next_cursor})


BucketName = Literal["1m", "5m", "15m", "1h", "6h", "1d"]
assert set(get_args(BucketName)) == set(BUCKETS)


@router.get(
    "/stats",
    access=READ,
    summary="Counts and durations over time",
    description="For charts: in each bucket how many tasks were submitted and how many ended how, how long attempts "
    "ran (`run`) and how long tasks waited for a worker (`wait`), in milliseconds. Percentiles are within 5 percent. "
    "By default the last hour.",
    response_model=Chart,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def read_stats(
    parts: PartsOf,
    caller: CallerOf,
    start: Annotated[
        Moment | None, Query(alias="from", description="The beginning of the first bucket, rounded down.")
    ] = None,
    end: Annotated[Moment | None, Query(alias="to", description="The end of the last bucket; now if left out.")] = None,
    bucket: Annotated[
        BucketName | None,
        Query(description="The size of a bucket; if left out, one with which there are at most 200 buckets."),
    ] = None,
    type: Annotated[str | None, Query(description="Only tasks of this type.", max_length=256)] = None,
    queue: Annotated[str | None, Query(description="Only tasks of this group.", max_length=256)] = None,
    user_id: Annotated[str | None, Query(description="Only tasks of this user.", max_length=256)] = None,
    key: Annotated[str | None, Query(description="Only tasks with this key.", max_length=256)] = None,
) -> Response:
    """Answer with the chart."""
    if not caller.admin:
        user_id = caller.own_user
    try:
        span = span_of(start, end or datetime.now(UTC), bucket)
    except InvalidSubmissionError as exc:
        raise RequestError("invalid_request", str(exc), exc.violations) from exc
    chart = await parts.history.stats(
        span.start_ms, span.end_ms, span.bucket_ms, task_type=type, queue=queue, user_id=user_id, key=key
    )
    return json_response(chart_record(span, chart))
