"""A definition's timetable: the slots of all its rules, without its exclusions, within its bounds.

A *slot* is a moment that the rules give. It is *due* at the slot plus its jitter. The instance gets the slot, and its
id derives from the slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from celeriac.model import LAST_MS
from celeriac.schedules.times.rules import Exclusion, Interval, Rule

#: After this many excluded slots in a row, a timetable counts as empty.
_MOST_EXCLUDED: Final = 20_000
#: A number of intervals that reaches back before any possible date.
_ALWAYS: Final = -(10**15)
#: Most slots that are counted one by one; a larger number counts as this many.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Timetable:
    """`start_ms` and `end_ms` are included. With the same `seed`, a slot has the same jitter in all processes."""

    rules: tuple[Rule, ...]
    exclusions: tuple[Exclusion, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    jitter_ms: int = 0
    seed: str = ""

    def after(self, ms: int) -> int | None:
        """Return the first slot later than `ms`, or None if there is none."""
        if self.start_ms is not None:
            ms = max(ms, self.start_ms - 1)
        for _ in range(_MOST_EXCLUDED):
            slot = min((moment for rule in self.rules if (moment := rule.after(ms)) is not None), default=None)
            if slot is None or (self.end_ms is not None and slot > self.end_ms):
                return None
            ends = [end for exclusion in self.exclusions if (end := exclusion.end_of(slot)) is not None]
            if not ends:
                return slot
            ms = max(ends)
        return None

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

    def due(self, slot: int) -> int:
        """Return when a slot fires: up to `jitter_ms` later, evenly spread, and the same at each call."""
        if not self.jitter_ms:
            return slot
        digest = blake2b(f"{self.seed}:{slot}".encode(), digest_size=8).digest()
        return min(slot + int.from_bytes(digest, "big") % (self.jitter_ms + 1), LAST_MS)

    def last(self, first_slot: int, until_ms: int) -> tuple[int, int]:
        """Return the last slot from `first_slot` (a slot) to `until_ms`, and how many there are, both included.

        It is fast for any span of time: the count ends at `MOST_COUNTED`, unless it needs no loop (a single interval).
        """
        bounded = until_ms if self.end_ms is None else min(until_ms, self.end_ms)
        rule = self.rules[0]
        if len(self.rules) == 1 and not self.exclusions and isinstance(rule, Interval):
            last = rule.until(bounded)
            return (last or first_slot), rule.count(first_slot, bounded)
        count, last_slot = 1, first_slot
        for slot in self.slots(first_slot, bounded):
            count, last_slot = count + 1, slot
            if count == MOST_COUNTED:
                return self._latest(last_slot, bounded), count
        return last_slot, count

    def _latest(self, known: int, until_ms: int) -> int:
        """Return the last slot that is not later than `until_ms`, searching backwards down to `known`."""
        ms = until_ms
        for _ in range(_MOST_EXCLUDED):
            slot = max((moment for rule in self.rules if (moment := rule.until(ms)) is not None), default=known)
            if slot <= known:
                return known
            if all(exclusion.end_of(slot) is None for exclusion in self.exclusions):
                return slot
            ms = slot - 1
        return known
