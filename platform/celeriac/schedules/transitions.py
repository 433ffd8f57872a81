"""The transitions of a definition, one pure function for each thing that can happen to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from celeriac.errors import IllegalDefinitionMoveError
from celeriac.schedules.awaiting import (
    awaiting,
    counting_from,
    counts,
    ended,
    first_undecided,
    forgoing,
    going_on,
    is_fresh,
    present_ms,
    runs_out,
    without_timetable,
)
from celeriac.schedules.definition import (
    SKIPPED,
    Decision,
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Firing,
    FiringState,
    InstanceEnd,
    Open,
    TaskTriggerType,
    instance_id,
)
from celeriac.schedules.overlaps import firing_of_slot, overlapped
from celeriac.schedules.times.backlog import Backlog, backlog_of
from celeriac.schedules.times.budget import Budget, TimetableCostError


def begun(
    definition: Definition, now_ms: int, *, paused: bool, change: DefinitionChange, budget: Budget | None = None
) -> Decision:
    """Return a new definition with its first slot, or its only firing."""
    if definition.trigger_type is TaskTriggerType.IMMEDIATE and not paused:
        fired, firing = _fired_now(definition, now_ms)
        return Decision(fired, (firing,), change=change)
    if paused:
        definition = replace(definition, status=DefinitionStatus.PAUSED)
    # The slots of a pause do not count.
    first = definition.timetable(budget).after(now_ms) if counts(definition) else None
    return Decision(awaiting(definition, first), change=change)


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
    following = backlog.following
    left = None if spec.max_runs is None else max(spec.max_runs - definition.fired, 0)
    firings, skipped, superseding = overlapped(definition, backlog.fire, unended, now_ms, max_buffered, left)
    # An instance that waited and now never starts was skipped, and is not one of the runs.
    dropped = unended.buffered - unended.backfills if superseding else 0
    fired = definition.fired + len(firings) - dropped
    if spec.max_runs is not None and fired >= spec.max_runs:
        # No slot follows the last run.
        following = None
    after = replace(
        definition,
        fired=fired,
        skipped=definition.skipped + skipped + dropped,
        missed=definition.missed + backlog.missed,
        buffered=definition.buffered + sum(f.state is FiringState.BUFFERED for f in firings),
        last_slot_ms=firings[-1].slot_ms if firings else definition.last_slot_ms,
        last_task_id=firings[-1].task_id if firings else definition.last_task_id,
    )
    after, change = awaiting(after, following), None
    if too_costly is not None:
        note = f"its next slot cannot be found: {too_costly}"
        after = replace(after, status=DefinitionStatus.PAUSED, note=note, updated_ms=now_ms)
        change = DefinitionChange(now_ms, "pause", "celeriac", note, {})
    elif following is None and not firings and not unended.any:
        after = ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, tuple(firings), cancel_open=superseding, drop_buffered=superseding, change=change)


def _backlog(
    definition: Definition, slot: int, now_ms: int, most: int, budget: Budget | None
) -> tuple[Backlog, TimetableCostError | None]:
    """Return what is due, and why no slot after it can be found, if none can."""
    table, policy = definition.undecided(budget), definition.spec.misfire_policy
    try:
        return backlog_of(table, slot, now_ms, policy, most=most), None
    except TimetableCostError as exc:
        try:
            backlog = backlog_of(table.until(now_ms), slot, now_ms, policy, most=most)
        except TimetableCostError:
            backlog = backlog_of(table.only(slot), slot, now_ms, policy, most=most)
        return backlog, exc if backlog.following is None else None


def settled(
    definition: Definition, outcomes: Sequence[tuple[Firing, InstanceEnd]], unended: Open, now_ms: int
) -> Decision:
    """Count the ends of instances; pause after failures in a row; complete the definition if nothing will follow."""
    after, change = definition, None
    for firing, outcome in sorted(outcomes, key=lambda pair: (pair[1].finished_ms, pair[0].slot_ms)):
        after = _counted(after, firing, outcome)
    limit = definition.spec.pause_on_failure
    if limit is not None and after.failures_in_row >= limit and after.status is DefinitionStatus.ACTIVE:
        note = f"{after.failures_in_row} instances in a row failed; the last one: {after.outcome_error or 'no message'}"
        after = replace(_at_rest(after, present_ms(after, now_ms)), note=note[:2000], updated_ms=now_ms)
        change = DefinitionChange(now_ms, "pause", "celeriac", after.note, {})
    # A paused loop may have further slots; the two kinds that fire once do not.
    over = after.status is DefinitionStatus.ACTIVE or (
        after.status is DefinitionStatus.PAUSED
        and after.trigger_type is not TaskTriggerType.LOOP
        and not is_fresh(after)
    )
    if over and after.next_slot_ms is None and not unended.any:
        after = ended(after, DefinitionStatus.COMPLETED, now_ms)
    return Decision(after, change=change)


def _counted(definition: Definition, firing: Firing, outcome: InstanceEnd) -> Definition:
    if outcome.status == SKIPPED:
        scheduled = firing.trigger == "schedule"
        return replace(definition, skipped=definition.skipped + 1, fired=definition.fired - (1 if scheduled else 0))
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


def paused(
    definition: Definition, now_ms: int, *, actor: str, note: str | None, budget: Budget | None = None
) -> Decision | None:
    """Stop firing; None if it is paused already. A slot that has passed and not fired yet waits for `resumed`."""
    _refuse(definition, "pause", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.status is DefinitionStatus.PAUSED:
        return None
    now_ms = present_ms(definition, now_ms)
    after = replace(_at_rest(definition, now_ms, budget), note=note, rev=definition.rev + 1, updated_ms=now_ms)
    return Decision(after, change=DefinitionChange(now_ms, "pause", actor, note, {}))


def resumed(
    definition: Definition, unended: Open, now_ms: int, *, actor: str, note: str | None, budget: Budget | None = None
) -> Decision | None:
    """Fire again, from the next slot on; None if it is active already.

    The slots of the pause do not count. A slot from before the pause, and the moment of a SCHEDULED definition, fire
    late or count as missed, by the misfire policy.
    """
    _refuse(definition, "resume", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.status is not DefinitionStatus.PAUSED:
        return None
    now_ms = present_ms(definition, now_ms)
    slot, counted = first_undecided(definition), counts(definition)
    after = replace(
        definition,
        status=DefinitionStatus.ACTIVE,
        note=note,
        failures_in_row=0,
        rev=definition.rev + 1,
        updated_ms=now_ms,
    )
    change = DefinitionChange(now_ms, "resume", actor, note, {})
    firings: tuple[Firing, ...] = ()
    # It was made while paused. One that waits for slots of an earlier timetable was made before, and edited.
    if definition.trigger_type is TaskTriggerType.IMMEDIATE and is_fresh(definition) and slot is None:
        after, firing = _fired_now(after, now_ms)
        firings, unended = (firing,), replace(unended, running=unended.running + 1)
    if not counted:
        after = counting_from(after, now_ms)
    # The moment of a SCHEDULED definition is not waited for while no run is left; one may be by now.
    slot = definition.timetable(budget).after(now_ms) if slot is None else slot
    return Decision(going_on(after, slot, unended, now_ms, budget), firings, change=change)


def cancelled(
    definition: Definition,
    now_ms: int,
    *,
    actor: str,
    note: str | None,
    inside: bool = False,
    budget: Budget | None = None,
) -> Decision:
    """End it for good, and cancel its instances. `inside`: the caller may end read-only definitions."""
    _refuse(definition, "cancel", DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
    if definition.read_only and not inside:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, "cancel", definition.owner)
    now_ms = present_ms(definition, now_ms)
    after = ended(forgoing(definition, now_ms, budget), DefinitionStatus.CANCELLED, now_ms)
    after = replace(after, note=note, rev=definition.rev + 1)
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
    """Replace a definition by `new` (with the same id), which fires from its next slot on.

    The slots of the old timetable that have passed are not forgotten: they fire, or they count as missed. With the same
    timetable, the definition waits for the same slot as before.
    """
    _refuse(definition, "edit", DefinitionStatus.CANCELLED)
    now_ms = present_ms(definition, now_ms)
    same = new.timetable().same_slots(definition.timetable()) and new.trigger_type is definition.trigger_type
    held = definition if same else without_timetable(definition, now_ms, budget)
    slot = first_undecided(held) if same else held.next_slot_ms
    spec = replace(new.spec, earlier=held.spec.earlier, since_ms=held.spec.since_ms)
    after = replace(new, spec=spec, missed=held.missed, rev=definition.rev + 1, updated_ms=now_ms)
    if definition.status is not DefinitionStatus.PAUSED:
        after = replace(after, status=DefinitionStatus.ACTIVE, ended_ms=None)
    if counts(after):
        after = after if same else counting_from(after, now_ms)
        # An IMMEDIATE definition fires when it is made, not when it is edited. A moment that was decided before a pause
        # stays decided; one for which no run was left has not been decided.
        if slot is None and not (same and after.status is DefinitionStatus.PAUSED and not runs_out(definition)):
            slot = after.timetable(budget).after(now_ms)
    change = DefinitionChange(now_ms, "edit", actor, new.note, changed)
    return Decision(going_on(after, slot, unended, now_ms, budget), change=change)


def refuse_read_only(definition: Definition, wanted: str) -> None:
    """Raise `IllegalDefinitionMoveError` if the definition has an owner elsewhere."""
    if definition.read_only:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, wanted, definition.owner)


def _refuse(definition: Definition, wanted: str, *statuses: DefinitionStatus) -> None:
    if definition.status in statuses:
        raise IllegalDefinitionMoveError(definition.definition_id, definition.status, wanted)


def _at_rest(definition: Definition, now_ms: int, budget: Budget | None = None) -> Definition:
    """Return the definition as a paused one."""
    if definition.trigger_type is TaskTriggerType.LOOP:
        definition = without_timetable(definition, now_ms, budget)
    return awaiting(replace(definition, status=DefinitionStatus.PAUSED), definition.next_slot_ms)


def _reopened(definition: Definition) -> Definition:
    """Return a completed definition as an active one; the end of its next instance completes it again."""
    if definition.status is DefinitionStatus.COMPLETED:
        return replace(definition, status=DefinitionStatus.ACTIVE, ended_ms=None)
    return definition


def _fired_now(definition: Definition, now_ms: int) -> tuple[Definition, Firing]:
    firing = firing_of_slot(definition, now_ms, now_ms)
    after = replace(definition, fired=definition.fired + 1, last_slot_ms=now_ms, last_task_id=firing.task_id)
    return after, firing
