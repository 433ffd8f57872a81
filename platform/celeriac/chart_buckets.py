"""The sizes of the buckets of charts, and the one that fits a span of time. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import ms_from_utc

#: Sizes of buckets by name (ms). Days are UTC days.
BUCKETS: Final = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "1d": 86_400_000}
MAX_BUCKETS: Final = 2_000
#: How many types or groups a chart is divided by at most.
MAX_PARTS: Final = 200


def bucket_of(start: datetime, end: datetime, bucket: str | None, *, most: int) -> str:
    """Return the name of a bucket's size: `bucket`, or the smallest that makes at most `most` buckets of the span.

    Raises `InvalidSubmissionError` about `from` if the span holds nothing, and about `bucket` if it is not a size.
    """
    length_ms = ms_from_utc(end) - ms_from_utc(start)
    if length_ms <= 0:
        raise InvalidSubmissionError([Violation("from", "must be before `to`")])
    if bucket is not None and bucket not in BUCKETS:
        raise InvalidSubmissionError([Violation("bucket", f"must be one of {', '.join(BUCKETS)}")])
    return bucket or next((name for name, ms in BUCKETS.items() if length_ms / ms <= most), "1d")
