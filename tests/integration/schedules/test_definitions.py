"""Definitions under a clock of the test's own, on SQLite and PostgreSQL: firing, policies, moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac import json_text
from celeriac.errors import (
    ChangedDefinitionError,
    DefinitionNotFoundError,
    IllegalDefinitionMoveError,
    InvalidSubmissionError,
)
from celeriac.limits.rules import By, LimitRule
from celeriac.model import utc_from_ms
from celeriac.schedules.instances import page_of_instances
from celeriac.schedules.running_scheduler import scheduler_on
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import TaskFilter
from tests.kit.definitions import BEGIN_MS
from tests.kit.history import record_all, recording
from tests.kit.schedules import SchedulesKit, at, task_control

MINUTES = [60 * n for n in range(1, 61)]


# --- firing


async def test_an_interval_fires_each_slot_once_and_does_not_drift(kit: SchedulesKit) -> None:
    definition_id = await kit.create()
    await kit.run_for(294, step_s=7)
    assert await kit.slots(definition_id) == [60, 120, 180, 240]
    (first, *_) = await kit.instances(definition_id)
    record = await kit.store.get(first.task_id)
    assert (record.type, record.user_id, record.trigger) == ("http_test.echo", "7", "schedule")
    assert record.metadata["schedule"]["task_def_id"] == definition_id
    assert (await kit.schedules.get(definition_id)).definition.next_ms == BEGIN_MS + 300_000


async def test_a_moment_fires_once_and_then_the_definition_is_complete(kit: SchedulesKit) -> None:
    definition_id = await kit.create(trigger_type="SCHEDULED", trigger_args={"run_at": at(90)})
    await kit.run_for(89)
    assert await kit.slots(definition_id) == []
    await kit.run_for(2)
    assert await kit.slots(definition_id) == [90]
    assert await kit.status(definition_id) == "ACTIVE"
    (task,) = await kit.instances(definition_id)
    claim = await kit.claim(task)
    assert await kit.status(definition_id) == "RUNNING"
    await kit.store.complete(claim, '"done"')
    assert await kit.status(definition_id) == "COMPLETED"
    await kit.run_for(1000, step_s=100)
    assert await kit.slots(definition_id) == [90]


async def test_at_once_means_before_the_answer(kit: SchedulesKit) -> None:
    definition_id = await kit.create(
        trigger_type="IMMEDIATE", trigger_args=None, task=None, content="hello", group="readers"
    )
    (task,) = await kit.instances(definition_id)
    data = task.payload["data"]
    assert (task.type, task.group) == ("remote", "readers")
    assert (data["content"], data["user_id"], data["task_def_id"]) == ("hello", 7, definition_id)


async def test_the_same_creation_sent_many_times_at_once_makes_one_definition(kit: SchedulesKit) -> None:
    document = {"user_id": 7, "task": {"type": "http_test.echo", "payload": {}}, "trigger_type": "IMMEDIATE"}
    made = await asyncio.gather(*(kit.schedules.create(document, actor="tester", key="k") for _ in range(20)))
    assert sum(created for _, created in made) == 1
    (definition_id,) = {seen.definition.definition_id for seen, _ in made}
    assert len(await kit.instances(definition_id)) == 1


async def test_what_dies_between_planning_and_submitting_is_submitted_by_another(
    kit: SchedulesKit, settings: Settings
) -> None:
    definition_id = await kit.create(max_runs=2)
    kit.clock.pass_s(120)

    async def dies(*_: Any) -> int:
        raise asyncio.CancelledError

    first = kit.scheduler
    first._submitter.submit = dies  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await first.step()
    assert await kit.slots(definition_id) == []
    assert len(await kit.rows("SELECT 1 FROM celeriac_firings WHERE state = 'planned'")) == 2
    kit.clock.pass_s(settings.schedule.takeover)
    async with scheduler_on(kit.store, settings, clock=kit.clock) as second:
        await second.step()
    assert await kit.slots(definition_id) == [60, 120]


async def test_what_dies_after_submitting_runs_once(kit: SchedulesKit, settings: Settings) -> None:
    definition_id = await kit.create(max_runs=1)
    kit.clock.pass_s(60)

    async def dies(*_: Any) -> None:
        raise asyncio.CancelledError

    kit.scheduler._firings.submitted = dies  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await kit.scheduler.step()
    (task,) = await kit.store.read(("KEYS", "task:*"))
    assert len(task) == 1
    task_id = task[0].removeprefix("task:")
    await kit.end(await kit.store.get(task_id))
    kit.clock.pass_s(60)
    async with scheduler_on(kit.store, settings, clock=kit.clock) as second:
        await second.step()
    assert (await kit.store.read(("KEYS", "task:*")))[0] == task
    assert (await kit.store.get(task_id)).status == "completed"
    assert await kit.status(definition_id) == "COMPLETED"


async def test_many_beats_fire_each_slot_once(kit: SchedulesKit, settings: Settings) -> None:
    ids = [await kit.create(trigger_args={"interval": 1}) for _ in range(20)]
    async with (
        scheduler_on(kit.store, settings, clock=kit.clock) as second,
        scheduler_on(kit.store, settings, clock=kit.clock) as third,
    ):
        for _ in range(5):
            kit.clock.pass_s(1)
            for _ in range(3):
                await asyncio.gather(*(beat.step() for beat in (kit.scheduler, second, third)))
    for definition_id in ids:
        assert await kit.slots(definition_id) == [1, 2, 3, 4, 5]
        assert await kit.counters(definition_id) == {"fired": 5}


# --- misfires: an hour without a beat


@pytest.mark.parametrize(
    ("fields", "slots", "missed"),
    [
        ({"misfire": "skip"}, [], 60),
        ({"misfire": "fire_once"}, [3600], 59),
        ({"misfire": "fire_all"}, MINUTES, 0),
        ({"misfire": "fire_all", "catchup_window": 299}, MINUTES[-5:], 55),
    ],
)
async def test_an_hour_without_a_beat(kit: SchedulesKit, fields: dict[str, Any], slots: list[int], missed: int) -> None:
    definition_id = await kit.create(**fields)
    kit.clock.pass_s(3600)
    await kit.fire()
    assert await kit.slots(definition_id) == slots
    kit.clock.pass_s(60)
    await kit.fire()
    assert await kit.slots(definition_id) == [*slots, 3660]
    expected = {"fired": len(slots) + 1, "missed": missed}
    assert await kit.counters(definition_id) == {name: n for name, n in expected.items() if n}


async def test_a_moment_that_passed_without_a_beat_runs_late_or_never(kit: SchedulesKit) -> None:
    late = await kit.create(trigger_type="SCHEDULED", trigger_args={"run_at": at(60)})
    never = await kit.create(trigger_type="SCHEDULED", trigger_args={"run_at": at(60)}, misfire="skip")
    kit.clock.pass_s(3600)
    await kit.fire()
    assert await kit.slots(late) == [60]
    assert await kit.slots(never) == []
    assert await kit.status(never) == "COMPLETED"


# --- overlap


async def test_overlap_skip_leaves_slots_out_while_one_runs(kit: SchedulesKit) -> None:
    definition_id = await kit.create(overlap="skip")
    await kit.run_for(180, step_s=60)
    assert await kit.slots(definition_id) == [60]
    await kit.end((await kit.instances(definition_id))[0])
    await kit.run_for(60, step_s=60)
    assert await kit.slots(definition_id) == [60, 240]
    assert await kit.counters(definition_id) == {"fired": 2, "skipped": 2, "succeeded": 1}


@pytest.mark.parametrize(
    ("overlap", "slots", "skipped"), [("queue_one", [60, 120], 2), ("queue_all", [60, 120, 180, 240], 0)]
)
async def test_overlap_queue_runs_one_after_the_other(
    kit: SchedulesKit, overlap: str, slots: list[int], skipped: int
) -> None:
    definition_id = await kit.create(overlap=overlap, end_at=at(240))
    await kit.run_for(240, step_s=60)
    for number in range(len(slots)):
        assert await kit.slots(definition_id) == slots[: number + 1]
        await kit.end((await kit.instances(definition_id))[-1])
        await kit.run_for(1)
    counters = await kit.counters(definition_id)
    assert counters["fired"] == counters["succeeded"] == len(slots)
    assert counters.get("skipped", 0) == skipped
    assert await kit.status(definition_id) == "COMPLETED"


async def test_overlap_cancel_previous_waits_until_it_has_stopped(kit: SchedulesKit) -> None:
    definition_id = await kit.create(overlap="cancel_previous")
    await kit.run_for(60, step_s=60)
    (first,) = await kit.instances(definition_id)
    claim = await kit.claim(first)
    await kit.run_for(120, step_s=60)
    assert await kit.slots(definition_id) == [60], "it has been asked to stop and has not"
    assert (await kit.store.get(first.task_id)).cancel_requested
    await kit.store.settle_cancelled(claim)
    await kit.run_for(1)
    assert await kit.slots(definition_id) == [60, 180], "the last one takes its place"
    # The slot that waited and never ran counts as skipped alone.
    assert await kit.counters(definition_id) == {"fired": 2, "skipped": 1, "buffered": 2, "cancelled": 1}


async def test_overlap_allow_runs_beside(kit: SchedulesKit) -> None:
    definition_id = await kit.create()
    await kit.run_for(180, step_s=60)
    assert await kit.slots(definition_id) == [60, 120, 180]


# --- bounds


async def test_start_end_and_number_of_runs_bound_it(kit: SchedulesKit) -> None:
    definition_id = await kit.create(start_at=at(600), end_at=at(720))
    limited = await kit.create(max_runs=2)
    await kit.run_for(1200, step_s=60)
    assert await kit.slots(definition_id) == [600, 660, 720]
    assert await kit.slots(limited) == [60, 120]
    for task in await kit.instances(limited):
        await kit.end(task)
    assert await kit.status(limited) == "COMPLETED"


async def test_jitter_moves_the_firing_and_not_the_slot(kit: SchedulesKit) -> None:
    definition_id = await kit.create(jitter=30)
    due_ms = (await kit.schedules.get(definition_id)).definition.next_ms
    assert due_ms is not None
    assert 60_000 <= due_ms - BEGIN_MS <= 90_000
    kit.clock.ms = due_ms - 1
    await kit.fire()
    assert await kit.slots(definition_id) == []
    kit.clock.ms = due_ms
    await kit.fire()
    assert await kit.slots(definition_id) == [60]


async def test_failures_in_a_row_pause_it(kit: SchedulesKit) -> None:
    definition_id = await kit.create(pause_on_failure=2)
    for failing in (True, False, True, True):
        await kit.run_for(60, step_s=60)
        await kit.end((await kit.instances(definition_id))[-1], failing=failing)
    await kit.run_for(300, step_s=60)
    assert await kit.slots(definition_id) == [60, 120, 180, 240]
    seen = await kit.schedules.get(definition_id)
    assert seen.status == "PAUSED"
    assert seen.definition.note == "2 instances in a row failed; the last one: boom"
    await kit.schedules.resume(definition_id, actor="tester")
    await kit.run_for(60, step_s=60)
    assert len(await kit.slots(definition_id)) == 5


async def test_a_full_queue_is_waited_for_and_then_counts_as_missed(store: TaskStore, settings: Settings) -> None:
    tight = settings.model_copy(update={"max_queue_length": 1})
    async with TaskStore(str(settings.redis_url), tight.store) as tight_store, task_control(tight_store, tight) as kit:
        definition_id = await kit.create(trigger_args={"interval": 50}, max_runs=2)
        await kit.run_for(104, step_s=1)
        assert await kit.slots(definition_id) == [50]
        await kit.run_for(100, step_s=1)
        assert await kit.counters(definition_id) == {"fired": 1, "missed": 1}


async def test_a_full_key_is_waited_for_as_a_full_queue_is(kit: SchedulesKit, store: TaskStore) -> None:
    await store.set_rule(LimitRule("one", type="http_test.echo", by=By.KEY, max_waiting=1))
    task = {"type": "http_test.echo", "payload": {}, "key": "c7"}
    definition_id = await kit.create(trigger_args={"interval": 50}, task=task, max_runs=2)
    await kit.run_for(104, step_s=1)
    assert await kit.slots(definition_id) == [50], "the second one waits for room"
    (first,) = await kit.instances(definition_id)
    assert first.key == "c7"
    await kit.end(first)
    await kit.run_for(2, step_s=1)
    assert await kit.slots(definition_id) == [50, 100]
    await store.remove_rule("one")


# --- moves


async def test_pause_resume_trigger_and_cancel(kit: SchedulesKit) -> None:
    definition_id = await kit.create()
    await kit.schedules.pause(definition_id, actor="ann", note="holidays")
    assert (await kit.schedules.pause(definition_id, actor="ann")).definition.note == "holidays", "no change, no error"
    await kit.run_for(150, step_s=10)
    assert await kit.slots(definition_id) == []
    firing = await kit.schedules.trigger(definition_id, actor="ann")
    assert firing.trigger == "manual"
    assert [task.task_id for task in await kit.instances(definition_id)] == [firing.task_id]
    await kit.schedules.resume(definition_id, actor="ann")
    await kit.schedules.resume(definition_id, actor="ann")
    await kit.run_for(60, step_s=10)
    assert await kit.slots(definition_id) == [150, 180], "the phase is that of the beginning"
    running = await kit.claim((await kit.instances(definition_id))[1])
    assert await kit.status(definition_id) == "RUNNING"
    await kit.schedules.cancel(definition_id, actor="ann")
    assert (await kit.store.get(firing.task_id)).status == "cancelled"
    assert (await kit.store.get(running.task_id)).cancel_requested
    await kit.run_for(120, step_s=60)
    assert len(await kit.instances(definition_id)) == 2
    for move in (kit.schedules.pause, kit.schedules.resume, kit.schedules.cancel, kit.schedules.trigger):
        with pytest.raises(IllegalDefinitionMoveError, match="is cancelled: cannot"):
            await move(definition_id, actor="ann")  # type: ignore[operator]
    trail, _ = await kit.schedules.definitions.changes(definition_id, limit=50)
    assert [change.action for change in reversed(trail)] == ["create", "pause", "trigger", "resume", "cancel"]


async def test_a_completed_one_may_only_be_triggered(kit: SchedulesKit) -> None:
    definition_id = await kit.create(trigger_type="IMMEDIATE", trigger_args={})
    await kit.end((await kit.instances(definition_id))[0])
    for move in (kit.schedules.pause, kit.schedules.resume, kit.schedules.cancel):
        with pytest.raises(IllegalDefinitionMoveError, match="is completed: cannot"):
            await move(definition_id, actor="ann")  # type: ignore[operator]
    await kit.schedules.trigger(definition_id, actor="ann", key="k")
    await kit.schedules.trigger(definition_id, actor="ann", key="k")
    assert len(await kit.instances(definition_id)) == 2
    await kit.end((await kit.instances(definition_id))[1])
    assert await kit.status(definition_id) == "COMPLETED"
    for unknown in ("no-such-id", "", "\x00"):
        with pytest.raises(DefinitionNotFoundError):
            await kit.schedules.get(unknown)


async def test_a_range_of_the_past_is_filled_back(kit: SchedulesKit) -> None:
    definition_id = await kit.create(paused=True)
    kit.clock.pass_s(3600)
    begin = utc_from_ms(BEGIN_MS)
    arguments = (definition_id, begin + timedelta(seconds=120), begin + timedelta(seconds=240))
    firings = await kit.schedules.backfill(*arguments, actor="ann", key="once")
    assert [firing.trigger for firing in firings] == ["backfill"] * 3
    await kit.schedules.backfill(*arguments, actor="ann", key="once")
    assert await kit.slots(definition_id) == [120, 180, 240]
    with pytest.raises(InvalidSubmissionError, match="no past slot"):
        await kit.schedules.backfill(
            definition_id, begin + timedelta(seconds=1), begin + timedelta(seconds=59), actor="ann"
        )
    earlier = await kit.create(paused=True)
    await kit.schedules.backfill(earlier, begin, begin + timedelta(seconds=60), actor="ann")
    assert await kit.slots(earlier) == [0, 60], "also before it was made, in its phase"
    other = await kit.create(paused=True)
    kit.clock.pass_s(600)
    await kit.schedules.backfill(
        other, begin + timedelta(seconds=3660), begin + timedelta(seconds=9999), actor="ann", one_by_one=True
    )
    assert len(await kit.instances(other)) == 1
    await kit.end((await kit.instances(other))[0])
    await kit.schedules.resume(other, actor="ann")
    await kit.run_for(1)
    assert await kit.slots(other) == [3660, 3720]


async def test_an_edit_keeps_what_it_does_not_name(kit: SchedulesKit) -> None:
    definition_id = await kit.create(name="report", jitter=0, metadata={"team": "blue"})
    await kit.run_for(70, step_s=10)
    edited = await kit.schedules.edit(definition_id, {"name": "better", "overlap": "skip"}, actor="ann")
    spec = edited.definition.spec
    assert (edited.definition.name, spec.overlap, spec.metadata) == ("better", "skip", {"team": "blue"})
    await kit.run_for(60, step_s=10)
    assert await kit.slots(definition_id) == [60], "the phase is kept; the first one has not ended"
    await kit.schedules.edit(definition_id, {"trigger_args": {"interval": 10}, "overlap": "allow"}, actor="ann")
    await kit.run_for(20, step_s=5)
    assert await kit.slots(definition_id) == [60, 140, 150]
    with pytest.raises(ChangedDefinitionError):
        await kit.schedules.edit(definition_id, {"name": "old"}, actor="ann", rev=1)
    for document, field in (({"user_id": 8}, "user_id"), ({"trigger_args": {"interval": -1}}, "trigger_args.interval")):
        with pytest.raises(InvalidSubmissionError) as refused:
            await kit.schedules.edit(definition_id, document, actor="ann")
        assert refused.value.violations[0].field == field
    trail, _ = await kit.schedules.definitions.changes(definition_id, limit=2)
    assert trail[1].changed == {"name": ["report", "better"], "overlap": ["allow", "skip"]}


async def test_what_ended_is_deleted_after_its_time(kit: SchedulesKit, settings: Settings) -> None:
    definition_id = await kit.create(trigger_type="IMMEDIATE", trigger_args={})
    await kit.end((await kit.instances(definition_id))[0])
    assert await kit.status(definition_id) == "COMPLETED"
    kit.clock.pass_s(settings.schedule.retention + 60)
    await kit.fire()
    with pytest.raises(DefinitionNotFoundError):
        await kit.schedules.get(definition_id)
    assert await kit.rows("SELECT 1 FROM celeriac_firings") == []
    assert await kit.rows("SELECT 1 FROM celeriac_definition_changes") == []


async def test_a_moment_that_passes_while_it_is_paused_is_a_misfire(kit: SchedulesKit) -> None:
    ids = [
        await kit.create(trigger_type="SCHEDULED", trigger_args={"run_at": at(60)}, misfire=misfire)
        for misfire in ("fire_once", "skip")
    ]
    for definition_id in ids:
        await kit.schedules.pause(definition_id, actor="ann")
    kit.clock.pass_s(600)
    await kit.fire()
    for definition_id, slots in zip(ids, ([60], []), strict=True):
        assert await kit.slots(definition_id) == []
        await kit.schedules.resume(definition_id, actor="ann")
        await kit.fire()
        assert await kit.slots(definition_id) == slots
    assert await kit.status(ids[1]) == "COMPLETED"


# --- the cost of timetables

#: From April on odd and even seconds are left out, so the next slot after March is one of 29 million.
COSTLY_FROM_APRIL = {
    "cron": "* * * * * *",
    "exclude": [{"cron": f"{seconds} * * * 4-12,1-2 *"} for seconds in ("*/2", "1/2")],
}


async def test_a_definition_that_becomes_too_costly_is_paused_and_delays_no_other(kit: SchedulesKit) -> None:
    costly = await kit.create(trigger_args=COSTLY_FROM_APRIL, misfire="skip")
    other = await kit.create(trigger_args={"interval": 1}, misfire="skip")
    kit.clock.ms = round(datetime(2030, 4, 1, tzinfo=UTC).timestamp() * 1000) - 3000
    await kit.run_for(5)
    definition = (await kit.schedules.get(costly)).definition
    assert (definition.status, definition.next_ms) == ("PAUSED", None)
    assert "Use fewer rules and exclusions" in str(definition.note)
    assert definition.missed > 1000
    end_s = round(kit.clock.ms / 1000 - BEGIN_MS / 1000)
    assert await kit.slots(other) == list(range(end_s - 3, end_s + 1))
    assert await kit.slots(costly) == [end_s - 3], "its last slot fired"
    changes, _ = await kit.schedules.definitions.changes(costly, limit=10)
    assert [(change.action, change.actor) for change in changes] == [("pause", "celeriac"), ("create", "tester")]

    with pytest.raises(InvalidSubmissionError, match="trigger_args: takes too long"):
        await kit.schedules.resume(costly, actor="tester")
    assert (await kit.schedules.preview(costly, 10))[1] == []
    with pytest.raises(InvalidSubmissionError, match="trigger_args: takes too long"):
        await kit.schedules.edit(costly, {"trigger_args": COSTLY_FROM_APRIL}, actor="tester")
    start = utc_from_ms(kit.clock.ms)
    kit.clock.pass_s(86_400 * 30)
    with pytest.raises(InvalidSubmissionError, match="trigger_args: takes too long"):
        await kit.schedules.backfill(costly, start, start + timedelta(days=29), actor="tester")
    # An edit keeps the exclusions unless it names them.
    await kit.schedules.edit(costly, {"trigger_args": {"interval": 60, "exclude": None}}, actor="tester")
    await kit.schedules.resume(costly, actor="tester")
    assert await kit.status(costly) == "ACTIVE"


async def test_a_trigger_that_is_too_costly_is_refused_at_every_door(kit: SchedulesKit) -> None:
    args = {"cron": "* * * * * *", "exclude": [{"cron": "*/2 * * * * *"}, {"cron": "1/2 * * * * *"}]}
    known = await kit.create()
    attempts: list[Any] = [
        kit.create(trigger_args=args),
        kit.schedules.edit(known, {"trigger_args": args}, actor="tester"),
        kit.schedules.preview_of({"trigger_type": "LOOP", "trigger_args": args}, 10),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidSubmissionError, match="trigger_args: takes too long to compute"):
            await attempt
    assert (await kit.schedules.get(known)).definition.rev == 1
    assert await kit.rows("SELECT count(*) FROM celeriac_definitions") == [(1,)]


# --- lists


async def test_a_page_of_long_items_has_fewer_of_them_and_goes_on(kit: SchedulesKit) -> None:
    kit.schedules.definitions = DefinitionTable(kit.history.engine, page_bytes=250_000)
    made = [await kit.create(trigger_type="IMMEDIATE", trigger_args=None, content="x" * 100_000, task=None)]
    made += [
        await kit.create(trigger_args={"interval": 60 + n}, content="x" * (260_000 if n == 3 else 100_000))
        for n in range(6)
    ]
    pages, cursor = [], None
    while True:
        found, cursor = await kit.schedules.find(limit=100, cursor=cursor)
        pages.append([seen.definition.definition_id for seen in found])
        if cursor is None:
            break
    assert sorted(one for page in pages for one in page) == sorted(made), "each is on exactly one page"
    assert max(len(page) for page in pages) == 2
    assert len((await kit.schedules.find(limit=1))[0]) == 1

    for length in range(4):
        await kit.schedules.edit(made[1], {"content": "y" * (100_000 + length)}, actor="tester")
    actions, cursor, rounds = [], None, 0
    while rounds == 0 or cursor is not None:
        changes, cursor = await kit.schedules.definitions.changes(made[1], limit=100, cursor=cursor)
        actions += [change.action for change in changes]
        rounds += 1
    assert actions == ["edit"] * 4 + ["create"]
    assert rounds > 2


async def test_a_page_of_instances_with_long_results_has_fewer_of_them_and_goes_on(
    kit: SchedulesKit, settings: Settings
) -> None:
    definition_id = await kit.create()
    await kit.run_for(360, step_s=60)
    for task in await kit.instances(definition_id):
        await kit.store.complete(await kit.claim(task), json_text.write("z" * 50_000))
    async with recording(kit.store, str(settings.database_url), settings) as (recorder, history):
        await record_all(recorder, kit.store)
        history.page_bytes = 120_000
        tasks, cursor, rounds = [], None, 0
        while rounds == 0 or cursor is not None:
            page, cursor = await page_of_instances(
                kit.store, history, kit.schedules.definitions, definition_id, limit=100, cursor=cursor
            )
            tasks += [task.task_id for task in page]
            rounds += 1
        assert len(tasks) == len(set(tasks)) == 6
        assert rounds >= 3
        listed, cursor, rounds = [], None, 0
        while rounds == 0 or cursor is not None:
            kept = await history.find(TaskFilter(type="http_test.echo"), limit=100, cursor=cursor)
            listed += [one.task.task_id for one in kept.tasks]
            cursor, rounds = kept.next_cursor, rounds + 1
        assert sorted(listed) == sorted(tasks)
        assert rounds == 3
