"""Timetables that follow one another: an edit or a pause ends one while some of its slots still wait to be decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from celeriac.schedules.times.budget import Budget
from celeriac.schedules.times.timetable import Timetable


@dataclass(frozen=True, slots=True)
class Stretch:
    """The slots of a timetable that are later than `after_ms` and not later than `until_ms` (None: without an end)."""

    table: Timetable
    after_ms: int
    until_ms: int | None

    def after(self, ms: int) -> int | None:
        """Return the first slot later than `ms`, or None if there is none."""
        slot = self.table.after(max(ms, self.after_ms))
        return None if slot is None or (self.until_ms is not None and slot > self.until_ms) else slot


@dataclass(frozen=True, slots=True)
class Succession:
    """Stretches in the order of their times, without overlaps; it answers what a timetable answers.

    Each slot is due by the jitter of `latest`, the timetable that holds now. All share its budget.
    """

    stretches: tuple[Stretch, ...]
    latest: Timetable

    @property
    def jitter_ms(self) -> int:
        """The longest delay of a slot."""
        return self.latest.jitter_ms

    @property
    def budget(self) -> Budget:
        """What is left of the limits of a question."""
        return self.latest.budget

    def after(self, ms: int) -> int | None:
        """Return the first slot later than `ms`, or None if there is none."""
        return next((slot for stretch in self.stretches if (slot := stretch.after(ms)) is not None), None)

    def slots(self, after_ms: int, until_ms: int | None = None) -> Iterator[int]:
        """Yield the slots later than `after_ms` and not later than `until_ms`."""
        slot = self.after(after_ms)
        while slot is not None and (until_ms is None or slot <= until_ms):
            yield slot
            slot = self.after(slot)

    def until(self, ms: int) -> Succession:
        """Return the succession with no slot later than `ms`, and with a budget of its own."""
        budget = self.budget.again()
        stretches = (
            Stretch(
                replace(stretch.table, budget=budget),
                stretch.after_ms,
                ms if stretch.until_ms is None else min(ms, stretch.until_ms),
            )
            for stretch in self.stretches
        )
        return Succession(tuple(stretches), replace(self.latest, budget=budget))

    def only(self, slot: int) -> Timetable:
        """Return the timetable that has this slot alone, due when it is due here."""
        return self.latest.only(slot)

    def due(self, slot: int) -> int:
        """Return when a slot fires."""
        return self.latest.due(slot)

    def last(self, first_slot: int, until_ms: int) -> tuple[int, int]:
        """Return the last slot from `first_slot` (a slot) to `until_ms`, and how many there are, both included."""
        last_slot, count = first_slot, 0
        for stretch in self.stretches:
            end_ms = until_ms if stretch.until_ms is None else min(until_ms, stretch.until_ms)
            first = stretch.after(first_slot - 1)
            if first is not None and first <= end_ms:
                last_slot, number = stretch.table.last(first, end_ms)
                count += number
        return last_slot, count
