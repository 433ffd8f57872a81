"""The rules of a schedule: each says which moments follow a moment. Moments are milliseconds since the epoch.

All rules answer the same two questions: `after(ms)`, the first moment later than `ms`, and `until(ms)`,
the last one that is not later; None if there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from celeriac.model import LAST_MS
from celeriac.schedules.times.wall_clock import zone


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
class RangeExclusion:
    """Leaves out from `start_ms` up to `end_ms` (not included)."""

    start_ms: int
    end_ms: int

    def end_of(self, ms: int) -> int | None:
        """Return the last moment that is left out together with `ms`, None where `ms` is not left out."""
        return self.end_ms - 1 if self.start_ms <= ms < self.end_ms else None

    def start_of(self, ms: int) -> int | None:
        """Return the first moment that is left out together with `ms`, None where `ms` is not left out."""
        return self.start_ms if self.start_ms <= ms < self.end_ms else None


def day_exclusion(day: date, timezone: str) -> RangeExclusion:
    """Return what leaves out a day from its midnight to the next one in a time zone."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone(timezone))
    following = date.fromordinal(day.toordinal() + 1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone(timezone))
    return RangeExclusion(round(start.timestamp() * 1000), round(end.timestamp() * 1000))
