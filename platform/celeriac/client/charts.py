"""Counts and durations over time, as `stats` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeriac.errors import ApiError


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
class Chart:
    """The range from `start` (included) to `end` (excluded): its total, and its buckets, empty ones included."""

    start: datetime
    end: datetime
    #: Size of a bucket: `1m`, `5m`, `15m`, `1h`, `6h` or `1d`.
    bucket: str
    total: Counts
    buckets: tuple[Counts, ...]


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
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a chart: {exc!r}", status=200, code="unreadable") from exc


def _counts(counts: Mapping[str, Any], at: datetime) -> Counts:
    numbers = {name: counts[name] for name in ("submitted", "completed", "failed", "cancelled")}
    return Counts(at=at, run=_durations(counts["run"]), wait=_durations(counts["wait"]), **numbers)


def _durations(durations: Mapping[str, float] | None) -> DurationStats | None:
    if durations is None:
        return None
    return DurationStats(**{name: durations[name] for name in DurationStats.__slots__})
