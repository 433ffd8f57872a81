"""`@task(schedule=...)`: definitions follow the code of the workers that run, whichever start, die or change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from celeriac import cron, every
from celeriac.errors import IllegalDefinitionMoveError
from celeriac.model import Status
from celeriac.schedules.definition import Definition
from celeriac.schedules.following import CodeFollower
from celeriac.schedules.running_scheduler import following_code
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.key_source import PayloadFunction
from tests.kit.code_versions import version, worker_starts, workers_are_gone
from tests.kit.schedules import SchedulesKit


@pytest.fixture
async def followers(
    store: TaskStore, settings: Settings, kit: SchedulesKit
) -> AsyncIterator[tuple[CodeFollower, CodeFollower]]:
    """Yield those of two beats."""
    async with (
        following_code(store, settings, clock=kit.clock) as one,
        following_code(store, settings, clock=kit.clock) as other,
    ):
        yield one, other


async def look(followers: tuple[CodeFollower, ...]) -> None:
    """Let all beats compare at once, and once more, so that each has seen what the others did."""
    for _ in range(2):
        await asyncio.gather(*(follower.step() for follower in followers))


async def followed(kit: SchedulesKit) -> dict[str, Definition]:
    return {str(d.name): d for d in await kit.schedules.definitions.all_from("code")}


async def statuses(kit: SchedulesKit) -> dict[str, str]:
    return {name: d.status.value for name, d in (await followed(kit)).items()}


async def test_any_number_of_beats_make_one_definition_that_runs_on_workers_of_the_type(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    code = version(
        group="reports",
        key_from=PayloadFunction(lambda payload: payload.get("n")),
        tick=every("30s", payload={"n": 7}),
        report=[cron("0 8 * * 1-5", timezone="Europe/Berlin"), every("1h", name="hourly", overlap="skip")],
        unscheduled=None,
    )
    await worker_starts(store, "w1", code, "reports")
    await look(followers)
    found = await followed(kit)
    assert {name: d.spec.trigger_args for name, d in found.items()} == {
        "tick": {"interval": 30},
        "report": {"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin"},
        "report (hourly)": {"interval": 3600},
    }
    assert found["report (hourly)"].spec.overlap == "skip"
    tick = found["tick"]
    assert (tick.rev, tick.read_only, tick.group) == (1, True, "reports")
    assert len((await kit.schedules.definitions.changes(tick.definition_id, limit=10))[0]) == 1
    await kit.run_for(90, step_s=15)
    assert await kit.slots(tick.definition_id) == [30, 60, 90]
    first = (await kit.instances(tick.definition_id))[0]
    assert (first.type, first.group, first.payload, first.delivery) == ("tick", "reports", {"n": 7}, "")
    assert first.key == "7", "the worker has computed it, the beat cannot"
    # Nothing changes: neither by itself, nor when further workers of the same version start.
    await worker_starts(store, "w2", code, "reports")
    await look(followers)
    assert {d.rev for d in (await followed(kit)).values()} == {1}


@pytest.mark.parametrize(
    ("later", "slots"),
    [
        # The slot at 60 was due before the beats were back; the interval of 45 s counts from the change at 70.
        (every("45s"), [30, 60, 115, 160]),
        (cron("*/2 * * * *"), [30, 60, 120, 240]),
        (every("30s", payload={"n": 8}), [30, 60, 90, 120, 150, 180, 210, 240]),
    ],
)
async def test_a_changed_schedule_loses_and_doubles_no_slot(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...], later: object, slots: list[int]
) -> None:
    await worker_starts(store, "w1", version(tick=every("30s")))
    await look(followers)
    (tick,) = (await followed(kit)).values()
    await kit.run_for(45)
    kit.clock.pass_s(25)
    await worker_starts(store, "w1", version(tick=later))  # type: ignore[arg-type]
    await look(followers)
    await kit.run_for(170)
    found = await kit.slots(tick.definition_id)
    assert found[: len(slots)] == slots
    assert len(found) == len(set(found))


async def test_of_two_versions_the_worker_that_started_last_decides(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    old, new = version(tick=every("30s")), version(tick=every("10s"), more=every("1h"))

    async def interval() -> float:
        await look(followers)
        return float((await followed(kit))["tick"].spec.trigger_args["interval"])

    await worker_starts(store, "old", old)
    assert await interval() == 30
    await worker_starts(store, "new", new)
    assert await interval() == 10
    assert await statuses(kit) == {"tick": "ACTIVE", "more": "ACTIVE"}
    # A worker of the old version that is started anew decides as well, until it goes. It does not know `more`, which
    # a worker that lives still has.
    await worker_starts(store, "old", old)
    assert await interval() == 30
    assert await statuses(kit) == {"tick": "ACTIVE", "more": "ACTIVE"}
    await workers_are_gone(store, "old")
    assert await interval() == 10


async def test_a_pause_outlives_restarts_changes_and_removals(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    await worker_starts(store, "w1", version(tick=every("30s")))
    await look(followers)
    tick = (await followed(kit))["tick"].definition_id
    await kit.schedules.pause(tick, actor="ann", note="holidays")
    for code in (version(tick=every("10s")), version(tick=None), version(tick=every("20s"))):
        await workers_are_gone(store, "w1")
        await look(followers)
        await worker_starts(store, "w1", code)
        await look(followers)
        await kit.run_for(60, step_s=10)
    seen = (await kit.schedules.get(tick)).definition
    assert (seen.status.value, seen.note, seen.spec.trigger_args) == ("PAUSED", "holidays", {"interval": 20})
    assert await kit.slots(tick) == []
    await kit.schedules.resume(tick, actor="ann")
    await kit.run_for(60, step_s=10)
    assert len(await kit.slots(tick)) == 3


async def test_a_schedule_that_left_the_code_ends_and_its_instances_stay(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    await worker_starts(store, "w1", version(tick=[every("30s"), every("1h")]))
    await look(followers)
    tick = (await followed(kit))["tick"]
    await kit.run_for(30)
    await worker_starts(store, "w1", version(tick=None))
    await look(followers)
    assert await statuses(kit) == {"tick": "CANCELLED", "tick (2)": "CANCELLED"}
    await kit.run_for(60)
    (instance,) = await kit.instances(tick.definition_id)
    assert instance.status is Status.PENDING
    ended = (await followed(kit))["tick"]
    assert ended.note == "it is no longer in the code: tests.kit.code_versions.handler has no such schedule"
    # It is back: the same definition goes on, from now on.
    await worker_starts(store, "w1", version(tick=every("30s")))
    await look(followers)
    assert await statuses(kit) == {"tick": "ACTIVE", "tick (2)": "CANCELLED"}
    await kit.run_for(30)
    assert len(await kit.slots(tick.definition_id)) == 2


async def test_a_type_that_left_the_code_ends_only_while_other_workers_serve_its_group(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...], settings: Settings
) -> None:
    await worker_starts(store, "w1", version(tick=every("30s")))
    await look(followers)
    tick = (await followed(kit))["tick"].definition_id
    await kit.run_for(30)
    grace_s = settings.schedule.code_grace
    # All workers are down, and then one that serves another group runs: the code is not known to be gone.
    await workers_are_gone(store, "w1")
    for other in (None, "elsewhere"):
        if other is not None:
            await worker_starts(store, "w2", version(other=None), other)
        for _ in range(3):
            await look(followers)
            kit.clock.pass_s(grace_s)
        assert await statuses(kit) == {"tick": "ACTIVE"}
    await worker_starts(store, "w3", version(other=None))
    await look(followers)
    assert await statuses(kit) == {"tick": "CANCELLED"}
    await kit.fire()
    # Nobody could run the instance that still waited.
    (instance, *_) = await kit.instances(tick)
    assert instance.status is Status.CANCELLED


async def test_a_worker_that_is_away_for_less_than_the_grace_time_changes_nothing(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...], settings: Settings
) -> None:
    code = version(tick=every("30s"))
    await worker_starts(store, "w1", code)
    await worker_starts(store, "w2", version(other=None))
    await look(followers)
    for _ in range(5):
        await workers_are_gone(store, "w1")
        await look(followers)
        kit.clock.pass_s(settings.schedule.code_grace - 1)
        await look(followers)
        await worker_starts(store, "w1", code)
        await look(followers)
    ((_, tick),) = (await followed(kit)).items()
    assert (tick.status.value, tick.rev) == ("ACTIVE", 1)


async def test_it_is_changed_in_the_code_only(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    await worker_starts(store, "w1", version(tick=every("30s")))
    await look(followers)
    tick = (await followed(kit))["tick"].definition_id
    where = r"it follows the code: change `schedule=` of tests\.kit\.code_versions\.handler"
    with pytest.raises(IllegalDefinitionMoveError, match=where):
        await kit.schedules.cancel(tick, actor="ann")
    with pytest.raises(IllegalDefinitionMoveError, match=where):
        await kit.schedules.edit(tick, {"name": "other"}, actor="ann")
    firing = await kit.schedules.trigger(tick, actor="ann")
    assert (await store.get(firing.task_id)).type == "tick"


async def test_a_schedule_that_this_installation_does_not_allow_is_logged_once(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...], caplog: pytest.LogCaptureFixture
) -> None:
    await worker_starts(store, "w1", version(often=every(0.01), tick=every(30)))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await followers[0].step()
    assert await statuses(kit) == {"tick": "ACTIVE"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the schedule of often in tests.kit.code_versions.handler will not fire: ")
    assert "is shorter than this installation allows" in line


async def test_what_another_version_of_celeriac_noted_disturbs_nothing(
    kit: SchedulesKit, store: TaskStore, followers: tuple[CodeFollower, ...]
) -> None:
    await worker_starts(store, "w1", version(tick=every(30)))
    await look(followers)
    for text in ("[]", "{", '{"types": 1, "scheduled": 2}'):
        await store.read(("SET", "celeriac:code:strange", text))
        facts = {"kind": "celery", "groups": "default", "code": "strange", "code_ms": "99999999999999"}
        await store.renew("w2", [], facts)
        await look(followers)
        assert await statuses(kit) == {"tick": "ACTIVE"}
