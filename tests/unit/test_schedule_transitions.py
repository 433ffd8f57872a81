"""What a definition becomes by each thing that happens to it: decided without a database, a store or a clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from celeriac.errors import IllegalDefinitionMoveError
from celeriac.schedules import transitions
from celeriac.schedules.definition import (
    Decision,
    Definition,
    DefinitionStatus,
    Firing,
    FiringState,
    InstanceEnd,
    Open,
    Overlap,
    TaskTriggerType,
)
from celeriac.schedules.times.backlog import Misfire
from tests.kit.definitions import BEGIN_MS, CHANGE, MINUTE_MS, NOTHING, at, definition_of

MOST = 100


def definition(trigger: TaskTriggerType = TaskTriggerType.LOOP, source: str = "api", **spec: Any) -> Definition:
    """Return a definition that has just been made; by default it fires every minute."""
    arguments: dict[TaskTriggerType, dict[str, Any]] = {
        TaskTriggerType.LOOP: {"interval": 60},
        TaskTriggerType.SCHEDULED: {"run_at": datetime.fromtimestamp(at(5) / 1000, UTC).isoformat()},
        TaskTriggerType.IMMEDIATE: {},
    }
    return definition_of(trigger, arguments[trigger], source=source, **spec)


def begun(trigger: TaskTriggerType = TaskTriggerType.LOOP, *, paused: bool = False, **spec: Any) -> Definition:
    return transitions.begun(definition(trigger, **spec), BEGIN_MS, paused=paused, change=CHANGE).after


def fire(one: Definition, minutes: float, unended: Open = NOTHING, *, max_buffered: int = 100) -> Decision:
    return transitions.fire(one, unended, at(minutes), most=MOST, max_buffered=max_buffered)


def minutes_of(decision: Decision) -> list[tuple[float, str]]:
    return [((firing.slot_ms - BEGIN_MS) / MINUTE_MS, firing.state.value) for firing in decision.firings]


# --- the beginning


def test_a_loop_waits_for_its_first_slot() -> None:
    after = begun()
    assert (after.status, after.next_slot_ms, after.next_ms) == (DefinitionStatus.ACTIVE, at(1), at(1))


def test_an_immediate_one_fires_when_it_is_made_and_is_completed_when_that_instance_ended() -> None:
    decision = transitions.begun(definition(TaskTriggerType.IMMEDIATE), BEGIN_MS, paused=False, change=CHANGE)
    (firing,) = decision.firings
    assert (decision.after.fired, decision.after.next_ms, decision.after.last_task_id) == (1, None, firing.task_id)
    ended = transitions.settled(decision.after, [(firing, InstanceEnd("COMPLETED", at(1)))], NOTHING, at(1)).after
    assert (ended.status, ended.succeeded, ended.ended_ms) == (DefinitionStatus.COMPLETED, 1, at(1))


@pytest.mark.parametrize("trigger", list(TaskTriggerType))
def test_one_that_is_made_paused_waits_for_nothing_and_goes_on_when_it_is_resumed(trigger: TaskTriggerType) -> None:
    one = begun(trigger, paused=True)
    assert (one.status, one.next_ms, one.fired) == (DefinitionStatus.PAUSED, None, 0)
    resumed = transitions.resumed(one, NOTHING, at(0.5), actor="me", note="go")
    assert resumed is not None
    assert (resumed.after.status, resumed.after.rev, resumed.after.note) == (DefinitionStatus.ACTIVE, 2, "go")
    if trigger is TaskTriggerType.IMMEDIATE:
        assert resumed.after.fired == 1
    else:
        assert resumed.after.next_ms is not None


# --- firing


@pytest.mark.parametrize(
    ("overlap", "unended", "expected", "skipped", "superseding"),
    [
        (Overlap.ALLOW, Open(1, 1), [(1, "planned"), (2, "planned"), (3, "planned")], 0, False),
        (Overlap.SKIP, Open(), [(1, "planned")], 2, False),
        (Overlap.SKIP, Open(1), [], 3, False),
        (Overlap.QUEUE_ONE, Open(), [(1, "planned"), (2, "buffered")], 1, False),
        (Overlap.QUEUE_ONE, Open(1), [(1, "buffered")], 2, False),
        (Overlap.QUEUE_ONE, Open(1, 1), [], 3, False),
        (Overlap.QUEUE_ALL, Open(1), [(1, "buffered"), (2, "buffered"), (3, "buffered")], 0, False),
        (Overlap.CANCEL_PREVIOUS, Open(), [(3, "planned")], 2, False),
        (Overlap.CANCEL_PREVIOUS, Open(1, 2), [(3, "buffered")], 4, True),
    ],
)
def test_slots_that_overlap_run_wait_or_are_left_out(
    overlap: Overlap, unended: Open, expected: list[tuple[float, str]], skipped: int, superseding: bool
) -> None:
    one = replace(begun(overlap=overlap, misfire=Misfire.FIRE_ALL), fired=unended.running + unended.buffered)
    decision = fire(one, 3, unended)
    assert minutes_of(decision) == expected
    # Those that waited and never start are skipped, so they have not fired.
    replaced = unended.buffered if superseding else 0
    assert (decision.after.fired - one.fired, decision.after.skipped) == (len(expected) - replaced, skipped)
    assert decision.after.buffered == sum(state == "buffered" for _, state in expected)
    assert (decision.cancel_open, decision.drop_buffered) == (superseding, superseding)
    assert decision.after.next_slot_ms == at(4)


def test_no_more_wait_than_there_is_room_for() -> None:
    one = begun(overlap=Overlap.QUEUE_ALL, misfire=Misfire.FIRE_ALL)
    decision = fire(one, 5, Open(1, 1), max_buffered=3)
    assert minutes_of(decision) == [(1, "buffered"), (2, "buffered")]
    assert decision.after.skipped == 3


@pytest.mark.parametrize(
    ("misfire", "fired", "missed"),
    [(Misfire.SKIP, [], 10), (Misfire.FIRE_ONCE, [10], 9), (Misfire.FIRE_ALL, list(range(1, 11)), 0)],
)
def test_slots_that_nobody_fired_in_time_are_missed_by_the_policy(
    misfire: Misfire, fired: list[int], missed: int
) -> None:
    decision = fire(begun(misfire=misfire), 10)
    assert [slot for slot, _ in minutes_of(decision)] == fired
    assert (decision.after.fired, decision.after.missed, decision.after.next_slot_ms) == (len(fired), missed, at(11))


def test_nothing_comes_after_the_last_run_that_was_asked_for() -> None:
    one = begun(max_runs=2, misfire=Misfire.FIRE_ALL)
    decision = fire(one, 5)
    assert minutes_of(decision) == [(1, "planned"), (2, "planned")]
    assert (decision.after.next_ms, decision.after.status) == (None, DefinitionStatus.ACTIVE)
    first, second = decision.firings
    half = transitions.settled(decision.after, [(first, InstanceEnd("COMPLETED", at(6)))], Open(1), at(6)).after
    assert half.status is DefinitionStatus.ACTIVE
    whole = transitions.settled(half, [(second, InstanceEnd("COMPLETED", at(7)))], NOTHING, at(7)).after
    assert (whole.status, whole.succeeded) == (DefinitionStatus.COMPLETED, 2)


def test_a_slot_that_overlap_left_out_is_not_one_of_the_runs() -> None:
    one = begun(max_runs=1, overlap=Overlap.SKIP)
    decision = fire(one, 1, Open(1))
    assert (decision.after.fired, decision.after.skipped, decision.after.next_slot_ms) == (0, 1, at(2))


def test_a_moment_that_is_missed_for_good_completes_a_definition_of_which_nothing_runs() -> None:
    one = begun(TaskTriggerType.SCHEDULED, misfire=Misfire.SKIP)
    assert one.next_slot_ms is not None
    decision = transitions.fire(one, NOTHING, one.next_slot_ms + 120_000, most=MOST, max_buffered=1)
    assert (decision.firings, decision.after.missed) == ((), 1)
    assert (decision.after.status, decision.after.next_ms) == (DefinitionStatus.COMPLETED, None)


# --- the ends of instances


def fired(one: Definition, minutes: float) -> tuple[Definition, Firing]:
    decision = fire(one, minutes)
    return decision.after, decision.firings[-1]


def test_failures_in_a_row_pause_it_and_a_success_begins_the_row_again() -> None:
    one = begun(pause_on_failure=2)
    for minute, status, row in [(1, "FAILED", 1), (2, "COMPLETED", 0), (3, "FAILED", 1), (4, "FAILED", 2)]:
        one, firing = fired(one, minute)
        decision = transitions.settled(one, [(firing, InstanceEnd(status, at(minute), "boom"))], NOTHING, at(minute))
        one = decision.after
        assert one.failures_in_row == row
    assert (one.status, one.next_ms, one.failed, one.succeeded) == (DefinitionStatus.PAUSED, None, 3, 1)
    assert one.note == "2 instances in a row failed; the last one: boom"
    assert decision.change is not None
    assert (decision.change.action, decision.change.actor) == ("pause", "celeriac")
    resumed = transitions.resumed(one, NOTHING, at(5), actor="me", note=None)
    assert resumed is not None
    assert (resumed.after.failures_in_row, resumed.after.next_slot_ms) == (0, at(6))


def test_the_last_to_end_is_remembered_whatever_the_order_in_which_the_ends_are_heard() -> None:
    one = begun()
    one, first = fired(one, 1)
    one, second = fired(one, 2)
    late, early = InstanceEnd("FAILED", at(9), "late"), InstanceEnd("COMPLETED", at(3))
    for order in ([(first, late), (second, early)], [(second, early), (first, late)]):
        after = transitions.settled(one, order, NOTHING, at(9)).after
        assert (after.outcome_task_id, after.outcome_status, after.outcome_error) == (first.task_id, "FAILED", "late")
        assert (after.outcome_ms, after.failures_in_row) == (at(9), 1)


@pytest.mark.parametrize(("trigger", "fired_after"), [("schedule", 0), ("manual", 1)])
def test_an_instance_that_never_came_to_be_is_missed_and_does_not_count_as_fired(
    trigger: str, fired_after: int
) -> None:
    one, firing = fired(begun(), 1)
    after = transitions.settled(
        one, [(replace(firing, trigger=trigger), InstanceEnd("MISSED", at(2), "refused"))], NOTHING, at(2)
    ).after
    assert (after.missed, after.fired, after.outcome_status) == (1, fired_after, "MISSED")


# --- what people do


def test_pausing_and_resuming_twice_is_the_same_as_once() -> None:
    paused = transitions.paused(begun(), at(0.5), actor="me", note="holiday")
    assert paused is not None
    assert (paused.after.status, paused.after.next_ms, paused.after.note) == (DefinitionStatus.PAUSED, None, "holiday")
    assert transitions.paused(paused.after, at(1), actor="me", note=None) is None
    resumed = transitions.resumed(paused.after, NOTHING, at(7.5), actor="me", note=None)
    assert resumed is not None
    assert (resumed.after.next_slot_ms, resumed.after.missed) == (at(8), 0), "the pause is no misfire"
    assert transitions.resumed(resumed.after, NOTHING, at(8), actor="me", note=None) is None


def test_a_moment_that_passed_during_a_pause_is_a_misfire() -> None:
    one = begun(TaskTriggerType.SCHEDULED, paused=True)
    resumed = transitions.resumed(one, NOTHING, at(10_000), actor="me", note=None)
    assert resumed is not None
    moment = resumed.after.next_slot_ms
    assert moment is not None
    assert moment < at(10_000)


def test_a_loop_without_runs_left_is_completed_when_it_is_resumed() -> None:
    one = replace(begun(max_runs=1), fired=1, status=DefinitionStatus.PAUSED, next_ms=None, next_slot_ms=None)
    resumed = transitions.resumed(one, NOTHING, at(3), actor="me", note=None)
    assert resumed is not None
    assert resumed.after.status is DefinitionStatus.COMPLETED
    waits = transitions.resumed(one, Open(1), at(3), actor="me", note=None)
    assert waits is not None
    assert waits.after.status is DefinitionStatus.ACTIVE


def test_cancelling_takes_what_runs_and_what_waits_with_it() -> None:
    decision = transitions.cancelled(begun(), at(1), actor="me", note="enough")
    assert (decision.cancel_open, decision.drop_buffered) == (True, True)
    assert (decision.after.status, decision.after.ended_ms, decision.after.next_ms) == (
        DefinitionStatus.CANCELLED, at(1), None
    )  # fmt: skip


def test_a_manual_run_wakes_a_completed_definition_and_leaves_its_schedule_alone() -> None:
    one = begun()
    triggered = transitions.triggered(one, at(0.2), actor="me", key="k")
    assert (triggered.after.next_slot_ms, triggered.after.fired, triggered.after.triggered) == (at(1), 0, 1)
    again = transitions.triggered(one, at(0.3), actor="me", key="k")
    assert again.firings[0].task_id == triggered.firings[0].task_id
    completed = replace(one, status=DefinitionStatus.COMPLETED, next_ms=None, next_slot_ms=None, ended_ms=at(1))
    woken = transitions.triggered(completed, at(2), actor="me", key="k").after
    assert (woken.status, woken.ended_ms) == (DefinitionStatus.ACTIVE, None)


@pytest.mark.parametrize(
    ("one_by_one", "unended", "states"),
    [
        (False, Open(1), ["planned"] * 3),
        (True, Open(), ["planned", "buffered", "buffered"]),
        (True, Open(1), ["buffered"] * 3),
    ],
)
def test_a_range_that_has_been_is_filled_at_once_or_one_after_the_other(
    one_by_one: bool, unended: Open, states: list[str]
) -> None:
    slots = [at(-3), at(-2), at(-1)]
    decision = transitions.backfilled(begun(), unended, slots, at(0), actor="me", key="r", one_by_one=one_by_one)
    assert [firing.state.value for firing in decision.firings] == states
    assert [firing.slot_ms for firing in decision.firings] == slots
    assert (decision.after.backfilled, decision.after.fired) == (3, 0)
    nothing = transitions.backfilled(begun(), unended, [], at(0), actor="me", key="r", one_by_one=one_by_one)
    assert (nothing.firings, nothing.change) == ((), None)


def edit(one: Definition, minutes: float, **spec: Any) -> Definition:
    new = replace(one, spec=replace(one.spec, **spec))
    return transitions.edited(one, new, NOTHING, at(minutes), actor="me", changed={}).after


def test_an_edit_begins_at_the_next_slot_of_the_new_rule_and_keeps_a_pause() -> None:
    one = begun()
    hourly = edit(one, 0.5, trigger_args={"interval": 3600})
    assert (hourly.next_slot_ms, hourly.next_ms, hourly.rev) == (at(60), at(60), 2)
    paused = transitions.paused(one, at(0.5), actor="me", note=None)
    assert paused is not None
    kept = edit(paused.after, 5, trigger_args={"interval": 3600})
    assert (kept.status, kept.next_ms) == (DefinitionStatus.PAUSED, None)
    assert edit(one, 0.5, end_ms=at(0.1)).status is DefinitionStatus.COMPLETED


MOVES: dict[str, Any] = {
    "pause": lambda one: transitions.paused(one, at(1), actor="me", note=None),
    "resume": lambda one: transitions.resumed(one, NOTHING, at(1), actor="me", note=None),
    "cancel": lambda one: transitions.cancelled(one, at(1), actor="me", note=None),
    "trigger": lambda one: transitions.triggered(one, at(1), actor="me", key="k"),
    "back-fill": lambda one: transitions.backfilled(
        one, NOTHING, [at(-1)], at(1), actor="me", key="k", one_by_one=False
    ),
    "edit": lambda one: transitions.edited(one, one, NOTHING, at(1), actor="me", changed={}),
}


@pytest.mark.parametrize("move", list(MOVES))
def test_a_cancelled_definition_is_moved_by_nothing(move: str) -> None:
    cancelled = replace(begun(), status=DefinitionStatus.CANCELLED)
    with pytest.raises(IllegalDefinitionMoveError):
        MOVES[move](cancelled)


@pytest.mark.parametrize(
    ("move", "allowed"),
    [("pause", False), ("resume", False), ("cancel", False), ("trigger", True), ("back-fill", True), ("edit", True)],
)
def test_what_may_be_done_with_a_completed_definition(move: str, allowed: bool) -> None:
    completed = replace(begun(), status=DefinitionStatus.COMPLETED, next_ms=None, next_slot_ms=None)
    if allowed:
        assert MOVES[move](completed).after.status is DefinitionStatus.ACTIVE
    else:
        with pytest.raises(IllegalDefinitionMoveError):
            MOVES[move](completed)


def test_an_entry_of_celerys_own_schedule_is_cancelled_by_its_import_alone() -> None:
    entry = definition(source="celery")
    with pytest.raises(IllegalDefinitionMoveError, match="beat_schedule"):
        transitions.cancelled(entry, at(1), actor="me", note=None)
    with pytest.raises(IllegalDefinitionMoveError, match="beat_schedule"):
        transitions.refuse_read_only(entry, "edit")
    inside = transitions.cancelled(entry, at(1), actor="import", note=None, inside=True)
    assert inside.after.status is DefinitionStatus.CANCELLED
    transitions.refuse_read_only(definition(), "edit")


# --- whatever happens


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.integers(1, 7)),
        st.tuples(st.just("end"), st.sampled_from(["COMPLETED", "FAILED", "CANCELLED", "MISSED"])),
        st.tuples(st.sampled_from(["pause", "resume", "trigger", "backfill", "cancel"]), st.none()),
    ),
    max_size=25,
)


class World:
    """A definition with its instances: what a database and a store would hold, in a few lists."""

    def __init__(self, one: Definition, instances: tuple[Firing, ...]) -> None:
        self.definition = one
        self.minutes = 0
        self.names = count()
        self.running: list[Firing] = []
        self.buffered: list[Firing] = []
        self.ended = Counter[str]()
        self.dropped = 0
        self.slots: list[int] = []
        self.ids: set[str] = set()
        self._take(instances)

    @property
    def now_ms(self) -> int:
        return at(self.minutes)

    @property
    def unended(self) -> Open:
        backfills = sum(firing.trigger == "backfill" for firing in self.buffered)
        return Open(len(self.running), len(self.buffered), backfills)

    def apply(self, decision: Decision | None) -> None:
        """Write down what was decided, as the transaction does."""
        if decision is None:
            return
        # Those that are to stop end when they have, by a later step.
        self.definition = decision.after
        if decision.drop_buffered:
            self.dropped += len(self.buffered)
            self.buffered = []
        self._take(decision.firings)

    def _take(self, firings: tuple[Firing, ...]) -> None:
        for firing in firings:
            assert firing.task_id not in self.ids, "a slot fires once"
            self.ids.add(firing.task_id)
            if firing.trigger == "schedule":
                self.slots.append(firing.slot_ms)
            (self.buffered if firing.state is FiringState.BUFFERED else self.running).append(firing)

    def step(self, what: str, value: Any) -> None:
        if what == "time":
            self.minutes += value
            while self.definition.next_ms is not None and self.definition.next_ms <= self.now_ms:
                self.apply(transitions.fire(self.definition, self.unended, self.now_ms, most=MOST, max_buffered=3))
        elif what == "end":
            if self.running:
                firing = self.running.pop(0)
                if not self.running and self.buffered:
                    self.running.append(self.buffered.pop(0))
                self.ended[value] += 1
                ended = [(firing, InstanceEnd(value, self.now_ms))]
                self.apply(transitions.settled(self.definition, ended, self.unended, self.now_ms))
        else:
            self._move(what)

    def _move(self, what: str) -> None:
        one, now, key = self.definition, self.now_ms, str(next(self.names))
        try:
            if what == "pause":
                self.apply(transitions.paused(one, now, actor="me", note=None))
            elif what == "resume":
                self.apply(transitions.resumed(one, self.unended, now, actor="me", note=None))
            elif what == "trigger":
                self.apply(transitions.triggered(one, now, actor="me", key=key))
            elif what == "backfill":
                slots = [at(-2), at(-1)]
                self.apply(transitions.backfilled(one, self.unended, slots, now, actor="me", key=key, one_by_one=True))
            else:
                self.apply(transitions.cancelled(one, now, actor="me", note=None))
        except IllegalDefinitionMoveError:
            assert one.status in (DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    trigger=st.sampled_from([TaskTriggerType.LOOP, TaskTriggerType.LOOP, TaskTriggerType.IMMEDIATE]),
    overlap=st.sampled_from(list(Overlap)),
    misfire=st.sampled_from(list(Misfire)),
    max_runs=st.none() | st.integers(1, 4),
    pause_on_failure=st.none() | st.integers(1, 3),
    steps=STEPS,
)
def test_counters_states_and_next_slots_agree_whatever_happens(
    trigger: TaskTriggerType,
    overlap: Overlap,
    misfire: Misfire,
    max_runs: int | None,
    pause_on_failure: int | None,
    steps: list[tuple[str, Any]],
) -> None:
    made = definition(trigger, overlap=overlap, misfire=misfire, max_runs=max_runs, pause_on_failure=pause_on_failure)
    first = transitions.begun(made, BEGIN_MS, paused=False, change=CHANGE)
    world = World(first.after, first.firings)
    for what, value in steps:
        world.step(what, value)
        one = world.definition
        # What waits for a slot is active, and has one that is to come.
        assert (one.next_ms is None) == (one.next_slot_ms is None)
        if one.next_ms is not None:
            assert one.status is DefinitionStatus.ACTIVE
            assert one.next_ms > world.now_ms - MINUTE_MS * 8
        # Each state has what it needs, and no more.
        if one.status in (DefinitionStatus.COMPLETED, DefinitionStatus.CANCELLED):
            assert one.ended_ms is not None
        if one.status is DefinitionStatus.COMPLETED:
            assert not world.unended.any
        if one.status is DefinitionStatus.ACTIVE:
            assert one.ended_ms is None
            assert one.next_ms is not None or world.unended.any, "an active definition has something to do"
        # Counters are what happened.
        assert (one.succeeded, one.failed, one.cancelled) == (
            world.ended["COMPLETED"], world.ended["FAILED"], world.ended["CANCELLED"]
        )  # fmt: skip
        assert min(one.fired, one.skipped, one.missed, one.buffered, one.failures_in_row) >= 0
        assert world.slots == sorted(set(world.slots)), "slots fire in their order, each once"
        if max_runs is not None:
            assert one.fired <= max(max_runs, trigger is TaskTriggerType.IMMEDIATE)
        if overlap in (Overlap.SKIP, Overlap.QUEUE_ONE, Overlap.QUEUE_ALL):
            assert sum(firing.trigger == "schedule" for firing in world.running) <= 1
