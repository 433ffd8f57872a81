"""Decides what happens to slots while an earlier instance of their definition has not ended."""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.schedules.definition import Definition, Firing, FiringState, Open, Overlap, instance_id


def overlapped(
    definition: Definition, slots: Sequence[int], unended: Open, now_ms: int, max_buffered: int, left: int | None
) -> tuple[list[Firing], int, bool]:
    """Return the firings of slots, how many slots were skipped, and whether earlier instances should be cancelled.

    At most `left` fire. A slot that was skipped is not a run, and no slot counts after the last run.
    """
    overlap = definition.spec.overlap
    if overlap is Overlap.ALLOW or not slots:
        return [firing_of_slot(definition, slot, now_ms) for slot in slots[:left]], 0, False
    if overlap is Overlap.CANCEL_PREVIOUS:
        state = FiringState.BUFFERED if unended.any else FiringState.PLANNED
        return [firing_of_slot(definition, slots[-1], now_ms, state)], len(slots) - 1, unended.any
    room = {Overlap.SKIP: 0, Overlap.QUEUE_ONE: 1, Overlap.QUEUE_ALL: max_buffered}[overlap]
    firings: list[Firing] = []
    running, buffered, skipped = unended.any, unended.buffered, 0
    for slot in slots:
        if len(firings) == left:
            break
        if not running:
            firings.append(firing_of_slot(definition, slot, now_ms))
            running = True
        elif buffered < room:
            firings.append(firing_of_slot(definition, slot, now_ms, FiringState.BUFFERED))
            buffered += 1
        else:
            skipped += 1
    return firings, skipped, False


def firing_of_slot(definition: Definition, slot: int, now_ms: int, state: FiringState = FiringState.PLANNED) -> Firing:
    """Return the firing of a slot."""
    return Firing(
        task_id=instance_id(definition.definition_id, "schedule", slot),
        definition_id=definition.definition_id,
        slot_ms=slot,
        trigger="schedule",
        state=state,
        planned_ms=now_ms,
    )
