"""Short records: a task that lives the usual life has no stream of its own, and nobody sees that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.model import Claim, Delivery, Failure, Progress, Submission
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.life import whole
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from tests.kit.life_cycle_state import assert_consistent, record_of, write_as_before

#: What a record has from the beginning that other programs read (docs/task-service.md).
READ_BY_OTHERS = {"task_id", "status", "original_file_path", "created_at", "updated_at"}


async def submitted(store: TaskStore, task_id: str = "t", **more: Any) -> None:
    await store.submit(Submission(task_id=task_id, type="demo", group="g", **more))


async def claimed(store: TaskStore, task_id: str = "t") -> Claim:
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


async def test_a_usual_life_has_no_stream_and_few_fields(store: TaskStore, look: Any) -> None:
    await submitted(store, user_id="7")
    assert set(look.hgetall("task:t")) == {
        *("type", "queue", "payload", "nonce", "status", "max_retries", "life", "user_id"),
    }
    claim = await claimed(store)
    await store.complete(claim, '{"done": true}')
    assert set(look.hgetall("task:t")) == {
        *("type", "queue", "payload", "nonce", "status", "max_retries", "life", "user_id", "owner", "fence", "result"),
    }
    assert not look.exists(keys.task_events("t"))
    assert [event.fields["status"] for event in await store.events("t")] == ["PENDING", "PROCESSING", "COMPLETED"]
    assert_consistent(look)


async def test_what_other_programs_read_has_all_of_its_fields_at_any_time(valkey_url: str, look: Any) -> None:
    external = Settings(groups={"g": GroupSettings(processor="external")})
    async with TaskStore(valkey_url, external.store) as store:
        await submitted(store, "external", delivery=Delivery.EXTERNAL, original_file_path="/a.mp4")
        await submitted(store, "ours", original_file_path="/a.mp4")
        for task_id in ("external", "ours"):
            record = look.hgetall(f"task:{task_id}")
            assert record.keys() >= READ_BY_OTHERS
            assert record == whole(task_id, record)
            assert look.exists(keys.task_events(task_id))
        await store.complete(await claimed(store, "ours"), "1", result_file_path="/b.mp4")
        record = look.hgetall("task:ours")
        assert READ_BY_OTHERS | {"result_file_path", "finished_at"} <= record.keys()
        assert record == whole("ours", record)


#: What may happen to a task, in order, until it has ended.
MOVES = (
    *("claim", "report", "complete", "fail", "fail for good", "cancel", "cancel at once", "retry", "release"),
    "write out",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(MOVES), max_size=8))
async def test_every_reader_sees_the_same_events_with_the_same_ids_whatever_happens(
    store: TaskStore, look: Any, moves: list[str]
) -> None:
    look.flushdb()
    await submitted(store)
    claim: Claim | None = None
    reports = 0
    seen: list[Any] = []
    for move in moves:
        status = record_of(look, "t")["status"]
        if move == "write out":
            write_as_before(look, "t")
        elif move == "claim" and status == "PENDING":
            claim, reports = await claimed(store), 0
        elif move == "cancel" and status not in ("COMPLETED", "FAILED"):
            await store.cancel("t")
        elif move == "cancel at once" and status not in ("COMPLETED", "FAILED"):
            await store.cancel("t", running="at_once")
        elif move == "retry" and status in ("FAILED", "CANCELLED"):
            await store.retry("t")
        elif claim is not None and status == "PROCESSING":
            if move == "report":
                reports += 1
                await store.progress(claim, reports, Progress(reports))
            elif move == "complete":
                await store.complete(claim, "1")
            elif move == "fail":
                await store.fail(claim, Failure("broken", "boom", True), 3600)
            elif move == "fail for good":
                await store.fail(claim, Failure("broken", "", False), 0)
            elif move == "release":
                await store.release(claim)
        events = await store.events("t")
        assert events[: len(seen)] == seen, "what was told stays as it was told"
        seen = events
        assert await store.event_bounds("t") == (events[0].id, events[-1].id)
        for place, event in enumerate(events):
            assert await store.events("t", after=event.id) == events[place + 1 :]
        assert await store.events("t", count=1) == events[:1]
        recorded = await EventFeed(store, consumer="c").events_of(["t", "nobody"], 2)
        assert [entry.event for entry in recorded] == events[-2:]
        assert_consistent(look)


@pytest.mark.parametrize("life", ["", "yesterday", "1 2 3", "s5", "99999999999999999999"])
async def test_a_life_that_a_foreign_program_damaged_breaks_nothing(store: TaskStore, look: Any, life: str) -> None:
    await submitted(store)
    look.hset("task:t", "life", life)
    assert (await store.get("t")).task_id == "t"
    await store.events("t")
    await store.event_bounds("t")
    look.flushdb()
