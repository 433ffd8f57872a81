"""The fields of a cron expression, and arithmetic with them on a wall clock that never changes. Pure.

All searches jump from field to field, so the rarest expression costs a few hundred cheap steps.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

from cronsim import CronSim

#: A search gives up after this many years. The rarest expression, a weekday on 29 February, has gaps of 40 years.
_YEARS: Final = 50
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class CronFields:
    """The moments that an expression names. With `whole_minutes`, every second of their minutes counts.

    Moments are naive and have no microseconds. Raises `CronSimError` or `ValueError` for what is not an expression.
    """

    def __init__(self, expression: str, *, whole_minutes: bool = False) -> None:
        self._parsed = CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
        self._seconds = tuple(range(60)) if whole_minutes else tuple(sorted(self._parsed.seconds))
        self._minutes = tuple(sorted(self._parsed.minutes))
        self._hours = tuple(sorted(self._parsed.hours))
        self._other_seconds, self._other_minutes = _others(self._seconds, 60), _others(self._minutes, 60)
        self._other_hours = _others(self._hours, 24)
        #: The days of each shape of month (first weekday, length), as bits.
        self._days_of_shape: dict[tuple[int, int], int] = {}

    def match(self, wall: datetime) -> bool:
        """Return whether the expression names a moment."""
        return (
            wall.second in self._seconds
            and wall.minute in self._minutes
            and wall.hour in self._hours
            and self._names_day(wall)
        )

    def first(self, wall: datetime) -> datetime | None:
        """Return the first moment from `wall` on, or None if there is none in 50 years."""
        if self._names_day(wall):
            clock = self._clock_from(wall.hour, wall.minute, wall.second)
            if clock is not None:
                return wall.replace(hour=clock[0], minute=clock[1], second=clock[2])
        day = self._day_from(wall.year, wall.month, wall.day + 1)
        return None if day is None else datetime(*day, self._hours[0], self._minutes[0], self._seconds[0])

    def last(self, wall: datetime) -> datetime | None:
        """Return the last moment up to `wall`, or None if there is none in 50 years."""
        if self._names_day(wall):
            clock = self._clock_until(wall.hour, wall.minute, wall.second)
            if clock is not None:
                return wall.replace(hour=clock[0], minute=clock[1], second=clock[2])
        day = self._day_until(wall.year, wall.month, wall.day - 1)
        return None if day is None else datetime(*day, self._hours[-1], self._minutes[-1], self._seconds[-1])

    def first_other(self, wall: datetime) -> datetime | None:
        """Return the first moment after `wall` (a named one) that the expression does not name; None as in `first`."""
        found = []
        if others := self._other_seconds:
            place = bisect_right(others, wall.second)
            start = wall if place < len(others) else wall + _MINUTE
            found.append(start.replace(second=others[place % len(others)]))
        if others := self._other_minutes:
            place = bisect_right(others, wall.minute)
            start = wall if place < len(others) else wall + _HOUR
            found.append(start.replace(minute=others[place % len(others)], second=0))
        if others := self._other_hours:
            place = bisect_right(others, wall.hour)
            start = wall if place < len(others) else wall + _DAY
            found.append(start.replace(hour=others[place % len(others)], minute=0, second=0))
        if found:
            # Within a day. The next day comes first if it is not named.
            midnight = wall.replace(hour=0, minute=0, second=0) + _DAY
            return min(found) if self._names_day(midnight) else min(*found, midnight)
        day = self._day_from(wall.year, wall.month, wall.day + 1, named=False)
        return None if day is None else datetime(*day)

    def last_other(self, wall: datetime) -> datetime | None:
        """Return the last moment before `wall` (a named one) that the expression does not name; None as in `first`."""
        found = []
        if others := self._other_seconds:
            place = bisect_left(others, wall.second) - 1
            found.append((wall if place >= 0 else wall - _MINUTE).replace(second=others[place]))
        if others := self._other_minutes:
            place = bisect_left(others, wall.minute) - 1
            found.append((wall if place >= 0 else wall - _HOUR).replace(minute=others[place], second=59))
        if others := self._other_hours:
            place = bisect_left(others, wall.hour) - 1
            start = wall if place >= 0 else wall - _DAY
            found.append(start.replace(hour=others[place], minute=59, second=59))
        if found:
            evening = wall.replace(hour=23, minute=59, second=59) - _DAY
            return max(found) if self._names_day(evening) else max(*found, evening)
        day = self._day_until(wall.year, wall.month, wall.day - 1, named=False)
        return None if day is None else datetime(*day, 23, 59, 59)

    def _names_day(self, wall: datetime) -> bool:
        return bool(self._days(wall.year, wall.month) >> wall.day & 1)

    def _clock_from(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """Return the first time of day from this one on."""
        if hour in self._hours:
            if minute in self._minutes and (place := bisect_left(self._seconds, second)) < len(self._seconds):
                return hour, minute, self._seconds[place]
            if (place := bisect_right(self._minutes, minute)) < len(self._minutes):
                return hour, self._minutes[place], self._seconds[0]
        if (place := bisect_right(self._hours, hour)) < len(self._hours):
            return self._hours[place], self._minutes[0], self._seconds[0]
        return None

    def _clock_until(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """Return the last time of day up to this one."""
        if hour in self._hours:
            if minute in self._minutes and (place := bisect_right(self._seconds, second)):
                return hour, minute, self._seconds[place - 1]
            if place := bisect_left(self._minutes, minute):
                return hour, self._minutes[place - 1], self._seconds[-1]
        if place := bisect_left(self._hours, hour):
            return self._hours[place - 1], self._minutes[-1], self._seconds[-1]
        return None

    def _day_from(self, year: int, month: int, day: int, *, named: bool = True) -> tuple[int, int, int] | None:
        """Return the first day from this one on that is named, or with `named=False` one that is not."""
        last_year = min(year + _YEARS, MAXYEAR)
        while year <= last_year:
            days = self._days(year, month) if named else self._other_days(year, month)
            if later := days >> day:
                return year, month, day + (later & -later).bit_length() - 1
            year, month, day = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
        return None

    def _day_until(self, year: int, month: int, day: int, *, named: bool = True) -> tuple[int, int, int] | None:
        """Return the last day up to this one that is named, or with `named=False` one that is not."""
        first_year = max(year - _YEARS, MINYEAR)
        while year >= first_year:
            days = self._days(year, month) if named else self._other_days(year, month)
            if earlier := days & ((2 << day) - 1):
                return year, month, earlier.bit_length() - 1
            year, month, day = (year, month - 1, 31) if month > 1 else (year - 1, 12, 31)
        return None

    def _days(self, year: int, month: int) -> int:
        """Return the named days of a month as bits: bit 1 is the first day."""
        if month not in self._parsed.months:
            return 0
        shape = _shape(year, month)
        known = self._days_of_shape.get(shape)
        if known is None:
            days = (day for day in range(1, shape[1] + 1) if self._parsed.match_day(date(year, month, day)))
            known = self._days_of_shape[shape] = sum(1 << day for day in days)
        return known

    def _other_days(self, year: int, month: int) -> int:
        return ((2 << _shape(year, month)[1]) - 2) ^ self._days(year, month)


@lru_cache(maxsize=20_000)
def _shape(year: int, month: int) -> tuple[int, int]:
    return calendar.monthrange(year, month)


def _others(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(set(range(count)) - set(numbers)))
