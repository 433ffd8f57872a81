"""Edits and pauses of definitions on the real tables: no slot is forgotten, and what an edit does not name stays."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from celeriac.errors import CeleriacError, IllegalDefinitionMoveError, InvalidSubmissionError
from celeriac.schedules.definition import Definition, DefinitionStatus
from tests.kit.definitions import BEGIN_MS
from tests.kit.schedules import SchedulesKit, at
from tests.kit.slot_ledger import SlotLedger


async def definition(kit: SchedulesKit, definition_id: str) -> Definition:
    return await kit.schedules.definitions.get(definition_id)


# --- a slot that has passed and is not fired yet

UNRELATED: list[dict[str, Any]] = [
    {"max_runs": 1000}, {"note": "x"}, {"name": "x"}, {"metadata": {"a": 1}}, {"overlap": "skip"}, {"misfire": "skip"},
    {"misfire_grace": 5}, {"catchup_window": 5}, {"pause_on_failure": 2}, {"task": {"priority": 9}},
    {"trigger_type": "LOOP"}, {"trigger_args": {"cron": "*/30 * * * * *"}}, {"trigger_args": {}},
]  # fmt: skip


async def test_an_edit_of_something_else_leaves_a_slot_alone_that_waits_for_its_jitter(kit: SchedulesKit) -> None:
    definition_id = await kit.create(trigger_args={"cron": "*/30 * * * * *"}, jitter=25)
    before = await definition(kit, definition_id)
    assert before.next_slot_ms is not None
    assert before.next_ms is not None
    kit.clock.ms = (before.next_slot_ms + before.next_ms) // 2
    for document in UNRELATED:
        await kit.schedules.edit(definition_id, document, actor="ann")
        after = await definition(kit, definition_id)
        assert (after.next_slot_ms, after.next_ms) == (before.next_slot_ms, before.next_ms), document
    kit.clock.ms = before.next_ms
    await kit.fire()
    assert await kit.counters(definition_id) == {"fired": 1}


@pytest.mark.parametrize(
    "document",
    [
        {"trigger_args": {"cron": "0 0 * * *"}},
        {"trigger_args": {"timezone": "Asia/Kathmandu"}},
        {"trigger_args": {"exclude": [{"from": at(-100), "to": at(100)}]}},
        {"start_at": at(5000)},
        {"end_at": at(200)},
        {"trigger_type": "SCHEDULED", "trigger_args": {"run_at": at(900)}},
        {"trigger_type": "IMMEDIATE"},
        {"jitter": 0},
    ],
)
@pytest.mark.parametrize("misfire", ["fire_once", "fire_all", "skip"])
async def test_slots_that_passed_before_an_edit_fire_or_are_missed(
    kit: SchedulesKit, document: dict[str, Any], misfire: str
) -> None:
    definition_id = await kit.create(trigger_args={"cron": "* * * * *"}, misfire=misfire, misfire_grace=1)
    kit.clock.pass_s(150)
    await kit.schedules.edit(definition_id, document, actor="ann")
    await kit.fire()
    fired = [60, 120] if misfire == "fire_all" else [120] if misfire == "fire_once" else []
    assert await kit.slots(definition_id) == fired
    assert (await definition(kit, definition_id)).missed == 2 - len(fired)


async def test_a_slot_that_waits_for_its_jitter_survives_a_pause(kit: SchedulesKit) -> None:
    definition_id = await kit.create(jitter=3000)
    before = await definition(kit, definition_id)
    kit.clock.pass_s(70)
    await kit.schedules.pause(definition_id, actor="ann")
    assert (await definition(kit, definition_id)).next_ms is None
    kit.clock.pass_s(0.5)
    await kit.schedules.resume(definition_id, actor="ann")
    after = await definition(kit, definition_id)
    assert (after.next_slot_ms, after.next_ms) == (before.next_slot_ms, before.next_ms)
    _, slots = await kit.schedules.preview(definition_id, 2)
    assert [(slot - BEGIN_MS) // 1000 for slot in slots] == [60, 120]


# --- whatever happens, on the real tables


class Someone:
    """Edits, pauses and forgets about a definition at random, and keeps the ledger."""

    def __init__(self, kit: SchedulesKit, definition_id: str, random: Random, ledger: SlotLedger) -> None:
        self.kit = kit
        self.id = definition_id
        self.random = random
        self.ledger = ledger
        self.log: list[Any] = []

    async def step(self) -> None:
        pause_s = self.random.choice([0, 0.001, 20, 60, 70, 600, 1800])
        before_ms = self.kit.clock.ms
        self.kit.clock.pass_s(pause_s)
        self.ledger.time_passed(before_ms, self.kit.clock.ms)
        what = self.random.choice(["edit", "edit", "edit", "beat", "beat", "pause", "resume", "resume", "end", "run"])
        document = self.document() if what == "edit" else None
        self.log.append((pause_s, what, document))
        service = self.kit.schedules
        try:
            if what == "beat":
                await self.kit.fire()
                self.ledger.beat_was_here(await definition(self.kit, self.id))
                return
            if what == "edit":
                await service.edit(self.id, document, actor="ann")
            elif what == "pause":
                await service.pause(self.id, actor="ann")
            elif what == "resume":
                await service.resume(self.id, actor="ann")
            elif what == "run":
                await service.trigger(self.id, actor="ann")
            else:
                await self.end_one()
        except (IllegalDefinitionMoveError, InvalidSubmissionError) as exc:
            self.log.append(str(exc))
        after = await definition(self.kit, self.id)
        (self.ledger.changed if what in ("run", "end") else self.ledger.moved)(after)

    def document(self) -> dict[str, Any]:
        random, now_s = self.random, (self.kit.clock.ms - BEGIN_MS) / 1000
        minutes = random.randint(1, 9)
        return random.choice(
            [
                {"trigger_type": "LOOP", "trigger_args": {"interval": 60 * minutes}},
                {"trigger_type": "LOOP", "trigger_args": {"cron": f"*/{minutes} * * * *"}},
                {"trigger_args": {"timezone": random.choice(["Europe/Berlin", "Asia/Kathmandu"])}},
                {"trigger_args": {"exclude": [{"from": at(now_s + 60), "to": at(now_s + 60 * minutes + 61)}]}},
                {"trigger_type": "SCHEDULED", "trigger_args": {"run_at": at(now_s + 60 * minutes)}},
                {"jitter": random.choice([0, 30, 700])},
                {"max_runs": random.choice([None, minutes, 100])},
                {"misfire": random.choice(["skip", "fire_once", "fire_all"])},
                {"overlap": random.choice(["skip", "queue_one", "queue_all", "allow", "cancel_previous"])},
                {"start_at": random.choice([None, at(now_s - 90), at(now_s + 90)])},
                {"end_at": random.choice([None, at(now_s + 3600)])},
                {"name": f"n{minutes}"},
            ]
        )

    async def end_one(self) -> None:
        for task in await self.kit.instances(self.id):
            if task.status.wire == "pending":
                await self.kit.end(task, failing=self.random.random() < 0.3)
                break
        await self.kit.schedules.get(self.id)

    async def check(self) -> None:
        fired = await self.kit.rows(
            f"SELECT slot_ms FROM celeriac_firings WHERE definition_id = '{self.id}' AND \"trigger\" = 'schedule'"
        )
        try:
            self.ledger.check([row[0] for row in fired], self.kit.clock.ms)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\nafter {self.log}") from exc


@pytest.mark.parametrize("seed", range(6))
async def test_every_slot_is_fired_skipped_or_missed_once(kit: SchedulesKit, seed: int) -> None:
    random = Random(seed)
    people = []
    for _ in range(3):
        definition_id = await kit.create(
            trigger_args={"interval": 60 * random.randint(1, 9)},
            jitter=random.choice([0, 0, 400]),
            misfire=random.choice(["skip", "fire_once", "fire_all"]),
            overlap=random.choice(["allow", "skip", "queue_one", "cancel_previous"]),
            paused=random.random() < 0.3,
        )
        ledger = SlotLedger(await definition(kit, definition_id))
        people.append(Someone(kit, definition_id, random, ledger))
    one = people[seed % 3]
    for _ in range(25):
        await one.step()
        await one.check()
    before_ms, kit.clock.ms = kit.clock.ms, kit.clock.ms + 1_000_000
    one.ledger.time_passed(before_ms, kit.clock.ms)
    try:
        await kit.schedules.cancel(one.id, actor="ann")
    except IllegalDefinitionMoveError:
        assert (await definition(kit, one.id)).status is DefinitionStatus.COMPLETED
    one.ledger.moved(await definition(kit, one.id))
    await one.check()
    assert one.ledger.waiting(kit.clock.ms) == []


# --- what an edit does not name


async def test_an_edit_of_the_rule_keeps_the_time_zone_and_the_exclusions(kit: SchedulesKit) -> None:
    excluded = [{"date": "2030-12-25"}]
    definition_id = await kit.create(
        trigger_args={"cron": "0 3 * * *", "timezone": "Europe/Berlin", "exclude": excluded}
    )
    edited = await kit.schedules.edit(definition_id, {"trigger_args": {"cron": "0 4 * * *"}}, actor="ann")
    assert edited.definition.spec.trigger_args == {
        "cron": "0 4 * * *",
        "timezone": "Europe/Berlin",
        "exclude": excluded,
    }
    trail, _ = await kit.schedules.definitions.changes(definition_id, limit=1)
    assert list(trail[0].changed) == ["trigger_args"]
    edited = await kit.schedules.edit(definition_id, {"trigger_args": {"timezone": None}}, actor="ann")
    assert edited.definition.spec.trigger_args == {"cron": "0 4 * * *", "exclude": excluded}


async def test_an_edit_of_a_task_keeps_its_other_fields(kit: SchedulesKit) -> None:
    task = {"type": "http_test.echo", "payload": {"n": 1}, "queue": "media", "max_retries": 7}
    definition_id = await kit.create(task=task)
    edited = await kit.schedules.edit(definition_id, {"task": {"payload": {"n": 2}}}, actor="ann")
    assert edited.definition.spec.task == {**task, "payload": {"n": 2}}
    assert edited.definition.group == "media"


async def test_an_edit_that_is_refused_changes_nothing(kit: SchedulesKit) -> None:
    definition_id = await kit.create(jitter=30)
    before = await definition(kit, definition_id)
    for document in (
        {"trigger_args": {"run_at": at(99)}},
        {"trigger_args": {"offset": 60}},
        {"trigger_args": {"interval": None}},
        {"trigger_args": "soon"},
        {"trigger_type": "SCHEDULED"},
        {"end_at": at(-1)},
    ):
        with pytest.raises(CeleriacError):
            await kit.schedules.edit(definition_id, document, actor="ann")
    assert await definition(kit, definition_id) == before
