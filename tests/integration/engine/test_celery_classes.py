"""Plain Celery tasks with classes of a project's own, and `retry()` with all that Celery lets it change."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_tasks.engine.attempts.base import next_arguments
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import PLAIN, celery_command, evaluate, publish
from tests.kit.workers.engine_workers import TYPES, Workers, ended, ran, statuses, workers_on_a_server

CLASSES = "tests.kit.workers.celery_classes"
#: The tasks of that module that do the same with classes of different kinds.
KINDS = ["by_base", "by_counting", "by_calling", "in_context", "shared", "by_class", "by_instance"]
IMPORTS: dict[str, Any] = {"imports": [TYPES, PLAIN, CLASSES]}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own pool", "prefork"])
async def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker in each pool for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("classes")) as (started, store):
        if request.param == "prefork":
            command = celery_command("worker", "-P", "prefork", "-c", "2")
            worker = await started.start_command(store, command, **IMPORTS)
        else:
            worker = await started.start(store, **IMPORTS)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


async def publish_here(workers: Workers, *expressions: str) -> list[str]:
    named = [f"__import__({CLASSES!r}, fromlist=['*']).{expression}" for expression in expressions]
    return await publish(workers, *named, **IMPORTS)


async def has_noted(store: TaskStore, task_id: str, notes: list[str]) -> bool:
    return await ran(store, task_id) == notes


async def test_a_task_of_any_class_has_a_record_a_claim_and_a_result(workers: Workers, store: TaskStore) -> None:
    fine = await publish_here(workers, *(f"{kind}.delay(4)" for kind in KINDS))
    wrong = await publish_here(workers, *(f"{kind}.delay(-1)" for kind in KINDS))
    again = await publish_here(workers, *(f"{kind}.delay(200)" for kind in KINDS))
    around = {"by_calling": ["before", "after"], "by_instance": ["before", "after"], "in_context": ["context", None]}
    for number, kind in enumerate(KINDS):
        before, after = around.get(kind, [None, None])
        own = ["own retry"] if kind == "by_counting" else []
        based = kind not in around
        task = await ended(store, fine[number])
        assert (kind, task.status, task.result, task.attempt) == (kind, Status.COMPLETED, 8, 1)
        assert await ran(store, fine[number]) == [text for text in (before, "double 4", after) if text]
        task = await ended(store, wrong[number])
        assert task.error is not None
        assert (kind, task.status, task.error.message) == (kind, Status.FAILED, "ValueError: negative")
        # Celery calls `on_failure` after the end is recorded.
        expected = [text for text in (before, "double -1", after, based and "on_failure ValueError") if text]
        await eventually(partial(has_noted, store, wrong[number], expected), because=f"{kind} has noted {expected}")
        task = await ended(store, again[number])
        assert (kind, task.status, task.result, task.attempt) == (kind, Status.COMPLETED, 400, 2)
        notes = await ran(store, again[number])
        called = [text for text in (before, "double 200", *own, after) if text]
        returned = [text for text in (before, "double 200", after) if text]
        assert notes == [*called, *(["on_retry ConnectionError: too far"] if based else []), *returned]
        assert await statuses(store, again[number]) == [
            "PENDING", "PROCESSING", "RETRYING", "PENDING", "PROCESSING", "COMPLETED"
        ]  # fmt: skip


async def test_results_of_any_class_are_read_and_called_as_functions(workers: Workers) -> None:
    module = f"__import__({CLASSES!r}, fromlist=['*'])"
    values = await evaluate(workers, *(f"{module}.{kind}.delay(5).get(timeout=30)" for kind in KINDS), **IMPORTS)
    assert values == [10] * len(KINDS)
    direct = [kind for kind in KINDS if kind != "in_context"]
    assert await evaluate(workers, *(f"{module}.{kind}(6)" for kind in direct), **IMPORTS) == [12] * len(direct)
    eager = await evaluate(workers, *(f"{module}.{kind}.apply((7,)).get()" for kind in KINDS), **IMPORTS)
    assert eager[1:] == [14] * (len(KINDS) - 1)


async def test_a_chord_whose_header_takes_longer_than_a_second_ends(workers: Workers) -> None:
    chord = "chord([add.s(n, 1, 2.5) for n in range(2)])(total_of.s()).get(timeout=60)"
    started = time.monotonic()
    assert await evaluate(workers, chord, **IMPORTS) == [3]
    assert time.monotonic() - started > 2.5


async def test_a_retry_may_change_options_and_some_of_the_arguments(workers: Workers, store: TaskStore) -> None:
    moved, renamed, expired = await publish_here(
        workers, "moves.delay(1, b=2, c=3)", "renames.delay(1, 2)", "gives_up_early.delay()"
    )
    task = await ended(store, renamed)
    assert (task.status, task.result) == (Status.COMPLETED, [1, 5])
    task = await ended(store, moved)
    assert (task.status, task.result) == (Status.COMPLETED, [2, 20, 3, "elsewhere", "t1"])
    assert (task.group, task.timeout_ms) == ("elsewhere", 33_000)
    task = await ended(store, expired)
    assert task.error is not None
    assert (task.status, task.error.code, task.attempt) == (Status.FAILED, "expired", 1)
    for group in ("default", "elsewhere"):
        assert await store.redis.exists(f"celeriac:running:{group}", f"celeriac:waiting:{group}") == 0


async def test_limits_of_the_call_and_the_decorator_hold(workers: Workers, store: TaskStore) -> None:
    partial_, called, unhandled, hard = await publish_here(
        workers,
        "works_softly.delay(True)",
        "works_softly.apply_async((True,), soft_time_limit=2, time_limit=50)",
        "works_softly.delay(False)",
        "works_hard.delay()",
    )
    for task_id, limits in ((partial_, [60, 1]), (called, [50, 2])):
        task = await ended(store, task_id)
        assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "partial", 1)
        (noted,) = await ran(store, task_id)
        assert noted == f"soft {limits}"
    task = await ended(store, unhandled)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "exception")
    assert task.error.message.startswith("SoftTimeLimitExceeded")
    task = await ended(store, hard)
    assert task.error is not None
    assert (task.status, task.error.code, task.attempt) == (Status.FAILED, "timeout", 1)


class Running:
    args = (1, 2)
    kwargs = {"c": 3}  # noqa: RUF012


@pytest.mark.parametrize(
    ("args", "kwargs", "arguments"),
    [
        (None, None, (None, None)),
        ((7,), {"b": 8}, ((7,), {"b": 8})),
        ((7, 8, 9), None, ((7, 8, 9), {})),
        ((7,), None, ((7,), {"c": 3})),
        (None, {"b": 8}, ((1, 8), {})),
        (None, {"c": 8}, ((1, 2), {"c": 8})),
        (None, {"a": 7, "d": 8}, ((7, 2), {"d": 8})),
    ],
)
def test_what_a_retry_does_not_name_stays(args: Any, kwargs: Any, arguments: Any) -> None:
    def run(a: int, b: int = 0, c: int = 0, **more: int) -> None: ...

    assert next_arguments(run, Running, args, kwargs) == arguments
