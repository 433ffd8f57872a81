"""Keys of calls that Celery publishes, and of what running tasks submit."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from celeriac.errors import InvalidSubmissionError
from celeriac.limits.rules import By, LimitRule
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import read_request
from celeriac.tasks.service import Tasks
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import evaluate, output_of, publish, publish_as_stranger
from tests.kit.workers.engine_workers import Workers, ended, has_record, submit, workers_on_a_server

KEYED = "tests.kit.workers.keyed_tasks"
PLAIN = "tests.kit.workers.celery_plain"
MODULES = {"imports": [KEYED, PLAIN]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("keys")) as (started, store):
        worker = await started.start(store, **MODULES)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


def _called(expression: str) -> str:
    return f"__import__({KEYED!r}, fromlist=['x']).{expression}"


async def keys_of(workers: Workers, store: TaskStore, *expressions: str) -> list[str | None]:
    """Return the keys of the tasks that these expressions publish."""
    ids = await publish(workers, *map(_called, expressions), **MODULES)
    return [(await store.get(task_id)).key for task_id in ids]


CALLS = {
    "of_parameter.delay('c1')": "c1",
    "of_parameter.delay(n=1, customer=7)": "7",
    "of_parameter.delay()": "nobody",
    "of_parameter.delay(None)": None,
    "of_path.delay({'customer': 'c2'})": "c2",
    "of_path.delay({'customer': 'c2', 'x': __import__('uuid').UUID(int=1)})": "c2",
    "of_function.delay('c3')": "c3-north",
    "of_function.delay('c3', area='south')": "c3-south",
    "of_function.apply_async(('c3',), headers={'celeriac_key': 'mine'})": "mine",
    "without_key.delay()": None,
    "without_key.apply_async(headers={'celeriac_key': 9})": "9",
}


async def test_a_plain_call_has_the_key_of_its_task_or_of_its_header(workers: Workers, store: TaskStore) -> None:
    assert dict(zip(CALLS, await keys_of(workers, store, *CALLS), strict=True)) == CALLS


async def test_a_key_that_cannot_be_one_is_refused_where_the_call_is_published(workers: Workers) -> None:
    wrong = {
        "of_parameter.delay(['c1'])": "payload.kwargs.customer is of the type list",
        "without_key.apply_async(headers={'celeriac_key': ''})": "celeriac_key: has 0 characters",
        "without_key.apply_async(headers={'celeriac_cost': 0})": "celeriac_cost: is 0",
    }
    for expression, says in wrong.items():
        ((name, text),) = await evaluate(workers, _called(expression), **MODULES)
        assert name == InvalidSubmissionError.__name__
        assert says in text


async def test_a_front_door_that_has_no_code_finds_the_key_of_a_plain_task(workers: Workers, store: TaskStore) -> None:
    tasks = Tasks(store=store, types=TypeCatalog(Registry(), store), settings=Settings(redis_url=workers.redis_url))
    for payload, key in (
        ({"args": ["c1"]}, "c1"),
        ({"kwargs": {"customer": 7}}, "7"),
        ({}, "nobody"),
        ({"args": [1], "kwargs": {"customer": "by name"}}, "by name"),
    ):
        made = await tasks.submit(read_request({"type": f"{KEYED}.of_parameter", "payload": payload}))
        assert (await store.get(made.task_id)).key == key
    made = await tasks.submit(read_request({"type": "keyed.of_type", "payload": {"customer": "c8"}}))
    assert (await ended(store, made.task_id)).result == "c8"


async def test_what_a_task_calls_inherits_its_key_unless_it_has_one(workers: Workers, store: TaskStore) -> None:
    await publish(workers, _called("calls.apply_async(('a',), headers={'celeriac_key': 'c5'})"), **MODULES)
    for task_id, key in (("a-without", "c5"), ("a-with", "other")):
        await eventually(lambda task_id=task_id: has_record(store, task_id), because="the task calls it")
        assert (await store.get(task_id)).key == key


async def test_the_links_of_a_chain_inherit_the_key(workers: Workers, store: TaskStore) -> None:
    link = f"{_called('without_key')}.s().set(task_id='link')"
    chain = f"({_called('of_path')}.s({{'customer': 'c6'}}) | {link}).apply_async()"
    await publish(workers, chain, **MODULES)
    await eventually(lambda: has_record(store, "link"), because="the next link is published")
    assert (await store.get("link")).key == "c6"


async def test_children_inherit_the_key_of_their_parent_unless_they_have_one(store: TaskStore) -> None:
    parent = await submit(store, "keyed.parent", {}, key="c4")
    task = await ended(store, parent)
    assert task.status is Status.COMPLETED, task.error
    children = task.result
    assert [(await ended(store, child)).result for child in children] == ["c4", "named", "c1"]
    assert [(await store.get(child)).key for child in children] == ["c4", "named", "c1"]


async def test_what_a_stranger_published_is_not_lost_for_its_key(workers: Workers, store: TaskStore) -> None:
    rule = LimitRule("one", type=f"{KEYED}.without_key", by=By.KEY, max_waiting=1, max_running=1)
    await store.set_rule(rule)
    await store.pause("default")
    call = {"name": f"{KEYED}.without_key"}
    full = [{**call, "task_id": f"full-{n}", "headers": {"celeriac_key": "c7"}} for n in range(3)]
    broken = {**call, "task_id": "broken", "headers": {"celeriac_key": "", "celeriac_cost": "much"}}
    await publish_as_stranger(workers, *full, broken, broker=workers.redis_url, queue="default")
    for one in (*full, broken):
        await eventually(lambda one=one: has_record(store, one["task_id"]), because="the message arrives")
    assert [(await store.get(one["task_id"])).key for one in (*full, broken)] == ["c7"] * 3 + [None]
    await store.resume("default")
    for one in (*full, broken):
        assert (await ended(store, str(one["task_id"]))).status is Status.COMPLETED
    await store.remove_rule("one")


async def test_a_full_key_refuses_a_plain_call(workers: Workers, store: TaskStore) -> None:
    await store.pause("held")
    await store.set_rule(LimitRule("few", type=f"{KEYED}.of_parameter", by=By.KEY, max_waiting=1))
    program = f"""
from {KEYED} import *
from celeriac.errors import KeyFullError
of_parameter.apply_async(("c9",), queue="held")
try:
    of_parameter.apply_async(("c9",), queue="held")
except KeyFullError as exc:
    print("refused:", exc.key, exc.rule)
"""
    assert "refused: c9 few" in await output_of([sys.executable, "-c", program], workers.environment(**MODULES))
    await store.remove_rule("few")
