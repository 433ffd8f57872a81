"""Durations in classes of equal ratio, so that percentiles of any number of durations come from a short histogram.

Class k holds the durations from 2^(k/8) ms to 2^((k+1)/8) ms. It is 9 % wide, so a value that is read from it is at
most 4.5 % off. (A log-linear histogram, as in HdrHistogram.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_PER_DOUBLING: Final = 8


def class_of(duration_ms: int) -> int:
    """Return the class of a duration; -1 is the class of everything below a millisecond."""
    return -1 if duration_ms < 1 else math.floor(math.log2(duration_ms) * _PER_DOUBLING)


def middle_of(duration_class: int) -> float:
    """Return the geometric middle of a class in milliseconds."""
    return 0.0 if duration_class < 0 else float(2 ** ((duration_class + 0.5) / _PER_DOUBLING))


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """Return the duration (ms) below which `share` (0..1) of the histogram's items lie; None if it is empty."""
    total = sum(histogram.values())
    if not total:
        return None
    rank = max(1, math.ceil(share * total))
    for duration_class in sorted(histogram):
        rank -= histogram[duration_class]
        if rank <= 0:
            return middle_of(duration_class)
    raise AssertionError("the ranks of a histogram add up")
