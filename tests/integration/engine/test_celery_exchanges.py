"""Exchanges, routing keys and broadcasts of a project's own, on Redis and on RabbitMQ."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from kombu import Connection

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.calls.routes import matches
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import operator_of
from tests.kit.workers.celery_processes import celery_command, output_of
from tests.kit.workers.engine_workers import (
    WorkerProcess,
    Workers,
    ended,
    has_record,
    ran,
    statuses,
    workers_on_a_server,
)

EXCHANGES = "tests.kit.workers.celery_exchanges"
AMQP = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
NAMES = ("plain", "images", "films", "rushes", "first")


@dataclass
class Project:
    """A project with two workers on one broker; `prefix` begins the names of its exchanges and queues."""

    workers: Workers
    prefix: str
    settings: dict[str, Any]
    running: list[WorkerProcess]

    @property
    def broker(self) -> str:
        return str(self.settings.get("broker_url", self.workers.redis_url))

    async def publish_as_stranger(self, *calls: tuple[str, str, int]) -> list[str]:
        """Publish with a stock app that knows the exchanges; returns the ids."""
        program = f"""
from celery import Celery
from kombu import Exchange
app = Celery("stranger", broker={self.broker!r})
with app.connection_for_write() as connection:
    for name, kind in (("media", "topic"), ("all", "fanout")):
        Exchange("{self.prefix}-" + name, kind)(connection.default_channel).declare()
    for exchange, routing_key, number in {list(calls)!r}:
        address = dict(exchange="{self.prefix}-" + exchange, routing_key=routing_key, exchange_type="topic")
        print(app.send_task("{EXCHANGES}.looks", [number], connection=connection, **address).id)
"""
        return (await output_of([*PYTHON, program], self.workers.environment(**self.settings))).split()

    async def publish(self, *expressions: str) -> list[str]:
        """Evaluate expressions that publish tasks, in a process of its own; returns the ids of their results."""
        program = f"from {EXCHANGES} import *\n" + "\n".join(f"print(({each}).id)" for each in expressions)
        return (await output_of([*PYTHON, program], self.workers.environment(**self.settings))).split()


PYTHON = [celery_command()[0], "-c"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["redis", "rabbitmq"])
async def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Project]:
    prefix = f"celeriac-test-{uuid.uuid4().hex[:8]}"
    settings: dict[str, Any] = {"imports": [EXCHANGES]}
    if request.param == "rabbitmq":
        settings["broker_url"] = AMQP
    async with workers_on_a_server(tmp_path_factory.mktemp("exchanges")) as (workers, store):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EXCHANGES", prefix)
            running = [await workers.start(store, **settings) for _ in range(2)]
            # They announce themselves a moment before they have queues for what is broadcast.
            names = [known.worker_id for known in await store.workers()]
            broker = str(settings.get("broker_url", workers.redis_url))
            async with operator_of(broker) as operator:
                await operator.ask("ping", workers=2, destination=names)
            yield Project(workers, prefix, settings, running)
        assert all(worker.alive for worker in running), running[0].said()
        workers.kill_all()
    if request.param == "rabbitmq":
        with Connection(AMQP) as connection:
            for name in NAMES:
                connection.default_channel.queue_delete(f"{prefix}-{name}")
            for name in ("media", "steps", "all"):
                connection.default_channel.exchange_delete(f"{prefix}-{name}")


@pytest.fixture
async def store(project: Project) -> AsyncIterator[TaskStore]:
    async with TaskStore(project.workers.redis_url, Settings().store) as connected:
        yield connected


async def test_a_call_by_exchange_and_key_has_the_record_of_the_queue_that_it_goes_to(
    project: Project, store: TaskStore
) -> None:
    prefix = project.prefix
    ids = await project.publish(
        "looks.apply_async((1,), exchange=f'{P}-media', routing_key='media.image.png')",
        "looks.apply_async((2,), exchange=f'{P}-media', routing_key='media.image.raw.tiff')",
        "looks.apply_async((3,), exchange=f'{P}-media', routing_key='media.film.reel')",
        "looks.apply_async((4,), exchange=f'{P}-steps', routing_key='first')",
        "looks.apply_async((5,), exchange=STEPS, routing_key='first', priority=3, countdown=0.5)",
        "looks.apply_async((6,), queue=f'{P}-first')",
        "looks.apply_async((7,), queue=f'{P}-plain')",
    )
    tasks = [await ended(store, task_id) for task_id in ids]
    assert [(task.group, task.result) for task in tasks] == [
        (f"{prefix}-images", 1),
        (f"{prefix}-images", 2),
        (f"{prefix}-films", 3),
        (f"{prefix}-first", 4),
        (f"{prefix}-first", 5),
        (f"{prefix}-first", 6),
        (f"{prefix}-plain", 7),
    ]
    assert [len(await ran(store, task_id)) for task_id in ids] == [1] * 7
    assert (await statuses(store, ids[4]))[0] == "SCHEDULED"


async def test_a_strangers_call_by_exchange_is_recorded_by_the_queue_that_it_came_from(
    project: Project, store: TaskStore
) -> None:
    prefix = project.prefix
    ids = await project.publish_as_stranger(("media", "media.image.png", 1), ("media", "media.film.reel", 2))
    for task_id, name in zip(ids, ("images", "films"), strict=True):
        await eventually(partial(has_record, store, task_id), because="a worker records it")
        assert (await ended(store, task_id)).group == f"{prefix}-{name}"


async def test_an_exchange_that_leads_to_two_queues_runs_a_call_in_both(project: Project, store: TaskStore) -> None:
    (task_id,) = await project.publish(
        "looks.apply_async((1,), exchange=f'{P}-media', routing_key='media.film.rush')",
    )

    async def ran_twice() -> bool:
        return len(await ran(store, task_id)) == 2

    await eventually(ran_twice, because="both queues have a copy of it")
    task = await ended(store, task_id)
    assert (task.status, task.attempt) == (Status.COMPLETED, 1)
    assert task.group in (f"{project.prefix}-films", f"{project.prefix}-rushes")


async def test_a_broadcast_runs_once_in_each_worker_and_has_no_record(project: Project, store: TaskStore) -> None:
    ids = await project.publish(
        "looks.apply_async((1,), queue=f'{P}-all')",
        "looks.apply_async((2,), exchange=f'{P}-all', routing_key='default')",
    )
    ids += await project.publish_as_stranger(("all", "default", 3))
    for task_id in ids:

        async def ran_in_both(task_id: str = task_id) -> bool:
            return len(set(await ran(store, task_id))) == 2

        await eventually(ran_in_both, because="each worker runs it")
        assert len(await ran(store, task_id)) == 2
        assert not await has_record(store, task_id)
    (read,) = await project.publish("looks.apply_async((4, 5), queue=f'{P}-all')")
    program = f"from {EXCHANGES} import *\nprint(looks.AsyncResult({read!r}).get(timeout=20))"
    assert await output_of([*PYTHON, program], project.workers.environment(**project.settings)) == "9\n"
    for worker in project.running:
        assert worker.said().count(f"calls through the exchange {project.prefix}-all have no records") == 1


async def test_what_a_broadcast_retries_is_broadcast_again(project: Project, store: TaskStore) -> None:
    (task_id,) = await project.publish("comes_again.apply_async(queue=f'{P}-all')")

    async def retried() -> bool:
        # Each of two workers retries it, and each retry goes to both.
        return sorted(await ran(store, task_id)) == ["until 0"] * 4 + ["until 1"] * 2

    await eventually(retried, because="each worker runs what each worker retries")
    assert not await has_record(store, task_id)


async def test_a_retry_with_other_arguments_stays_in_its_queue(project: Project, store: TaskStore) -> None:
    (task_id,) = await project.publish(
        "comes_again.apply_async((2,), exchange=f'{P}-media', routing_key='media.image.png')"
    )
    task = await ended(store, task_id)
    assert (task.status, task.attempt, task.group) == (Status.COMPLETED, 3, f"{project.prefix}-images")
    assert await ran(store, task_id) == ["until 2", "until 1", "until 0"]


async def test_a_call_that_gets_the_headers_of_its_caller_has_a_record_of_its_own(
    project: Project, store: TaskStore
) -> None:
    for queue in ("plain", "all"):
        (task_id,) = await project.publish(f"passes_on.apply_async(queue=f'{{P}}-{queue}')")
        if queue == "all":
            program = f"from {EXCHANGES} import *\nprint(passes_on.AsyncResult({task_id!r}).get(timeout=20))"
            passed = (await output_of([*PYTHON, program], project.workers.environment(**project.settings))).strip()
        else:
            passed = str((await ended(store, task_id)).result)
        assert (await ended(store, passed)).result == 1


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c", "a.b", ""]),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "b.a", "ab"]),
        ("#.z", ["z", "y.z"], ["z.y", "a"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.z.b"]),
        ("#", ["", "a", "a.b"], []),
        ("a.b", ["a.b"], ["a", "a.b.c"]),
    ],
)
def test_the_patterns_of_topics_are_those_of_rabbitmq(pattern: str, fitting: list[str], others: list[str]) -> None:
    for key in [*fitting, *others]:
        assert matches(pattern.split("."), key.split(".")) is (key in fitting), key
