"""Celery's events of a project's tasks: the same as from a stock worker, and of ends that no worker makes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import EventListener, events_of
from tests.kit.workers.celery_processes import output_of
from tests.kit.workers.engine_workers import WorkerProcess, Workers, workers_on_a_server

PROJECT = "tests.kit.workers.adopted_project"
pytestmark = pytest.mark.asyncio(loop_scope="module")
#: What differs from run to run. A traceback has frames of who ran the task.
VARYING = frozenset(
    ["uuid", "root_id", "parent_id", "hostname", "timestamp", "local_received", "clock", "pid", "runtime", "traceback"]
)


@dataclass
class Side:
    """A project with a worker, and what is heard of it."""

    workers: Workers
    store: TaskStore
    environment: dict[str, str]
    events: EventListener

    async def publish(self, call: str) -> str:
        """Publish a call of the project; returns its id."""
        program = f"from {PROJECT} import *\napp.conf.task_send_sent_event = True\nprint(({call}).id)"
        return (await output_of([sys.executable, "-c", program], self.environment)).strip()

    async def told(self, task_id: str, last: str) -> list[dict[str, Any]]:
        """Return the events of a task, the last one included."""

        async def complete() -> bool:
            return any(event["type"] == last for event in self.events.of_task(task_id))

        await eventually(complete, because=f"{last} of {task_id} is heard", timeout_s=30)
        return sorted(self.events.of_task(task_id), key=lambda event: int(event["clock"]))


def command(name: str) -> list[str]:
    options = ["-c", "1", "-E", "-n", f"{name}@here", "--without-mingle", "--without-gossip"]
    return [sys.executable, "-m", "celery", "-A", PROJECT, "worker", *options]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Side, Side]]:
    """The same project, adopted and as it was, each in a database of its own, on prefork."""
    async with workers_on_a_server(tmp_path_factory.mktemp("events")) as (workers, store):
        plain = workers.environment(imports=[])
        del plain["REDIS_URL"]
        brokers = [workers.redis_url, workers.redis_url.removesuffix("/0") + "/1"]
        ours = {**plain, "SHOP_BROKER": brokers[0], "SHOP_RESULTS": brokers[0], "ADOPTED": "1"}
        theirs = {**plain, "SHOP_BROKER": brokers[1], "SHOP_RESULTS": brokers[1]}
        async with events_of(brokers[0]) as heard, events_of(brokers[1]) as heard_of_stock:
            stock = WorkerProcess(workers.folder, command("stock"), theirs)
            workers.all.append(stock)
            await workers.start_command(store, command("ours"), environment=ours)
            yield Side(workers, store, ours, heard), Side(workers, store, theirs, heard_of_stock)


@pytest.mark.parametrize(
    ("call", "sequence"),
    [
        ("add.delay(1, b=2)", ["received", "started", "succeeded"]),
        ("fails.delay('pen')", ["received", "started", "failed"]),
        ("again.delay(1)", ["received", "started", "retried", "received", "started", "succeeded"]),
    ],
    ids=["succeeds", "fails", "retries"],
)
async def test_a_monitor_hears_the_same_of_a_task_as_from_a_stock_worker(
    sides: tuple[Side, Side], call: str, sequence: list[str]
) -> None:
    told: list[list[dict[str, Any]]] = []
    for side in sides:
        events = await side.told(await side.publish(call), f"task-{sequence[-1]}")
        assert all(event["traceback"] for event in events if event["type"] in ("task-failed", "task-retried"))
        told.append(events)
    ours = told[0]
    assert [event["type"] for event in ours if event["type"] != "task-sent"] == [f"task-{kind}" for kind in sequence]
    # The clocks of publisher and worker differ, and a stock worker retries before it says so.
    ours, stock = [sorted(events, key=lambda event: str(event["type"])) for events in told]
    assert [event["type"] for event in ours] == [event["type"] for event in stock]
    for our, their in zip(ours, stock, strict=True):
        assert our.keys() == their.keys(), our["type"]
        if our["type"] == "task-received" and our["retries"]:
            # Its wait is over when the message comes.
            their = {**their, "eta": None}
        differences = {name: (our[name], their[name]) for name in our.keys() - VARYING if our[name] != their[name]}
        assert differences == {}, our["type"]


@pytest.mark.parametrize(
    ("options", "expired"),
    [("countdown=3600", False), ("countdown=3600, expires=0.5", True)],
    ids=["revoked", "expired"],
)
async def test_a_monitor_hears_once_of_a_task_that_ends_while_it_waits(
    sides: tuple[Side, Side], options: str, expired: bool
) -> None:
    side, _ = sides
    task_id = await side.publish(f"add.apply_async((1, 2), {options})")
    if not expired:
        await side.store.cancel(task_id)
    events = [event for event in await side.told(task_id, "task-revoked") if event["type"] != "task-sent"]
    assert [event["type"] for event in events] == ["task-revoked"]
    assert (events[0]["expired"], events[0]["terminated"]) == (expired, False)
