"""Counts and durations over time, for charts, from one walk along an index that has all columns for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from sqlalchemy import Select, func, literal, select
from sqlalchemy.sql.elements import ColumnElement

from celeriac.database.task_tables import tasks
from celeriac.history.durations import percentile

_c: Final = tasks.c


class StatsOptions(TypedDict):
    """Which tasks a chart counts: those that meet every condition that is not None."""

    task_type: str | None
    queue: str | None
    user_id: str | None
    key: str | None


@dataclass(slots=True)
class Durations:
    """A summary of many durations (ms), as charts need it."""

    histogram: Counter[int] = field(default_factory=Counter)
    total: int = 0
    longest: int = 0

    def add(self, duration_class: int, number: int, total: int, longest: int) -> None:
        """Add `number` durations of one class."""
        self.histogram[duration_class] += number
        self.total += total
        self.longest = max(self.longest, longest)

    def merge(self, other: Durations) -> None:
        """Add all durations of another summary."""
        self.histogram.update(other.histogram)
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    def summary(self) -> dict[str, float] | None:
        """Return average, median, 95th percentile (both within 5 %) and maximum in ms; None without durations."""
        number = self.histogram.total()
        if not number:
            return None
        median, high = percentile(self.histogram, 0.5), percentile(self.histogram, 0.95)
        assert median is not None
        assert high is not None
        return {
            "avg_ms": round(self.total / number, 1),
            "p50_ms": round(min(median, self.longest), 1),
            "p95_ms": round(min(high, self.longest), 1),
            "max_ms": self.longest,
        }


@dataclass(slots=True)
class Bucket:
    """The submissions and ends in a span of time; durations are those of the last attempts of the ended tasks."""

    start_ms: int
    submitted: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    run: Durations = field(default_factory=Durations)
    wait: Durations = field(default_factory=Durations)


@dataclass(frozen=True, slots=True)
class HistoryChart:
    """All buckets of a range in order, including empty ones, and the range as a whole."""

    buckets: list[Bucket]
    total: Bucket


def conditions(
    *, task_type: str | None, queue: str | None, user_id: str | None, key: str | None
) -> list[ColumnElement[bool]]:
    """Return the conditions of what is given."""
    given = {"type": task_type, "queue": queue, "user_id": user_id, "key": key}
    return [_c[name] == value for name, value in given.items() if value is not None]


def statements(
    start_ms: int,
    end_ms: int,
    bucket_ms: int,
    *,
    task_type: str | None = None,
    queue: str | None = None,
    user_id: str | None = None,
    key: str | None = None,
) -> tuple[Select[Any], Select[Any], Select[Any]]:
    """Return the statements for submissions, for ends, and for how long the ended tasks had waited."""
    chosen = conditions(task_type=task_type, queue=queue, user_id=user_id, key=key)

    def counted(at: Any, *groups: Any, duration: Any = None) -> Select[Any]:
        bucket = ((at - literal(start_ms)) // literal(bucket_ms)).label("bucket")
        sums = () if duration is None else (func.sum(duration), func.max(duration))
        return (
            select(bucket, *groups, func.count(), *sums)
            .where(at.is_not(None), at >= start_ms, at < end_ms, *chosen)
            .group_by(bucket, *groups)
        )

    return (
        counted(_c.created_ms),
        counted(_c.finished_ms, _c.status, _c.run_class, duration=_c.run_ms),
        counted(_c.finished_ms, _c.wait_class, duration=_c.wait_ms),
    )


def buckets_of(
    start_ms: int,
    end_ms: int,
    bucket_ms: int,
    submitted: Iterable[Sequence[Any]],
    ended: Iterable[Sequence[Any]],
    waited: Iterable[Sequence[Any]],
) -> list[Bucket]:
    """Return all buckets from the rows of the three statements."""
    buckets = [Bucket(at) for at in range(start_ms, end_ms, bucket_ms)]
    for place, number in submitted:
        buckets[place].submitted += number
    for place, status, run_class, number, run_ms, longest in ended:
        buckets[place].ended[status] += number
        if run_class is not None:
            buckets[place].run.add(run_class, number, int(run_ms), longest)
    for place, wait_class, number, wait_ms, longest in waited:
        if wait_class is not None:
            buckets[place].wait.add(wait_class, number, int(wait_ms), longest)
    return buckets


def chart_of(start_ms: int, buckets: list[Bucket]) -> HistoryChart:
    """Return the chart of some buckets from `start_ms` on; they are not changed."""
    total = Bucket(start_ms)
    for bucket in buckets:
        total.submitted += bucket.submitted
        total.ended.update(bucket.ended)
        total.run.merge(bucket.run)
        total.wait.merge(bucket.wait)
    return HistoryChart(buckets, total)
