"""What the clock on the wall shows in a time zone, on all days, also on those when the clocks change. Pure.

Moments are whole seconds since the epoch, and naive `datetime`s for the wall clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from celeriac.violations import shown

_EPOCH: Final = datetime(1970, 1, 1)
_SECOND: Final = timedelta(seconds=1)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises `ValueError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(
            f"unknown time zone {shown(str(name))!r}; use an IANA name such as Europe/Berlin or UTC"
        ) from exc


def wall_of(second: int, tz: ZoneInfo) -> datetime:
    """Return what the wall clock shows at a moment; `fold` is 1 in the second pass through a repeated hour."""
    return datetime.fromtimestamp(second, tz).replace(tzinfo=None)


def seconds_of(wall: datetime, tz: ZoneInfo) -> tuple[int, ...]:
    """Return the moments at which the wall clock shows `wall`: one, two in a repeated hour, none in a skipped one."""
    early, late = _offsets(wall, tz)
    naive = wall - _EPOCH
    if early == late:
        return ((naive - early) // _SECOND,)
    return ((naive - early) // _SECOND, (naive - late) // _SECOND) if early > late else ()


def shift_at(wall: datetime, tz: ZoneInfo) -> timedelta:
    """Return by how much the clock is set back in the repeated hour of `wall`; negative in a skipped hour."""
    early, late = _offsets(wall, tz)
    return early - late


def repeat_start(wall: datetime, tz: ZoneInfo) -> datetime:
    """Return the beginning of the repeated hour that `wall` lies in."""
    wall = wall.replace(fold=0)
    return _first(wall - shift_at(wall, tz), wall, lambda at: shift_at(at, tz) > timedelta(0))


def skip_start(wall: datetime, tz: ZoneInfo) -> datetime:
    """Return the beginning of the skipped hour that `wall` lies in."""
    wall = wall.replace(fold=0)
    return _first(wall + shift_at(wall, tz), wall, lambda at: shift_at(at, tz) < timedelta(0))


def skip_end(wall: datetime, tz: ZoneInfo) -> datetime:
    """Return the first time after the skipped hour that `wall` lies in."""
    wall = wall.replace(fold=0)
    return _first(wall, wall - shift_at(wall, tz), lambda at: shift_at(at, tz) >= timedelta(0))


def _offsets(wall: datetime, tz: ZoneInfo) -> tuple[timedelta, timedelta]:
    """Return the offsets from UTC in the first and the second pass; they differ in repeated and skipped hours."""
    if (fixed := tz.utcoffset(None)) is not None:
        return fixed, fixed
    early, late = tz.utcoffset(wall.replace(fold=0)), tz.utcoffset(wall.replace(fold=1))
    assert early is not None
    assert late is not None
    return early, late


def _first(low: datetime, high: datetime, there: Callable[[datetime], bool]) -> datetime:
    """Return the first time later than `low` at which `there` is true; it is at `high`, and stays true until there."""
    first, last = 0, (high - low) // _SECOND
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (first, middle) if there(low + middle * _SECOND) else (middle, last)
    return low + last * _SECOND
