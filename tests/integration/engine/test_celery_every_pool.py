"""What a plain Celery task does in every pool, as a function and as a coroutine: one table for all."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import celery_command, output_of
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, ran, runs

MODULE = "tests.kit.workers.celery_pools"
#: The lease is long, so that a slow machine does not add attempts.
SETTINGS: dict[str, Any] = {"imports": [MODULE], "worker__shutdown_grace": 60, "lease": 60}
#: Options of `celery worker` by pool. The platform's own pool is the default.
POOLS = {"own": (), **{pool: ("-P", pool) for pool in ("prefork", "threads", "solo", "gevent")}}
GREEN = pytest.param("gevent", marks=pytest.mark.fresh_python)
EVERY_POOL = pytest.mark.parametrize("pool", ["own", "prefork", "threads", "solo", GREEN])
KINDS = ("", "_async")

#: How each task ends in every pool: its status, its result or the code of its error, and the number of attempts.
TABLE = {
    "naps{}.delay(0)": (Status.COMPLETED, "napped", 1),
    "fails{}.delay()": (Status.FAILED, "exception", 1),
    "retries{}.delay()": (Status.COMPLETED, 2, 3),
    "limited{}.delay()": (Status.COMPLETED, 0, 1),
    "soft{}.delay()": (Status.COMPLETED, "in time", 1),
    "hard{}.delay()": (Status.FAILED, "timeout", 1),
}


async def start(workers: Workers, store: TaskStore, pool: str, concurrency: int = 4, *more: str) -> WorkerProcess:
    command = celery_command("worker", *POOLS[pool], "-c", str(concurrency), *more)
    return await workers.start_command(store, command, **SETTINGS)


async def call(workers: Workers, *expressions: str) -> list[str]:
    """Publish tasks; returns their ids."""
    program = "\n".join([f"from {MODULE} import *", *(f"print(({expression}).id)" for expression in expressions)])
    return (await output_of([sys.executable, "-c", program], workers.environment(**SETTINGS))).split()


@EVERY_POOL
async def test_a_task_ends_in_the_same_way_in_every_pool(workers: Workers, store: TaskStore, pool: str) -> None:
    expected = {line.format(kind): end for kind in KINDS for line, end in TABLE.items()}
    ids = await call(workers, *expected)
    worker = await start(workers, store, pool)
    found = {}
    for line, task_id in zip(expected, ids, strict=True):
        task = await ended(store, task_id)
        found[line] = (task.status, task.error.code if task.error is not None else task.result, task.attempt)
    assert found == expected
    long, long_async, last, last_async = await call(
        workers, "naps.delay(60)", "naps_async.delay(60)", "naps.delay(1)", "naps_async.delay(1)"
    )
    for task_id in (long, long_async):
        await runs(store, task_id)
        await store.cancel(task_id)
        assert (await ended(store, task_id)).status is Status.CANCELLED
    await eventually(lambda: any_runs(store, last, last_async), because="one of the last tasks runs")
    begun = [task_id for task_id in (last, last_async) if await ran(store, task_id)]
    worker.send(signal.SIGTERM)
    assert await worker.gone(within_s=20) == 0
    assert [(await store.get(task_id)).status for task_id in begun] == [Status.COMPLETED] * len(begun)
    assert await store.workers() == []


async def any_runs(store: TaskStore, *ids: str) -> bool:
    return any([await ran(store, task_id) for task_id in ids])


@EVERY_POOL
async def test_a_worker_that_is_told_to_stop_twice_gives_its_tasks_back_at_once(
    workers: Workers, store: TaskStore, pool: str
) -> None:
    (task_id,) = await call(workers, "naps.delay(60)")
    worker = await start(workers, store, pool)
    await runs(store, task_id)

    def told_again() -> bool:
        # Two signals at once count as one, which a terminal and a process manager may both send.
        worker.send(signal.SIGTERM)
        return "a second signal" in worker.said()

    await eventually(told_again, because="it hurries", interval_s=0.3)
    # Long before its grace of a minute has passed.
    assert await worker.gone(within_s=30) == 0
    task = await store.get(task_id)
    assert (task.status, task.attempt) == (Status.PENDING, 0)


async def test_a_coroutine_has_all_that_celery_gives_a_task(workers: Workers, store: TaskStore) -> None:
    by_itself, exhausted, counts, by_class, noted = await call(
        workers, "by_itself_async.delay(2)", "by_itself_async.delay(9)", "counts_async.delay(3)", "by_class.delay()",
        "noted_async.delay()",
    )  # fmt: skip
    await start(workers, store, "own")
    assert ((await ended(store, by_itself)).result, (await ended(store, by_itself)).attempt) == (2, 3)
    task = await ended(store, exhausted)
    assert (task.status, task.attempt) == (Status.FAILED, 4)
    assert (await ended(store, counts)).result == 3
    assert (await ended(store, by_class)).result == [True, "pools.by_class", True]
    await ended(store, noted)
    await eventually(lambda: has_line(store, noted, "postrun SUCCESS"), because="the tracer ends")
    assert await ran(store, noted) == [
        "prerun True", "before_start", "body", "on_success noted", "postrun SUCCESS",
    ]  # fmt: skip


async def has_line(store: TaskStore, task_id: str, line: str) -> bool:
    return line in await ran(store, task_id)


async def test_eager_and_direct_calls_of_a_coroutine_are_those_of_python_and_celery(workers: Workers) -> None:
    program = f"""
import asyncio
from {MODULE} import *
assert naps_async.apply((0,)).get() == "napped"
assert retries_async.apply().get() == 2
assert by_itself_async.apply((2,)).get() == 2
assert fails_async.apply().state == "FAILURE"
called = naps_async(0)
assert asyncio.iscoroutine(called)

async def inside():
    assert await called == "napped"
    return naps_async.apply((0,)).get()

assert asyncio.run(inside()) == "napped"
print("right")
"""
    assert (await output_of([sys.executable, "-c", program], workers.environment(**SETTINGS))).split() == ["right"]


async def test_more_coroutines_run_at_once_than_the_worker_has_threads(workers: Workers, store: TaskStore) -> None:
    number = 300
    ids = (await call(workers, f"[meets_async.delay('here', {number}) for _ in range({number})][0]"))[:1]
    worker = await start(workers, store, "own", number)
    assert (await ended(store, ids[0], timeout_s=60)).result == number
    assert threads_of(worker) < 60


def threads_of(worker: WorkerProcess) -> int:
    import psutil

    return int(psutil.Process(worker.process.pid).num_threads())


async def test_an_eventlet_worker_says_why_it_does_not_start(workers: Workers) -> None:
    environment = workers.environment(**SETTINGS)
    program = "from celeriac_tasks.celery import app; app.Worker(pool='eventlet').start()"
    worker = WorkerProcess(workers.folder, [sys.executable, "-c", program], environment)
    workers.all.append(worker)
    assert await worker.gone(within_s=30) == 1
    assert "celeriac: the pool eventlet is not supported" in worker.said()


async def test_a_gevent_worker_that_is_not_prepared_says_why_it_does_not_start(workers: Workers) -> None:
    environment = workers.environment(**SETTINGS)
    program = "from celeriac_tasks.celery import app; app.Worker(pool='gevent').start()"
    worker = WorkerProcess(workers.folder, [sys.executable, "-c", program], environment)
    workers.all.append(worker)
    assert await worker.gone(within_s=30) == 1
    assert "start the worker with `--pool gevent`" in worker.said()
