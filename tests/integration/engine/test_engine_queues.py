"""Which worker takes what, and when: groups, priorities, expiry, messages that come twice."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from pathlib import Path

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import Load, eventually
from tests.kit.workers.celery_processes import BOTH, operated, publish
from tests.kit.workers.engine_workers import Workers, ended, ran, runs, statuses, submit


async def test_a_worker_of_some_groups_serves_only_those(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, "--groups", "a,b")
    mine = [await submit(store, "noop", group=group) for group in ("a", "b", "a")]
    other = await submit(store, "noop", group="c")
    for task_id in mine:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    assert (await store.get(other)).status is Status.PENDING
    assert {stats.name: stats.workers for stats in await store.groups()} == {"a": 1, "b": 1, "c": 0}


async def test_a_worker_says_at_its_start_which_groups_it_serves(workers: Workers, store: TaskStore) -> None:
    # Otherwise it would say so when it renews its leases next, which is later than the test waits for a start.
    await workers.start(store, "--groups", "a,b", lease=300)
    assert [set(worker.groups) for worker in await store.workers()] == [{"a", "b"}]


async def test_a_worker_of_all_groups_follows_new_ones(workers: Workers, store: TaskStore) -> None:
    # It looks once an hour: what it hears of earlier was told to it.
    await workers.start(store, "--groups", "*", worker__follow_interval=3600)
    assert (await ended(store, await submit(store, "noop", group="appeared"))).status is Status.COMPLETED
    await eventually(lambda: has_worker(store, "appeared"), because="the worker says that it serves it")


async def has_worker(store: TaskStore, group: str) -> bool:
    return (await store.group(group)).workers == 1


async def test_a_worker_of_all_groups_still_follows_after_it_lost_its_connections(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store)
    await ended(store, await submit(store, "noop", group="before"))
    await store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await ended(store, await submit(store, "noop", group="before"))
    await ended(store, await submit(store, "noop", group="after"))


async def test_the_higher_priority_is_served_first(workers: Workers, store: TaskStore) -> None:
    ids = {priority: await submit(store, "add_sync", {"numbers": [1]}, priority=priority) for priority in (0, 3, 9, 6)}
    await workers.start(store, "--concurrency", "1")
    at = {priority: (await ended(store, task_id)).started_at for priority, task_id in ids.items()}
    assert sorted(at, key=lambda priority: str(at[priority])) == [9, 6, 3, 0]


async def test_what_expired_before_its_start_never_runs(workers: Workers, store: TaskStore) -> None:
    task_id = await submit(store, "add", {"numbers": [1]}, expires_in_ms=100)
    in_time = await submit(store, "add", {"numbers": [1]}, expires_in_ms=60_000)
    await asyncio.sleep(0.2)
    await workers.start(store)
    task = await ended(store, task_id)
    assert task.status is Status.FAILED
    assert task.error is not None
    assert task.error.code == "expired"
    assert await ran(store, task_id) == []
    assert (await ended(store, in_time)).status is Status.COMPLETED


async def test_a_message_that_comes_fifty_times_runs_once(workers: Workers, store: TaskStore) -> None:
    ids = [await submit(store, task_type, {"numbers": [1], "pause_s": 0.2}) for task_type in ("add", "add_sync")]
    for message in await store.redis.lrange("default\x06\x169", 0, -1):
        for _ in range(50):
            await store.redis.lpush("default\x06\x169", message)
    await workers.start(store)
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    await eventually(lambda: is_empty(store), because="all messages are consumed")
    await asyncio.sleep(0.5)
    for task_id in ids:
        assert await ran(store, task_id) == ["attempt 1"]
        assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "COMPLETED"]


async def is_empty(store: TaskStore) -> bool:
    return not await store.redis.llen("default\x06\x169")


async def at_most_one_waits(store: TaskStore) -> bool:
    return bool(await store.redis.llen("default\x06\x169") <= 1)


async def test_functions_that_find_no_thread_are_for_any_worker(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    async def are_running(count: int) -> bool:
        return (await store.group("default")).running == count

    first = await workers.start(store, worker__threads=2, lease=15)
    ids = [await submit(store, "add_sync", {"numbers": [1], "gate": str(gate)}) for _ in range(4)]
    await eventually(lambda: are_running(2), because="both threads are in use")
    await eventually(
        lambda: at_most_one_waits(store), because="the worker has received a task for which it has no thread"
    )
    assert [(await store.get(task_id)).status for task_id in ids[2:]] == [Status.PENDING] * 2, "not claimed in vain"
    second = await workers.start(store, worker__threads=2, lease=15)
    await eventually(lambda: are_running(4), because="the second worker runs what found no thread")
    gate.touch()
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    for task_id, worker in zip(ids, [first, first, second, second], strict=True):
        assert str(worker.process.pid) in ((await store.get(task_id)).worker or "")


async def test_a_worker_of_one_slot_takes_the_next_task_at_once(workers: Workers, store: TaskStore) -> None:
    publications = ["[add.apply_async((1,), {'pause_s': 0.1}, task_id=f'n{n}') for n in range(20)][-1]"]
    await publish(workers, *publications)
    await workers.start(store, "--concurrency", "1", **BOTH)
    tasks = [await ended(store, f"n{n}") for n in range(20)]
    times = sorted((task.started_at, task.finished_at) for task in tasks if task.started_at and task.finished_at)
    idle_s = [(after[0] - before[1]).total_seconds() for before, after in itertools.pairwise(times)]
    # An idle slot would wait for a timer of Celery's loop, which takes longer than the task, each time.
    load = Load()
    load.look()
    assert statistics.median(idle_s) < load.allowance_s(0.1)


async def test_a_worker_that_grows_runs_more_functions_at_once(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, "--concurrency", "1", **BOTH)
    await publish(workers, "[add.apply_async((1,), {'pause_s': 30}, task_id=f'n{n}') for n in range(3)][-1]")
    await runs(store, "n0")
    (me,) = [known.worker_id for known in await store.workers()]
    assert "pool will grow" in await operated(workers, me, "control", "pool_grow", "2")
    for n in range(3):
        await runs(store, f"n{n}")
