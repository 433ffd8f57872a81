"""Real workers obey the rules of keys: those of Redis, those of RabbitMQ, and remote ones."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import httpx

from celeriac.limits.rules import By, LimitRule
from celeriac.model import Delivery, Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker as remote_worker
from tests.kit.workers.celery_processes import BOTH
from tests.kit.workers.engine_workers import Workers, ended, runs, submit
from tests.kit.workers.rabbitmq import URL, broker_group, need_rabbitmq

KEYS = ("k1", "k2", "k3")


async def set_rules(store: TaskStore, group: str) -> None:
    """Set four rules that cover each task: of the group, fair, of a key within it, and in order."""
    await store.limit(group, max_running=3)
    await store.set_rule(LimitRule("fair", group=group, by=By.KEY, fair=True))
    await store.set_rule(LimitRule("of-key", group=group, by=By.KEY, max_running=2))
    await store.set_rule(LimitRule("order", group=group, by=By.KEY, ordered=True))


async def check(store: TaskStore, ids: dict[str, list[str]], *, kills: int = 0) -> None:
    """Check what the stream of all events says: at most one of a key at once, in order, and three of all."""
    key_of = {task_id: key for key, some in ids.items() for task_id in some}
    running: dict[str, set[str]] = defaultdict(set)
    order: dict[str, list[str]] = defaultdict(list)
    for _, event in await store.redis.xrange(keys.EVENTS):
        if event["kind"] != "status" or event["task_id"] not in key_of:
            continue
        task_id, key = event["task_id"], key_of[event["task_id"]]
        if event["status"] == "PROCESSING":
            running[key].add(task_id)
            order[key] += [task_id] if task_id not in order[key] else []
        else:
            running[key].discard(task_id)
        assert len(running[key]) <= 1
        assert sum(map(len, running.values())) <= 3
    assert order == ids, "in order of submission"
    for rule in ("fair", "of-key", "order"):
        for name in (keys.permits, keys.parked, keys.out, keys.queued, keys.arrivals, keys.holders):
            assert await store.redis.exists(name(rule)) == 0, f"nothing is left in {name(rule)}"


async def all_end(store: TaskStore, ids: dict[str, list[str]]) -> None:
    for some in ids.values():
        for task_id in some:
            assert (await ended(store, task_id, timeout_s=90)).status is Status.COMPLETED


async def test_workers_that_die_obey_four_rules(workers: Workers, store: TaskStore) -> None:
    await set_rules(store, "g")
    first = await workers.start(store, "--groups", "g", "--concurrency", "20")
    ids = {key: [await submit(store, "sleeps_again", {"s": 0.2}, group="g", key=key) for _ in range(6)] for key in KEYS}
    await runs(store, ids["k1"][0])
    first.kill()
    for _ in range(2):
        await workers.start(store, "--groups", "g", "--concurrency", "20")
    await all_end(store, ids)
    await check(store, ids)


async def test_workers_of_rabbitmq_obey_four_rules(workers: Workers, store: TaskStore) -> None:
    need_rabbitmq()
    with broker_group() as group:
        await set_rules(store, group)
        settings = {**BOTH, "broker_url": URL, "worker__groups": group}
        await workers.start(store, **settings)
        ids = {
            key: [
                await submit(store, "sleeps_again", {"s": 0.1}, group=group, key=key, delivery=Delivery.BROKER)
                for _ in range(6)
            ]
            for key in KEYS
        }
        await all_end(store, ids)
        await check(store, ids)


async def test_remote_workers_obey_four_rules(valkey_url: str, store: TaskStore) -> None:
    await set_rules(store, "remote")
    async with (
        serving(Settings(redis_url=valkey_url)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        remote_worker(url, "remote") as first,
        remote_worker(url, "remote") as second,
        remote_worker(url, "remote") as third,
        remote_worker(url, "remote") as fourth,
    ):
        working = [asyncio.create_task(one.work(lambda payload: payload)) for one in (first, second, third, fourth)]
        ids: dict[str, list[str]] = {key: [] for key in KEYS}
        for n in range(30):
            key = KEYS[n % 3]
            body = {"type": "remote", "queue": "remote", "payload": {"data": {"n": n}}, "key": key}
            answer = await http.post("/api/v1/tasks", json=body)
            assert answer.status_code == 202, answer.text
            ids[key].append(answer.json()["task_id"])
        await all_end(store, ids)
        for task in working:
            task.cancel()
    await check(store, ids)
