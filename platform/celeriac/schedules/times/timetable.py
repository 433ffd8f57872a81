"""A definition's timetable: the slots of all its rules, without its exclusions, within its bounds.

A *slot* is a moment that the rules give. It is *due* at the slot plus its jitter. The instance gets the slot, and its
id derives from the slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from celeriac.model import LAST_MS
from celeriac.schedules.times.budget import Budget, ComputeLimits
from celeriac.schedules.times.cron import CronExclusion
from celeriac.schedules.times.rules import Interval, Once, RangeExclusion, Rule

Exclusion = CronExclusion | RangeExclusion

#: A number of intervals that reaches back before any possible date.
_ALWAYS: Final = -(10**15)
#: Most slots that are counted one by one; a larger number counts as this many.
MOST_COUNTED: Final = 10_000


def _plenty() -> Budget:
    return ComputeLimits().budget(10**9)


@dataclass(frozen=True, slots=True)
class Timetable:
    """`start_ms` and `end_ms` are included. With the same `seed`, a slot has the same jitter in all processes.

    Each look at a rule or an exclusion is a step of the `budget`. All questions raise `TimetableCostError` if it is
    used up.
    """

    rules: tuple[Rule, ...]
    exclusions: tuple[Exclusion, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    jitter_ms: int = 0
    seed: str = ""
    budget: Budget = field(default_factory=_plenty, compare=False, repr=False)

    def after(self, ms: int) -> int | None:
        """Return the first slot later than `ms`, or None if there is none."""
        if self.start_ms is not None:
            ms = max(ms, self.start_ms - 1)
        while True:
            slot: int | None = None
            for rule in self.rules:
                self.budget.spend()
                if (moment := rule.after(ms)) is not None and (slot is None or moment < slot):
                    slot = moment
            if slot is None or (self.end_ms is not None and slot > self.end_ms):
                return None
            if (end := self._left_out_until(slot)) is None:
                return slot
            ms = end

    def _left_out_until(self, slot: int) -> int | None:
        """Return the last moment of the time in which `slot` is left out, or None if it is not."""
        found: int | None = None
        for exclusion in self.exclusions:
            self.budget.spend()
            if (end := exclusion.end_of(slot)) is not None and (found is None or end > found):
                found = end
        return found

    def _left_out_from(self, slot: int) -> int | None:
        """Return the first moment of the time in which `slot` is left out, or None if it is not."""
        found: int | None = None
        for exclusion in self.exclusions:
            self.budget.spend()
            if (start := exclusion.start_of(slot)) is not None and (found is None or start < found):
                found = start
        return found

    def slots(self, after_ms: int, until_ms: int | None = None) -> Iterator[int]:
        """Yield the slots later than `after_ms` and not later than `until_ms`."""
        slot = self.after(after_ms)
        while slot is not None and (until_ms is None or slot <= until_ms):
            yield slot
            slot = self.after(slot)

    def without_start(self) -> Timetable:
        """Return the timetable without its start: with the same phase and the same exclusions."""
        rules = tuple(replace(rule, first=_ALWAYS) if isinstance(rule, Interval) else rule for rule in self.rules)
        return replace(self, rules=rules, start_ms=None)

    def same_slots(self, other: Timetable) -> bool:
        """Return whether both have the same rules, exclusions and bounds; their jitter may differ."""
        return replace(self, jitter_ms=other.jitter_ms, seed=other.seed) == other

    def until(self, ms: int) -> Timetable:
        """Return the timetable with no slot later than `ms`, and with a budget of its own."""
        return replace(self, end_ms=ms if self.end_ms is None else min(ms, self.end_ms), budget=self.budget.again())

    def only(self, slot: int) -> Timetable:
        """Return the timetable that has this slot alone, due when it is due here."""
        return Timetable((Once(slot),), jitter_ms=self.jitter_ms, seed=self.seed)

    def due(self, slot: int) -> int:
        """Return when a slot fires: up to `jitter_ms` later, evenly spread, and the same at each call."""
        if not self.jitter_ms:
            return slot
        digest = blake2b(f"{self.seed}:{slot}".encode(), digest_size=8).digest()
        return min(slot + int.from_bytes(digest, "big") % (self.jitter_ms + 1), LAST_MS)

    def last(self, first_slot: int, until_ms: int) -> tuple[int, int]:
        """Return the last slot from `first_slot` (a slot) to `until_ms`, and how many there are, both included.

        It is fast for any span of time: the count ends at `MOST_COUNTED`, or when half of the budget is spent,
        unless it needs no loop (a single interval).
        """
        bounded = until_ms if self.end_ms is None else min(until_ms, self.end_ms)
        rule = self.rules[0]
        if len(self.rules) == 1 and not self.exclusions and isinstance(rule, Interval):
            last = rule.until(bounded)
            return (last or first_slot), rule.count(first_slot, bounded)
        count, last_slot = 1, first_slot
        for slot in self.slots(first_slot, bounded):
            count, last_slot = count + 1, slot
            if count == MOST_COUNTED or self.budget.half_spent:
                return self._latest(last_slot, bounded), count
        return last_slot, count

    def _latest(self, known: int, until_ms: int) -> int:
        """Return the last slot that is not later than `until_ms`, searching backwards down to `known`."""
        ms = until_ms
        while True:
            slot = known
            for rule in self.rules:
                self.budget.spend()
                if (moment := rule.until(ms)) is not None:
                    slot = max(slot, moment)
            if slot <= known:
                return known
            if (start := self._left_out_from(slot)) is None:
                return slot
            ms = start - 1
