"""Reading history: tasks by filter, one task, its events, charts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self, Unpack

from sqlalchemy import select, tuple_

from celeriac import json_text
from celeriac.database.cursor import Cursor
from celeriac.database.engine import create_engine, reading, shown
from celeriac.database.migrating import check
from celeriac.database.page_bytes import PAGE_BYTES, fitting
from celeriac.database.task_tables import events
from celeriac.error_filter import DEFAULT_ERRORS, ErrorFilter, ErrorSort
from celeriac.errors import JsonError, TaskNotFoundError
from celeriac.history import counting, queries, workflows
from celeriac.history.chart_record import Span
from celeriac.history.counting import CreationHistogram, StatusCounts
from celeriac.history.error_list import ErrorPage, read_errors
from celeriac.history.kept_buckets import KeptBuckets, of_whole_minutes
from celeriac.history.rows import damage_of, record_of
from celeriac.history.search import Words
from celeriac.history.stats import HistoryChart, StatsOptions, buckets_of, chart_of, conditions, statements
from celeriac.history.stats_parts import DEFAULT_PARTS, LongestTask, Part, read_parts, read_slowest
from celeriac.history.workflows import WorkflowFilter, WorkflowPage
from celeriac.model import Event, KeptTask, LogLine, Workflow, ms_from_utc, utc_from_ms
from celeriac.signals.records import TaskStep
from celeriac.store.records import log_line_from_entry, task_from_hash
from celeriac.store.watching.feed import LOG, STEP, TIMELINE
from celeriac.task_filter import DEFAULT_LIMIT, Sort, TaskFilter


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks of a list, and the cursor of the next page; None means: this is the last page."""

    tasks: list[KeptTask]
    next_cursor: str | None


class History:
    """A process's connection to the history; belongs to one event loop. All calls raise `HistoryUnavailableError`."""

    def __init__(self, database_url: str, *, statement_timeout_s: float = 30.0, page_bytes: int = PAGE_BYTES) -> None:
        #: About how many bytes one page of a list holds.
        self.page_bytes = page_bytes
        self.url = shown(database_url)
        self.engine = create_engine(database_url, statement_timeout_s=statement_timeout_s)
        self._words = Words.of(self.engine)
        #: PostgreSQL has no stamps.
        self._kept = KeptBuckets() if self.engine.dialect.name == "sqlite" else None

    async def check(self) -> None:
        """Raise `HistoryMissingError` unless the tables exist in this version."""
        await check(self.engine)

    async def searches(self) -> bool:
        """Return whether the database can index words: a SQLite without FTS5 cannot."""
        async with reading(self.engine) as connection:
            return await self._words.available(connection)

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def get(self, task_id: str) -> KeptTask:
        """Return one task; raises `TaskNotFoundError`."""
        async with reading(self.engine) as connection:
            row = (await connection.execute(queries.one(task_id.replace("\x00", "\ufffd")))).mappings().first()
        if row is None:
            raise TaskNotFoundError(task_id)
        return _kept(row)

    async def find(
        self,
        task_filter: TaskFilter,
        *,
        sort: Sort = Sort.CREATED_DOWN,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        without: Collection[str] = (),
    ) -> TaskPage:
        """Return a page of the tasks that the filter selects; raises `BadCursorError`.

        The columns `without` are not read: the tasks are as if they had nothing there.

        A list that is sorted by what never changes (`created_at`) has each task on exactly one page, however many tasks
        are added meanwhile.
        """
        after = None if cursor is None else Cursor.decode(cursor, sort)
        async with reading(self.engine) as connection:
            found = await self._words.found(connection, task_filter.query)
            statement = queries.page(task_filter, sort, limit + 1, after, without, found)
            # As dictionaries: each of their many values is found ten times faster there.
            rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
        following = None
        fit = fitting((_long_bytes(row) for row in rows[:limit]), self.page_bytes)
        if len(rows) > fit:
            last = rows[fit - 1]
            following = Cursor(sort, queries.sort_value(sort, last), last["task_id"]).encoded()
        return TaskPage([_kept(row) for row in rows[:fit]], following)

    async def workflow(self, workflow_id: str) -> Workflow:
        """Return one workflow with its nodes; raises `WorkflowNotFoundError`."""
        return await workflows.workflow(self.engine, workflow_id)

    async def workflows(self, wanted: WorkflowFilter, *, limit: int, cursor: str | None = None) -> WorkflowPage:
        """Return a page of the workflows that the filter selects, the newest first; raises `BadCursorError`."""
        return await workflows.page(self.engine, wanted, limit=limit, cursor=cursor)

    async def ids(self, prefix: str, *, limit: int, user_id: str | None = None) -> list[str]:
        """Return the first ids that begin with `prefix`, in order; with `user_id` only of this user's tasks."""
        async with reading(self.engine) as connection:
            return list((await connection.execute(queries.ids(prefix, limit, user_id))).scalars())

    async def count(self, task_filter: TaskFilter) -> int:
        """Return how many tasks the filter selects."""
        async with reading(self.engine) as connection:
            found = await self._words.found(connection, task_filter.query)
            return int((await connection.execute(queries.count(task_filter, found))).scalar_one())

    async def counts(self, task_filter: TaskFilter, *, most: int) -> StatusCounts:
        """Return how many tasks the filter selects, by status; it counts at most `most` of the newest ones.

        Without another condition than the status, it is `most` of each status.
        """
        async with reading(self.engine) as connection:
            found = await self._words.found(connection, task_filter.query)
            rows = (await connection.execute(counting.by_status(task_filter, most, found))).all()
        return counting.status_counts(task_filter, most, rows)

    async def histogram(self, task_filter: TaskFilter, *, now_ms: int, buckets: int, most: int) -> CreationHistogram:
        """Return how many tasks were created over time, by status, of at most `most` of the newest ones.

        It has up to `buckets` buckets, from the first moment of the filter, else from the oldest task that is counted,
        to the last moment of the filter, else to `now_ms`.
        """
        async with reading(self.engine) as connection:
            found = await self._words.found(connection, task_filter.query)
            number, oldest_ms, newest_ms = (await connection.execute(counting.span(task_filter, most, found))).one()
            after, before = task_filter.created_after, task_filter.created_before
            end_ms = max(now_ms, (newest_ms or 0) + 1) if before is None else ms_from_utc(before)
            more = number > most
            start_ms = (oldest_ms or end_ms) if after is None or more else ms_from_utc(after)
            histogram = counting.empty_histogram(start_ms, end_ms, buckets, more=more)
            if not number:
                return histogram
            statement = counting.over_time(task_filter, most, histogram.start_ms, histogram.bucket_ms, found)
            return counting.fill(histogram, (await connection.execute(statement)).all())

    async def stats(
        self,
        start_ms: int,
        end_ms: int,
        bucket_ms: int,
        *,
        task_type: str | None = None,
        queue: str | None = None,
        user_id: str | None = None,
        key: str | None = None,
    ) -> HistoryChart:
        """Return counts and durations in buckets of `bucket_ms` from `start_ms` (included) to `end_ms` (excluded).

        It reads one index entry of each task in the range, and rows only if one user or key is selected. In SQLite, a
        chart of all tasks reads only the buckets that have changed since the last chart.
        """
        span = (start_ms, end_ms, bucket_ms)
        chosen: StatsOptions = {"task_type": task_type, "queue": queue, "user_id": user_id, "key": key}
        async with reading(self.engine) as connection:
            if (kept := self._kept_of(start_ms, bucket_ms, chosen)) is not None:
                return chart_of(start_ms, await kept.buckets(connection, *span))
            replies = [(await connection.execute(statement)).all() for statement in statements(*span, **chosen)]
        return chart_of(start_ms, buckets_of(*span, *replies))

    async def parts(
        self, by: str, span: Span, *, most: int = DEFAULT_PARTS, **chosen: Unpack[StatsOptions]
    ) -> list[Part]:
        """Return the tasks that ended in the span by type or by `queue`, at most `most` parts, the largest first."""
        places = (span.start_ms, span.end_ms, span.bucket_ms)
        async with reading(self.engine) as connection:
            if (kept := self._kept_of(span.start_ms, span.bucket_ms, chosen)) is not None:
                return await kept.parts(connection, by, *places, most=most)
            return await read_parts(connection, by, *places, conditions(**chosen), most=most)

    def _kept_of(self, start_ms: int, bucket_ms: int, chosen: StatsOptions) -> KeptBuckets | None:
        """Return the kept buckets if they have what is asked for: all tasks, in whole minutes."""
        everything = all(value is None for value in chosen.values())
        return self._kept if everything and of_whole_minutes(start_ms, bucket_ms) else None

    async def slowest(self, span: Span, *, most: int, **chosen: Unpack[StatsOptions]) -> list[LongestTask]:
        """Return the tasks that ended in the span and ran longest, the longest first."""
        async with reading(self.engine) as connection:
            return await read_slowest(connection, span.start_ms, span.end_ms, conditions(**chosen), most=most)

    async def errors(
        self,
        span: Span,
        wanted: ErrorFilter,
        *,
        sort: ErrorSort = ErrorSort.LAST,
        limit: int = DEFAULT_ERRORS,
        cursor: str | None = None,
    ) -> ErrorPage:
        """Return a page of the groups of failures in the span; raises `BadCursorError`."""
        async with reading(self.engine) as connection:
            return await read_errors(connection, span, wanted, sort=sort, limit=limit, cursor=cursor)

    async def events(
        self,
        task_id: str,
        *,
        after: tuple[int, int] = (-1, 0),
        count: int = 500,
        kinds: Sequence[str] = TIMELINE,
    ) -> list[Event]:
        """Return up to `count` events of a task after the stream id `after`, in order."""
        place = (events.c.at_ms, events.c.seq)
        statement = (
            select(*place, events.c.kind, events.c.fields)
            .where(
                events.c.task_id == task_id.replace("\x00", "\ufffd"),
                tuple_(*place) > tuple_(*after),
                events.c.kind.in_(kinds),
            )
            .order_by(*place)
            .limit(count)
        )
        async with reading(self.engine) as connection:
            rows = (await connection.execute(statement)).all()
        return [Event(f"{at_ms}-{seq}", kind, _fields_of(fields)) for at_ms, seq, kind, fields in rows]

    async def log_lines(self, task_id: str, *, after: tuple[int, int] = (-1, 0), count: int = 500) -> list[LogLine]:
        """Return up to `count` lines of a task's log that history has, after the stream id `after`, in order."""
        found = await self.events(task_id, after=after, count=count, kinds=(LOG,))
        return [log_line_from_entry(event.id, event.fields) for event in found]

    async def steps(self, task_id: str) -> list[tuple[int, TaskStep]]:
        """Return the steps of a task that history has with their numbers, in order; those that can be read."""
        found = []
        # A task has at most 5,000 (`steps.most`), of 8 MiB together.
        for event in await self.events(task_id, count=5000, kinds=(STEP,)):
            at_ms, _, number = event.id.partition("-")
            with suppress(KeyError, ValueError):
                result = event.fields["result"]
                step = TaskStep(
                    name=event.fields["name"],
                    started_at=utc_from_ms(int(event.fields["began"])),
                    finished_at=utc_from_ms(int(at_ms)),
                    size=len(result.encode()),
                    result=json_text.read(result),
                )
                found.append((int(number), step))
        return sorted(found, key=lambda pair: pair[0])


def _long_bytes(row: Any) -> int:
    return sum(len(row[name] or "") for name in queries.LONG)


def _fields_of(text: str) -> dict[str, str]:
    """Read the fields of an event; one that cannot be read says why in the field `damaged`."""
    try:
        fields = json_text.read(text, "the event")
    except JsonError as exc:
        return {"damaged": str(exc)}
    return (
        fields if isinstance(fields, dict) else {"damaged": f"the event is of the wrong type ({type(fields).__name__})"}
    )


def _kept(row: Any) -> KeptTask:
    record = record_of(row)
    task = task_from_hash(record)
    if (damage := damage_of(row)) is not None:
        task = replace(task, damage=f"{damage}; {task.damage}" if task.damage else damage)
    omitted = tuple(name for name in queries.LONG if row.get(queries.omitted(name)))
    if "payload" in omitted:
        task = replace(task, payload=None)
    if row["title"] is not None:
        task = replace(task, title=row["title"])
    return KeptTask(task, row["rev"], record, omitted)
