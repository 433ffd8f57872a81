"""Charts as all front doors offer them: the span of time and its buckets, and the record of a chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from celeriac.chart_buckets import BUCKETS, MAX_BUCKETS, bucket_of
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.history.stats import Bucket, HistoryChart
from celeriac.history.stats_parts import LongestTask, Part
from celeriac.model import Status, ms_from_utc, rfc3339, utc_from_ms
from celeriac.task_fields import status_of

#: Most buckets if the caller does not name a size.
CHOSEN_BUCKETS: Final = 200


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time in whole buckets: from `start_ms` (included) to `end_ms` (excluded)."""

    start_ms: int
    end_ms: int
    #: A name of `BUCKETS`.
    bucket: str

    @property
    def bucket_ms(self) -> int:
        """The size of a bucket."""
        return BUCKETS[self.bucket]

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return (self.end_ms - self.start_ms) // self.bucket_ms


def span_of(start: datetime | None, end: datetime, bucket: str | None, *, most: int = CHOSEN_BUCKETS) -> Span:
    """Return the whole buckets that contain `start` to `end`; without `start`, the hour before `end`.

    Without a size, it is the smallest one that makes at most `most` buckets. Raises `InvalidSubmissionError` about
    `from` or `bucket`.
    """
    start = end - timedelta(hours=1) if start is None else start
    name = bucket_of(start, end, bucket, most=most)
    start_ms, end_ms = ms_from_utc(start), ms_from_utc(end)
    size_ms = BUCKETS[name]
    start_ms -= start_ms % size_ms
    end_ms += -end_ms % size_ms
    if (number := (end_ms - start_ms) // size_ms) > MAX_BUCKETS:
        message = f"makes {number} buckets of the range, above the limit of {MAX_BUCKETS}: take a larger one"
        raise InvalidSubmissionError([Violation("bucket", message)])
    return Span(start_ms, end_ms, name)


def chart_record(span: Span, chart: HistoryChart) -> dict[str, Any]:
    """Return the chart, JSON-ready: `from`, `to`, `bucket`, `total` and `buckets`."""
    return {
        "from": rfc3339(utc_from_ms(span.start_ms)),
        "to": rfc3339(utc_from_ms(span.end_ms)),
        "bucket": span.bucket,
        "total": _counts(chart.total),
        "buckets": [{"at": rfc3339(utc_from_ms(b.start_ms)), **_counts(b)} for b in chart.buckets],
    }


def part_records(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return the parts of a chart, JSON-ready."""
    return [
        {
            "name": part.name,
            **{status.wire: part.ended[status.stored] for status in Status if status.final},
            "run": part.run.summary(),
            "wait": part.wait.summary(),
            "counts": part.counts,
        }
        for part in parts
    ]


def slow_records(slowest: Iterable[LongestTask]) -> list[dict[str, Any]]:
    """Return the tasks that ran longest, JSON-ready."""
    return [
        {
            "task_id": one.task_id,
            "type": one.type,
            "status": status_of(one.status).wire,
            "run_ms": one.run_ms,
            "finished_at": rfc3339(utc_from_ms(one.finished_ms)),
        }
        for one in slowest
    ]


def _counts(bucket: Bucket) -> dict[str, Any]:
    return {
        "submitted": bucket.submitted,
        **{status.wire: bucket.ended[status.stored] for status in Status if status.final},
        "run": bucket.run.summary(),
        "wait": bucket.wait.summary(),
    }
