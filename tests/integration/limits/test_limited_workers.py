"""Limits of a group hold among real workers, in one process or in several, killed or not, whatever brings the tasks."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from celeriac.limits.rules import StartRate
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker as remote_worker
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, publish
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, ran, runs, statuses, submit


async def most_at_once(store: TaskStore) -> int:
    """Return how many tasks ran at once at most, by the stream of all events: it is in the order of what happened."""
    running: set[str] = set()
    most = 0
    for _, event in await store.redis.xrange(keys.EVENTS):
        if event["kind"] == "status":
            (running.add if event["status"] == "PROCESSING" else running.discard)(event["task_id"])
            most = max(most, len(running))
    return most


async def counted(store: TaskStore, ids: list[str]) -> list[int]:
    """Return how many ran at once, as each handler saw it."""
    return [int(text) for task_id in ids for text in await ran(store, task_id)]


@pytest.mark.parametrize("processes", [1, 2])
async def test_handlers_never_see_more_at_once_than_the_limit(
    workers: Workers, store: TaskStore, processes: int
) -> None:
    await store.limit("g", max_running=5)
    ids = [await submit(store, "counts_running", {"s": 0.1}, group="g") for _ in range(100)]
    for _ in range(processes):
        # No worker dies here: one that stands still for a moment keeps its tasks.
        await workers.start(store, "--groups", "g", "--concurrency", "50", lease=30)
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    seen = await counted(store, ids)
    assert (len(seen), max(seen)) == (100, 5)
    assert await most_at_once(store) == 5


async def test_the_places_of_a_killed_worker_are_free_again_and_the_limit_holds(
    workers: Workers, store: TaskStore
) -> None:
    await store.limit("g", max_running=3)
    worker = await workers.start(store, "--groups", "g")
    ids = [await submit(store, "sleeps_again", {"s": 1}, group="g") for _ in range(9)]
    for task_id in ids[:3]:
        await runs(store, task_id)
    worker.kill()
    await workers.start(store, "--groups", "g")
    for task_id in ids:
        assert (await ended(store, task_id, timeout_s=60)).status is Status.COMPLETED
        check_one_end(await statuses(store, task_id))
    assert await most_at_once(store) == 3


async def test_a_rate_holds_and_leaves_other_groups_alone(workers: Workers, store: TaskStore) -> None:
    await store.limit("g", rate=StartRate.parse("20/s"))
    await workers.start(store, lease=30)
    ids = [await submit(store, "noop", group="g") for _ in range(50)]
    others = [await submit(store, "noop", group="h") for _ in range(20)]
    starts = []
    for task_id in [*ids, *others]:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    for task_id in ids:
        started_at = (await store.get(task_id)).started_at
        assert started_at is not None
        starts.append(round(started_at.timestamp() * 1000))
    assert max(sum(start <= other < start + 1000 for other in starts) for start in starts) <= 20


async def test_removing_the_limit_lets_all_go_on(workers: Workers, store: TaskStore) -> None:
    await store.limit("g", max_running=1)
    await workers.start(store, "--groups", "g")
    first = await submit(store, "sleeps", {"s": 600}, group="g")
    await runs(store, first)
    ids = [await submit(store, "noop", group="g") for _ in range(20)]
    assert await store.redis.zcard(keys.parked("group:g")) == 20
    await store.unlimit("g")
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED


async def test_plain_celery_calls_are_limited_too(workers: Workers, store: TaskStore) -> None:
    await store.limit("default", max_running=1)
    await workers.start(store, "--concurrency", "8", **BOTH, lease=30)
    ids = await publish(workers, *["add.apply_async((1,), queue='default')"] * 6)
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    assert await most_at_once(store) == 1


async def test_remote_workers_share_the_limit(valkey_url: str, store: TaskStore) -> None:
    await store.limit("remote", max_running=2)
    async with (
        serving(Settings(redis_url=valkey_url)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        remote_worker(url, "remote") as first,
        remote_worker(url, "remote") as second,
        remote_worker(url, "remote") as third,
    ):
        ids = []
        for n in range(30):
            body = {"type": "remote", "queue": "remote", "payload": {"data": {"n": n}}}
            answer = await http.post("/api/v1/tasks", json=body)
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["task_id"])
        # Two of them have a task by now, and hold it until they work.
        working = [asyncio.create_task(one.work(lambda payload: payload)) for one in (first, second, third)]
        for task_id in ids:
            assert (await ended(store, task_id)).status is Status.COMPLETED
        for task in working:
            task.cancel()
    assert await most_at_once(store) == 2


async def test_a_limit_is_kept_over_a_restart_of_everything(workers: Workers, store: TaskStore) -> None:
    await store.limit("g", max_running=2)
    worker = await workers.start(store, "--groups", "g")
    ids = [await submit(store, "counts_running", {"s": 0.1}, group="g") for _ in range(20)]
    await runs(store, ids[0])
    worker.kill()
    await workers.start(store, "--groups", "g")
    await eventually(lambda: none_left(store), because="all of them end", timeout_s=60)
    assert await most_at_once(store) == 2


async def none_left(store: TaskStore) -> bool:
    group = await store.group("g")
    return not group.waiting and not group.running
