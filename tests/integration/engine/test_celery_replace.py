"""`replace()` and `add_to_chord()` of plain Celery tasks, in a running worker of ours."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, evaluate
from tests.kit.workers.engine_workers import Workers, ended, ran, runs, statuses, workers_on_a_server

REPLACING = "tests.kit.workers.celery_replacing"
SETTINGS: dict[str, Any] = {"imports": [*BOTH["imports"], REPLACING]}

#: What a task puts in its place, and what its own result is then.
RESULTS: list[tuple[str, object]] = [
    ("becomes.delay('task')", [1, 0]),
    ("becomes.delay('retried')", [1, 1]),
    ("becomes.delay('later')", [1, 0]),
    ("becomes.delay('nested')", [2, 0]),
    ("becomes.delay('nested chain')", [13, 0]),
    ("becomes.delay('chain')", [12, 0]),
    ("becomes.delay('chain of chain')", [12, 0]),
    ("becomes.delay('group')", [2, 3]),
    ("becomes.delay('empty group')", []),
    ("becomes.delay('chain to group')", [3, 4]),
    ("becomes.delay('chord')", 5),
    ("becomes.delay('chord to chain')", [5, 0]),
    ("becomes.delay('chord of replaced')", [[[2, 3], [2, 3]], 0]),
    ("becomes.delay('registered')", {"sum": 2}),
    ("becomes_when_retried.delay()", [12, 0]),
    # as a part of a canvas
    ("chain(becomes.si('chain', 1), shows.s()).delay()", [[12, 0], 0]),
    ("chain(add.s(1, 2), becomes_after.s(), shows.s()).delay()", [103, 0]),
    ("chord([becomes.si('task'), becomes.si('chain'), add.si(1, 2)], shows.s()).delay()", [[[1, 0], [12, 0], 3], 0]),
    ("chord([add.si(1, 2)], becomes.si('group')).delay()", [2, 3]),
    ("chain(group(becomes.si('group'), becomes.si('chain')), becomes.si('chord'), shows.s()).delay()", [5, 0]),
    ("chord([adds_to_chord.si(1), add.si(1, 1)], total_of.s()).delay()", 1004),
    # what fails
    ("becomes.delay('fails')", ["ValueError", "replaced"]),
    ("becomes.delay('failing chain')", ["ValueError", "link"]),
    ("becomes.delay('empty chain')", ["ImproperlyConfigured", "Cannot replace with an empty chain"]),
    ("adds_to_chord.delay(1)", ["ValueError", "Current task is not member of any chord"]),
    # what the task does after it was replaced
    ("goes_on.delay('returns')", ["returns", 0]),
    ("goes_on.delay('raises')", ["raises", 0]),
    # without a worker
    ("becomes.apply(('chain',))", [12, 0]),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file; publishers use the same settings."""
    async with workers_on_a_server(tmp_path_factory.mktemp("replace")) as (started, store):
        worker = await started.start(store, **SETTINGS)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


async def answers(workers: Workers, *expressions: str) -> list[Any]:
    """Evaluate expressions in which the tasks of `celery_replacing` are known."""
    return await evaluate(workers, *expressions, module=REPLACING, **SETTINGS)


async def test_the_result_of_a_replaced_task_is_that_of_what_replaced_it(workers: Workers) -> None:
    found = await answers(workers, *(f"{expression}.get(timeout=20)" for expression, _ in RESULTS))
    assert dict(zip([expression for expression, _ in RESULTS], found, strict=True)) == dict(RESULTS)


async def test_an_adopted_app_replaces_tasks_with_its_own_result_backend(tmp_path: Path) -> None:
    async with workers_on_a_server(tmp_path) as (started, store):
        results = {"SHOP_RESULTS": started.redis_url.removesuffix("/0") + "/1"}
        command = [sys.executable, "-m", "celery", "-A", REPLACING, "worker", "-c", "2", "--without-mingle"]
        await started.start_command(store, command, environment={**started.environment(imports=[]), **results})
        plain = [(expression, expected) for expression, expected in RESULTS if "registered" not in expression]
        expressions = [f"{expression}.get(timeout=20)" for expression, _ in plain]
        found = await evaluate(started, *expressions, module=REPLACING, variables=results, imports=[])
        assert dict(zip([expression for expression, _ in plain], found, strict=True)) == dict(plain)


async def test_the_record_becomes_that_of_what_replaced_it(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await answers(workers, "becomes.delay('task', 7).id")
    task = await ended(store, task_id)
    assert (task.type, task.payload) == (f"{REPLACING}.shows", {"args": [7], "kwargs": {}})
    assert (task.status, task.result, task.attempt, task.replaced_by) == (Status.COMPLETED, [7, 0], 2, None)
    assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "PENDING", "PROCESSING", "COMPLETED"]
    replaced = [event.fields.get("replaced_by") for event in await store.events(task_id)]
    assert replaced == [None, None, f"{REPLACING}.shows", None, None]


async def test_a_task_replaced_by_a_chain_waits_for_its_last_link(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await answers(workers, "becomes.delay('slow chain').id")
    await eventually(lambda: is_waiting(store, task_id), because="the task has replaced itself")
    assert await answers(workers, f"AsyncResult({task_id!r}).state") == ["PENDING"]
    await store.redis.set("go:link-1", "1")
    task = await ended(store, task_id)
    assert (task.status, task.type, task.result) == (Status.COMPLETED, f"{REPLACING}.shows", [2, 0])
    assert await statuses(store, task_id) == [
        *("PENDING", "PROCESSING", "SCHEDULED", "PENDING", "PROCESSING", "COMPLETED")
    ]


async def is_waiting(store: TaskStore, task_id: str) -> bool:
    """Return whether a task waits for the last part of what has replaced it."""
    task = await store.get(task_id)
    return task.status is Status.SCHEDULED and task.replaced_by is not None


@pytest.mark.parametrize(("kind", "raised"), [("failing chain", "ValueError"), ("failing chord", "ChordError")])
async def test_a_failure_on_the_way_fails_the_replaced_task(
    workers: Workers, store: TaskStore, kind: str, raised: str
) -> None:
    (task_id,) = await answers(workers, f"becomes.delay({kind!r}).id")
    task = await ended(store, task_id)
    assert task.error is not None
    assert (task.status, task.error.code, task.attempt) == (Status.FAILED, "replacement_failed", 1)
    assert (await answers(workers, f"AsyncResult({task_id!r}).get(timeout=20)"))[0][0] == raised


@pytest.mark.parametrize(
    ("canvas", "part", "raised"), [("chain", "link", "ValueError"), ("chord", "part", "ChordError")]
)
async def test_a_part_that_fails_while_the_replaced_task_still_runs_fails_it(
    workers: Workers, store: TaskStore, canvas: str, part: str, raised: str
) -> None:
    expression = f"becomes_and_runs_on.delay('{canvas} that fails at once', 'broken-{part}').id"
    (task_id,) = await answers(workers, expression)
    task = await ended(store, task_id)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "replacement_failed")
    assert (await answers(workers, f"AsyncResult({task_id!r}).get(timeout=20)"))[0][0] == raised


async def test_a_link_that_is_retried_by_hand_brings_the_replaced_task_on(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await answers(workers, "becomes.delay('chain that is mended').id")
    assert (await ended(store, task_id)).status is Status.FAILED
    await store.retry("mended")
    await eventually(lambda: is_completed(store, task_id), because="the last link runs when its turn has come")
    assert (await store.get(task_id)).result == ["mended", 0]


async def is_completed(store: TaskStore, task_id: str) -> bool:
    """Return whether a task has a result."""
    return (await store.get(task_id)).status is Status.COMPLETED


@pytest.mark.parametrize("kind", ["task", "chain"])
async def test_a_task_that_is_cancelled_is_not_replaced(workers: Workers, store: TaskStore, kind: str) -> None:
    (task_id,) = await answers(workers, f"waits_for_cancel.delay({kind!r}).id")
    await runs(store, task_id)
    await store.cancel(task_id)
    assert (await ended(store, task_id)).status is Status.CANCELLED
    assert await ran(store, task_id) == ["waits"]


async def test_a_waiting_task_that_is_cancelled_does_not_run_when_its_turn_comes(
    workers: Workers, store: TaskStore
) -> None:
    (task_id,) = await answers(workers, "becomes.delay('slow chain', 50).id")
    await eventually(lambda: is_waiting(store, task_id), because="the task has replaced itself")
    assert await store.cancel(task_id) is Status.CANCELLED
    await store.redis.set("go:link-50", "1")
    await ended(store, "link-50")
    assert (await store.get(task_id)).status is Status.CANCELLED
    assert await ran(store, task_id) == ["becomes slow chain"]


async def test_a_worker_that_dies_loses_no_replacement(tmp_path: Path) -> None:
    async with workers_on_a_server(tmp_path) as (started, store):
        for _ in range(4):
            # Each task kills the worker that runs it first.
            await started.start(store, **SETTINGS)
        (early,) = await answers(started, "dies_around.delay('before', 'task').id")
        assert (await ended(store, early)).result == [1, 0]
        assert await ran(store, early) == ["runs", "runs", "shows [1]"]
        (late,) = await answers(started, "dies_around.delay('after', 'task').id")
        assert (await ended(store, late)).result == [1, 0]
        assert await ran(store, late) == ["runs", "shows [1]"]
        (chained,) = await answers(started, "dies_around.delay('after', 'chain').id")
        assert (await ended(store, chained)).result == [12, 0]
