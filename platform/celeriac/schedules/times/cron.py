"""Cron expressions in a time zone, as rules and as exclusions. Moments are milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSimError

from celeriac.model import LAST_MS
from celeriac.schedules.times.cron_fields import CronFields
from celeriac.schedules.times.wall_clock import repeat_start, seconds_of, shift_at, skip_end, skip_start, wall_of, zone
from celeriac.violations import shown

#: What nicknames of cron mean.
NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone: five fields, or six with the seconds first.

    Daylight saving works as in Debian's cron for expressions that name hour and minute: a moment in the skipped hour
    moves to the end of that hour, and a moment in the repeated hour happens once. Expressions with a star there, and
    those with seconds, follow the wall clock.

    A rule remembers its last answer: a rare one is asked again and again before it is due.
    """

    expression: str
    timezone: str = "UTC"
    #: The last answer of `after`: asked for these milliseconds, and answered with these.
    _known: list[tuple[int, int | None]] = field(default_factory=list, init=False, compare=False, repr=False)

    def after(self, ms: int) -> int | None:
        """Return the first moment later than `ms`."""
        if self._known and (known := self._known[0])[0] <= ms and (known[1] is None or ms < known[1]):
            return known[1]
        found = None if ms >= LAST_MS else self._after(max(ms, -1) // 1000)
        answer = None if found is None or found * 1000 > LAST_MS else found * 1000
        self._known[:] = [(ms, answer)]
        return answer

    def until(self, ms: int) -> int | None:
        """Return the last moment not later than `ms`."""
        found = None if ms < 0 else self._until(min(ms, LAST_MS) // 1000)
        return None if found is None or found < 0 else found * 1000

    @property
    def whole_minutes(self) -> bool:
        """Whether it has no field for seconds."""
        return len(self.expression.split()) == 5

    @cached_property
    def _fields(self) -> CronFields:
        return _fields(self.expression)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone(self.timezone)

    @cached_property
    def _once_a_day(self) -> bool:
        """Whether it names hour and minute, so that each moment happens once on every day."""
        words = self.expression.split()
        return len(words) == 5 and not words[0].startswith("*") and not words[1].startswith("*")

    def _after(self, second: int) -> int | None:
        wall = wall_of(second, self._zone)
        if self._once_a_day:
            named = self._fields.first(wall.replace(fold=0))
            while named is not None and (found := self._moved(named)) <= second:
                named = self._fields.first(named + _SECOND)
            return None if named is None else found
        named = self._fields.first(wall.replace(fold=0) + _SECOND)
        while named is not None and not seconds_of(named, self._zone):
            named = self._fields.first(skip_end(named, self._zone))
        found_all = [] if named is None else [s for s in seconds_of(named, self._zone) if s > second]
        if wall.fold == 0 and shift_at(wall, self._zone) > timedelta(0):
            # In the first pass through a repeated hour. What is past in it comes again.
            again = self._fields.first(repeat_start(wall, self._zone))
            found_all += [] if again is None else [s for s in seconds_of(again, self._zone)[-1:] if s > second]
        return min(found_all, default=None)

    def _until(self, second: int) -> int | None:
        wall = wall_of(second, self._zone)
        shift = shift_at(wall, self._zone)
        if self._once_a_day:
            named = self._fields.last(wall.replace(fold=0) + (shift if wall.fold else timedelta(0)))
            while named is not None and (found := self._moved(named)) > second:
                named = self._fields.last(named - _SECOND)
            return None if named is None else found
        named = self._fields.last(wall.replace(fold=0))
        while named is not None and not seconds_of(named, self._zone):
            named = self._fields.last(skip_start(named, self._zone) - _SECOND)
        found_all = [] if named is None else [s for s in seconds_of(named, self._zone) if s <= second]
        if wall.fold == 1 and shift > timedelta(0):
            # In the second pass through a repeated hour. The first pass went further.
            before = self._fields.last(repeat_start(wall, self._zone) + shift - _SECOND)
            found_all += [] if before is None else [s for s in seconds_of(before, self._zone)[:1] if s <= second]
        return max(found_all, default=None)

    def _moved(self, named: datetime) -> int:
        """Return when a moment happens that happens once on every day."""
        seconds = seconds_of(named, self._zone)
        return (seconds or seconds_of(skip_end(named, self._zone), self._zone))[0]


@lru_cache(maxsize=4096)
def cron_of(expression: str, timezone: str) -> Cron:
    """Return the rule of an expression or nickname; raises `ValueError` that says what is wrong."""
    text = " ".join(NICKNAMES.get(expression.strip().lower(), expression).split())
    if text.startswith("@"):
        raise ValueError(f"unknown nickname {shown(expression)!r}; known are: {', '.join(NICKNAMES)}")
    number = len(text.split())
    if number not in (5, 6):
        raise ValueError(f"has {number} fields; write five (minute hour day month weekday) or six (second first)")
    try:
        _fields(text)
    except (CronSimError, ValueError, RecursionError) as exc:
        reason = shown(str(exc).lower()) or "it cannot be read"
        raise ValueError(f"{shown(expression)!r} is not a cron expression: {reason}") from exc
    zone(timezone)
    return Cron(text, timezone)


@dataclass(frozen=True)
class CronExclusion:
    """Leaves out the moments of `cron`, by the wall clock; without a field for seconds, whole minutes."""

    cron: Cron

    def end_of(self, ms: int) -> int | None:
        """Return the last moment of the time without gaps that is left out from `ms` on; None if `ms` is not."""
        tz = zone(self.cron.timezone)
        fields = _fields(self.cron.expression, whole_minutes=self.cron.whole_minutes)
        wall = wall_of(ms // 1000, tz)
        if not fields.match(wall):
            return None
        other = fields.first_other(wall.replace(fold=0))
        if other is None:
            return LAST_MS
        second = ms // 1000
        end = min(s for s in seconds_of(other, tz) or _after_skip(other, tz) if s > second)
        if wall.fold == 0 and shift_at(wall, tz) > timedelta(0):
            # The clock is set back soon; what it shows then may not be left out.
            end = min(end, seconds_of(repeat_start(wall, tz), tz)[-1])
        return end * 1000 - 1

    def start_of(self, ms: int) -> int | None:
        """Return the first moment of the time without gaps that is left out up to `ms`; None if `ms` is not."""
        tz = zone(self.cron.timezone)
        fields = _fields(self.cron.expression, whole_minutes=self.cron.whole_minutes)
        wall = wall_of(ms // 1000, tz)
        if not fields.match(wall):
            return None
        other = fields.last_other(wall.replace(fold=0))
        if other is None:
            return 0
        second = ms // 1000
        before = [s + 1 for s in seconds_of(other, tz) if s < second] or _after_skip(other, tz)
        start = max(before)
        if wall.fold == 1:
            # The clock was set back shortly before; what it showed then may not be left out.
            start = max(start, seconds_of(repeat_start(wall, tz), tz)[-1])
        return start * 1000


def _after_skip(wall: datetime, tz: ZoneInfo) -> tuple[int, ...]:
    """Return the first second after the skipped hour of `wall`."""
    return seconds_of(skip_end(wall, tz), tz)


@lru_cache(maxsize=8192)
def _fields(expression: str, *, whole_minutes: bool = False) -> CronFields:
    return CronFields(expression, whole_minutes=whole_minutes)
