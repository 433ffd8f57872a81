"""The parts of a chart: the tasks that ended by type or by group, and those that ran longest.

All of it comes from walks along the index of the charts. How many parts are read is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from celeriac.database.task_tables import tasks
from celeriac.history.stats import Durations

_c: Final = tasks.c
#: What the tasks of a chart are divided by.
DIVISIONS: Final = ("type", "queue")
#: How many parts are read by default.
DEFAULT_PARTS: Final = 50
#: How many tasks that ran longest are named at most.
MAX_SLOWEST: Final = 20


@dataclass(slots=True)
class Part:
    """The tasks of one type or group that ended in a span of time; `counts` has them in each bucket."""

    name: str
    counts: list[int]
    ended: Counter[str] = field(default_factory=Counter)
    run: Durations = field(default_factory=Durations)
    wait: Durations = field(default_factory=Durations)


@dataclass(frozen=True, slots=True)
class LongestTask:
    """A task that ended, and how long its last attempt ran."""

    task_id: str
    type: str
    status: str
    run_ms: int
    finished_ms: int


async def read_parts(
    connection: AsyncConnection,
    by: str,
    start_ms: int,
    end_ms: int,
    bucket_ms: int,
    chosen: Sequence[ColumnElement[bool]],
    *,
    most: int,
) -> list[Part]:
    """Return the parts with the most tasks that ended, at most `most`; `by` is one of `DIVISIONS`."""
    ended = (_c.finished_ms.is_not(None), _c.finished_ms >= start_ms, _c.finished_ms < end_ms, *chosen)
    number = func.count().label("number")
    largest = select(_c[by], number).where(*ended).group_by(_c[by]).order_by(number.desc(), _c[by]).limit(most)
    buckets = (end_ms - start_ms) // bucket_ms
    parts = {one: Part(one, [0] * buckets) for one in (await connection.execute(largest)).scalars()}
    if not parts:
        return []
    name = name_of(by, sqlite=connection.dialect.name == "sqlite")
    these = (*ended, name.in_(list(parts)))
    bucket = ((_c.finished_ms - literal(start_ms)) // literal(bucket_ms)).label("bucket")
    counted = select(name, bucket, _c.status, func.count()).where(*these).group_by(name, bucket, _c.status)
    for one, place, status, count in await connection.execute(counted):
        # A part may have changed since the first statement.
        parts[one].counts[place] += count
        parts[one].ended[status] += count
    for which in ("run", "wait"):
        of_class, length = _c[f"{which}_class"], _c[f"{which}_ms"]
        timed = select(name, of_class, func.count(), func.sum(length), func.max(length)).where(*these)
        for one, duration_class, count, total, longest in await connection.execute(timed.group_by(name, of_class)):
            if duration_class is not None:
                getattr(parts[one], which).add(duration_class, count, int(total), longest)
    return list(parts.values())


def name_of(by: str, *, sqlite: bool) -> ColumnElement[Any]:
    """Return the column that has the names of parts.

    For SQLite it is not the column alone, for which it would walk along an index that begins with the column, and look
    at each row for the rest. PostgreSQL has statistics of the column, and chooses well by them.
    """
    return ((_c[by] + "") if sqlite else _c[by]).label("name")


async def read_slowest(
    connection: AsyncConnection, start_ms: int, end_ms: int, chosen: Sequence[ColumnElement[bool]], *, most: int
) -> list[LongestTask]:
    """Return the tasks that ended in the span and ran longest, the longest first."""
    wanted: Any = (
        select(_c.task_id, _c.type, _c.status, _c.run_ms, _c.finished_ms)
        .where(_c.finished_ms.is_not(None), _c.finished_ms >= start_ms, _c.finished_ms < end_ms, *chosen)
        .where(_c.run_ms.is_not(None))
        .order_by(_c.run_ms.desc(), _c.task_id)
        .limit(most)
    )
    return [LongestTask(*row) for row in await connection.execute(wanted)]
