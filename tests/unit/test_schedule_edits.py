"""No edit, pause or absence of beats forgets a slot: each fires, is skipped, or is missed, once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from celeriac.errors import IllegalDefinitionMoveError
from celeriac.schedules import transitions
from celeriac.schedules.awaiting import MOST_EARLIER
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
from tests.kit.slot_ledger import SlotLedger

LOOP, SCHEDULED, IMMEDIATE = TaskTriggerType.LOOP, TaskTriggerType.SCHEDULED, TaskTriggerType.IMMEDIATE


def text(minutes: float) -> str:
    return datetime.fromtimestamp(at(minutes) / 1000, UTC).isoformat()


def made(trigger: TaskTriggerType, args: dict[str, Any], *, paused: bool = False, **spec: Any) -> Decision:
    return transitions.begun(definition_of(trigger, args, **spec), BEGIN_MS, paused=paused, change=CHANGE)


def edit(
    one: Definition, minutes: float, trigger: TaskTriggerType | None = None, unended: Open = NOTHING, **spec: Any
) -> Definition:
    new = replace(one, trigger_type=trigger or one.trigger_type, spec=replace(one.spec, **spec))
    return transitions.edited(one, new, unended, at(minutes), actor="me", changed={}).after


def pause(one: Definition, minutes: float) -> Definition:
    decision = transitions.paused(one, at(minutes), actor="me", note=None)
    assert decision is not None
    return decision.after


def resume(one: Definition, minutes: float) -> Definition:
    decision = transitions.resumed(one, NOTHING, at(minutes), actor="me", note=None)
    assert decision is not None
    return decision.after


def fire(one: Definition, minutes: float) -> tuple[list[float], Definition]:
    decision = transitions.fire(one, NOTHING, at(minutes), most=100, max_buffered=10)
    return [(firing.slot_ms - BEGIN_MS) / MINUTE_MS for firing in decision.firings], decision.after


def waiting_minutes(one: Definition) -> tuple[float, float]:
    """Return the next slot, and when it is due."""
    assert one.next_slot_ms is not None
    assert one.next_ms is not None
    return (one.next_slot_ms - BEGIN_MS) / MINUTE_MS, (one.next_ms - BEGIN_MS) / MINUTE_MS


# --- what an edit leaves alone

#: Each field that an edit may change without a new timetable, and the value after it.
SAME_TIMETABLE: dict[str, Any] = {
    "max_runs": 1000, "misfire": Misfire.SKIP, "misfire_grace_ms": 1, "catchup_window_ms": 1, "overlap": Overlap.SKIP,
    "pause_on_failure": 3, "metadata": {"a": 1}, "content": "other", "run": {"type": "x"}, "task": {"type": "x"},
    "trigger_args": {"interval": 60.0, "timezone": "Asia/Kathmandu"},
}  # fmt: skip


@pytest.mark.parametrize("field", list(SAME_TIMETABLE))
def test_an_edit_without_a_new_timetable_leaves_the_next_slot_and_its_time_alone(field: str) -> None:
    one = made(LOOP, {"interval": 60}, jitter_ms=600_000).after
    for minute in (0.5, 1.0, 1.5, 30):
        after = edit(one, minute, **{field: SAME_TIMETABLE[field]})
        assert (after.next_slot_ms, after.next_ms) == (one.next_slot_ms, one.next_ms), f"{field} at {minute}"


def test_an_edit_of_the_jitter_moves_the_time_of_the_slot_that_waits() -> None:
    one = made(LOOP, {"interval": 60}, jitter_ms=3_000_000).after
    assert waiting_minutes(one)[1] > 1
    assert waiting_minutes(edit(one, 1.1, jitter_ms=0)) == (1, 1)


@pytest.mark.parametrize(
    ("trigger", "spec"),
    [
        (None, {"trigger_args": {"interval": 3600}}),
        (None, {"trigger_args": {"cron": "0 8 * * *", "timezone": "Europe/Berlin"}}),
        (None, {"trigger_args": {"interval": 60, "exclude": [{"from": text(0), "to": text(100)}]}}),
        (None, {"start_ms": at(90)}),
        (None, {"end_ms": at(0.5)}),
        (SCHEDULED, {"trigger_args": {"run_at": text(120)}}),
        (IMMEDIATE, {"trigger_args": {}}),
    ],
)
@pytest.mark.parametrize("misfire", list(Misfire))
@pytest.mark.parametrize("jitter_ms", [0, 300_000])
def test_slots_that_have_passed_fire_or_count_as_missed_after_any_edit(
    trigger: TaskTriggerType | None, spec: dict[str, Any], misfire: Misfire, jitter_ms: int
) -> None:
    one = made(LOOP, {"interval": 60}, misfire=misfire, misfire_grace_ms=0, jitter_ms=jitter_ms).after
    after = edit(one, 3.5, trigger, **spec)
    assert after.next_slot_ms == at(1)
    slots, late = fire(after, 20)
    assert slots == {Misfire.SKIP: [], Misfire.FIRE_ONCE: [3], Misfire.FIRE_ALL: [1, 2, 3]}[misfire]
    assert len(slots) + late.missed == 3
    assert late.spec.earlier == [], "nothing is left of the old timetable"


def test_an_edit_to_fewer_runs_than_there_were_counts_what_waits_as_missed() -> None:
    one = replace(made(LOOP, {"interval": 60}, jitter_ms=300_000).after, fired=5)
    after = edit(one, 2.5, max_runs=5)
    assert (after.status, after.missed, after.next_slot_ms) == (DefinitionStatus.COMPLETED, 2, None)
    more = edit(after, 10.5, max_runs=6)
    assert (more.status, waiting_minutes(more)[0]) == (DefinitionStatus.ACTIVE, 11)


def test_a_paused_definition_that_gets_more_runs_waits_for_the_moment_for_which_none_was_left() -> None:
    one = replace(made(IMMEDIATE, {}, max_runs=1).after, status=DefinitionStatus.ACTIVE)
    assert one.fired == 1
    moved = edit(pause(one, 1), 1, SCHEDULED, trigger_args={"run_at": text(5)})
    assert moved.next_slot_ms is None, "no run is left for it"
    more = edit(moved, 2, max_runs=None)
    assert (more.status, more.next_slot_ms) == (DefinitionStatus.PAUSED, at(5))
    assert resume(more, 3).next_ms == at(5)


# --- pauses


@pytest.mark.parametrize("trigger_args", [{"interval": 60}, {"cron": "* * * * *"}])
def test_a_slot_from_before_a_pause_fires_after_it_and_those_of_the_pause_do_not(trigger_args: dict[str, Any]) -> None:
    one = made(LOOP, trigger_args, jitter_ms=300_000, misfire=Misfire.FIRE_ALL).after
    paused = pause(one, 1.2)
    assert (paused.next_slot_ms, paused.next_ms) == (at(1), None)
    soon = resume(paused, 1.3)
    assert (soon.next_slot_ms, soon.next_ms) == (one.next_slot_ms, one.next_ms)
    late = edit(resume(paused, 4.5), 9.5, end_ms=at(9))
    slots, after = fire(late, 30)
    assert slots == [1, 5, 6, 7, 8, 9]
    assert (after.missed, after.status) == (0, DefinitionStatus.ACTIVE)


def test_a_second_pause_keeps_what_waits_since_before_the_first() -> None:
    one = made(LOOP, {"interval": 60}, jitter_ms=7_200_000, misfire=Misfire.FIRE_ALL).after
    for minute in (1.5, 4.5, 7.5):
        one = resume(pause(one, minute), minute + 1)
    one = edit(one, 9.5, end_ms=at(9))
    slots, after = fire(one, 1000)
    assert slots == [1, 3, 4, 6, 7, 9]
    assert (after.missed, after.spec.earlier) == (0, [])


def test_a_moment_that_waits_in_a_pause_is_replaced_by_an_edit_and_fires_after_the_pause() -> None:
    never_fired = made(LOOP, {"interval": 60}, paused=True).after
    for one in (never_fired, replace(never_fired, fired=3)):
        moved = edit(one, 5, SCHEDULED, trigger_args={"run_at": text(20)})
        assert (moved.status, moved.next_slot_ms) == (DefinitionStatus.PAUSED, at(20))
        assert fire(resume(moved, 30), 30)[0] == [20]
        # The end of an instance from before does not complete it.
        manual = transitions.triggered(moved, at(6), actor="me", key="k")
        ended = transitions.settled(
            manual.after, [(manual.firings[0], InstanceEnd("COMPLETED", at(7)))], NOTHING, at(7)
        ).after
        assert ended.status is DefinitionStatus.PAUSED
        assert waiting_minutes(resume(ended, 8))[0] == 20
    passed = edit(made(SCHEDULED, {"run_at": text(5)}, paused=True).after, 9, trigger_args={"run_at": text(12)})
    slots, after = fire(resume(passed, 10), 10.5)
    assert (slots, waiting_minutes(after)[0]) == ([5], 12)


def test_a_definition_that_was_paused_by_an_earlier_version_keeps_its_moment() -> None:
    one = made(SCHEDULED, {"run_at": text(5)}, paused=True).after
    old = replace(one, next_slot_ms=None)
    assert fire(resume(old, 10), 10.5)[0] == [5]
    assert transitions.cancelled(old, at(10), actor="me", note=None).after.missed == 1
    assert fire(resume(edit(old, 10, trigger_args={"run_at": text(30)}), 11), 40)[0] == [30]


def test_a_pause_by_failures_keeps_what_waits() -> None:
    one = made(LOOP, {"interval": 60}, pause_on_failure=1).after
    decision = transitions.fire(one, NOTHING, at(1), most=100, max_buffered=10)
    failed = [(decision.firings[0], InstanceEnd("FAILED", at(3)))]
    paused = transitions.settled(decision.after, failed, NOTHING, at(3.5)).after
    assert (paused.status, paused.next_slot_ms, paused.next_ms) == (DefinitionStatus.PAUSED, at(2), None)
    assert fire(resume(paused, 10.5), 10.5) == ([3], replace(fire(resume(paused, 10.5), 10.5)[1], missed=1))


@pytest.mark.parametrize("paused", [False, True])
def test_a_cancelled_definition_counts_what_waited_as_missed(paused: bool) -> None:
    one = made(LOOP, {"interval": 60}).after
    one = pause(one, 2.5) if paused else one
    after = transitions.cancelled(one, at(4.5), actor="me", note=None).after
    assert (after.missed, after.next_slot_ms) == (2 if paused else 4, None)


def test_what_many_edits_leave_behind_is_bounded_and_counted() -> None:
    one = made(LOOP, {"interval": 60}, jitter_ms=86_400_000, misfire=Misfire.FIRE_ALL).after
    edits = 3 * MOST_EARLIER
    for number in range(edits):
        one = edit(one, number + 1.5, trigger_args={"interval": 60, "offset": number % 2})
    assert len(one.spec.earlier) == MOST_EARLIER
    slots, after = fire(edit(one, edits + 0.6, end_ms=at(edits + 0.5)), 9000)
    assert len(slots) + after.missed == edits
    assert after.missed >= edits - MOST_EARLIER - 1


def test_a_dropped_run_of_cancel_previous_is_skipped_and_not_one_of_the_runs() -> None:
    one = made(LOOP, {"interval": 60}, overlap=Overlap.CANCEL_PREVIOUS, max_runs=3).after
    for minute, unended in ((1, NOTHING), (2, Open(1)), (3, Open(1, 1)), (4, Open(1, 3, 2))):
        one = transitions.fire(one, unended, at(minute), most=100, max_buffered=10).after
    assert (one.fired, one.skipped, one.next_slot_ms) == (2, 2, at(5))


# --- whatever happens

#: The longest jitter.
JITTER_MS = 2_000_000
MINUTES = st.integers(1, 12)
TRIGGERS = st.one_of(
    st.tuples(st.just(LOOP), st.fixed_dictionaries({"interval": MINUTES.map(lambda n: 60 * n)})),
    st.tuples(
        st.just(LOOP),
        st.fixed_dictionaries(
            {
                "cron": st.sampled_from(["* * * * *", "*/3 * * * *", "7,9,31 * * * *", "20 30 8 * * *"]),
                "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
            }
        ),
    ),
    st.tuples(
        st.just(LOOP),
        st.tuples(MINUTES, MINUTES, st.integers(0, 60), st.integers(1, 30)).map(
            lambda n: {
                "rules": [{"interval": 60 * n[0]}, {"interval": 60 * n[1], "offset": 7}],
                "exclude": [{"from": text(n[2]), "to": text(n[2] + n[3])}],
            }
        ),
    ),
    st.tuples(st.just(SCHEDULED), st.integers(1, 90).map(lambda n: {"minutes_from_now": n})),
    st.tuples(st.just(IMMEDIATE), st.just({})),
)
#: A value for one field of the spec; minutes are counted from the beginning.
OTHERS = st.one_of(
    st.fixed_dictionaries({"jitter_ms": st.sampled_from([0, 30_000, 400_000, JITTER_MS])}),
    st.fixed_dictionaries({"max_runs": st.none() | st.integers(1, 9)}),
    st.fixed_dictionaries({"misfire": st.sampled_from(list(Misfire))}),
    st.fixed_dictionaries({"misfire_grace_ms": st.sampled_from([0, 60_000, 900_000])}),
    st.fixed_dictionaries({"catchup_window_ms": st.sampled_from([60_000, 600_000, 86_400_000])}),
    st.fixed_dictionaries({"overlap": st.sampled_from(list(Overlap))}),
    st.fixed_dictionaries({"pause_on_failure": st.none() | st.just(1)}),
    st.fixed_dictionaries({"start_ms": st.none() | st.integers(-9, 90).map(at)}),
    st.fixed_dictionaries({"end_ms": st.none() | st.integers(0, 200).map(at)}),
    st.fixed_dictionaries({"content": st.text(max_size=3)}),
)
TRIGGER = TRIGGERS.map(lambda chosen: {"trigger_type": chosen[0], "trigger_args": chosen[1]})
#: How long after the step before, in milliseconds.
PAUSES = st.sampled_from([0, 1, 20_000, 60_000, 70_000, 120_000, 200_000, 600_000, 1_800_000])
ACTIONS = st.one_of(
    st.tuples(st.just("beat"), st.none()),
    st.tuples(st.just("edit"), TRIGGER),
    st.tuples(st.just("edit"), OTHERS),
    st.tuples(st.just("edit"), st.integers(1, 4).map(lambda n: {"more_runs": n - 2})),
    st.tuples(st.sampled_from(["pause", "resume", "resume"]), st.none()),
    st.tuples(st.just("end"), st.sampled_from(["COMPLETED", "FAILED", "CANCELLED", "MISSED"])),
    st.tuples(st.sampled_from(["trigger", "backfill", "beat"]), st.none()),
)
STEPS = st.lists(st.tuples(PAUSES, ACTIONS), min_size=4, max_size=25)


def _absolute(args: dict[str, Any], now_ms: int) -> dict[str, Any]:
    if "minutes_from_now" not in args:
        return args
    return {"run_at": text(args["minutes_from_now"] + (now_ms - BEGIN_MS) / MINUTE_MS)}


class World:
    """What a database, a store and a beat would hold, in a few lists."""

    def __init__(self, begun: Decision, most: int) -> None:
        self.definition = begun.after
        self.now_ms = BEGIN_MS
        self.most = most
        self.names = count()
        self.running: list[Firing] = []
        self.buffered: list[Firing] = []
        self.fired: list[int] = []
        self.ends = Counter[str]()
        self.ledger = SlotLedger(begun.after)
        self._take(begun.firings)

    @property
    def unended(self) -> Open:
        return Open(len(self.running), len(self.buffered), sum(f.trigger == "backfill" for f in self.buffered))

    def step(self, pause_ms: int, what: str, value: Any = None) -> None:
        """Let time pass without a beat; then do one thing."""
        self.ledger.time_passed(self.now_ms, self.now_ms + pause_ms)
        self.now_ms += pause_ms
        if what == "beat":
            self.fire()
        elif what == "end":
            self._end(value)
        else:
            try:
                self._move(what, value)
            except IllegalDefinitionMoveError:
                assert self.definition.status in (DefinitionStatus.CANCELLED, DefinitionStatus.COMPLETED)
        self.ledger.check(self.fired, self.now_ms)

    def finish(self) -> None:
        """Let the beat be there until nothing waits that has passed."""
        for _ in range(3):
            self.step(0, "resume")
            self.step(JITTER_MS, "beat")
        assert not [slot for slot in self.ledger.waiting(self.now_ms) if slot <= self.now_ms - JITTER_MS]

    def fire(self) -> None:
        while self.definition.next_ms is not None and self.definition.next_ms <= self.now_ms:
            self._apply(
                transitions.fire(self.definition, self.unended, self.now_ms, most=self.most, max_buffered=3),
                self.ledger.beat_was_here,
            )

    def _end(self, status: str) -> None:
        if not self.running:
            return
        firing = self.running.pop(0)
        if not self.running and self.buffered and self.definition.status is not DefinitionStatus.PAUSED:
            self.running.append(self.buffered.pop(0))
        if status == "MISSED" and firing.trigger != "schedule":
            status = "FAILED"
        if status == "MISSED":
            self.fired.remove(firing.slot_ms)
        ended = [(firing, InstanceEnd(status, self.now_ms))]
        self._apply(transitions.settled(self.definition, ended, self.unended, self.now_ms), self.ledger.changed)

    def _move(self, what: str, value: Any) -> None:
        one, now, key = self.definition, self.now_ms, str(next(self.names))
        moved, changed = self.ledger.moved, self.ledger.changed
        if what == "edit":
            kind = value.get("trigger_type", one.trigger_type)
            given = {name: v for name, v in value.items() if name != "trigger_type"}
            if "trigger_args" in given:
                given["trigger_args"] = _absolute(given["trigger_args"], now)
            if "more_runs" in given:
                given = {"max_runs": max(one.fired + given["more_runs"], 1)}
            spec = replace(one.spec, **given)
            new = replace(one, trigger_type=kind, spec=spec)
            same = kind is one.trigger_type and new.timetable().same_slots(one.timetable())
            if not same and kind is not IMMEDIATE and new.timetable().after(now) is None:
                return  # The service refuses it.
            self._apply(transitions.edited(one, new, self.unended, now, actor="me", changed={}), moved)
            if same and spec.jitter_ms == one.spec.jitter_ms:
                after = self.definition
                if one.next_slot_ms is not None and not (spec.max_runs is not None and one.fired >= spec.max_runs):
                    assert (after.next_slot_ms, after.next_ms) == (one.next_slot_ms, one.next_ms)
        elif what == "pause":
            self._apply(transitions.paused(one, now, actor="me", note=None), moved)
        elif what == "resume":
            self._apply(transitions.resumed(one, self.unended, now, actor="me", note=None), moved)
        elif what == "cancel":
            self._apply(transitions.cancelled(one, now, actor="me", note=None), moved)
        elif what == "trigger":
            self._apply(transitions.triggered(one, now, actor="me", key=key), changed)
        else:
            slots = [at(-2), at(-1)]
            self._apply(
                transitions.backfilled(one, self.unended, slots, now, actor="me", key=key, one_by_one=True), changed
            )

    def _apply(self, decision: Decision | None, noted: Any) -> None:
        if decision is None:
            return
        self.definition = decision.after
        if decision.drop_buffered:
            for firing in self.buffered:
                # The end of the definition cancels what waits; a later slot takes its place.
                if firing.trigger == "schedule" and decision.after.status is not DefinitionStatus.CANCELLED:
                    self.fired.remove(firing.slot_ms)
            self.buffered = []
        self._take(decision.firings)
        noted(decision.after)

    def _take(self, firings: tuple[Firing, ...]) -> None:
        for firing in firings:
            if firing.trigger == "schedule":
                self.fired.append(firing.slot_ms)
                if self.definition.trigger_type is IMMEDIATE and firing.slot_ms == self.now_ms:
                    self.ledger.fired_at_once(firing.slot_ms)
            (self.buffered if firing.state is FiringState.BUFFERED else self.running).append(firing)


@hypothesis_settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trigger=TRIGGERS,
    paused=st.booleans(),
    others=st.lists(OTHERS, max_size=4),
    most=st.sampled_from([1, 2, 100]),
    steps=STEPS,
    cancelled=st.booleans(),
)
def test_every_slot_is_fired_skipped_or_missed_once_whatever_happens(
    trigger: tuple[TaskTriggerType, dict[str, Any]],
    paused: bool,
    others: list[dict[str, Any]],
    most: int,
    steps: list[tuple[int, tuple[str, Any]]],
    cancelled: bool,
) -> None:
    spec = {name: value for one in others for name, value in one.items()}
    note(f"{trigger} paused={paused} {spec} most={most} {steps}")
    begun = made(trigger[0], _absolute(trigger[1], BEGIN_MS), paused=paused, **spec)
    # The service refuses one that never fires.
    assume(trigger[0] is IMMEDIATE or begun.after.timetable().after(BEGIN_MS) is not None)
    world = World(begun, most)
    for pause_ms, action in steps:
        world.step(pause_ms, *action)
        one = world.definition
        assert one.fired == len(world.fired)
        assert one.next_ms is None or one.status is DefinitionStatus.ACTIVE
        assert not one.spec.earlier or one.next_slot_ms is not None, "what is not waited for is not remembered"
        if one.status is DefinitionStatus.ACTIVE:
            assert one.next_ms is not None or world.unended.any, "an active definition has something to do"
    if cancelled:
        world.step(0, "cancel")
        assert world.ledger.waiting(world.now_ms) == []
    else:
        world.finish()
