"""A handler that is told to come back later: its task goes back unharmed, and its key or its group waits."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.waits import read_waits
from celeriac.tasks.why import why_of
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker as remote_worker
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import celery_command
from tests.kit.workers.engine_workers import Workers, ended, ran, statuses, submit

TOLD = "somebody else's service says to come back later"


async def lines(store: TaskStore, task_id: str) -> list[tuple[str, str, Any]]:
    """Return level, message and code of the lines of a task's log."""
    page = await store.log_lines(task_id)
    return [(line.level, line.message, line.data.get("code")) for line in page]


@pytest.mark.parametrize("pool", ["own", "prefork", "threads"])
async def test_what_a_handler_of_any_kind_raises_gives_its_task_back(
    workers: Workers, store: TaskStore, pool: str
) -> None:
    # Each attempt is counted: a worker that stands still for a moment keeps its tasks.
    if pool == "own":
        await workers.start(store, lease=30)
    else:
        await workers.start_command(store, celery_command("worker", "-P", pool, "-c", "2"), lease=30)
    expected = {
        "limited": ["begun", "begun"],
        "limited_sync": ["begun", "begun"],
        "limited_in_a_group": ["begun", "begun"],
        "limited_step": ["first step", "begun", "begun"],
    }
    ids = {kind: await submit(store, kind, max_retries=0) for kind in expected}
    for kind, task_id in ids.items():
        task = await ended(store, task_id)
        assert (task.status, task.result, task.attempt, task.error) == (Status.COMPLETED, 1, 1, None), kind
        assert await ran(store, task_id) == expected[kind]
        assert (await lines(store, task_id)).count(("warning", TOLD, "rate_limited")) == 1
        assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]


async def test_only_the_key_that_was_refused_waits_and_the_answer_says_until_when(
    workers: Workers, store: TaskStore
) -> None:
    async def closed() -> bool:
        return bool(await store.redis.zcard(keys.CLOSED))

    await workers.start(store, "--groups", "g", "--concurrency", "1")
    refused = await submit(store, "limited_long", group="g", key="c1")
    await eventually(closed, because="the key is closed")
    same = await submit(store, "noop", group="g", key="c1")
    for key in ("c2", None):
        assert (await ended(store, await submit(store, "noop", group="g", key=key))).status is Status.COMPLETED
    for task_id in (refused, same):
        why = why_of(await read_waits(store, task_id))
        (limit,) = [reason for reason in why.reasons if reason.code == "limit"]
        assert (why.status, limit.facts["rule"], limit.facts["key"]) == (Status.PENDING, None, "c1")
        assert limit.facts["until"]


async def test_a_longer_time_than_the_setting_allows_is_cut(store: TaskStore) -> None:
    task_id = await submit(store, "noop", group="g")
    claim = await store.claim(task_id, worker="w")
    await store.rate_limited(claim, 10 * 366 * 86400.0)
    ((_, until_ms),) = await store.redis.zrange(keys.CLOSED, 0, -1, withscores=True)
    now_s, _ = await store.redis.time()
    assert until_ms / 1000 - now_s <= store.settings.limits.max_retry_after + 1


async def test_a_cancel_wins_against_what_the_handler_was_told(store: TaskStore) -> None:
    task_id = await submit(store, "noop", group="g")
    claim = await store.claim(task_id, worker="w")
    await store.cancel(task_id)
    assert await store.rate_limited(claim, 600) is Status.CANCELLED
    assert not await store.redis.exists(keys.CLOSED)


async def test_a_remote_worker_says_that_it_was_told_to_come_back_later(valkey_url: str, store: TaskStore) -> None:
    async with (
        serving(Settings(redis_url=valkey_url)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        remote_worker(url, "remote") as one,
    ):

        async def give(max_retries: int = 0) -> str:
            body = {"type": "remote", "queue": "remote", "payload": {"data": {}}, "max_retries": max_retries}
            task_id = str((await http.post("/api/v1/tasks", json=body)).json()["task_id"])
            assert (await one.take())["taskId"] == task_id
            return task_id

        def error(task_id: str, **more: Any) -> Any:
            return one.say(type="task_error", taskId=task_id, error="429", code="rate_limited", duration=1, **more)

        task_id = await give()
        await error(task_id, retry_after_s=0.2)
        again = await one.take()
        assert (again["taskId"], again["attempt"]) == (task_id, 1)
        await one.say(type="task_complete", taskId=task_id, result=1, duration=1)
        assert (await ended(store, task_id)).status is Status.COMPLETED
        assert (await lines(store, task_id)).count(("warning", TOLD, "rate_limited")) == 1

        # Older workers say no time, and their attempt has failed, as ever.
        task_id = await give()
        await error(task_id)
        failed = await ended(store, task_id)
        assert failed.error is not None
        assert (failed.status, failed.error.code) == (Status.FAILED, "rate_limited")
        for wrong in (-1, "soon", True, [1]):
            task_id = await give()
            await error(task_id, retry_after_s=wrong)
            said = await one.hear()
            assert (said["type"], said["taskId"]) == ("error", task_id)
            assert "retry_after_s" in said["message"]
            assert (await ended(store, task_id)).status is Status.FAILED


async def test_many_tasks_that_are_refused_end_all_the_same(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, "--groups", "g", "--concurrency", "8", lease=30)
    ids = [await submit(store, "limited", group="g", key=f"c{n % 3}", max_retries=0) for n in range(12)]
    for task in await asyncio.gather(*(ended(store, task_id) for task_id in ids)):
        assert (task.status, task.attempt) == (Status.COMPLETED, 1)
