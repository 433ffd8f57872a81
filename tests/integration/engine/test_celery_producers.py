"""Publishers of plain Celery tasks, ours and strangers: each call gets a record, whatever dies or is full."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, PLAIN, output_of, publish, publish_as_stranger
from tests.kit.workers.engine_workers import (
    Workers,
    check_one_end,
    ended,
    has_record,
    ran,
    runs,
    statuses,
    submit,
)


async def test_a_published_task_has_a_record_and_a_message_before_any_worker_runs(
    workers: Workers, store: TaskStore
) -> None:
    (task_id,) = await publish(workers, "add.delay(1, b=2)")
    task = await store.get(task_id)
    assert (task.type, task.group, task.status) == (f"{PLAIN}.add", "default", Status.PENDING)
    assert task.payload == {"args": [1], "kwargs": {"b": 2}}
    assert await store.position(task) == 1
    (message,) = await store.redis.lrange("default\x06\x169", 0, -1)
    assert json.loads(message)["headers"]["id"] == task_id

    await workers.start(store, **BOTH)
    task = await ended(store, task_id)
    assert (task.status, task.result) == (Status.COMPLETED, 3)


async def test_the_options_of_apply_async_are_those_of_the_record(workers: Workers, store: TaskStore) -> None:
    before = datetime.now(UTC)
    later, wished, urgent, dying, elsewhere = await publish(
        workers,
        "add.apply_async((1,), countdown=1.5)",
        "add.apply_async((1,), task_id='my-own-id')",
        "add.apply_async((1,), priority=0)",
        "add.apply_async((1,), expires=1)",
        "add.apply_async((1,), queue='elsewhere')",
    )
    assert (await store.get(later)).status is Status.SCHEDULED
    assert wished == "my-own-id"
    assert (await store.get(urgent)).priority == 9
    assert (await store.get(dying)).expires_at is not None
    assert (await store.get(elsewhere)).group == "elsewhere"
    assert await store.position(await store.get(urgent)) == 1

    await asyncio.sleep(1)
    await workers.start(store, **BOTH)
    for task_id in (later, wished, urgent, elsewhere):
        assert (await ended(store, task_id)).status is Status.COMPLETED
    task = await ended(store, later)
    assert task.started_at is not None
    assert (task.started_at - before).total_seconds() >= 1.5
    task = await ended(store, dying)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "expired")
    assert await ran(store, dying) == []


async def test_a_second_call_with_one_id_runs_nothing_and_says_so(workers: Workers, store: TaskStore) -> None:
    program = f"""
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from {PLAIN} import add
add.apply_async((1,), task_id="the-report-of-monday")
add.apply_async((2,), task_id="the-report-of-monday")
"""
    said = await output_of([sys.executable, "-c", program], workers.environment(**BOTH))
    assert "add[the-report-of-monday] is not run again: its id has a record already (pending)" in said
    assert (await store.get("the-report-of-monday")).payload == {"args": [1], "kwargs": {}}


@pytest.mark.parametrize("first", ["add.s(1, 2)", "app.tasks['noop'].s(x=1)"], ids=["plain", "registered"])
async def test_a_chain_goes_on_when_the_worker_dies_between_two_links(
    workers: Workers, store: TaskStore, first: str
) -> None:
    last = "add.si(5, 5).set(task_id='last-link')"
    worker = await workers.start(store, **BOTH)
    (task_id,) = await publish(workers, f"({first} | {last}).apply_async().parent")
    await worker.gone(within_s=10)
    assert (await store.get(task_id)).status is Status.PROCESSING, "it has not ended while nothing follows it"
    await workers.start(store, **BOTH)
    assert (await ended(store, task_id)).attempt == 2
    await eventually(lambda: has_record(store, "last-link"), because="the chain goes on")
    assert (await ended(store, "last-link")).result == 10


async def test_many_registered_types_in_chains_do_not_wait_for_each_others_threads(
    workers: Workers, store: TaskStore
) -> None:
    chain = "(app.tasks['add_sync'].s(numbers=[1], pause_s=0.2) | app.tasks['noop'].s(y=2)).apply_async()"
    ids = await publish(workers, *[chain] * 12)
    await workers.start(store, **BOTH, worker__threads=2)
    for task_id in ids:
        await eventually(lambda task_id=task_id: has_record(store, task_id), because="the chain goes on")
        assert (await ended(store, task_id)).result == {"sum": 1, "y": 2}


async def test_what_a_killed_worker_ran_runs_again(workers: Workers, store: TaskStore, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (task_id,) = await publish(workers, f"add.delay(1, gate={str(gate)!r})")
    worker = await workers.start(store, **BOTH)
    await runs(store, task_id)
    worker.kill()
    gate.touch()
    await workers.start(store, **BOTH)
    task = await ended(store, task_id)
    assert (task.status, task.attempt) == (Status.COMPLETED, 2)
    assert await ran(store, task_id) == ["start 0", "start 1", "1 + 0"]


async def test_a_full_queue_refuses_a_plain_call(workers: Workers, store: TaskStore) -> None:
    program = f"""
from {PLAIN} import *
from celeriac.errors import QueueFullError
add.delay(1)
try:
    add.delay(2)
except QueueFullError as exc:
    print("refused:", exc)
"""
    environment = workers.environment(**BOTH, max_queue_length=1)
    assert "refused: group 'default'" in await output_of([sys.executable, "-c", program], environment)
    assert (await store.group("default")).waiting == 1


async def test_a_store_that_is_away_is_an_operational_error(workers: Workers) -> None:
    program = f"""
from {PLAIN} import *
from kombu.exceptions import OperationalError
try:
    add.apply_async((1,), retry=False)
except OperationalError as exc:
    print("away:", exc)
"""
    workers.redis_url = "redis://127.0.0.1:1/0"
    assert "away:" in await output_of([sys.executable, "-c", program], workers.environment(**BOTH))


# --- producers that do not know us


async def test_messages_of_a_stranger_are_adopted_once(workers: Workers, store: TaskStore) -> None:
    call = {"name": f"{PLAIN}.add", "args": [1], "kwargs": {"b": 2}, "task_id": "foreign"}
    registered = {"name": "noop", "kwargs": {"x": 1}, "task_id": "foreign-noop"}
    await publish_as_stranger(workers, call, broker=store_url(workers), queue="default")
    (message,) = await store.redis.lrange("default", 0, -1)
    await store.redis.lpush("default", *[message] * 4)
    await publish_as_stranger(workers, registered, broker=store_url(workers), queue="default")
    assert not await has_record(store, "foreign"), "nobody has seen it yet"
    await workers.start(store, **BOTH)
    await eventually(lambda: has_record(store, "foreign"), because="the message arrives")
    task = await ended(store, "foreign")
    assert (task.status, task.result, task.payload) == (
        Status.COMPLETED, 3, {"args": [1], "kwargs": {"b": 2}}
    )  # fmt: skip
    await store.redis.lpush("default", message)
    await eventually(lambda: has_record(store, "foreign-noop"), because="the message arrives")
    assert (await ended(store, "foreign-noop")).result == {"x": 1}
    await eventually(lambda: lists_are_empty(store), because="all messages are consumed")
    await asyncio.sleep(0.3)
    assert await ran(store, "foreign") == ["start 0", "1 + 2"]
    check_one_end(await statuses(store, "foreign"))


async def lists_are_empty(store: TaskStore) -> bool:
    return not any([await store.redis.llen(key) for key in ("default", "default\x06\x169")])


def store_url(workers: Workers) -> str:
    return workers.redis_url


async def test_a_message_that_no_record_can_be_made_of_is_dropped(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store, **BOTH)
    reserved = {"name": "noop", "task_id": "pending"}
    undated = {"name": "noop", "task_id": "undated", "eta": "the day after tomorrow"}
    good = {"name": "noop", "task_id": "good", "kwargs": {"x": 1}}
    await publish_as_stranger(workers, reserved, undated, good, broker=store_url(workers), queue="default")
    await eventually(lambda: has_record(store, "good"), because="the message behind them arrives")
    assert (await ended(store, "good")).result == {"x": 1}
    assert not await has_record(store, "undated")
    assert worker.alive
    await eventually(lambda: "the message cannot be recorded" in worker.said(), because="it says so")


async def test_the_eta_of_a_stranger_survives_the_worker_that_received_it(workers: Workers, store: TaskStore) -> None:
    call = {"name": f"{PLAIN}.add", "args": [1], "countdown": 3600, "task_id": "foreign-later"}
    worker = await workers.start(store, **BOTH)
    await publish_as_stranger(workers, call, broker=store_url(workers), queue="default")
    await eventually(lambda: has_record(store, "foreign-later"), because="the message arrives")
    assert (await store.get("foreign-later")).status is Status.SCHEDULED
    worker.kill()
    # Its time has come.
    assert await store.redis.zadd(keys.DELAYED, {"foreign-later": 1}, xx=True, ch=True) == 1
    await workers.start(store, **BOTH)
    task = await ended(store, "foreign-later")
    assert (task.status, task.result) == (Status.COMPLETED, 1)
    assert await ran(store, "foreign-later") == ["start 0", "1 + 0"]


async def test_a_full_queue_does_not_lose_what_a_stranger_published(workers: Workers, store: TaskStore) -> None:
    await submit(store, "sleeps", group="busy")
    call = {"name": "noop", "kwargs": {}, "task_id": "foreign-full"}
    await publish_as_stranger(workers, call, broker=store_url(workers), queue="busy")
    await workers.start(store, "--groups", "busy", "--concurrency", "1", **BOTH, max_queue_length=1)
    await submit(store, "noop", group="busy")
    worker = await workers.start(store, "--groups", "busy", **BOTH, max_queue_length=1)
    assert (await ended(store, "foreign-full", timeout_s=20)).status is Status.COMPLETED
    assert worker.alive
