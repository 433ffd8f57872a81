"""`celery -A celeriac_tasks worker` in Celery's own pools, its remote control and its events."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_tasks.adoption.adopting import own_app
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import events_of
from tests.kit.workers.celery_processes import BOTH, celery_command, evaluate, operated, output_of, publish
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, ran, runs, statuses, submit

POOLS = ["prefork", "threads", "solo"]


async def start(workers: Workers, store: TaskStore, pool: str, **settings: Any) -> WorkerProcess:
    command = celery_command("worker", "-P", pool, "-c", "2", "-l", "INFO", "-E")
    return await workers.start_command(store, command, **{**BOTH, **settings})


@pytest.mark.parametrize("pool", POOLS)
async def test_other_pools_run_both_kinds_of_tasks(workers: Workers, store: TaskStore, pool: str) -> None:
    plain, again, broken = await publish(
        workers, "add.delay(1, 2)", "comes_back.delay(until=1)", "breaks.delay('exit')"
    )
    registered = await submit(store, "add", {"numbers": [1, 2]})
    function = await submit(store, "add_sync", {"numbers": [3]})
    reporting = await submit(store, "reports", {"awaited": 3, "left": 3, "thread": 3})
    failing = await submit(store, "fails", {"how": "odd"})
    wrong = await submit(store, "add", {"numbers": "x"})
    worker = await start(workers, store, pool)
    assert (await ended(store, plain)).result == 3
    assert f"concurrency: 2 ({pool.rstrip('s')}" in worker.said()
    assert (await ended(store, again)).result == "after 1"
    assert (await ended(store, broken)).status is Status.FAILED
    assert (await ended(store, registered)).result == {"sum": 3}
    assert (await ended(store, function)).result == {"sum": 3}
    assert (await ended(store, reporting)).status is Status.COMPLETED
    assert sum(event.kind == "progress" for event in await store.events(reporting)) == 9
    task = await ended(store, failing)
    assert (task.status, task.attempt) == (Status.FAILED, 3)
    task = await ended(store, wrong)
    assert task.error is not None
    assert task.error.code == "invalid_payload"
    assert worker.alive
    worker.send(signal.SIGTERM)
    assert await worker.gone(within_s=15) == 0
    assert await store.workers() == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_other_pools_cancel_what_runs(workers: Workers, store: TaskStore, pool: str) -> None:
    (plain,) = await publish(workers, "naps.delay(30)")
    registered = await submit(store, "spins")
    await start(workers, store, pool)
    for task_id in (plain, registered):
        await runs(store, task_id)
        await store.cancel(task_id)
        assert (await ended(store, task_id, timeout_s=8)).status is Status.CANCELLED


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_other_pools_recover_from_kill(workers: Workers, store: TaskStore, pool: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (plain,) = await publish(workers, f"add.delay(1, gate={str(gate)!r})")
    registered = await submit(store, "sleeps_again", {"s": 300, "again_s": 0.1})
    worker = await start(workers, store, pool)
    for task_id in (plain, registered):
        await runs(store, task_id)
    worker.kill()
    gate.touch()
    await start(workers, store, pool)
    for task_id in (plain, registered):
        task = await ended(store, task_id)
        assert (task.status, task.attempt) == (Status.COMPLETED, 2)


async def test_a_killed_child_of_the_prefork_pool_loses_nothing(workers: Workers, store: TaskStore) -> None:
    (plain,) = await publish(workers, "dies.delay()")
    worker = await start(workers, store, "prefork")
    task = await ended(store, plain)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "survived", 2)
    # The children that took their places serve on.
    for _ in range(4):
        assert (await ended(store, await submit(store, "add_sync", {"numbers": [1]}))).status is Status.COMPLETED
    assert worker.alive


async def test_workers_answer_celerys_remote_control(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store, **BOTH)
    (me,) = [known.worker_id for known in await store.workers()]
    assert "pong" in await operated(workers, me, "inspect", "ping")
    running = await submit(store, "sleeps")
    await runs(store, running)

    async def active() -> bool:
        (found,) = json.loads(await operated(workers, me, "inspect", "--json", "active")).values()
        return [request["id"] for request in found] == [running]

    await eventually(active, because="the worker shows what it runs")
    assert "tests.kit.workers.celery_plain.add" in await operated(workers, me, "inspect", "registered")
    stats = json.loads(await operated(workers, me, "inspect", "--json", "stats"))
    (found,) = stats.values()
    assert found["pool"]["async"]["running"] == 1
    assert found["pid"] == worker.process.pid


@pytest.mark.parametrize("pool", ["ours", "prefork"])
async def test_revoking_cancels_the_record(workers: Workers, store: TaskStore, pool: str) -> None:
    if pool == "ours":
        await workers.start(store, "--concurrency", "2", **BOTH)
    else:
        await start(workers, store, pool)
    (me,) = [known.worker_id for known in await store.workers()]
    running = await submit(store, "sleeps")
    (plain,) = await publish(workers, "naps.delay(60)")
    for task_id in (running, plain):
        await runs(store, task_id)
    waiting = await submit(store, "sleeps", group="nobody")
    scheduled = await submit(store, "sleeps", delay_ms=60_000)
    await operated(workers, me, "control", "revoke", running, plain, waiting, scheduled)
    for task_id in (running, plain, waiting, scheduled):
        assert (await ended(store, task_id, timeout_s=8)).status is Status.CANCELLED
    # Nothing of it stays in a worker's memory: run again by hand, it runs.
    await store.retry(scheduled)
    await runs(store, scheduled)


async def test_terminating_ends_a_running_task(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, **BOTH)
    (me,) = [known.worker_id for known in await store.workers()]
    (plain,) = await publish(workers, "naps.delay(60)")
    await runs(store, plain)
    await operated(workers, me, "control", "terminate", "TERM", plain)
    assert (await ended(store, plain, timeout_s=8)).status is Status.CANCELLED


@pytest.fixture
async def celery_events(store: TaskStore, valkey_url: str) -> AsyncIterator[list[dict[str, Any]]]:
    """What Celery's own receiver hears, as Flower would."""
    async with events_of(valkey_url, app=own_app(lambda: Settings(redis_url=valkey_url))) as listener:
        yield listener.heard


async def test_celerys_events_tell_of_every_task(
    workers: Workers, store: TaskStore, celery_events: list[dict[str, Any]]
) -> None:
    await workers.start(store, **BOTH)
    good = await submit(store, "add", {"numbers": [1]})
    bad = await submit(store, "fails", {"how": "odd"}, max_retries=1)
    (plain,) = await publish(workers, "add.delay(1)")
    for task_id in (good, bad, plain):
        await ended(store, task_id)

    def kinds(task_id: str) -> list[str]:
        return [event["type"].removeprefix("task-") for event in celery_events if event.get("uuid") == task_id]

    await eventually(lambda: kinds(good)[-1:] == ["succeeded"], because="its events arrive")
    await eventually(lambda: kinds(plain)[-1:] == ["succeeded"], because="its events arrive")
    await eventually(lambda: kinds(bad)[-1:] == ["failed"], because="its events arrive")
    assert [kind for kind in kinds(good) if kind != "sent"] == ["received", "started", "succeeded"]
    assert [kind for kind in kinds(plain) if kind != "sent"] == ["received", "started", "succeeded"]
    assert [kind for kind in kinds(bad) if kind != "sent"] == [
        "received", "started", "retried", "received", "started", "failed",
    ]  # fmt: skip
    await eventually(
        lambda: any(event["type"] == "worker-heartbeat" for event in celery_events), because="the worker says it lives"
    )


async def test_the_worker_of_celerys_own_command_finds_tasks_by_its_own_settings(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    """`imports` of `celeryconfig.py` names modules of plain tasks, as in any Celery project."""
    (tmp_path / "celeryconfig.py").write_text('imports = ["tests.kit.workers.celery_plain"]\n')
    (task_id,) = await publish(workers, "add.delay(2, 2)")
    environment = workers.environment(imports=[])
    worker = WorkerProcess(tmp_path, celery_command("worker", "-P", "threads"), environment, cwd=tmp_path)
    workers.all.append(worker)
    assert (await ended(store, task_id)).result == 4
    assert await ran(store, task_id) == ["start 0", "2 + 2"]
    assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "COMPLETED"]


async def test_purge_cancels_what_waits_and_says_how_many(workers: Workers, store: TaskStore) -> None:
    ids = await publish(workers, *(f"add.delay({n})" for n in range(3)))
    (other,) = await publish(workers, "add.apply_async((1,), queue='elsewhere')")
    await store.redis.lpush("default", "a message without a record")
    said = await output_of(celery_command("purge", "--force"), workers.environment(**BOTH))
    assert "Purged 4 messages" in said
    assert [(await store.get(task_id)).status for task_id in ids] == [Status.CANCELLED] * 3
    assert (await store.get(other)).status is Status.PENDING
    assert "No messages purged" in await output_of(celery_command("purge", "--force"), workers.environment(**BOTH))


async def test_tools_see_a_redis_broker(workers: Workers) -> None:
    uris = "app.connection().as_uri(), app.connection_for_write().as_uri(include_password=True)"
    (found,) = await evaluate(workers, f"[{uris}]")
    assert [uri.partition(":")[0] for uri in found] == ["redis", "redis"]
