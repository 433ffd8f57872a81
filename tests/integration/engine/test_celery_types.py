"""Plain Celery tasks as types: front doors list them and submit them, with the arguments of the record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from celeriac.errors import IllegalTransitionError, InvalidSubmissionError
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import read_request
from celeriac.tasks.service import Tasks
from tests.kit.workers.celery_processes import BOTH, publish
from tests.kit.workers.engine_workers import Workers, ended, ran, workers_on_a_server

MODULE = "tests.kit.workers.celery_plain"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("types")) as (started, store):
        worker = await started.start(store, **BOTH)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def tasks(workers: Workers) -> AsyncIterator[Tasks]:
    async with TaskStore(workers.redis_url, Settings().store) as store:
        yield Tasks(store=store, types=TypeCatalog(Registry(), store), settings=Settings(redis_url=workers.redis_url))


async def submit(tasks: Tasks, name: str, payload: Any) -> str:
    return (await tasks.submit(read_request({"type": f"{MODULE}.{name}", "payload": payload}))).task_id


async def test_they_are_listed_with_what_they_say_of_themselves(tasks: Tasks) -> None:
    types = await tasks.types.all()
    total = types.get(f"{MODULE}.total")
    assert total is not None
    assert total.description.startswith("Add numbers; calls itself")
    assert total.group == "default"
    schema = types.payload_schema(total)
    assert set(schema["properties"]) == {"args", "kwargs"}
    # What Celery brings itself is not for callers.
    assert not [known.name for known in types if known.name.startswith("celery.")]


@pytest.mark.parametrize(
    ("name", "payload", "result"),
    [
        ("add", {"args": [2, 3]}, 5),
        ("add", {"args": [2], "kwargs": {"b": 5}}, 7),
        ("total", {"args": [1, 2, 3]}, 6),
    ],
)
async def test_a_front_door_submits_one_with_its_arguments(
    tasks: Tasks, name: str, payload: dict[str, Any], result: int
) -> None:
    task = await ended(tasks.store, await submit(tasks, name, payload))
    assert (task.status, task.result, task.payload) == (Status.COMPLETED, result, payload)


async def test_its_retries_have_the_arguments_too(tasks: Tasks) -> None:
    task_id = await submit(tasks, "counts_down", {"args": [2]})
    task = await ended(tasks.store, task_id)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "xx", 3)
    assert await ran(tasks.store, task_id) == ["2 ", "1 x", "0 xx"]


async def test_arguments_that_are_none_are_refused_at_submission(tasks: Tasks) -> None:
    for payload, field in (({"a": 2}, "payload.a"), ({"args": 2}, "payload.args"), ({"kwargs": [2]}, "payload.kwargs")):
        with pytest.raises(InvalidSubmissionError, match=field):
            await submit(tasks, "add", payload)


async def test_retried_by_hand_it_may_have_other_arguments_unless_celery_published_it(
    tasks: Tasks, workers: Workers
) -> None:
    task_id = await submit(tasks, "add", {"args": ["x"]})
    assert (await ended(tasks.store, task_id)).status is Status.FAILED
    await tasks.retry(task_id, payload={"args": [2, 3]})
    assert (await ended(tasks.store, task_id)).result == 5
    (published,) = await publish(workers, "add.delay('x')")
    assert (await ended(tasks.store, published)).status is Status.FAILED
    with pytest.raises((IllegalTransitionError, InvalidSubmissionError)):
        await tasks.retry(published, payload={"args": [2, 3]})


async def test_its_arguments_may_be_results_of_tasks_that_it_depends_on(tasks: Tasks) -> None:
    async def after(parents: list[str], name: str, payload: Any) -> str:
        request = read_request({"type": f"{MODULE}.{name}", "payload": payload, "depends_on": parents})
        return (await tasks.submit(request)).task_id

    five = await submit(tasks, "add", {"args": [2, 3]})
    payload = {"args": [{"$result": five}], "kwargs": {"b": {"$result": five}}}
    ten = await ended(tasks.store, await after([five], "add", payload))
    assert (ten.status, ten.result, ten.payload) == (Status.COMPLETED, 10, payload)
    for payload, code in (
        ({"args": [{"$result": five, "path": "/x"}]}, "invalid_reference"),
        ({"args": {"$result": five}}, "invalid_payload"),
    ):
        task = await ended(tasks.store, await after([five], "add", payload))
        assert task.error is not None
        assert (task.status, task.error.code, task.attempt) == (Status.FAILED, code, 1)
        assert await ran(tasks.store, task.task_id) == [], "the task is not called"
