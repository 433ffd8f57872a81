"""Projects that know only Celery, adopted by one line: what they had goes on, and each task has a record."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import REPOSITORY
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import output_of
from tests.kit.workers.engine_workers import Workers, ended, workers_on_a_server

PROJECT = "tests.kit.workers.adopted_project"
#: The store of the fixture belongs to the module's loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")
RABBIT = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


@dataclass(frozen=True)
class Shop:
    """A running project: its environment with and without the line, and its store."""

    workers: Workers
    store: TaskStore
    environment: Mapping[str, str]

    async def ask(self, expression: str, *, adopted: bool = True) -> Any:
        """Evaluate an expression in a process of the project and return it; an exception is its class and arguments."""
        program = f"""
import json
from {PROJECT} import *
from celery import chain, chord, group
try:
    found = {expression}
except Exception as exc:
    found = [type(exc).__name__, *exc.args]
print(json.dumps(found))
"""
        environment = {**self.environment, **({"ADOPTED": "1"} if adopted else {})}
        return orjson.loads(await output_of([sys.executable, "-c", program], environment))


def environment_of(workers: Workers, **more: str) -> dict[str, str]:
    """Return the environment of a project on the workers' server; its broker is the only address that it knows."""
    found = {**workers.environment(imports=[]), "SHOP_BROKER": workers.redis_url, **more}
    del found["REDIS_URL"]
    return found


def celery_worker() -> list[str]:
    """Return a worker's command line of Celery's own; each worker has a name of its own."""
    name = f"{uuid.uuid4().hex[:6]}@%h"
    return [sys.executable, "-m", "celery", "-A", PROJECT, "worker", "-c", "2", "-n", name, "--without-mingle"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """An adopted project on prefork, with Redis for messages and Redis for results."""
    async with workers_on_a_server(tmp_path_factory.mktemp("shop")) as (workers, store):
        environment = environment_of(workers, SHOP_RESULTS=workers.redis_url.removesuffix("/0") + "/1")
        worker = await workers.start_command(store, celery_worker(), environment={**environment, "ADOPTED": "1"})
        yield Shop(workers, store, environment)
        assert worker.alive, worker.said()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("early.delay(1).get(timeout=20)", 2),
        ("add.delay(1, 2).get(timeout=20)", 3),
        ("logged.delay('x').get(timeout=20)", ["logged", "x"]),
        ("again.delay(2).get(timeout=20)", 2),
        ("packs.delay(4).get(timeout=20)", "packed"),
        ("fails.delay('pen').get(timeout=20)", ["OutOfStockError", "pen", 3]),
        ("chord([add.s(1, 1), add.s(2, 2)])(total.s()).get(timeout=20)", 6),
        ("chain(add.s(1, 1), add.s(5), add.s(6)).delay().get(timeout=20)", 13),
        ("group(add.s(1, 1), add.s(1, 2)).delay().get(timeout=20)", [2, 3]),
        ("app.conf.result_backend.startswith('redis://') and type(app.backend).__name__", "RedisBackend"),
    ],
)
@pytest.mark.parametrize("adopted", [True, False], ids=["from the project", "from a program that is not adopted"])
async def test_calls_of_a_project_run_as_ever(shop: Shop, expression: str, expected: Any, adopted: bool) -> None:
    assert await shop.ask(expression, adopted=adopted) == expected


async def test_each_task_has_its_record_with_progress_attempts_and_failure(shop: Shop) -> None:
    ids = await shop.ask("[call.id for call in (packs.delay(4), again.delay(2), fails.delay('pen'), early.delay(1))]")
    packed, again, failed, early = [await ended(shop.store, task_id) for task_id in ids]
    assert (packed.status, packed.result, packed.progress.percentage) == (Status.COMPLETED, "packed", 100)
    assert (packed.group, packed.type) == ("celery", "shop.packs")
    assert (again.status, again.attempt) == (Status.COMPLETED, 3)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.message == "OutOfStockError: ('pen', 3)"
    assert (early.status, early.result) == (Status.COMPLETED, 2)


async def test_a_worker_that_is_killed_loses_nothing(shop: Shop, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    environment = {**shop.environment, "ADOPTED": "1", "SHOP_QUEUE": "fragile"}
    first = await shop.workers.start_command(shop.store, celery_worker(), environment=environment)
    (task_id,) = await shop.ask(f"[add.apply_async((1, 2, 0, {str(gate)!r}), queue='fragile').id]")

    async def running() -> bool:
        return (await shop.store.get(task_id)).status is Status.PROCESSING

    await eventually(running, because="the task runs")
    first.kill()
    gate.touch()
    await shop.workers.start_command(shop.store, celery_worker(), environment=environment)
    task = await ended(shop.store, task_id)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, 3, 2)
    assert await shop.ask(f"app.AsyncResult({task_id!r}).get(timeout=10)") == 3


async def waited_ms(shop: Shop, pool: str) -> float:
    """Return how long a task waits for a worker that runs one at a time, and has just ended one (ms, the median)."""
    environment = {**shop.environment, "ADOPTED": "1", "SHOP_QUEUE": pool}
    command = [*celery_worker(), "--pool", pool, "-c", "1", "--without-gossip"]
    worker = await shop.workers.start_command(shop.store, command, environment=environment)
    one = f"add.apply_async((1, 2, 0.02), queue={pool!r})"
    ids = await shop.ask(f"[call.id for call in ({one} for _ in range(12)) if call.get(timeout=60)]")
    tasks = [await ended(shop.store, task_id) for task_id in ids]
    worker.kill()
    return statistics.median((task.started_at - task.created_at).total_seconds() * 1000 for task in tasks)


@pytest.mark.parametrize("pool", ["threads", pytest.param("gevent", marks=pytest.mark.fresh_python)])
async def test_a_full_pool_takes_the_next_task_as_soon_as_it_has_room(shop: Shop, pool: str) -> None:
    # A worker that only its timers wake sleeps for one or two seconds; `solo` has nothing to wait for.
    assert await waited_ms(shop, pool) < 30 * max(await waited_ms(shop, "solo"), 1)


Command = Callable[[], list[str]]


@pytest.mark.fresh_python
@pytest.mark.parametrize(
    ("command", "more"),
    [
        pytest.param(celery_worker, {"CELERIAC_ADOPT": "1"}, id="CELERIAC_ADOPT=1 celery worker"),
        pytest.param(
            celery_worker, {"CELERIAC_ADOPT": "1", "SHOP_POOL": "celeriac"}, id="CELERIAC_ADOPT=1, worker_pool=celeriac"
        ),
        pytest.param(
            lambda: [sys.executable, "-m", "celeriac", "worker", "-A", PROJECT, "--concurrency", "2"],
            {},
            id="celeriac worker -A",
        ),
        pytest.param(
            lambda: [sys.executable, "-m", "celeriac", "worker", "-A", f"{PROJECT}:app", "--pool", "threads"],
            {},
            id="celeriac worker -A --pool threads",
        ),
    ],
)
async def test_a_project_is_adopted_without_a_change_of_its_code(
    shop: Shop, command: Command, more: Mapping[str, str]
) -> None:
    queue = f"untouched-{uuid.uuid4().hex[:6]}"
    environment = {**shop.environment, **more, "SHOP_QUEUE": queue}
    worker = await shop.workers.start_command(shop.store, command(), environment=environment)
    task_id, value = await shop.ask(
        f"(lambda call: [call.id, call.get(timeout=20)])(add.apply_async((1, 2), queue={queue!r}))", adopted=False
    )
    assert value == 3
    task = await ended(shop.store, task_id)
    assert (task.status, task.result, task.group) == (Status.COMPLETED, 3, queue)
    worker.send(signal.SIGTERM)
    assert await worker.gone(20) == 0


async def test_without_a_result_backend_the_records_have_the_results(shop: Shop) -> None:
    queue = f"records-{uuid.uuid4().hex[:6]}"
    environment = {**shop.environment, "ADOPTED": "1", "SHOP_QUEUE": queue}
    del environment["SHOP_RESULTS"]
    await shop.workers.start_command(shop.store, celery_worker(), environment=environment)
    without = Shop(shop.workers, shop.store, environment)
    assert await without.ask("add.delay(1, 2).get(timeout=20)") == 3
    assert await without.ask("fails.delay('pen').get(timeout=20)") == ["OutOfStockError", "pen", 3]
    assert await without.ask("chord([add.s(1, 1), add.s(2, 2)])(total.s()).get(timeout=20)") == 6


async def test_a_project_on_rabbitmq_keeps_its_broker(shop: Shop) -> None:
    queue = f"celeriac-shop-{uuid.uuid4().hex[:6]}"
    environment = {
        **shop.environment,
        "ADOPTED": "1",
        "SHOP_BROKER": RABBIT,
        "SHOP_STORE": shop.workers.redis_url,
        "SHOP_QUEUE": queue,
    }
    await shop.workers.start_command(shop.store, celery_worker(), environment=environment)
    on_rabbit = Shop(shop.workers, shop.store, environment)
    task_id, value = await on_rabbit.ask("(lambda call: [call.id, call.get(timeout=20)])(add.delay(1, 2))")
    assert value == 3
    assert (await ended(shop.store, task_id)).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-A", "no_such_module"], "there is no module 'no_such_module' here"),
        (["-A", "tests.kit.waiting:eventually"], "is of the type function, not a Celery app"),
        (["-A", PROJECT, "--pool", "nonsense"], "--pool nonsense is not a pool of Celery: prefork, "),
        (["-A", PROJECT, "--pool", "gevent"], f"CELERIAC_ADOPT=1 celery -A {PROJECT} worker -P gevent"),
        (["-A", PROJECT, "--pool", "eventlet"], "the pool eventlet is not supported"),
        (["--pool", "threads"], "--pool needs --app"),
    ],
)
async def test_a_worker_that_cannot_start_says_why_in_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "SHOP_BROKER": "redis://127.0.0.1:1/0"}
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "celeriac", "worker", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2, out.decode()
    (line,) = out.decode().strip().splitlines()
    assert sentence in line
