"""A worker that an operator drains takes no more tasks, finishes what it has, and takes tasks again when told to."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from celeriac.errors import WorkerNotDrainableError, WorkerNotFoundError
from celeriac.model import Status, WorkerInfo
from celeriac.store.takers import read_takers
from celeriac.store.task_store import TaskStore
from celeriac.tasks.warnings import warnings_of
from celeriac_tasks.engine.resident_memory import resident_bytes
from tests.kit.command_line import celeriac
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, celery_command
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, runs, submit


async def info(store: TaskStore, worker: WorkerProcess) -> WorkerInfo:
    return next(one for one in await store.workers() if one.pid == worker.process.pid)


async def hears(store: TaskStore, worker: WorkerProcess) -> None:
    """Wait until a worker has said something since now."""
    before = (await info(store, worker)).seen_at

    async def later() -> bool:
        return (await info(store, worker)).seen_at > before

    await eventually(later, because="the worker has renewed its presence")


@pytest.mark.parametrize("groups", ["*", "default"])
async def test_a_drained_worker_finishes_its_task_and_takes_no_other(
    workers: Workers, store: TaskStore, groups: str
) -> None:
    worker = await workers.start(store, "--groups", groups)
    found = await info(store, worker)
    assert (found.drains, found.drained) == (True, False)
    running = await submit(store, "blocks", {"s": 4})
    await runs(store, running)
    await store.drain(found.worker_id)
    assert (await info(store, worker)).drained
    assert await store.is_drained(found.worker_id)
    await hears(store, worker)
    later = await submit(store, "noop")
    assert (await ended(store, running)).status is Status.COMPLETED
    for _ in range(2):
        await hears(store, worker)
    assert (await store.get(later)).status is Status.PENDING
    # Others take what it does not take.
    other = await workers.start(store, "--groups", groups)
    assert (await ended(store, later)).worker == (await info(store, other)).worker_id
    other.kill()
    await store.drain(found.worker_id, drained=False)
    assert (await ended(store, await submit(store, "noop"))).worker == found.worker_id


async def test_a_worker_with_celerys_pool_of_processes_is_drained_too(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    command = celery_command("worker", "-P", "prefork", "-c", "1", "-n", "w@here", "-l", "warning", "--without-gossip")
    worker = await workers.start_command(store, command, None, **BOTH)
    found = await info(store, worker)
    running = await submit(store, "add_sync", {"numbers": [1], "gate": str(gate)})
    await eventually(lambda: is_processing(store, running), because="it runs")
    await store.drain(found.worker_id)
    await hears(store, worker)
    assert (await info(store, worker)).running == 1, "a child runs it"
    later = await submit(store, "noop")
    gate.touch()
    assert (await ended(store, running)).status is Status.COMPLETED
    for _ in range(2):
        await hears(store, worker)
    assert (await store.get(later)).status is Status.PENDING
    assert (await info(store, worker)).running == 0
    await store.drain(found.worker_id, drained=False)
    assert (await ended(store, later)).status is Status.COMPLETED
    # Its children count.
    memory = (await info(store, worker)).memory_bytes
    assert memory is not None
    assert memory > psutil.Process(worker.process.pid).memory_info().rss


async def is_processing(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.PROCESSING


async def test_a_process_that_is_started_later_under_the_same_id_takes_tasks(
    workers: Workers, store: TaskStore
) -> None:
    command = celery_command("worker", "-c", "1", "-n", "same@here", "-l", "warning", "--without-gossip")
    first = await workers.start_command(store, command, None, **BOTH)
    await store.drain("same@here")
    first.kill()
    await workers.start_command(store, command, None, **BOTH)
    assert not await store.is_drained("same@here")
    assert (await ended(store, await submit(store, "noop"))).worker == "same@here"


async def test_a_drained_worker_does_not_count_for_a_task_that_waits(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store)
    await store.drain((await info(store, worker)).worker_id)
    await hears(store, worker)
    takers = await read_takers(store)
    assert takers.count("default", "noop", "broker") == (0, 0)
    (reason,) = warnings_of(takers, "default", "noop", "broker")
    assert reason.text == "no worker serves the group default; 1 of its workers is drained"


async def test_workers_that_do_not_exist_or_do_not_obey_are_refused(store: TaskStore) -> None:
    with pytest.raises(WorkerNotFoundError, match="'nobody'"):
        await store.drain("nobody")
    await store.renew("old", [], {"kind": "celery", "started_ms": "1"})
    with pytest.raises(WorkerNotDrainableError, match="old"):
        await store.drain("old")


async def test_a_worker_says_how_many_attempts_end_and_how_much_memory_it_has(
    workers: Workers, store: TaskStore
) -> None:
    worker = await workers.start(store)
    for task_id in [await submit(store, "noop") for _ in range(20)]:
        await ended(store, task_id)

    async def told() -> bool:
        rate = (await info(store, worker)).ended_per_minute
        return rate is not None and rate >= 20

    await eventually(told, because="the attempts are counted")
    found = await info(store, worker)
    assert found.ended_per_minute == 20
    assert found.memory_bytes is not None
    assert found.memory_bytes > 20 * 2**20


def test_the_memory_of_a_process_is_that_which_the_kernel_counts() -> None:
    found = resident_bytes()
    assert found is not None
    assert Path(f"/proc/{os.getpid()}/statm").exists()
    assert found >= psutil.Process().memory_info().rss * 0.8


async def test_the_command_line_waits_until_a_drained_worker_runs_nothing(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = await workers.start(store)
    name = (await info(store, worker)).worker_id
    running = await submit(store, "add_sync", {"numbers": [1], "gate": str(gate)})
    await eventually(lambda: is_processing(store, running), because="it runs")
    drain = ("workers", "drain", name, "--wait")
    code, out, err = await celeriac(*drain, "0s", REDIS_URL=workers.redis_url)
    assert (code, err) == (3, "")
    assert "takes no more tasks" in out
    # While the command waits, or just before.
    asyncio.get_running_loop().call_later(2, gate.touch)
    code, out, err = await celeriac(*drain, "60s", REDIS_URL=workers.redis_url)
    assert (code, err) == (0, "")
    assert out == f"{name} takes no more tasks, runs nothing; `celeriac workers resume {name}` resumes it\n"
    assert (await store.get(running)).status is Status.COMPLETED
    worker.kill()
