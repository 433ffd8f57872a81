"""Counts and durations over time, as `stats` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from celeriac.errors import ApiError
from celeriac.model import Status

#: What a chart is divided by: the type of the tasks, or their group.
Division = Literal["type", "queue"]


@dataclass(frozen=True, slots=True)
class DurationStats:
    """Durations of many tasks, in milliseconds. The median and the 95th percentile are exact within 5 percent."""

    avg_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in a span of time that begins at `at`: tasks submitted, tasks ended by outcome, and durations.

    The durations are of the tasks that ended in the span, None if none did. `run` is how long the last attempt
    took, `wait` how long the task waited after it could have started.
    """

    at: datetime
    submitted: int
    completed: int
    failed: int
    cancelled: int
    run: DurationStats | None
    wait: DurationStats | None


@dataclass(frozen=True, slots=True)
class ChartPart:
    """The tasks of one type or group that ended; `counts` says how many ended in each bucket of the chart."""

    name: str
    completed: int
    failed: int
    cancelled: int
    run: DurationStats | None
    wait: DurationStats | None
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SlowTask:
    """A task that ended, and how long its last attempt ran."""

    task_id: str
    type: str
    status: Status
    run_ms: int
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Chart:
    """The range from `start` (included) to `end` (excluded): its total, and its buckets, empty ones included."""

    start: datetime
    end: datetime
    #: Size of a bucket: `1m`, `5m`, `15m`, `1h`, `6h` or `1d`.
    bucket: str
    total: Counts
    buckets: tuple[Counts, ...]
    #: What ended by `"type"` and by `"queue"` (the group), as far as `by` asks for it: those with the most tasks first.
    by: Mapping[Division, tuple[ChartPart, ...]] = field(default_factory=dict)
    #: The tasks that ran longest, the longest first, if `slowest` asks for some.
    slowest: tuple[SlowTask, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many tasks match, by status (`counts["failed"]`), and their sum; of those in `more` there are more."""

    counts: Mapping[str, int]
    total: int
    more: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistogramBucket:
    """The tasks that were created in a span of time that begins at `at`, by their status now."""

    at: datetime
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TaskHistogram:
    """When tasks were created, from `start` (included) to `end` (excluded); `more`: only the newest were counted."""

    start: datetime
    end: datetime
    bucket_ms: int
    buckets: tuple[HistogramBucket, ...]
    more: bool


def task_counts_of(document: Mapping[str, Any]) -> TaskCounts:
    """Read counts; raises `ApiError` if `document` does not hold them."""
    try:
        return TaskCounts(dict(document["counts"]), int(document["total"]), tuple(document["more"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe counts: {exc!r}", status=200, code="unreadable") from exc


def task_histogram_of(document: Mapping[str, Any]) -> TaskHistogram:
    """Read a histogram; raises `ApiError` if `document` does not hold one."""
    try:
        return TaskHistogram(
            start=datetime.fromisoformat(document["from"]),
            end=datetime.fromisoformat(document["to"]),
            bucket_ms=int(document["bucket_ms"]),
            buckets=tuple(
                HistogramBucket(datetime.fromisoformat(bucket["at"]), dict(bucket["counts"]))
                for bucket in document["buckets"]
            ),
            more=bool(document["more"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a histogram: {exc!r}", status=200, code="unreadable") from exc


def chart_of(document: Mapping[str, Any]) -> Chart:
    """Read a chart; raises `ApiError` if `document` does not hold one."""
    try:
        start = datetime.fromisoformat(document["from"])
        return Chart(
            start=start,
            end=datetime.fromisoformat(document["to"]),
            bucket=document["bucket"],
            total=_counts(document["total"], start),
            buckets=tuple(_counts(bucket, datetime.fromisoformat(bucket["at"])) for bucket in document["buckets"]),
            by={name: tuple(map(_part, parts)) for name, parts in (document.get("by") or {}).items()},
            slowest=tuple(map(_slow, document.get("slowest") or ())),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a chart: {exc!r}", status=200, code="unreadable") from exc


def _counts(counts: Mapping[str, Any], at: datetime) -> Counts:
    numbers = {name: counts[name] for name in ("submitted", "completed", "failed", "cancelled")}
    return Counts(at=at, run=_durations(counts["run"]), wait=_durations(counts["wait"]), **numbers)


def _part(part: Mapping[str, Any]) -> ChartPart:
    numbers = {name: part[name] for name in ("name", "completed", "failed", "cancelled")}
    return ChartPart(
        **numbers, run=_durations(part["run"]), wait=_durations(part["wait"]), counts=tuple(part["counts"])
    )


def _slow(task: Mapping[str, Any]) -> SlowTask:
    status, finished_at = Status(task["status"]), datetime.fromisoformat(task["finished_at"])
    return SlowTask(task["task_id"], task["type"], status, task["run_ms"], finished_at)


def _durations(durations: Mapping[str, float] | None) -> DurationStats | None:
    if durations is None:
        return None
    return DurationStats(**{name: durations[name] for name in DurationStats.__slots__})
