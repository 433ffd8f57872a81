"""`celery inspect` about tasks that wait in the store, asked by a stock Celery app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import Operator, operator_of
from tests.kit.workers.celery_processes import BOTH, celery_command, output_of, publish
from tests.kit.workers.engine_workers import Workers, runs, submit, workers_on_a_server

#: The keys of a request in Celery 5.7.
REQUEST = {
    *("id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid")
}  # fmt: skip
ADD = "tests.kit.workers.celery_plain.add"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own", "prefork"])
async def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server, and two workers of both kinds of groups: one serves all, one serves `default` and `side` by name."""
    async with workers_on_a_server(tmp_path_factory.mktemp("inspect")) as (started, store):
        settings = {**BOTH, "worker__inspected": 3}
        pool = ["-P", "prefork", "-c", "1"] if request.param == "prefork" else ["-c", "2"]
        for name, queues in (("all", []), ("named", ["-Q", "default,side"])):
            command = celery_command("worker", *pool, "-n", f"{name}@here", "-l", "warning", *queues)
            await started.start_command(store, command, **settings)
        yield started


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


@pytest.fixture
async def operator(workers: Workers) -> AsyncIterator[Operator]:
    async with operator_of(workers.redis_url) as one:
        yield one


async def test_tasks_with_an_eta_are_scheduled_the_soonest_first_and_each_is_there_once(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    before = datetime.now(UTC)
    later, sooner, last, elsewhere = await publish(
        workers,
        "add.apply_async((1,), {'b': 2}, countdown=2000)",
        "add.apply_async((1,), countdown=1000)",
        "add.apply_async((1,), countdown=9000)",
        "add.apply_async((1,), countdown=500, queue='beside')",
    )
    found = await operator.ask("scheduled", workers=2)
    assert sorted(found) == ["all@here", "named@here"]
    # `all` comes first by name, and serves each group.
    assert [item["request"]["id"] for item in found["all@here"]] == [elsewhere, sooner, later]
    assert found["named@here"] == []
    item = found["all@here"][2]
    request = item["request"]
    assert (item.keys(), request.keys()) == ({"eta", "priority", "request"}, REQUEST)
    assert abs(datetime.fromisoformat(item["eta"]) - before - timedelta(seconds=2000)) < timedelta(seconds=60)
    assert (request["name"], request["type"], request["args"], request["kwargs"]) == (ADD, ADD, [1], {"b": 2})
    assert (request["hostname"], request["time_start"], request["acknowledged"]) == ("all@here", None, False)
    assert (request["delivery_info"]["routing_key"], item["priority"]) == ("default", 6)
    for task_id in (later, sooner, last, elsewhere):
        await store.cancel(task_id)
    assert (await operator.ask("scheduled", workers=2))["all@here"] == []


async def test_waiting_tasks_are_reserved_by_one_worker_of_their_group(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    await store.pause("side")
    ids = await publish(workers, *(f"add.apply_async(({n},), queue='side')" for n in range(5)))
    found = await operator.ask("reserved", workers=2)
    assert [request["id"] for request in found["all@here"]] == ids[:3]
    assert (found["all@here"][1].keys(), found["all@here"][1]["args"]) == (REQUEST, [1])
    assert found["named@here"] == []
    asked = await operator.ask("query_task", workers=2, ids=[ids[4], "nothing"])
    assert (list(asked["all@here"]), asked["named@here"]) == ([ids[4]], {})
    state, request = asked["all@here"][ids[4]]
    assert (state, request["args"]) == ("reserved", [4])
    for task_id in ids:
        await store.cancel(task_id)
    await store.resume("side")


async def test_a_running_task_is_active_and_not_reserved(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    (task_id,) = await publish(workers, "naps.delay(60)")
    await runs(store, task_id)

    async def is_active() -> bool:
        active = await operator.ask("active", workers=2)
        found = [request["id"] for requests in active.values() for request in requests]
        assert found in ([], [task_id])
        return bool(found)

    await eventually(is_active, because="the process of the pool has told its worker that it runs")
    assert [*(await operator.ask("reserved", workers=2)).values()] == [[], []]
    asked = await operator.ask("query_task", workers=2, ids=[task_id])
    assert [found[task_id][0] for found in asked.values() if found] == ["active"]
    await store.cancel(task_id)
    await eventually(lambda: _nothing_active(operator), because="it stops")


async def _nothing_active(operator: Operator) -> bool:
    return not any((await operator.ask("active", workers=2)).values())


async def test_arguments_of_a_registered_type_are_keywords_and_secrets_and_long_ones_are_not_shown_whole(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    await store.pause("aside")
    plain = await submit(store, "noop", {"x": 1}, group="aside")
    secret = await submit(store, "noop", {"key": "s3cret"}, group="aside", secret_fields=("key",))
    long = await submit(store, "noop", {"x": "y" * 100_000}, group="aside")
    found: list[dict[str, Any]] = []

    async def listed() -> bool:
        found[:] = (await operator.ask("reserved", workers=2))["all@here"]
        return len(found) == 3

    await eventually(listed, because="the worker of all groups serves the new one")
    shown = {request["id"]: request for request in found}
    assert (shown[plain]["args"], shown[plain]["kwargs"]) == ([], {"x": 1})
    assert "s3cret" not in str(shown)
    assert len(str(shown[long]["kwargs"])) < 3000
    for task_id in (plain, secret, long):
        await store.cancel(task_id)
    await store.resume("aside")


async def test_the_command_line_of_celery_prints_what_waits(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    (task_id,) = await publish(workers, "add.apply_async((1,), countdown=1000)")
    await operator.ask("ping", workers=2)
    # By itself, it takes what is answered within a second.
    command = celery_command("inspect", "--timeout=30", "--destination=all@here,named@here", "scheduled")
    said = await output_of(command, workers.environment(**BOTH))
    assert task_id in said
    assert "2 nodes online" in said
    await store.cancel(task_id)


async def test_active_queues_name_the_groups_that_a_worker_of_all_groups_serves_at_present(
    workers: Workers, store: TaskStore, operator: Operator
) -> None:
    await publish(workers, "add.apply_async((1,), queue='new-one')")

    async def named() -> bool:
        found = await operator.ask("active_queues", workers=2)
        assert {queue["name"] for queue in found["named@here"]} == {"default", "side"}
        return "new-one" in {queue["name"] for queue in found["all@here"]}

    await eventually(named, because="it serves the new group")
