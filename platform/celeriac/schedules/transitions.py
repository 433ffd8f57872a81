"""The transitions of a definition, one pure function for each thing that can happen to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from celeriac.errors import IllegalDefinitionMoveError
from celeriac.schedules.definition import (
    Decision,
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Firing,
    FiringState,
    InstanceEnd,
    Open,
    Overlap,
    TaskTriggerType,
    instance_id,
)
from celeriac.schedules.times.backlog import Backlog, backlog_of
from celeriac.schedules.times.budget import Budget, TimetableCostError

_READ_ONLY = "it comes from Celery's beat_schedule: change it there"


def begun(
    definition: Definition, now_ms: int, *, paused: bool, change: DefinitionChange, budget: Budget | None = None
) -> Decision:
    """Return a new definition with its first slot, or its only firing."""
    if paused:
        return Decision(replace(definition, status=DefinitionStatus.PAUSED), change=change)
    if definition.trigger_type is TaskTriggerType.IMMEDIATE:
        return _fire_now(definition, now_ms, change)
    return Decision(_awaiting(definition, definition.timetable(budget).after(now_ms)), change=change)


def fire(
    definition: Definition,
    unended: Open,
    now_ms: int,
    *,
    most: int,
    max_buffered: int,
    budget: Budget | None = None,
) -> Decision:
    """Return the decision about a definition that is due: its firings, its counters and its next slot.

    If the `budget` does not suffice to find the next slot, the due one is dealt with, and the definition is paused.
    """
    slot = definition.next_slot_ms
    assert slot is not None
    spec = definition.spec
    backlog, too_costly = _backlog(definition, slot, now_ms, most, budget)
    slots, following = backlog.fire, backlog.following
    firings, skipped, superseding = _overlapped(definition, slots, unended, now_ms, max_buffered)
    if spec.max_runs is not None:
        left = max(spec.max_runs - definition.fired, 0)
        if len(firings) >= left:
            # Slots that were skipped because of an overlap do not count as runs. No slot follows the last run.
            firings, following = firings[:left], None
    after = replace(
        definition,
        fired=definition.fired + len(firings),
        skipped=definition.skipped + skipped,
        missed=definition.missed + backlog.missed,
        buffered=definition.buffered + sum(f.state is FiringState.BUFFERED for f in firings),
        last_slot_ms=firings[-1].slot_ms if firings else definition.last_slot_ms,
        last_task_id=firings[-1].task_id if firings else definition.last_task_id,
    )
    after, change = _awaiting(after, following), None
    if too_costly is not None:
        note = f"its next slot cannot be found: {too_costly}"
        after = replace(after, status=DefinitionStatus.PAUSED, note=note, updated_ms=now_ms)
        change = DefinitionChange(now_ms, "pause", "celeriac", note, {})
    elif following is None and not firings and not unended.any:
        after = _ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, tuple(firings), cancel_open=superseding, drop_buffered=superseding, change=change)


def _backlog(
    definition: Definition, slot: int, now_ms: int, most: int, budget: Budget | None
) -> tuple[Backlog, TimetableCostError | None]:
    """Return what is due, and why no slot after it can be found, if none can."""
    table, policy = definition.timetable(budget), definition.spec.misfire_policy
    try:
        return backlog_of(table, slot, now_ms, policy, most=most), None
    except TimetableCostError as exc:
        try:
            backlog = backlog_of(table.until(now_ms), slot, now_ms, policy, most=most)
        except TimetableCostError:
            backlog = backlog_of(table.only(slot), slot, now_ms, policy, most=most)
        return backlog, exc if backlog.following is None else None


def _overlapped(
    definition: Definition, slots: Sequence[int], unended: Open, now_ms: int, max_buffered: int
) -> tuple[list[Firing], int, bool]:
    """Return the firings of slots, how many slots were skipped, and whether earlier instances should be cancelled."""
    overlap = definition.spec.overlap
    if overlap is Overlap.ALLOW or not slots:
        return [_firing(definition, slot, now_ms) for slot in slots], 0, False
    if overlap is Overlap.CANCEL_PREVIOUS:
        state = FiringState.BUFFERED if unended.any else FiringState.PLANNED
        dropped = len(slots) - 1 + unended.buffered
        return [_firing(definition, slots[-1], now_ms, state)], dropped, unended.any
    room = {Overlap.SKIP: 0, Overlap.QUEUE_ONE: 1, Overlap.QUEUE_ALL: max_buffered}[overlap]
    firings: list[Firing] = []
    running, buffered, skipped = unended.any, unended.buffered, 0
    for slot in slots:
        if not running:
            firings.append(_firing(definition, slot, now_ms))
            running = True
        elif buffered < room:
            firings.append(_firing(definition, slot, now_ms, FiringState.BUFFERED))
            buffered += 1
        else:
            skipped += 1
    return firings, skipped, False


def settled(
    definition: Definition, ended: Sequence[tuple[Firing, InstanceEnd]], unended: Open, now_ms: int
) -> Decision:
    """Count the ends of instances; pause after failures in a row; complete the definition if nothing will follow."""
    after, change = definition, None
    for firing, outcome in sorted(ended, key=lambda pair: (pair[1].finished_ms, pair[0].slot_ms)):
        after = _counted(after, firing, outcome)
    limit = definition.spec.pause_on_failure
    if limit is not None and after.failures_in_row >= limit and after.status is DefinitionStatus.ACTIVE:
        note = f"{after.failures_in_row} instances in a row failed; the last one: {after.outcome_error or 'no message'}"
        after = replace(
            after, status=DefinitionStatus.PAUSED, next_ms=None, next_slot_ms=None, note=note[:2000], updated_ms=now_ms
        )
        change = DefinitionChange(now_ms, "pause", "celeriac", after.note, {})
    # A paused loop may have further slots; the two kinds that fire once do not.
    waiting = after.status is DefinitionStatus.ACTIVE or (
        after.status is DefinitionStatus.PAUSED
        and after.trigger_type is not TaskTriggerType.LOOP
        and after.fired + after.missed > 0
    )
    if waiting and after.next_ms is None and not unended.any:
        after = _ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, change=change)


def _counted(definition: Definition, firing: Firing, outcome: InstanceEnd) -> Definition:
    if outcome.status == "MISSED":
        scheduled = firing.trigger == "schedule"
        return replace(
            definition,
            missed=definition.missed + 1,
            fired=definition.fired - (1 if scheduled else 0),
            outcome_task_id=firing.task_id,
            outcome_status=outcome.status,
            outcome_ms=outcome.finished_ms,
            outcome_error=outcome.error,
        )
    failed = outcome.status == "FAILED"
    return replace(
        definition,
        succeeded=definition.succeeded + (outcome.status == "COMPLETED"),
        failed=definition.failed + failed,
        cancelled=definition.cancelled + (outcome.status == "CANCELLED"),
        failures_in_row=definition.failures_in_row + 1 if failed else 0,
        outcome_task_id=firing.task_id,
        outcome_status=outcome.status,
        outcome_ms=outcome.finished_ms,
        outcome_error=outcome.error,
    )


def paused(definition: Definition, now_ms: int, *, actor: str, note: str | None) -> Decision | None:
    """Stop firing; None if it is paused already."""
    _refuse(definition, "pause", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.status is DefinitionStatus.PAUSED:
        return None
    after = replace(
        definition,
        status=DefinitionStatus.PAUSED,
        next_slot_ms=None,
        next_ms=None,
        note=note,
        rev=definition.rev + 1,
        updated_ms=now_ms,
    )
    return Decision(after, change=DefinitionChange(now_ms, "pause", actor, note, {}))


def resumed(
    definition: Definition, unended: Open, now_ms: int, *, actor: str, note: str | None, budget: Budget | None = None
) -> Decision | None:
    """Fire again, from the next slot on; None if it is active already."""
    _refuse(definition, "resume", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.status is not DefinitionStatus.PAUSED:
        return None
    after = replace(
        definition,
        status=DefinitionStatus.ACTIVE,
        note=note,
        failures_in_row=0,
        rev=definition.rev + 1,
        updated_ms=now_ms,
    )
    change = DefinitionChange(now_ms, "resume", actor, note, {})
    fresh = definition.fired + definition.missed + definition.skipped == 0
    if definition.trigger_type is TaskTriggerType.IMMEDIATE:
        following = None
        if fresh:
            return _fire_now(after, now_ms, change)
    elif definition.trigger_type is TaskTriggerType.SCHEDULED:
        # If its moment passed while it was paused, it is a misfire like others.
        following = definition.timetable().after(-1) if fresh else None
    else:
        following = _next(after, now_ms, budget)
    after = _awaiting(after, following)
    if following is None and not unended.any:
        after = _ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, change=change)


def cancelled(definition: Definition, now_ms: int, *, actor: str, note: str | None, inside: bool = False) -> Decision:
    """End it for good, and cancel its instances. `inside`: the caller may end read-only definitions."""
    _refuse(definition, "cancel", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.read_only and not inside:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, "cancel", _READ_ONLY)
    after = replace(_ended(definition, DefinitionStatus.CANCELLED, now_ms), note=note, rev=definition.rev + 1)
    return Decision(
        after, cancel_open=True, drop_buffered=True, change=DefinitionChange(now_ms, "cancel", actor, note, {})
    )


def triggered(definition: Definition, now_ms: int, *, actor: str, key: str) -> Decision:
    """Run one instance now, independent of the schedule; the same `key` gives the same instance."""
    _refuse(definition, "trigger", DefinitionStatus.CANCELLED)
    firing = Firing(
        task_id=instance_id(definition.definition_id, "manual", key),
        definition_id=definition.definition_id,
        slot_ms=now_ms,
        trigger="manual",
        state=FiringState.PLANNED,
        planned_ms=now_ms,
    )
    after = replace(
        _reopened(definition), triggered=definition.triggered + 1, last_task_id=firing.task_id, updated_ms=now_ms
    )
    return Decision(
        after, (firing,), change=DefinitionChange(now_ms, "trigger", actor, None, {"task_id": [None, firing.task_id]})
    )


def backfilled(
    definition: Definition,
    unended: Open,
    slots: Sequence[int],
    now_ms: int,
    *,
    actor: str,
    key: str,
    one_by_one: bool,
) -> Decision:
    """Run past slots; `one_by_one`: each instance starts after the one before has ended."""
    _refuse(definition, "back-fill", DefinitionStatus.CANCELLED)
    firings = [
        Firing(
            task_id=instance_id(definition.definition_id, f"backfill:{key}", slot),
            definition_id=definition.definition_id,
            slot_ms=slot,
            trigger="backfill",
            state=FiringState.BUFFERED if one_by_one and (number or unended.any) else FiringState.PLANNED,
            planned_ms=now_ms,
        )
        for number, slot in enumerate(slots)
    ]
    if not firings:
        return Decision(definition)
    after = replace(_reopened(definition), backfilled=definition.backfilled + len(firings), updated_ms=now_ms)
    changed = {"slots": [slots[0], slots[-1]], "count": [None, len(slots)]}
    return Decision(after, tuple(firings), change=DefinitionChange(now_ms, "backfill", actor, None, changed))


def edited(
    definition: Definition,
    new: Definition,
    unended: Open,
    now_ms: int,
    *,
    actor: str,
    changed: dict[str, Any],
    budget: Budget | None = None,
) -> Decision:
    """Replace a definition by `new` (with the same id), which fires from its next slot on."""
    _refuse(definition, "edit", DefinitionStatus.CANCELLED)
    after = replace(new, rev=definition.rev + 1, updated_ms=now_ms)
    if definition.status is not DefinitionStatus.PAUSED:
        # An IMMEDIATE definition fires when it is made, not when it is edited.
        following = None if new.trigger_type is TaskTriggerType.IMMEDIATE else _next(new, now_ms, budget)
        after = _awaiting(replace(after, status=DefinitionStatus.ACTIVE, ended_ms=None), following)
        if following is None and not unended.any:
            after = _ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, change=DefinitionChange(now_ms, "edit", actor, new.note, changed))


def refuse_read_only(definition: Definition, wanted: str) -> None:
    """Raise `IllegalDefinitionMoveError` if the definition comes from Celery's configuration."""
    if definition.read_only:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, wanted, _READ_ONLY)


def _refuse(definition: Definition, wanted: str, *statuses: DefinitionStatus) -> None:
    if definition.status in statuses:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, wanted)


def _next(definition: Definition, now_ms: int, budget: Budget | None) -> int | None:
    spec = definition.spec
    if spec.max_runs is not None and definition.fired >= spec.max_runs:
        return None
    return definition.timetable(budget).after(now_ms)


def _awaiting(definition: Definition, slot: int | None) -> Definition:
    due = None if slot is None else definition.timetable().due(slot)
    return replace(definition, next_slot_ms=slot, next_ms=due)


def _ended(definition: Definition, status: DefinitionStatus, now_ms: int) -> Definition:
    return replace(definition, status=status, next_slot_ms=None, next_ms=None, ended_ms=now_ms, updated_ms=now_ms)


def _reopened(definition: Definition) -> Definition:
    """Return a completed definition as an active one; the end of its next instance completes it again."""
    if definition.status is DefinitionStatus.COMPLETED:
        return replace(definition, status=DefinitionStatus.ACTIVE, ended_ms=None)
    return definition


def _fire_now(definition: Definition, now_ms: int, change: DefinitionChange) -> Decision:
    firing = _firing(definition, now_ms, now_ms)
    after = replace(
        definition, fired=definition.fired + 1, last_slot_ms=now_ms, last_task_id=firing.task_id, next_ms=None
    )
    return Decision(after, (firing,), change=change)


def _firing(definition: Definition, slot: int, now_ms: int, state: FiringState = FiringState.PLANNED) -> Firing:
    return Firing(
        task_id=instance_id(definition.definition_id, "schedule", slot),
        definition_id=definition.definition_id,
        slot_ms=slot,
        trigger="schedule",
        state=state,
        planned_ms=now_ms,
    )
