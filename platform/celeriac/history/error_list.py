"""Failures for good, grouped by what they have in common: how many, since when, and how many are dead letters now.

The groups of a span of time come from one walk along an index that has all columns for it. What is shown of the groups
of one page is read for those only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, String, case, func, literal, select, tuple_, union_all
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from celeriac.chart_buckets import MAX_BUCKETS
from celeriac.database.cursor import Cursor
from celeriac.database.task_tables import error_groups, tasks
from celeriac.error_filter import ERROR_BUCKETS, ErrorFilter, ErrorSort
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.history.chart_record import Span, span_of
from celeriac.model import Status, rfc3339, utc_from_ms

_c: Final = tasks.c
_g: Final = error_groups.c


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one type that are alike, in a span of time."""

    error_group: str
    type: str
    code: str
    #: Without the values in which the messages differ.
    message: str
    failures: int
    #: How many of these tasks are failed now; the others were retried.
    dead: int
    #: The first failure at all, also before the span, and the last one in it.
    first_ms: int
    last_ms: int
    #: The task that failed last, preferably one that is failed now; None if it was retried a moment ago.
    task_id: str | None
    #: Failures in each bucket of the span.
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Some groups of a list, how much there is in the whole list, and the cursor of the next page."""

    items: Sequence[FailureGroup]
    groups: int
    failures: int
    dead: int
    next_cursor: str | None


def error_span(start: datetime | None, end: datetime) -> Span:
    """Return the span of a list of errors; without `start`, the day before `end`.

    Raises `InvalidSubmissionError` about `from`.
    """
    start = end - timedelta(days=1) if start is None else start
    if end - start > timedelta(days=MAX_BUCKETS):
        raise InvalidSubmissionError([Violation("from", f"must be at most {MAX_BUCKETS} days before `to`")])
    return span_of(start, end, None, most=ERROR_BUCKETS)


async def read_errors(
    connection: AsyncConnection, span: Span, wanted: ErrorFilter, *, sort: ErrorSort, limit: int, cursor: str | None
) -> ErrorPage:
    """Return a page of the groups that have failures in the span; raises `BadCursorError`."""
    after = None if cursor is None else Cursor.decode(cursor, sort)
    found = _grouped(span, wanted)
    rows = (await connection.execute(_page(found, sort, limit + 1, after))).mappings().all()
    totals: Any = rows[0] if rows else _NOTHING
    if after is not None:
        totals = (await connection.execute(select(*_totals(found)).select_from(found))).mappings().one()
    shown, following = rows[:limit], None
    if len(rows) > limit:
        last = shown[-1]
        following = Cursor(sort, last[_SORTED_BY[sort]], last["error_group"]).encoded()
    counts = await _counts(connection, span, wanted, [row["error_group"] for row in shown])
    examples = await _examples(connection, shown)
    items = [
        FailureGroup(
            error_group=row["error_group"],
            type=row["type"] or "",
            code=row["code"] or "",
            message=row["message"] or "",
            failures=row["failures"],
            dead=int(row["dead"]),
            first_ms=min(row["first_ms"] or row["since_ms"], row["since_ms"]),
            last_ms=row["last_ms"],
            task_id=examples.get(row["error_group"]),
            counts=counts.get(row["error_group"], [0] * span.buckets),
        )
        for row in shown
    ]
    groups, failures, dead = (int(totals[name] or 0) for name in _NOTHING)
    return ErrorPage(items, groups, failures, dead, following)


def errors_record(span: Span, page: ErrorPage) -> dict[str, Any]:
    """Return the page, JSON-ready."""
    return {
        "from": rfc3339(utc_from_ms(span.start_ms)),
        "to": rfc3339(utc_from_ms(span.end_ms)),
        "bucket": span.bucket,
        "total": {"groups": page.groups, "failures": page.failures, "dead": page.dead},
        "items": [
            {
                "error_group": one.error_group,
                "type": one.type,
                "code": one.code,
                "message": one.message,
                "failures": one.failures,
                "dead": one.dead,
                "first_seen": rfc3339(utc_from_ms(one.first_ms)),
                "last_seen": rfc3339(utc_from_ms(one.last_ms)),
                "last_task_id": one.task_id,
                "counts": list(one.counts),
            }
            for one in page.items
        ],
        "next_cursor": page.next_cursor,
    }


#: What the whole list has, without any group.
_NOTHING: Final = {"all_groups": 0, "all_failures": 0, "all_dead": 0}
_SORTED_BY: Final = {ErrorSort.LAST: "last_ms", ErrorSort.FAILURES: "failures"}


def _conditions(span: Span, wanted: ErrorFilter) -> list[ColumnElement[bool]]:
    conditions = [_c.error_group.is_not(None), _c.failed_ms >= span.start_ms, _c.failed_ms < span.end_ms]
    for name in ("type", "queue", "user_id", "key", "error_group"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(_c[name] == _plain(value))
    return conditions


def _grouped(span: Span, wanted: ErrorFilter) -> Any:
    """Return the groups with what is known of them, as a table."""
    is_dead = case((_c.status == literal(Status.FAILED.stored), 1), else_=0)
    counted = (
        select(
            _c.error_group.label("error_group"),
            func.count().label("failures"),
            func.sum(is_dead).label("dead"),
            func.min(_c.failed_ms).label("since_ms"),
            func.max(_c.failed_ms).label("last_ms"),
            func.max(case((_c.status == literal(Status.FAILED.stored), _c.failed_ms))).label("dead_ms"),
        )
        .where(*_conditions(span, wanted))
        .group_by(_c.error_group)
        .subquery()
    )
    found = select(counted, _g.type, _g.code, _g.message, _g.first_ms).select_from(
        counted.outerjoin(error_groups, _g.error_group == counted.c.error_group)
    )
    if wanted.q is not None:
        text = _plain(wanted.q).lower()
        found = found.where(
            func.lower(_g.message).contains(text, autoescape=True) | func.lower(_g.code).contains(text, autoescape=True)
        )
    return found.subquery()


def _totals(found: Any) -> list[ColumnElement[Any]]:
    """Return the columns of `_NOTHING`."""
    sums = (func.count(), func.sum(found.c.failures), func.sum(found.c.dead))
    return [column.label(name) for column, name in zip(sums, _NOTHING, strict=True)]


def _page(found: Any, sort: ErrorSort, limit: int, after: Cursor | None) -> Select[Any]:
    """Return the statement for a page; each row of the first page also has the totals of the whole list."""
    by = found.c[_SORTED_BY[sort]]
    page = select(found)
    if after is None:
        page = page.add_columns(*(column.element.over().label(column.name) for column in _totals(found)))
    else:
        page = page.where(tuple_(by, found.c.error_group) < tuple_(literal(after.at_ms), literal(after.task_id)))
    return page.order_by(by.desc(), found.c.error_group.desc()).limit(limit)


async def _counts(
    connection: AsyncConnection, span: Span, wanted: ErrorFilter, names: Sequence[str]
) -> Mapping[str, list[int]]:
    """Return the failures of some groups in each bucket."""
    if not names:
        return {}
    bucket = ((_c.failed_ms - literal(span.start_ms)) // literal(span.bucket_ms)).label("bucket")
    counted = (
        select(_c.error_group, bucket, func.count())
        .where(*_conditions(span, wanted), _c.error_group.in_(names))
        .group_by(_c.error_group, bucket)
    )
    found: dict[str, list[int]] = {}
    for group, place, number in await connection.execute(counted):
        found.setdefault(group, [0] * span.buckets)[place] = number
    return found


async def _examples(connection: AsyncConnection, rows: Sequence[Any]) -> Mapping[str, str]:
    """Return the task that failed last in each group, of those that are failed now if there are any."""
    if not rows:
        return {}
    # One look into the index for each group.
    looks = [
        select(
            select(sql_cast(literal(row["error_group"]), String).label("error_group"), _c.task_id.label("task_id"))
            .where(
                _c.error_group == row["error_group"],
                _c.failed_ms == (row["dead_ms"] or row["last_ms"]),
                *([] if row["dead_ms"] is None else [_c.status == Status.FAILED.stored]),
            )
            .order_by(_c.task_id.desc())
            .limit(1)
            .subquery()
        )
        for row in rows
    ]
    found = await connection.execute(union_all(*looks) if len(looks) > 1 else looks[0])
    return {group: task_id for group, task_id in found}  # noqa: C416


def _plain(text: str) -> str:
    return text.replace("\x00", "\ufffd")
