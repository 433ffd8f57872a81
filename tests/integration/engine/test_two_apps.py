"""A platform worker of all groups beside the workers of an adopted project, on one store."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.unknown_tasks import unknown_tasks
from celeriac.store.waits import read_waits
from celeriac.tasks.why import why_of
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import output_of
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, submit, workers_on_a_server

PROJECT = "tests.kit.workers.adopted_project"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Workers, TaskStore, WorkerProcess]]:
    """A platform worker of all groups, which does not know the project; an operator limited the project's queue."""
    async with workers_on_a_server(tmp_path_factory.mktemp("two")) as (workers, store):
        await publish(workers, "add.delay(0, 0)")
        platform = await workers.start(store, groups={"celery": {"max_queue_length": 1000}})
        yield workers, store, platform


async def publish(workers: Workers, *calls: str) -> list[str]:
    """Publish calls of the project's tasks; returns their ids."""
    program = f"from {PROJECT} import *\n" + "\n".join(f"print(({call}).id)" for call in calls)
    return (await output_of([sys.executable, "-c", program], environment_of(workers))).split()


def environment_of(workers: Workers, **more: str) -> dict[str, str]:
    found = {**workers.environment(imports=[]), "SHOP_BROKER": workers.redis_url, "ADOPTED": "1", **more}
    del found["REDIS_URL"]
    return found


async def shop_worker(workers: Workers, store: TaskStore, queue: str) -> WorkerProcess:
    command = [sys.executable, "-m", "celery", "-A", PROJECT, "worker", "-c", "1", "-P", "threads", "--without-mingle"]
    return await workers.start_command(
        store, [*command, "-n", f"{queue}@shop"], environment=environment_of(workers, SHOP_QUEUE=queue)
    )


async def test_a_worker_of_all_groups_leaves_the_groups_of_another_app_alone(
    running: tuple[Workers, TaskStore, WorkerProcess],
) -> None:
    workers, store, platform = running
    first, second, elsewhere = await publish(
        workers, "add.delay(1, 2)", "add.delay(3, 4)", "add.apply_async((5, 6), queue='packing')"
    )
    # The worker hears of a new group after those, and has had its turn with all of them when it is done.
    for group in ("fresh", "packing-fresh"):
        assert (await ended(store, await submit(store, "noop", group=group))).status is Status.COMPLETED
    assert await store.redis.llen("celery") == 3
    assert await store.redis.llen("packing") == 1
    assert (await store.get(first)).status is Status.PENDING
    group = await store.group("celery")
    assert (group.workers, group.unserved) == (0, 3)
    assert "celery" not in {name for worker in await store.workers() for name in worker.groups}
    assert "shop.add" not in platform.said()

    await shop_worker(workers, store, "celery")
    assert [(await ended(store, task_id)).result for task_id in (first, second)] == [3, 7]
    assert (await store.group("celery")).workers == 1
    assert (await store.get(elsewhere)).status is Status.PENDING


async def test_a_task_that_a_worker_does_not_know_waits_for_another_worker_and_people_hear_of_it(
    running: tuple[Workers, TaskStore, WorkerProcess],
) -> None:
    workers, store, platform = running
    # Both apps use this group.
    (task_id,) = await publish(workers, "add.apply_async((1, 2), queue='default')")

    async def noted() -> bool:
        return ("shop.add", "default") in await unknown_tasks(store)

    await eventually(noted, because="the platform's worker took the message")
    await eventually(lambda: "does not know the task shop.add in default" in platform.said(), because="it says so")
    assert [reason.code for reason in why_of(await read_waits(store, task_id)).reasons] == ["no_worker", "position"]
    assert (await ended(store, await submit(store, "noop"))).status is Status.COMPLETED
    assert (await store.get(task_id)).status is Status.PENDING
    assert await store.redis.zscore(keys.waiting("default"), task_id) is not None

    platform.send(signal.SIGTERM)
    await platform.gone(20)
    assert platform.said().count("does not know the task shop.add") == 1
    await shop_worker(workers, store, "default")
    task = await ended(store, task_id)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, 3, 1)
