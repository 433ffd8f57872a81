"""All commands of Celery's panel (`celery inspect`, `celery control`) to a real worker of all groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from celery.worker.control import Panel

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import Operator, operator_of
from tests.kit.workers.celery_processes import BOTH, celery_command, publish
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, runs, submit, workers_on_a_server

NAPS = "tests.kit.workers.celery_plain.naps"
ADD = "tests.kit.workers.celery_plain.add"


class Running:
    """A worker and who commands it."""

    def __init__(self, pool: str, workers: Workers, worker: WorkerProcess) -> None:
        self.pool = pool
        self.workers = workers
        self.worker = worker


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own", "prefork"])
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with workers_on_a_server(tmp_path_factory.mktemp("control")) as (workers, store):
        pool = ["-P", "prefork", "-c", "2"] if request.param == "prefork" else ["-c", "4"]
        command = celery_command("worker", *pool, "-n", "w@here", "-l", "warning", "--without-gossip")
        worker = await workers.start_command(store, command, **{**BOTH, "worker__follow_interval": 0.1})
        yield Running(request.param, workers, worker)


@pytest.fixture
async def store(running: Running) -> AsyncIterator[TaskStore]:
    async with TaskStore(running.workers.redis_url, Settings().store) as connected:
        yield connected


@pytest.fixture
async def operator(running: Running) -> AsyncIterator[Operator]:
    async with operator_of(running.workers.redis_url) as one:
        yield one


#: What each command is given, and what its answer must be: a value, or a part of its text.
COMMANDS: dict[str, tuple[dict[str, Any], Any]] = {
    "ping": ({}, {"ok": "pong"}),
    "report": ({}, "software -> celery:"),
    "conf": ({}, "redis://"),
    "clock": ({}, "clock"),
    "stats": ({}, "prefetch_count"),
    "hello": ({"from_node": "operator@here"}, "clock"),
    "memsample": ({}, None),
    "memdump": ({}, None),
    "objgraph": ({}, "ImportError"),
    "registered": ({}, NAPS),
    "active_queues": ({}, "default"),
    "active": ({}, []),
    "reserved": ({}, []),
    "scheduled": ({}, []),
    "revoked": ({}, []),
    "query_task": ({"ids": ["nothing"]}, {}),
    "revoke": ({"task_id": "earlier"}, {"ok": "tasks earlier are being cancelled"}),
    "terminate": ({"task_id": "nothing", "signal": "TERM"}, "ok"),
    "revoke_by_stamped_headers": (
        {"headers": {"none": ["x"]}},
        {"ok": "headers {'none': ['x']} flagged as revoked, but not terminated"},
    ),
    "rate_limit": ({"task_name": ADD, "rate_limit": "100/s"}, {"ok": "new rate limit set successfully"}),
    "time_limit": ({"task_name": NAPS, "soft": 50, "hard": 60}, {"ok": "time limits set successfully"}),
    "election": ({"id": "one", "topic": "none"}, None),
    # With `worker_send_task_events`, Celery sends all events whatever it is told.
    "enable_events": ({}, {"ok": "task events already enabled"}),
    "disable_events": ({}, {"ok": "task events already disabled"}),
    "heartbeat": ({}, None),
    # Celery's own pool of processes may hang after a real change, also with a stock app.
    "pool_grow": ({"n": 0}, {"ok": "pool will grow"}),
    "pool_shrink": ({"n": 0}, {"ok": "pool will shrink"}),
    "pool_restart": ({}, "Pool restarts not enabled"),
    "autoscale": ({"max": 3, "min": 1}, "Autoscale not enabled"),
    "add_consumer": ({"queue": "more"}, {"ok": "add consumer more"}),
    "cancel_consumer": ({"queue": "more"}, {"ok": "no longer consuming from more"}),
    "shutdown": ({}, None),
}


async def test_each_command_of_the_panel_is_answered_as_by_celery(running: Running, operator: Operator) -> None:
    assert set(COMMANDS) == set(Panel.meta)
    for name, (arguments, expected) in COMMANDS.items():
        if name == "shutdown":
            continue
        answer = await operator.ask_one(name, **arguments)
        if isinstance(expected, str):
            assert expected in str(answer), name
        elif expected is not None:
            assert answer == expected, name
    # For the tests after this one.
    await operator.ask_one("rate_limit", task_name=ADD, rate_limit="0")
    assert running.worker.alive


async def test_a_queue_that_the_worker_is_to_leave_is_left_until_it_is_to_serve_it_again(
    running: Running, store: TaskStore, operator: Operator
) -> None:
    async def queues() -> set[str]:
        return {queue["name"] for queue in await operator.ask_one("active_queues")}

    async def shown() -> tuple[str, ...]:
        return (await store.workers())[0].groups

    for name in ("default", "guest"):
        (task_id,) = await publish(running.workers, f"add.apply_async((1,), queue={name!r})")
        await ended(store, task_id)
        await operator.ask_one("cancel_consumer", queue=name)
        await eventually(lambda left=name: _is_not_in(left, queues), because=f"{name} is left")
        # With this task the worker asks for messages anew.
        await ended(store, await submit(store, "noop", group=f"{name}-before"))
        (waiting,) = await publish(running.workers, f"add.apply_async((1,), queue={name!r})")
        # Looks that a worker of all groups has had meanwhile: it serves other new groups.
        for other in ("other", "another"):
            assert (await ended(store, await submit(store, "noop", group=f"{name}-{other}"))).status is Status.COMPLETED
        assert (await store.get(waiting)).status is Status.PENDING
        assert name not in await queues()
        await eventually(lambda left=name: _is_not_in(left, shown), because="operators see that it is left")
        await operator.ask_one("add_consumer", queue=name)
        assert (await ended(store, waiting)).status is Status.COMPLETED
        assert name in await queues()


async def _is_not_in(name: str, queues: Any) -> bool:
    return name not in await queues()


async def test_a_revoked_task_is_cancelled_while_it_waits_and_while_it_runs_in_an_app_of_the_platforms_own(
    running: Running, store: TaskStore, operator: Operator
) -> None:
    waiting, going = await publish(running.workers, "add.apply_async((1,), countdown=900)", "naps.delay(60)")
    await runs(store, going)
    await operator.ask_one("revoke", task_id=[waiting, going])
    for task_id in (waiting, going):
        assert (await ended(store, task_id)).status is Status.CANCELLED
    # A worker that remembered it would discard the next run.
    await store.retry(waiting)
    assert (await ended(store, waiting)).status is Status.COMPLETED


async def test_limits_that_control_sets_hold(running: Running, store: TaskStore, operator: Operator) -> None:
    assert "ok" in await operator.ask_one("time_limit", task_name=NAPS, soft=3, hard=50)
    (task_id,) = await publish(running.workers, "naps.delay(60)")
    error = (await ended(store, task_id)).error
    assert error is not None
    assert "SoftTimeLimitExceeded" in error.message
    await operator.ask_one("time_limit", task_name=NAPS)

    assert "ok" in await operator.ask_one("rate_limit", task_name=ADD, rate_limit="2/s")
    ids = await publish(running.workers, *["add.delay(1)"] * 5)
    begun = sorted([(await ended(store, task_id)).started_at for task_id in ids])
    assert (begun[-1] - begun[0]).total_seconds() > 1.8
    await operator.ask_one("rate_limit", task_name=ADD, rate_limit="0")


async def test_the_platforms_own_pool_grows_and_shrinks(running: Running, operator: Operator) -> None:
    if running.pool == "prefork":
        return

    async def slots() -> int:
        return int((await operator.ask_one("stats"))["pool"]["threads"]["limit"])

    before = await slots()
    await operator.ask_one("pool_grow", n=2)
    await eventually(lambda: _is(slots, before + 2), because="it grows")
    await operator.ask_one("pool_shrink", n=2)
    await eventually(lambda: _is(slots, before), because="it shrinks")


async def _is(count: Any, expected: int) -> bool:
    return await count() == expected


async def test_shutdown_ends_the_worker_in_good_order(running: Running, operator: Operator) -> None:
    operator.app.control.shutdown()
    assert await running.worker.gone(20) == 0
