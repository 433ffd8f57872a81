"""How people write a duration: `30s`, `1h30m`, or plain seconds. Pure, and the same at every front door."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, Final

_NUMBER: Final = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"
_SECONDS = re.compile(_NUMBER)
#: One number for each unit, the largest unit first; each may be left out.
_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m(?!s)": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS_S) + r"\s*")
_FORMS: Final = "500ms, 30s, 10m, 1h, 7d, 1h30m or plain seconds"
#: An error shows this many characters of a wrong value.
_SHOWN: Final = 100


def parse_duration_s(value: Any) -> Any:
    """Return `500ms`, `30s`, `10m`, `1h`, `7d`, a sum such as `1h30m`, or plain seconds in seconds.

    Raises `ValueError` for other texts and for booleans. Values of other types are returned as they are: the model
    that they are for checks them.
    """
    if isinstance(value, bool):
        raise ValueError(not_a("duration", str(value).lower(), _FORMS))
    if not isinstance(value, str):
        return value
    if _SECONDS.fullmatch(value):
        return float(value)
    match = _DURATION.fullmatch(value)
    if match is None or match.lastindex is None:
        raise ValueError(not_a("duration", repr(value[:_SHOWN]), _FORMS))
    return sum(float(number) * unit_s for number, unit_s in zip(match.groups("0"), _UNITS_S.values(), strict=True))


def seconds_of(duration: float | str | timedelta) -> float:
    """Return a duration that code gives in seconds; raises `ValueError` unless it is one and not negative."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else parse_duration_s(duration)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(not_a("duration", repr(duration)[:_SHOWN], _FORMS))
    return float(seconds)


def not_a(what: str, value: str, forms: str) -> str:
    """Return the text of an error: what a value is not, and how to write it."""
    return f"{value} is not a {what}: write {forms}"
