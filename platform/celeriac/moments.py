"""A moment and a duration that a caller gives: one rule for every front door.

A moment lies from the beginning of 1970 to the end of 2999, in any time zone. All databases, calendars and stores can
express these moments, and so can everything that is computed from them. A duration is at most ten years.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from celeriac.model import FIRST_MS, LAST_MS, ms_from_utc

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
#: Ten years: beyond it a duration is a mistake, and milliseconds stay exact in every store.
MAX_DELAY_S: Final = 10 * 366 * 86400.0

_FORM: Final = "an RFC 3339 moment with a time zone, e.g. 2030-01-31T08:00:00Z"
_OUTSIDE: Final = "is not between 1970-01-01T00:00:00Z and 2999-12-31T23:59:59.999Z: give a moment from these years"


def bounded(moment: datetime) -> datetime:
    """Return an aware moment; raises `ValueError` if it lies outside the years 1970 to 2999."""
    if moment.tzinfo is None:
        raise ValueError("has no time zone: write one, e.g. 2030-01-31T08:00:00Z")
    if not FIRST <= moment <= LAST:
        raise ValueError(_OUTSIDE)
    return moment


def bounded_ms(moment: datetime) -> int:
    """Return an aware moment in milliseconds since the epoch; raises `ValueError` as `bounded` does."""
    return ms_from_utc(bounded(moment))


def within_ms(ms: int) -> int:
    """Return the nearest moment (milliseconds since the epoch) within the years 1970 to 2999; NaN is the first one."""
    return min(max(FIRST_MS, ms), LAST_MS)


def written(value: Any) -> Any:
    """Return a value that has the form of a moment, for Pydantic to read; raises `ValueError` for any other."""
    # Without this, Pydantic would also read bare numbers and dates without a time of day.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and "T" in value.upper():
        # In a query, a plus sign that the client did not encode arrives as a space.
        return value.replace(" ", "+")
    raise ValueError(f"must be {_FORM}")


def duration_ms(seconds: Any, *, what: str) -> int:
    """Return a duration in milliseconds; raises `ValueError` unless it is a number above zero and at most ten years."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ValueError(f"{what} must be a number of seconds")
    if not 0 < seconds <= MAX_DELAY_S:
        raise ValueError(f"{what} must be above zero and at most ten years")
    return max(1, round(seconds * 1000))


#: A moment as a caller writes it.
Moment = Annotated[AwareDatetime, BeforeValidator(written), AfterValidator(bounded)]
