"""The slots that a definition waits for. Each slot of each timetable that it had fires, is skipped, or is missed.

A timetable ends with an edit that replaces it and with a pause. If slots of it have passed by then and are not decided
yet (a beat is late, or their jitter is not over), the definition remembers that timetable until they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from celeriac.schedules.definition import Definition, DefinitionStatus, Open, Spec, TaskTriggerType
from celeriac.schedules.times.budget import Budget, TimetableCostError

#: Most timetables that a definition remembers; the slots of older ones count as missed.
MOST_EARLIER: Final = 8
#: How far the clock of a request may be behind what other requests have written meanwhile (ms).
_BEHIND_MS: Final = 60_000


def present_ms(definition: Definition, now_ms: int) -> int:
    """Return `now_ms`, or the moment of a decision that was made since the caller read the clock.

    A moment further in the future comes from a clock that was wrong, and does not count.
    """
    latest = max(definition.updated_ms, definition.last_slot_ms or 0)
    return latest if now_ms < latest <= now_ms + _BEHIND_MS else now_ms


def counts(definition: Definition) -> bool:
    """Return whether slots that pass now count: those of a pause do not, except the moment of a SCHEDULED one."""
    return definition.status is not DefinitionStatus.PAUSED or definition.trigger_type is not TaskTriggerType.LOOP


def first_undecided(definition: Definition) -> int | None:
    """Return the first slot that is neither fired, skipped nor missed."""
    slot = definition.next_slot_ms
    if slot is None and definition.status is DefinitionStatus.PAUSED and is_fresh(definition):
        # An earlier version did not keep the moment of a paused definition.
        return definition.timetable().after(-1) if definition.trigger_type is TaskTriggerType.SCHEDULED else None
    return slot


def is_fresh(definition: Definition) -> bool:
    """Return whether no slot of it was decided yet."""
    return definition.fired + definition.missed + definition.skipped == 0


def runs_out(definition: Definition) -> bool:
    """Return whether it has run as often as it should."""
    most = definition.spec.max_runs
    return most is not None and definition.fired >= most


def awaiting(definition: Definition, slot: int | None) -> Definition:
    """Return the definition with its first undecided slot, and without the timetables that end before the slot."""
    spec = definition.spec
    if spec.earlier:
        earlier = [] if slot is None else [ended for ended in spec.earlier if ended["until_ms"] >= slot]
        spec = replace(spec, earlier=earlier, since_ms=spec.since_ms if earlier else None)
        definition = replace(definition, spec=spec)
    if slot is None or definition.status is not DefinitionStatus.ACTIVE:
        return replace(definition, next_slot_ms=slot, next_ms=None)
    return replace(definition, next_slot_ms=slot, next_ms=definition.timetable().due(slot))


def without_timetable(definition: Definition, now_ms: int, budget: Budget | None = None) -> Definition:
    """Return the definition with its timetable ended now; what waits are its slots up to now that are not decided."""
    slot = first_undecided(definition)
    if slot is None or slot > now_ms:
        return awaiting(definition, None)
    spec = definition.spec
    if counts(definition):
        after_ms = slot - 1 if spec.since_ms is None else spec.since_ms
        if not spec.earlier or _has_slot(definition, after_ms, now_ms, budget):
            ended = ended_timetable(definition.trigger_type, spec, after_ms, now_ms)
            spec = replace(spec, earlier=[*spec.earlier, ended])
    return _shortened(awaiting(replace(definition, spec=replace(spec, since_ms=None)), slot), budget)


def counting_from(definition: Definition, now_ms: int) -> Definition:
    """Return the definition whose timetable counts from now on; what waits of earlier ones comes first."""
    if not definition.spec.earlier:
        return definition
    return replace(definition, spec=replace(definition.spec, since_ms=now_ms))


def forgoing(definition: Definition, now_ms: int, budget: Budget | None = None) -> Definition:
    """Return the definition that waits for nothing more; slots that have passed and are not decided count as missed."""
    slot = first_undecided(definition)
    if slot is not None and slot <= now_ms:
        missed = definition.missed + _count(definition, slot, now_ms, budget)
        definition = replace(definition, missed=missed)
    return awaiting(definition, None)


def ended(definition: Definition, status: DefinitionStatus, now_ms: int) -> Definition:
    """Return the definition with its end."""
    return replace(awaiting(definition, None), status=status, ended_ms=now_ms, updated_ms=now_ms)


def going_on(
    definition: Definition, slot: int | None, unended: Open, now_ms: int, budget: Budget | None = None
) -> Definition:
    """Return the definition that waits for `slot`; it is complete if nothing is left to fire and no instance runs."""
    after = awaiting(definition, slot)
    if runs_out(after):
        after = forgoing(after, now_ms, budget)
    if after.next_slot_ms is None and after.status is DefinitionStatus.ACTIVE and not unended.any:
        return ended(after, DefinitionStatus.COMPLETED, now_ms)
    return after


def _has_slot(definition: Definition, after_ms: int, until_ms: int, budget: Budget | None) -> bool:
    """Return whether its timetable has a slot in a span of time, or is too costly to tell."""
    try:
        first = definition.timetable(budget).after(after_ms)
    except TimetableCostError:
        return True
    return first is not None and first <= until_ms


def _count(definition: Definition, first: int, until_ms: int, budget: Budget | None) -> int:
    """Count its undecided slots from the first one on; if the rest is too costly to count, the first alone counts."""
    try:
        return definition.undecided(budget).last(first, until_ms)[1]
    except TimetableCostError:
        return 1


def _shortened(definition: Definition, budget: Budget | None) -> Definition:
    spec, slot = definition.spec, definition.next_slot_ms
    if slot is None or len(spec.earlier) <= MOST_EARLIER:
        return definition
    until_ms = spec.earlier[-MOST_EARLIER - 1]["until_ms"]
    missed = definition.missed + _count(definition, slot, until_ms, budget)
    try:
        following = definition.undecided(budget).after(until_ms)
    except TimetableCostError:
        following = None
    return awaiting(replace(definition, missed=missed), following)


def ended_timetable(trigger_type: TaskTriggerType, spec: Spec, after_ms: int, until_ms: int) -> dict[str, Any]:
    """Return what is stored of a timetable, JSON-ready: its slots after `after_ms` and until `until_ms` wait."""
    return {
        "trigger_type": trigger_type.value,
        "trigger_args": spec.trigger_args,
        "anchor_ms": spec.anchor_ms,
        "start_ms": spec.start_ms,
        "end_ms": spec.end_ms,
        "after_ms": after_ms,
        "until_ms": until_ms,
    }
