"""The rules of a schedule: each says which moments follow a moment. Moments are milliseconds since the epoch.

All rules answer the same two questions: `after(ms)`, the first moment later than `ms`, and `until(ms)`,
the last one that is not later; None if there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from celeriac.model import FIRST_MS, LAST_MS

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


class Rule(Protocol):
    """Some moments in their order."""

    def after(self, ms: int) -> int | None:
        """Return the first moment later than `ms`."""
        ...

    def until(self, ms: int) -> int | None:
        """Return the last moment not later than `ms`."""
        ...


@dataclass(frozen=True, slots=True)
class Once:
    """A single moment."""

    at_ms: int

    def after(self, ms: int) -> int | None:
        """Return the first moment later than `ms`."""
        return self.at_ms if self.at_ms > ms else None

    def until(self, ms: int) -> int | None:
        """Return the last moment not later than `ms`."""
        return self.at_ms if self.at_ms <= ms else None


@dataclass(frozen=True, slots=True)
class Interval:
    """`anchor_ms` plus every multiple of the interval from the `first` on (0 or 1).

    Each moment is computed from the anchor and not from the moment before. So neither lateness nor fractions of
    milliseconds add up.
    """

    every_us: int
    anchor_ms: int
    first: int = 1

    def _at(self, number: int) -> int | None:
        ms = self.anchor_ms + number * self.every_us // 1000
        return ms if ms <= LAST_MS else None

    def after(self, ms: int) -> int | None:
        """Return the first moment later than `ms`."""
        # The smallest n with n * every // 1000 > ms - anchor.
        number = -(-(ms - self.anchor_ms + 1) * 1000 // self.every_us)
        return self._at(max(number, self.first))

    def until(self, ms: int) -> int | None:
        """Return the last moment not later than `ms`."""
        number = ((ms - self.anchor_ms + 1) * 1000 - 1) // self.every_us
        return None if number < self.first else self._at(number)

    def count(self, first_ms: int, last_ms: int) -> int:
        """Return how many moments lie from `first_ms` to `last_ms`, both included."""
        low = -(-(first_ms - self.anchor_ms) * 1000 // self.every_us)
        high = ((last_ms - self.anchor_ms + 1) * 1000 - 1) // self.every_us
        return max(high - max(low, self.first) + 1, 0)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone: five fields, or six with the seconds first.

    Daylight saving works as in Debian's cron for expressions that name hour and minute: a moment in the skipped hour
    moves to the end of that hour, and a moment in the repeated hour happens once. Expressions with a star there, and
    those with seconds, follow the wall clock.
    """

    expression: str
    timezone: str = "UTC"

    def after(self, ms: int) -> int | None:
        """Return the first moment later than `ms`."""
        for moment in self._from(ms):
            if moment > ms:
                return moment if moment <= LAST_MS else None
        return None

    def until(self, ms: int) -> int | None:
        """Return the last moment not later than `ms`."""
        # Search forward only, from ever earlier moments, so that both directions give the same moments.
        span_ms = 2000
        while span_ms < ms + 2**41:
            start = max(ms - span_ms, 0)
            last: int | None = None
            for moment in self._from(start):
                if moment > ms:
                    break
                last = moment if moment > start else last
            if last is not None or start == 0:
                return last
            span_ms *= 2
        return None

    def matches(self, ms: int) -> bool:
        """Return whether the wall clock shows a moment of this expression; without seconds, the whole minute counts."""
        wall = datetime.fromtimestamp(ms / 1000, zone(self.timezone))
        fields = _fields(self.expression)
        return (
            wall.minute in fields.minutes
            and wall.hour in fields.hours
            and wall.month in fields.months
            and fields.match_day(wall.date())
            and (len(self.expression.split()) == 5 or wall.second in fields.seconds)
        )

    def _from(self, ms: int) -> Iterator[int]:
        # In the repeated hour, cronsim may begin with a past moment; the callers compare.
        start = datetime.fromtimestamp(min(max(ms, FIRST_MS), LAST_MS) // 1000, zone(self.timezone))
        for moment in CronSim(self.expression, start):
            yield round(moment.timestamp()) * 1000


def cron_of(expression: str, timezone: str) -> Cron:
    """Return the rule of an expression or nickname; raises `ValueError` that says what is wrong."""
    text = " ".join(NICKNAMES.get(expression.strip().lower(), expression).split())
    if text.startswith("@"):
        raise ValueError(f"unknown nickname {expression!r}; known are: {', '.join(NICKNAMES)}")
    number = len(text.split())
    if number not in (5, 6):
        raise ValueError(f"has {number} fields; write five (minute hour day month weekday) or six (second first)")
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError) as exc:
        raise ValueError(f"{expression!r} is not a cron expression: {str(exc).lower() or 'it cannot be read'}") from exc
    zone(timezone)
    return Cron(text, timezone)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises `ValueError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"unknown time zone {name!r}; use an IANA name such as Europe/Berlin or UTC") from exc


@lru_cache(maxsize=1024)
def _fields(expression: str) -> CronSim:
    return CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class CronExclusion:
    """Leaves out the moments of `cron`, by the wall clock."""

    cron: Cron

    def end_of(self, ms: int) -> int | None:
        """Return the last moment that is left out together with `ms`, None where `ms` is not left out."""
        if not self.cron.matches(ms):
            return None
        unit = 60_000 if len(self.cron.expression.split()) == 5 else 1000
        return ms - ms % unit + unit - 1


@dataclass(frozen=True, slots=True)
class RangeExclusion:
    """Leaves out from `start_ms` up to `end_ms` (not included)."""

    start_ms: int
    end_ms: int

    def end_of(self, ms: int) -> int | None:
        """Return the last moment that is left out together with `ms`, None where `ms` is not left out."""
        return self.end_ms - 1 if self.start_ms <= ms < self.end_ms else None


def day_exclusion(day: date, timezone: str) -> RangeExclusion:
    """Return what leaves out a day from its midnight to the next one in a time zone."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone(timezone))
    following = date.fromordinal(day.toordinal() + 1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone(timezone))
    return RangeExclusion(round(start.timestamp() * 1000), round(end.timestamp() * 1000))


Exclusion = CronExclusion | RangeExclusion
