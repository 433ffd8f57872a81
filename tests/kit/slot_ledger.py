"""Says which slots a definition owes: each of them has to fire, to be skipped or to be missed, once."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

from celeriac.schedules.definition import Definition, DefinitionStatus, TaskTriggerType

_OVER = (DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)


class SlotLedger:
    """Follows a definition from outside: what its timetable was while time passed, and what became of the slots."""

    def __init__(self, definition: Definition) -> None:
        self._seen = definition
        #: The slots that have passed while the definition counted them.
        self.owed: set[int] = set()
        #: Whether the last run was: no slot follows it, until an edit allows more runs.
        self._at_the_end = self._runs_out(definition)

    def time_passed(self, from_ms: int, until_ms: int) -> None:
        """Note the slots that came after `from_ms`, until `until_ms`, by the timetable of this time."""
        one = self._seen
        paused = one.status is DefinitionStatus.PAUSED and one.trigger_type is TaskTriggerType.LOOP
        if not paused and one.status not in _OVER and not self._at_the_end:
            self.owed.update(one.timetable().slots(from_ms, until_ms))

    def fired_at_once(self, slot_ms: int) -> None:
        """Note the run of an IMMEDIATE definition."""
        self.owed.add(slot_ms)

    def beat_was_here(self, after: Definition) -> None:
        """Note that a beat looked at the definition."""
        if not self._at_the_end and self._runs_out(after):
            self._at_the_end = True
            last_ms = after.last_slot_ms or 0
            self.owed = {slot for slot in self.owed if slot <= last_ms}
        self._seen = after

    def moved(self, after: Definition) -> None:
        """Note that somebody edited, paused, resumed or cancelled the definition."""
        self._at_the_end = self._runs_out(after)
        self._seen = after

    def changed(self, after: Definition) -> None:
        """Note another change, such as the end of an instance."""
        self._seen = after

    def check(self, fired: Collection[int], now_ms: int) -> None:
        """Compare with `fired`, the slots that the schedule fired, and with the counters."""
        one = self._seen
        assert len(set(fired)) == len(fired), "a slot fires once"
        assert set(fired) <= self.owed, f"fired without being owed: {sorted(set(fired) - self.owed)}"
        waiting = self.waiting(now_ms)
        assert set(waiting) <= self.owed - set(fired), "a slot that is decided does not wait"
        decided = len(fired) + one.skipped + one.missed
        assert decided + len(waiting) == len(self.owed), (
            f"of {len(self.owed)} slots {len(fired)} fired, {one.skipped} were skipped, {one.missed} missed, "
            f"and {len(waiting)} wait"
        )

    def waiting(self, now_ms: int) -> list[int]:
        """Return the slots that have passed and are not decided."""
        if self._seen.next_slot_ms is None:
            return []
        return list(takewhile(lambda slot: slot <= now_ms, self._seen.undecided().slots(self._seen.next_slot_ms - 1)))

    @staticmethod
    def _runs_out(definition: Definition) -> bool:
        most = definition.spec.max_runs
        return most is not None and definition.fired >= most
