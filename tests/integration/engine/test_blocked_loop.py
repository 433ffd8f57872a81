"""A coroutine that blocks the event loop of its worker harms nobody but itself."""

from __future__ import annotations

import asyncio
import signal

import pytest

from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import TYPES, WorkerProcess, Workers, ended, ran, runs, submit

#: Short, so that a block is longer than a lease; and longer than a moment for which the machine stalls. It is renewed
#: three times per lease.
LEASE_S = 8
#: Longer than a lease, and than the time limit of the neighbours.
BLOCK_S = 12
LIMIT_MS = 9000


async def started(workers: Workers, store: TaskStore, **settings: object) -> WorkerProcess:
    """Start a worker that warns early."""
    return await workers.start(
        store,
        lease=LEASE_S,
        imports=[TYPES, "tests.kit.workers.blocking_types"],
        **{"blocked_loop__warning": 1, **settings},
    )


async def reaping(store: TaskStore, until: asyncio.Task[object]) -> None:
    """Take expired leases back, as another worker does meanwhile."""
    while not until.done():
        await store.reap()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("busy", [False, True], ids=["asleep", "busy"])
async def test_the_neighbours_of_a_coroutine_that_blocks_the_loop_keep_their_claims_and_their_time(
    workers: Workers, store: TaskStore, *, busy: bool
) -> None:
    worker = await started(workers, store)
    neighbours = [
        await submit(store, "waits", {"s": 1.5}, max_retries=0, timeout_ms=LIMIT_MS),
        await submit(store, "waits", {"s": 1.5}, max_retries=0),
        await submit(store, "waits_sync", {"s": 1.5}, max_retries=0, timeout_ms=LIMIT_MS),
    ]
    for task_id in neighbours:
        await runs(store, task_id)
    culprit = await submit(store, "blocks_loop", {"s": BLOCK_S, "busy": busy}, max_retries=0)
    await runs(store, culprit)
    watching = asyncio.ensure_future(ended(store, culprit))
    await reaping(store, watching)
    # It had no limit, so it may end as it wants to.
    assert (await watching).status is Status.COMPLETED
    for task_id in neighbours:
        task = await ended(store, task_id)
        assert (task.status, task.attempt, task.error) == (Status.COMPLETED, 1, None)

    said = worker.said()
    assert said.count(f"task {culprit} (blocks_loop)") == 1
    assert "blocking_types.py" in said
    assert "in blocks_loop" in said
    assert "the event loop runs again after" in said
    (line,) = [line for line in await store.log_lines(culprit) if "blocked the event loop" in line.message]
    assert (line.level, line.attempt) == ("warning", 1)
    assert "in blocks_loop" in line.data["stack"]
    for task_id in neighbours:
        assert not await store.log_lines(task_id)


async def test_a_coroutine_that_blocks_the_loop_past_its_time_limit_has_timed_out_whatever_it_does(
    workers: Workers, store: TaskStore
) -> None:
    worker = await started(workers, store)
    short = await submit(store, "blocks_loop", {"s": 3}, max_retries=0, timeout_ms=1000)
    task = await ended(store, short)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "timeout")
    neighbour = await submit(store, "waits", {"s": 0.5}, max_retries=0, timeout_ms=2000)
    long = await submit(store, "blocks_loop", {"s": 60}, max_retries=0, timeout_ms=1000)
    # The loop is blocked all the time, and yet the record says what has happened.
    task = await ended(store, long, timeout_s=30)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "timeout")
    assert await ran(store, long) == ["start 1"]
    assert "past its time limit" in worker.said()
    assert (await store.get(neighbour)).attempt <= 1


async def test_a_worker_with_a_blocked_loop_takes_no_new_tasks(workers: Workers, store: TaskStore) -> None:
    worker = await started(workers, store, hint_grace=60)
    await submit(store, "blocks_loop", {"s": 30}, max_retries=0)
    await eventually(lambda: "the event loop has been blocked" in worker.said(), because="it is noticed")
    # One call may have been waiting for a message already.
    waiting = [await submit(store, "waits", {"s": 0.1}, max_retries=0) for _ in range(5)]
    await asyncio.sleep(1)
    left = 0
    for key in await store.redis.keys("default*"):
        left += await store.redis.llen(key)
    assert left >= 4
    # They are there for others.
    await started(workers, store)
    for task_id in waiting[1:]:
        assert (await ended(store, task_id, timeout_s=15)).status is Status.COMPLETED


async def test_a_worker_whose_loop_is_blocked_for_ever_counts_as_dead_after_a_while(
    workers: Workers, store: TaskStore
) -> None:
    worker = await started(workers, store, blocked_loop__limit=4)
    neighbour = await submit(store, "sleeps_again", {"s": 300, "again_s": 0.1}, max_retries=3)
    await runs(store, neighbour)
    culprit = await submit(store, "blocks_loop", {"s": 120}, max_retries=0)
    await runs(store, culprit)
    await eventually(lambda: "counts as dead" in worker.said(), because="it says so")
    await started(workers, store)
    task = await ended(store, culprit, timeout_s=LEASE_S + 20)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "worker_lost")
    task = await ended(store, neighbour, timeout_s=20)
    assert (task.status, task.attempt) == (Status.COMPLETED, 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_worker_loses_its_leases_however_they_are_renewed(
    workers: Workers, store: TaskStore, number: signal.Signals
) -> None:
    worker = await started(workers, store)
    task_id = await submit(store, "sleeps", {"s": 60}, max_retries=0)
    await runs(store, task_id)
    worker.send(number)
    before = await store.redis.zscore(keys.LEASES, task_id)

    async def lost() -> bool:
        await store.reap()
        return (await store.get(task_id)).status.final

    await eventually(lost, because="its lease runs out", timeout_s=LEASE_S * 3)
    assert before is not None
    task = await store.get(task_id)
    assert task.error is not None
    assert task.error.code == "worker_lost"


async def test_a_worker_with_a_blocked_loop_ends_in_time_and_gives_everything_back(
    workers: Workers, store: TaskStore
) -> None:
    worker = await started(workers, store, worker__shutdown_grace=1)
    neighbour = await submit(store, "waits", {"s": 60}, max_retries=0)
    culprit = await submit(store, "blocks_loop", {"s": 120}, max_retries=0)
    for task_id in (neighbour, culprit):
        await runs(store, task_id)
    worker.send(signal.SIGTERM)
    await worker.gone(within_s=20)
    for task_id in (neighbour, culprit):
        task = await store.get(task_id)
        assert (task.status, task.attempt) == (Status.PENDING, 0), "the attempt does not count"
