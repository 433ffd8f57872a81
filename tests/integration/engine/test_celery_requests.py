"""What a task finds in its request, and in which formats a call may be written: here as in stock Celery."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from kombu import Connection

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import output_of
from tests.kit.workers.engine_workers import WorkerProcess, ended, statuses, workers_on_a_server

PROJECT = "tests.kit.workers.celery_requests"
AMQP = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
CONFIG = {
    "accept_content": ["json", "pickle", "yaml", "msgpack", "application/backwards"],
    "result_accept_content": ["json", "pickle"],
    "result_serializer": "pickle",
    "worker_enable_remote_control": False,
}
COMMAND = [sys.executable, "-m", "celery", "-A", PROJECT, "worker", "-P", "threads", "-c", "2"]
#: The fixtures belong to the module's loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")
#: All that a caller may say of a call, but for its arguments.
EVERYTHING = """dict(
    app_id="shop", reply_to="answers", correlation_id="of-the-caller", message_id="m-1", type="kind",
    timestamp=1767355200, user_id="guest", priority=3, headers={"tenant": "blue", "nested": {"a": [1]}},
    shadow="shown.name", argsrepr="(hidden)", expires=3600, countdown=0.2, time_limit=50, soft_time_limit=40,
    root_id="root", parent_id="parent", group_id="group", group_index=2, stamped_headers=["colour"], colour="red",
    ignore_result=True, compression="gzip", link=counts.s().set(task_id="linked"), retry_policy={"max_retries": 1},
)"""
#: What differs between any two messages, or is the platform's own.
OWN = {
    "hostname",
    "id",
    "delivery_tag",
    "origin",
    "celeriac",
    "celeriac-times",
    "celeriac_attempt",
    "_children",
    "_protected",
}


@dataclass(frozen=True)
class Side:
    """A worker of the project, stock or adopted."""

    environment: Mapping[str, str]
    worker: WorkerProcess

    async def call(self, *expressions: str, **config: Any) -> list[str]:
        """Evaluate expressions in a process of the project and return what each gives."""
        program = f"from {PROJECT} import *\n" + "\n".join(f"print({each})" for each in expressions)
        environment = {**self.environment, "CONFIG": json.dumps({**CONFIG, **config})}
        return (await output_of([sys.executable, "-c", program], environment)).splitlines()


@dataclass(frozen=True)
class Sides:
    stock: Side
    adopted: Side
    store: TaskStore


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["redis", "rabbitmq"])
async def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sides]:
    """The project with a stock worker and with an adopted one, each on a broker of its own."""
    prefix = f"celeriac-test-{uuid.uuid4().hex[:8]}"
    on_rabbitmq = request.param == "rabbitmq"
    async with workers_on_a_server(tmp_path_factory.mktemp("requests")) as (workers, store):
        sides = []
        for name, database in (("stock", "/1"), ("adopted", "/0")):
            url = workers.redis_url.removesuffix("/0")
            environment = {
                **workers.environment(imports=[]), "SHOP_BROKER": AMQP if on_rabbitmq else url + database,
                "SHOP_RESULTS": url + database, "SHOP_NOTES": url + "/0", "SHOP_QUEUE": f"{prefix}-{name}",
                "SHOP_STORE": url + "/0" if on_rabbitmq else "", "CONFIG": json.dumps(CONFIG),
                # Celery takes pickle from root only then.
                "C_FORCE_ROOT": "1",
            }  # fmt: skip
            environment = {key: value for key, value in environment.items() if value and key != "REDIS_URL"}
            if name == "adopted":
                environment["ADOPTED"] = "1"
                # The records have the results.
                del environment["SHOP_RESULTS"]
                worker = await workers.start_command(store, COMMAND, environment=environment)
            else:
                worker = WorkerProcess(workers.folder, COMMAND, environment)
                workers.all.append(worker)
            sides.append(Side(environment, worker))
        yield Sides(sides[0], sides[1], store)
    if on_rabbitmq:
        with Connection(AMQP) as connection:
            for name in ("stock", "adopted"):
                connection.default_channel.queue_delete(f"{prefix}-{name}")


async def noted(store: TaskStore, task_id: str) -> Any:
    """Return what a task wrote down first."""

    async def found() -> Any:
        return await store.redis.lindex(f"noted:{task_id}", 0)

    return json.loads(await eventually(found, because=f"{task_id} runs"))


def compared(seen: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs between any two calls."""
    seen = {name: value for name, value in seen.items() if name not in OWN}
    # The record expires, not the message.
    seen["properties"] = {
        name: value for name, value in seen["properties"].items() if name not in {*OWN, "expiration", "delivery_info"}
    }
    for moment in ("eta", "expires"):
        assert seen[moment].startswith("20"), seen[moment]
        seen[moment] = "a moment"
    seen["properties"].pop("application_headers", None)
    seen["delivery_info"] = {**seen["delivery_info"], "routing_key": "its queue"}
    return seen


async def test_all_that_a_caller_says_arrives_in_the_request(sides: Sides) -> None:
    found = []
    for side in (sides.stock, sides.adopted):
        (task_id,) = await side.call(f"shows.apply_async((1,), {{'x': NOON}}, **{EVERYTHING}).id")
        found.append(compared(await noted(sides.store, task_id)))
    stock, adopted = found
    assert adopted == stock
    assert stock["properties"]["app_id"] == "shop", "it is there to be compared"
    assert stock["headers"]["tenant"] == "blue"
    task = await ended(sides.store, task_id)
    assert (task.status, task.payload) == (
        Status.COMPLETED, {"args": "(hidden)", "kwargs": {"x": "2026-01-02T12:00:00+00:00"}}
    )  # fmt: skip


async def test_a_call_without_options_arrives_like_a_stock_one(sides: Sides) -> None:
    found = []
    for side in (sides.stock, sides.adopted):
        (task_id,) = await side.call("shows.delay(1).id")
        seen = await noted(sides.store, task_id)
        assert (seen.pop("eta"), seen.pop("expires")) == (None, None)
        found.append(compared({**seen, "eta": "20", "expires": "20"}))
        assert found[-1].pop("correlation_id") == task_id
        assert found[-1]["properties"].pop("correlation_id") == task_id
        for name in ("root_id", "reply_to"):
            found[-1].pop(name)
        found[-1]["properties"].pop("reply_to")
    assert found[1] == found[0]


async def test_a_user_of_rabbitmq_that_is_not_ours_holds_up_no_message(sides: Sides) -> None:
    (task_id,) = await sides.adopted.call("shows.apply_async((1,), user_id='nobody', timestamp='no time').id")
    assert (await ended(sides.store, task_id)).status is Status.COMPLETED
    (following,) = await sides.adopted.call("shows.delay(1).id")
    assert (await ended(sides.store, following)).status is Status.COMPLETED


async def test_a_retry_is_not_a_redelivery(sides: Sides) -> None:
    (task_id,) = await sides.adopted.call("tries.delay().id")
    await ended(sides.store, task_id)
    assert await sides.store.redis.lrange(f"noted:{task_id}", 0, -1) == ["false", "false"]


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack", "backwards"])
async def test_a_call_in_any_accepted_serializer_runs(sides: Sides, serializer: str) -> None:
    for options in ({}, {"compression": "gzip"}, {"compression": "bzip2"}, {"compression": "lzma"}, {"countdown": 0.1}):
        (task_id,) = await sides.adopted.call(
            f"counts.apply_async((['a', 'b', {options!r}],), serializer={serializer!r}, **{options!r}).id"
        )
        task = await ended(sides.store, task_id)
        assert (task.status, task.result) == (Status.COMPLETED, 3), options
        assert task.payload == {"args": [["a", "b", options]], "kwargs": {}}


async def test_arguments_that_are_not_json_are_shown_as_celery_shows_them(sides: Sides) -> None:
    odd, own = await sides.adopted.call(
        "counts.apply_async(([{1: float('nan')}, {3}, 10 ** 400],), serializer='pickle').id",
        "counts.apply_async((Basket('a', 'b'),), serializer='pickle').id",
    )
    task = await ended(sides.store, odd)
    assert (task.result, task.payload["kwargs"]) == (3, {})
    assert task.payload["args"].startswith("([{1: nan}, {3}, 1000")
    task = await ended(sides.store, own)
    assert task.result == 2
    assert "Basket object at" in task.payload["args"]


async def test_results_in_pickle_come_back_as_they_were(sides: Sides) -> None:
    shown = await sides.adopted.call(
        "returns.apply_async(({1, 2},), serializer='pickle').get(timeout=20)",
        "returns.apply_async(({1: NOON},), serializer='pickle', compression='gzip').get(timeout=20)[1] == NOON",
    )
    assert shown == ["{1, 2}", "True"]


async def test_what_accept_content_does_not_name_is_refused_in_words(sides: Sides) -> None:
    (said,) = await sides.adopted.call(
        "raised_by(lambda: counts.apply_async(([1],), serializer='pickle'))",
        accept_content=["json"],
    )
    assert "written as application/x-python-serialize, which `accept_content` (json) does not contain" in said


async def test_a_message_that_its_worker_does_not_accept_fails_its_task(sides: Sides) -> None:
    (task_id,) = await sides.adopted.call(
        "counts.apply_async(([1],), serializer='sideways').id", accept_content=["json", "application/sideways"]
    )
    task = await ended(sides.store, task_id)
    assert task.error is not None
    assert (task.status, task.attempt) == (Status.FAILED, 1)
    assert "Refusing to deserialize" in task.error.message
    assert (await statuses(sides.store, task_id)).count("PENDING") == 1


async def test_a_stranger_may_write_in_any_accepted_serializer(sides: Sides) -> None:
    program = f"""
from {PROJECT} import *
app.conf.task_default_queue = {sides.adopted.environment["SHOP_QUEUE"]!r}
print(counts.apply_async((Basket("a"),), serializer="pickle", compression="bzip2").id)
print(counts.apply_async(([1],), serializer="sideways").id)
print(counts.apply_async(([1, 2],), serializer="msgpack").id)
"""
    environment = {key: value for key, value in sides.adopted.environment.items() if key != "ADOPTED"}
    pickled, sideways, packed = (await output_of([sys.executable, "-c", program], environment)).split()
    for task_id, result in ((pickled, 1), (packed, 2)):

        async def recorded(task_id: str = task_id) -> bool:
            return bool(await sides.store.redis.exists(f"task:{task_id}"))

        await eventually(recorded, because="the worker records it")
        assert (await ended(sides.store, task_id)).result == result
    assert not await sides.store.redis.exists(f"task:{sideways}"), "dropped, as in Celery"
    assert sides.adopted.worker.alive


# --- the last test of the module: it kills the worker


async def test_a_task_that_lost_its_worker_is_redelivered(sides: Sides) -> None:
    (task_id,) = await sides.adopted.call("dies.delay().id")
    await sides.adopted.worker.gone(within_s=20)
    worker = WorkerProcess(sides.adopted.worker.log.parent, COMMAND, sides.adopted.environment)
    try:
        assert (await ended(sides.store, task_id, timeout_s=30)).attempt == 2
        assert await sides.store.redis.lrange(f"noted:{task_id}", 0, -1) == ["false", "true"]
    finally:
        worker.kill()
