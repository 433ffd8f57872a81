"""How many tasks a filter selects: by status, and over time by status.

A count costs no more than its bound: only so many of the newest tasks are counted, and the answer says if there are
more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Integer, Select, bindparam, func, literal, select, union_all

from celeriac.database.task_tables import tasks
from celeriac.history import queries
from celeriac.model import Status, rfc3339, utc_from_ms
from celeriac.task_fields import status_of
from celeriac.task_filter import TaskFilter

_S: Final = 1000
_M: Final = 60 * _S
_H: Final = 60 * _M
_D: Final = 24 * _H
#: The sizes that a bucket may have (ms): each can be read on an axis.
_SIZES: Final = (
    *(100, 200, 500, _S, 2 * _S, 5 * _S, 10 * _S, 15 * _S, 30 * _S),
    *(_M, 2 * _M, 5 * _M, 10 * _M, 15 * _M, 30 * _M, _H, 2 * _H, 3 * _H, 6 * _H, 12 * _H),
    *(_D, 2 * _D, 7 * _D, 14 * _D, 30 * _D, 90 * _D, 365 * _D),
)


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """How many tasks there are of each status; of those in `more` there are more than were counted."""

    counts: dict[Status, int]
    more: tuple[Status, ...]

    def record(self) -> dict[str, Any]:
        """Return it as front doors write it."""
        return {
            "counts": {status.wire: self.counts.get(status, 0) for status in Status},
            "total": sum(self.counts.values()),
            "more": [status.wire for status in self.more],
        }


@dataclass(frozen=True, slots=True)
class CreationHistogram:
    """The tasks of each bucket by status, from `start_ms` (included) to `end_ms` (excluded); buckets may be empty.

    `more` says that only the newest tasks were counted: the range begins where the count ends.
    """

    start_ms: int
    end_ms: int
    bucket_ms: int
    buckets: list[dict[Status, int]] = field(default_factory=list)
    more: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as front doors write it."""
        return {
            "from": rfc3339(utc_from_ms(self.start_ms)),
            "to": rfc3339(utc_from_ms(self.end_ms)),
            "bucket_ms": self.bucket_ms,
            "buckets": [
                {
                    "at": rfc3339(utc_from_ms(self.start_ms + place * self.bucket_ms)),
                    "counts": {status.wire: number for status, number in counts.items()},
                }
                for place, counts in enumerate(self.buckets)
            ],
            "more": self.more,
        }


def by_status(task_filter: TaskFilter, most: int, found: queries.Condition | None) -> Select[Any]:
    """Return the statement that counts the tasks of a filter by status, at most `most` and one more."""
    if task_filter == TaskFilter(status=task_filter.status):
        return _each_status(task_filter.status or tuple(Status)).params(bound=most + 1)
    newest = queries.newest(task_filter, most + 1, found).subquery()
    return select(newest.c.status, func.count()).group_by(newest.c.status)


@lru_cache(maxsize=32)
def _each_status(wanted: tuple[Status, ...]) -> Select[Any]:
    """Return the statement that counts each status along its own index, without a look at a row, up to `bound`.

    It is kept, because to build it takes as long as to run it.
    """
    c = tasks.c
    first = (
        select(c.status).where(c.status == one.stored).limit(bindparam("bound", type_=Integer)).subquery()
        for one in wanted
    )
    counted = (select(part.c.status, func.count().label("number")).group_by(part.c.status) for part in first)
    return select(union_all(*counted).subquery())


def status_counts(task_filter: TaskFilter, most: int, rows: Iterable[Sequence[Any]]) -> StatusCounts:
    """Return the counts from the rows of `by_status`."""
    counts: dict[Status, int] = {}
    for status, number in rows:
        counts[status_of(status)] = counts.get(status_of(status), 0) + number
    if task_filter == TaskFilter(status=task_filter.status):
        more = tuple(status for status in Status if counts.get(status, 0) > most)
        return StatusCounts({status: min(number, most) for status, number in counts.items()}, more)
    whole = sum(counts.values()) <= most
    # Which of them is the one too many is not known: each is counted as far as the newest tasks go.
    return StatusCounts(counts, () if whole else task_filter.statuses or tuple(Status))


def span(task_filter: TaskFilter, most: int, found: queries.Condition | None) -> Select[Any, Any, Any]:
    """Return the statement for how many tasks are counted, and when the oldest and the newest of them were created."""
    newest = queries.newest(task_filter, most + 1, found, status=False).subquery()
    return select(func.count(), func.min(newest.c.at_ms), func.max(newest.c.at_ms))


def over_time(
    task_filter: TaskFilter, most: int, start_ms: int, bucket_ms: int, found: queries.Condition | None
) -> Select[Any]:
    """Return the statement that counts at most `most` of the newest tasks by bucket and status."""
    newest = queries.newest(task_filter, most, found).subquery()
    bucket = ((newest.c.at_ms - literal(start_ms)) // literal(bucket_ms)).label("bucket")
    return select(bucket, newest.c.status, func.count()).group_by(bucket, newest.c.status)


def empty_histogram(start_ms: int, end_ms: int, buckets: int, *, more: bool) -> CreationHistogram:
    """Return the histogram of a range with up to `buckets` empty buckets of a size that can be read."""
    length = max(end_ms - start_ms, 1)
    # One bucket more than fits in: the first begins at a whole multiple of the size.
    bucket_ms = next((size for size in _SIZES if length <= size * (buckets - 1)), _SIZES[-1])
    start_ms -= start_ms % bucket_ms
    number = min(-(-(end_ms - start_ms) // bucket_ms), buckets)
    end_ms = start_ms + number * bucket_ms
    return CreationHistogram(start_ms, end_ms, bucket_ms, [{} for _ in range(number)], more)


def fill(histogram: CreationHistogram, rows: Iterable[Sequence[Any]]) -> CreationHistogram:
    """Add the rows of `over_time`; what is outside the range belongs to the bucket that is nearest."""
    last = len(histogram.buckets) - 1
    for place, status, number in rows:
        counts = histogram.buckets[min(max(place, 0), last)]
        counts[status_of(status)] = counts.get(status_of(status), 0) + number
    return histogram
