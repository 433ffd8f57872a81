"""History: filtered lists, dead letters, the timeline of a task, charts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeVar, get_args

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, Field
from starlette.responses import Response

from celeriac.access.principal import Principal
from celeriac.chart_buckets import BUCKETS, MAX_PARTS
from celeriac.database.cursor import BadCursorError
from celeriac.errors import InvalidSubmissionError, StoreUnavailableError, Violation
from celeriac.history.chart_record import chart_record, part_records, slow_records, span_of
from celeriac.history.stats import StatsOptions
from celeriac.history.stats_parts import DEFAULT_PARTS, DIVISIONS, MAX_SLOWEST
from celeriac.model import Status, ms_from_utc
from celeriac.moments import Moment
from celeriac.store.watching.feed import TIMELINE, EventFeed
from celeriac.task_filter import DEFAULT_LIMIT, MAX_LIMIT, Sort, TaskFilter, words
from celeriac.tasks.record import CHOOSABLE, check_fields, listed_record, unread_columns
from celeriac.tasks.service import SHORTEST_PREFIX
from celeriac.tasks.stream import event_record
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ
from celeriac_api.http.event_stream import place_of
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import Chart, TaskCounts, TaskEvents, TaskHistogram, TaskIds, TaskPage
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
    fields: Annotated[
        Annotated[tuple[str, ...], BeforeValidator(words), AfterValidator(check_fields)],
        Field(
            description="Which fields each record has besides `task_id`, repeated or separated by commas; all if left "
            "out. A list without `payload`, `result` and `metadata` does not read them, and is a fraction of the size. "
            f"There are: {', '.join(f'`{name}`' for name in CHOOSABLE)}."
        ),
    ] = ()


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
    if set(query.statuses) - {Status.FAILED}:
        message = "only failed tasks are dead letters: leave status out"
        raise RequestError("invalid_request", message, [Violation("status", message)])
    return await _page(parts, query.model_copy(update={"status": (Status.FAILED,)}), caller)


async def _page(parts: Parts, query: ListQuery, caller: Principal) -> Response:
    query = _own(query, caller)
    try:
        page = await parts.history.find(
            query,
            sort=query.sort,
            limit=query.limit,
            cursor=query.cursor,
            without=unread_columns(query.fields),
        )
    except BadCursorError as exc:
        raise RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))]) from exc
    tasks = [kept.task for kept in page.tasks]
    if not query.fields or "waiting_for" in query.fields:
        # The history answers without the store, too.
        with suppress(StoreUnavailableError):
            tasks = await parts.store.with_waits(tasks)
    if not query.fields or "title" in query.fields:
        # Those that were recorded before there were titles.
        tasks = [await parts.tasks.titles.add(task) for task in tasks]
    items = [listed_record(kept, task, query.fields) for kept, task in zip(page.tasks, tasks, strict=True)]
    behind_ms = await _behind_ms(parts) if query.cursor is None else None
    return json_response({"items": items, "next_cursor": page.next_cursor, "behind_ms": behind_ms})


async def _behind_ms(parts: Parts) -> int | None:
    """Return how far the history is behind the store; None without the store."""
    try:
        lag = await EventFeed(parts.store, consumer="").lag()
    except StoreUnavailableError:
        return None
    return round(lag.seconds * 1000) if lag.entries else 0


@router.get(
    "/task-counts",
    access=READ,
    summary="Count tasks by status",
    description="How many tasks match, by status. Without any other condition it counts up to `pages.counted_tasks` of "
    "each status, and otherwise so many of the newest tasks that match. `more` names the statuses with further tasks.",
    response_model=TaskCounts,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def count_tasks(query: Annotated[TaskFilter, Query()], parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with the counts."""
    # In this order: what is not behind now is counted.
    behind_ms = await _behind_ms(parts)
    counts = await parts.history.counts(_own(query, caller), most=parts.settings.pages.counted_tasks)
    return json_response({**counts.record(), "behind_ms": behind_ms})


class HistogramQuery(TaskFilter):
    """The parameters of the histogram."""

    buckets: Annotated[int, Field(ge=2, le=200, description="How many buckets at most.")] = 60


@router.get(
    "/task-histogram",
    access=READ,
    summary="When tasks were created",
    description="How many tasks that match were created over time, by their status now. It counts up to "
    "`pages.counted_tasks` of the newest ones. The range begins at `created_after`, or with the oldest task that is "
    "counted, and ends at `created_before`, or now.",
    response_model=TaskHistogram,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def read_histogram(query: Annotated[HistogramQuery, Query()], parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with the histogram."""
    chosen = TaskFilter.model_validate(query.model_dump(exclude={"buckets"}))
    histogram = await parts.history.histogram(
        _own(chosen, caller),
        now_ms=ms_from_utc(datetime.now(UTC)),
        buckets=query.buckets,
        most=parts.settings.pages.counted_tasks,
    )
    return json_response(histogram.record())


_F = TypeVar("_F", bound=TaskFilter)


def _own(query: _F, caller: Principal) -> _F:
    """Return the filter, narrowed to the caller's tasks unless the caller is an admin."""
    return query if caller.admin else query.model_copy(update={"user_id": caller.own_user})


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
    progress: Annotated[
        Literal["all", "stages"],
        Query(description="With `stages` only the first report of each stage is listed, and the latest report."),
    ] = "all",
    limit: Annotated[int, Query(ge=1, le=1000, description="Events per page.")] = 200,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the previous page.")] = None,
) -> Response:
    """Answer with a page of events."""
    after = place_of(cursor)
    kinds = TIMELINE if kind is None else (kind,)
    most_bytes = parts.settings.max_page_bytes
    found = await parts.tasks.timeline.events(
        task_id, after=after, count=limit, kinds=kinds, stages=progress == "stages", most_bytes=most_bytes
    )
    items = [event_record(task_id, event) for event in found.items]
    return json_response({"items": items, "next_cursor": found.next_cursor})


BucketName = Literal["1m", "5m", "15m", "1h", "6h", "1d"]
assert set(get_args(BucketName)) == set(BUCKETS)
Division = Literal["type", "queue"]
assert get_args(Division) == DIVISIONS


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
    by: Annotated[
        list[Division] | None,
        Query(max_length=2, description="Also the tasks that ended by type, by `queue` (the group), or both."),
    ] = None,
    most: Annotated[
        int, Query(ge=1, le=MAX_PARTS, description="How many types or groups at most: those with the most tasks.")
    ] = DEFAULT_PARTS,
    slowest: Annotated[
        int, Query(ge=0, le=MAX_SLOWEST, description="How many of the tasks that ran longest are named.")
    ] = 0,
) -> Response:
    """Answer with the chart."""
    if not caller.admin:
        user_id = caller.own_user
    try:
        span = span_of(start, end or datetime.now(UTC), bucket)
    except InvalidSubmissionError as exc:
        raise RequestError("invalid_request", str(exc), exc.violations) from exc
    chosen: StatsOptions = {"task_type": type, "queue": queue, "user_id": user_id, "key": key}
    history = parts.history
    divisions = list(dict.fromkeys(by or ()))
    # Each has a connection of its own: a database has more than one core, too.
    chart, divided = await asyncio.gather(
        history.stats(span.start_ms, span.end_ms, span.bucket_ms, **chosen),
        asyncio.gather(*(history.parts(name, span, most=most, **chosen) for name in divisions)),
    )
    record = chart_record(span, chart)
    if divisions:
        record["by"] = {name: part_records(found) for name, found in zip(divisions, divided, strict=True)}
    if slowest:
        record["slowest"] = slow_records(await history.slowest(span, most=slowest, **chosen))
    return json_response(record)
