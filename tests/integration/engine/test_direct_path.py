"""Tasks of registered types that go past Celery's requests: what operators and Celery see of them all the same."""

from __future__ import annotations

from pathlib import Path

from celeriac import json_text
from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import Operator, operator_of
from tests.kit.workers.celery_processes import BOTH, evaluate, publish
from tests.kit.workers.engine_workers import Workers, ended, ran, submit


async def running(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.PROCESSING


async def test_an_operator_sees_a_task_while_it_runs_and_none_afterwards(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = await workers.start(store)
    task_id = await submit(store, "add", {"numbers": [1, 2], "gate": str(gate)})
    await eventually(lambda: running(store, task_id), because="it runs")
    async with operator_of(workers.redis_url) as operator:
        (seen,) = await eventually(lambda: operator.ask_one("active"), because="the worker shows what it runs")
        assert (seen["id"], seen["name"], seen["worker_pid"]) == (task_id, "add", worker.process.pid)
        assert seen["time_start"]
        assert (await operator.ask_one("query_task", ids=[task_id]))[task_id][0] == "active"
        assert (await operator.ask_one("stats"))["total"] == {"add": 1}
        gate.touch()
        assert (await ended(store, task_id)).status is Status.COMPLETED
        for _ in range(3):
            await ended(store, await submit(store, "noop"))

        async def nothing_runs() -> bool:
            return bool(await operator.ask_one("active") == [])

        await eventually(nothing_runs, because="nothing is left of it")
        assert (await operator.ask_one("stats"))["total"] == {"add": 1, "noop": 3}


async def test_a_worker_that_runs_as_much_as_it_may_goes_on_when_one_has_ended(
    workers: Workers, store: TaskStore
) -> None:
    ids = [await submit(store, "add", {"numbers": [1], "pause_s": 0.01}) for _ in range(60)]
    await workers.start(store, "--concurrency", "3")
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED


async def test_a_plain_task_runs_without_celerys_tracer_which_ends_what_does_not_return(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store, **BOTH)
    returns, retries, fails = await publish(
        workers, "callers.delay()", "callers.delay('retry')", "callers.delay('fail')"
    )
    task = await ended(store, returns)
    assert (task.status, task.attempt) == (Status.COMPLETED, 1)
    assert "run_attempt" not in task.result
    assert "trace_task" not in task.result
    task = await ended(store, retries)
    assert (task.status, task.attempt) == (Status.COMPLETED, 2)
    task = await ended(store, fails)
    assert (task.status, task.attempt, task.error and task.error.message) == (Status.FAILED, 1, "ValueError: fail")
    for task_id, attempts in ((retries, 2), (fails, 1)):
        stacks = await ran(store, task_id)
        assert len(stacks) == attempts
        assert not any("trace_task" in stack for stack in stacks), "each body ran once, on the direct path"
    assert await evaluate(workers, f"AsyncResult('{fails}').get()", f"AsyncResult('{retries}').state") == [
        ["ValueError", "fail"],
        "SUCCESS",
    ]


async def test_a_plain_call_with_a_callback_or_a_soft_time_limit_is_left_to_celerys_tracer(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store, **BOTH)
    calls = ("apply_async(link=add.s(1))", "apply_async(soft_time_limit=60)", "apply_async(expires=3600)")
    for task_id in await publish(workers, *(f"callers.{call}" for call in calls)):
        assert "run_attempt" in (await ended(store, task_id)).result


async def test_the_end_of_a_plain_task_and_what_celery_keeps_of_it_are_stored_in_one_call(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store, **BOTH)
    (task_id,) = await publish(workers, "add.delay(1, 2)")
    assert (await ended(store, task_id)).result == 3
    key = f"celery-task-meta-{task_id}"
    stored = json_text.read(str(await store.redis.get(key)))
    assert (stored["status"], stored["result"], stored["task_id"]) == ("SUCCESS", 3, task_id)
    assert 0 < await store.redis.ttl(key) <= 24 * 3600


async def test_an_operator_sees_a_plain_task_while_it_runs(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store, **BOTH)
    (task_id,) = await publish(workers, "naps.delay(60)")
    await eventually(lambda: running(store, task_id), because="it runs")
    async with operator_of(workers.redis_url) as operator:
        (seen,) = await eventually(lambda: operator.ask_one("active"), because="the worker shows what it runs")
        assert (seen["id"], seen["args"], seen["worker_pid"]) == (task_id, [60], worker.process.pid)
        await operator.ask("revoke", task_id=task_id, terminate=True)
        assert (await ended(store, task_id)).status is Status.CANCELLED
        assert await eventually(lambda: _idle(operator), because="nothing is left of it")


async def _idle(operator: Operator) -> bool:
    return bool(await operator.ask_one("active") == [])
