"""Durable work in real workers: steps, sleeps, signals and children, with kills in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from celeriac.model import AwaitedSignal, Status, Task
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended, ran, statuses, submit, workers_on_a_server

BOTH = pytest.mark.parametrize("suffix", ["", "_sync"], ids=["async", "sync"])
SETTINGS: dict[str, Any] = {"imports": ["tests.kit.workers.durable_types"], "worker__suspend_after": 0.2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("durable")) as (started, store):
        await started.start(store, **SETTINGS)
        yield started


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


async def waiting(store: TaskStore, task_id: str) -> Task:
    """Return the task once it waits."""

    async def waits() -> Task | None:
        task = await store.get(task_id)
        assert not task.status.final, task
        return task if task.status is Status.WAITING else None

    found: Task = await eventually(waits, because=f"the task {task_id} waits")
    return found


async def holds_nothing(store: TaskStore) -> None:
    """Check that no worker runs anything, and that no lease is held."""
    assert await store.redis.zcard(keys.LEASES) == 0
    assert await store.redis.zcard(keys.running("default")) == 0


@BOTH
async def test_an_order_waits_without_a_worker_and_does_nothing_twice(store: TaskStore, suffix: str) -> None:
    task_id = await submit(store, f"order{suffix}", {}, user_id="7")
    task = await waiting(store, task_id)
    assert task.waiting_for is not None
    (awaited,) = task.waiting_for
    assert isinstance(awaited, AwaitedSignal)
    assert (awaited.signal, awaited.title, awaited.expires_at is not None) == ("approval", "Refund?", True)
    assert isinstance(awaited.schema, dict)
    assert awaited.schema["required"] == ["approved"]
    await holds_nothing(store)
    assert [wait.signal for wait in (await store.waits("9"))[0]] == ["approval"]
    await store.signal(task_id, "approval", '{"approved": true}', user_id="9", check=lambda _: None)
    task = await ended(store, task_id)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, [True, 240], 1), task.error
    notes = await ran(store, task_id)
    assert (notes.count("charge"), notes.count("run")) == (1, 4)
    assert await statuses(store, task_id) == [
        *["PENDING", "PROCESSING", "WAITING"] * 3,
        "PENDING",
        "PROCESSING",
        "COMPLETED",
    ]
    assert [step.name for step in await store.steps(task_id)] == ["charge"]
    child = (await store.kept(task_id)).steps["child:double"].value
    assert await ran(store, child) == ["run"]
    record = await store.get(child)
    assert (record.workflow_id, record.node, record.user_id) == (task_id, f"order{suffix}/double", "7")


@BOTH
async def test_a_handler_adds_what_many_children_return(store: TaskStore, suffix: str) -> None:
    task_id = await submit(store, f"fan_out{suffix}", {"parts": 100})
    assert (await ended(store, task_id)).result == sum(2 * n for n in range(100))
    # The children of a plain function, which submits one after the other, may have ended before it waits for them.
    assert (await statuses(store, task_id)).count("WAITING") <= 1


async def test_a_child_that_fails_is_an_error_that_a_handler_may_catch(store: TaskStore) -> None:
    assert (await ended(store, await submit(store, "catching"))).result == "exception"


async def test_finally_runs_and_except_exception_does_not_when_it_is_suspended(store: TaskStore) -> None:
    task_id = await submit(store, "swallows")
    assert (await ended(store, task_id)).result == "done"
    assert await ran(store, task_id) == ["finally", "finally"]


async def test_a_time_limit_does_not_run_while_the_task_waits(store: TaskStore) -> None:
    slept, ran_on = (
        await submit(store, "patient"),
        await submit(store, "patient", {"before_s": 1.6, "sleep_s": 1, "after_s": 60}),
    )
    assert (await ended(store, slept)).result == "done"
    began = time.monotonic()
    task = await ended(store, ran_on)
    assert task.error is not None
    assert (task.error.code, time.monotonic() - began < 30) == ("timeout", True)


async def test_a_waiting_task_is_cancelled_at_once_and_can_be_retried(store: TaskStore) -> None:
    task_id = await submit(store, "order", {"sleep_s": 0})
    await waiting(store, task_id)
    assert await store.cancel(task_id) is Status.CANCELLED
    assert (await store.waits(None))[0] == []
    await store.retry(task_id)
    await waiting(store, task_id)
    await store.signal(task_id, "approval", '{"approved": false}')
    task = await ended(store, task_id)
    assert (task.result, task.attempt) == ([False, 240], 2)
    assert (await ran(store, task_id)).count("charge") == 1


async def test_a_retry_from_a_step_does_that_step_and_all_later_ones_again(store: TaskStore) -> None:
    task_id = await submit(store, "many_steps", {"steps": 4})
    await ended(store, task_id)
    assert await store.retry(task_id, from_step="step 2") is Status.PENDING
    assert (await ended(store, task_id)).result == [0, 1, 2, 3]
    assert await ran(store, task_id) == ["step 0", "step 1", "step 2", "step 3", "step 2", "step 3"]


async def test_async_result_get_in_a_handler_points_to_ctx_call(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "gets_a_result", max_retries=0))
    assert task.error is not None
    assert "ctx.call" in task.error.message


async def test_no_step_is_done_again_whenever_a_worker_dies(store: TaskStore, workers: Workers, tmp_path: Any) -> None:
    async with workers_on_a_server(tmp_path) as (mortal, own):
        task_id = await submit(own, "many_steps", {"steps": 40}, max_retries=10)
        for kept in (5, 15, 25):
            worker = await mortal.start(own, **SETTINGS)

            async def far_enough(least: int = kept) -> bool:
                return len(await own.steps(task_id)) >= least

            await eventually(far_enough, because=f"{kept} steps are kept")
            worker.kill()
        await mortal.start(own, **SETTINGS)
        task = await ended(own, task_id)
        assert task.result == list(range(40))
        done = await ran(own, task_id)
        # A step that ran and was not kept when its worker died runs again: one for each death.
        assert len(done) - len(set(done)) <= 3
        assert [step.name for step in await own.steps(task_id)] == [f"step {n}" for n in range(40)]


async def test_what_waits_survives_the_death_of_every_worker(store: TaskStore, tmp_path: Any) -> None:
    async with workers_on_a_server(tmp_path) as (mortal, own):
        worker = await mortal.start(own, **SETTINGS)
        ids = [await submit(own, "order", {}) for _ in range(5)]
        await asyncio.gather(*(waiting(own, task_id) for task_id in ids))
        worker.kill()
        for task_id in ids:
            await own.signal(task_id, "approval", '{"approved": true}')
        await mortal.start(own, **SETTINGS)
        for task_id in ids:
            task = await ended(own, task_id)
            assert (task.result, task.attempt) == ([True, 240], 1)
            assert (await ran(own, task_id)).count("charge") == 1
        await holds_nothing(own)
