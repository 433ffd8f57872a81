"""Plain Celery tasks in a running worker of ours: what a project that knows only Celery relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest.mock import ANY

import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, evaluate, publish, publish_chain
from tests.kit.workers.engine_workers import Workers, ended, has_record, ran, runs, statuses, workers_on_a_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file; publishers use the same settings."""
    async with workers_on_a_server(tmp_path_factory.mktemp("plain")) as (started, store):
        worker = await started.start(store, **BOTH)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


async def test_an_eta_is_waited_for_in_the_store(workers: Workers, store: TaskStore) -> None:
    expression = "add.apply_async((1,), eta=__import__('datetime').datetime.now(__import__('datetime').UTC)" \
        " + __import__('datetime').timedelta(seconds=8))"  # fmt: skip
    (task_id,) = await publish(workers, expression)
    assert (await ended(store, task_id)).status is Status.COMPLETED
    assert await statuses(store, task_id) == ["SCHEDULED", "PENDING", "PROCESSING", "COMPLETED"]


async def test_who_waits_for_a_result_gets_it_although_no_event_says_that_it_is_there(workers: Workers) -> None:
    assert await evaluate(workers, "results_without_events()") == [[3, [1, 2, 3]]]


async def test_retry_and_autoretry_wait_in_the_store(workers: Workers, store: TaskStore) -> None:
    again, never, fallback, other, too_often, automatic, gives_up = await publish(
        workers,
        "comes_back.delay(until=1)",
        "comes_back.delay()",
        "comes_back.delay(fallback=True)",
        "counts_down.delay(5)",
        "counts_down.delay(99)",
        "by_itself.delay(2)",
        "by_itself.delay(99)",
    )
    task = await ended(store, again)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "after 1", 2)
    assert await statuses(store, again) == [
        "PENDING", "PROCESSING", "RETRYING", "PENDING", "PROCESSING", "COMPLETED"
    ]  # fmt: skip
    task = await ended(store, never)
    assert task.error is not None
    assert (task.status, task.attempt, task.error.message) == (Status.FAILED, 3, "ConnectionError: not yet")
    assert (await ended(store, fallback)).result == "fallback"
    task = await ended(store, other)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "xxxxx", 6)
    assert task.payload == {"args": [0], "kwargs": {"label": "xxxxx"}}
    assert await ran(store, other) == ["5 ", "4 x", "3 xx", "2 xxx", "1 xxxx", "0 xxxxx"]
    task = await ended(store, too_often)
    assert (task.status, task.attempt, task.max_retries) == (Status.FAILED, 11, 10)
    task = await ended(store, automatic)
    assert (task.result, task.attempt) == ("well", 3)
    task = await ended(store, gives_up)
    assert (task.status, task.attempt) == (Status.FAILED, 4)


async def test_retried_by_hand_it_has_its_retries_again(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "comes_back.delay(until=4)")
    assert (await ended(store, task_id)).attempt == 3
    await store.retry(task_id)
    task = await ended(store, task_id)
    assert (task.status, task.attempt, task.result) == (Status.COMPLETED, 5, "after 4")


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("value", Status.FAILED, "exception"),
        ("exit", Status.FAILED, "exception"),
        ("reject", Status.FAILED, "exception"),
        ("cancelled", Status.FAILED, "cancelled_inside"),
        ("ignore", Status.COMPLETED, None),
    ],
)
async def test_an_exception_ends_it_for_good(
    workers: Workers, store: TaskStore, how: str, status: Status, code: str | None
) -> None:
    (task_id,) = await publish(workers, f"breaks.delay({how!r})")
    task = await ended(store, task_id)
    assert (task.status, task.attempt, task.error and task.error.code) == (status, 1, code)
    assert await ran(store, task_id) == ["start 0"]


async def test_the_links_of_a_chain_run_one_after_the_other(workers: Workers, store: TaskStore) -> None:
    ids = await publish_chain(workers, "add.s(1, 2) | add.s(10) | add.s(100)")
    assert [(await ended(store, task_id)).result for task_id in ids] == [3, 13, 113]
    linked = await publish(workers, "add.apply_async((1, 1), link=add.s(5).set(task_id='linked'))")
    assert (await ended(store, linked[0])).result == 2
    await eventually(lambda: has_record(store, "linked"), because="the linked task is submitted")
    assert (await ended(store, "linked")).result == 7


async def test_a_registered_type_is_a_celery_task_too(workers: Workers, store: TaskStore) -> None:
    plain, checked, wrong = await publish(
        workers,
        "app.tasks['noop'].delay(x=1)",
        "app.tasks['add'].delay(numbers=[1, 2])",
        "app.tasks['add'].delay(numbers=[])",
    )
    chained = await publish_chain(workers, "app.tasks['noop'].s(x=1) | app.tasks['noop'].s(y=2)")
    assert (await ended(store, plain)).result == {"x": 1}
    assert (await ended(store, checked)).result == {"sum": 3}
    task = await ended(store, wrong)
    assert task.error is not None
    assert task.error.code == "invalid_payload"
    assert [(await ended(store, task_id)).result for task_id in chained] == [{"x": 1}, {"x": 1, "y": 2}]


async def test_a_task_that_calls_itself_does_so_as_a_function(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "total.delay(1, 2, 3)")
    assert (await ended(store, task_id)).result == 6
    assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "COMPLETED"]


async def test_a_result_that_is_not_json_fails_its_task_as_in_celery(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "makes_object.delay()")
    task = await ended(store, task_id)
    assert task.error is not None
    assert (task.status, task.error.code) == (Status.FAILED, "exception")
    assert "not JSON serializable" in task.error.message
    (task_id,) = await publish(workers, "makes_object.apply_async(ignore_result=True)")
    task = await ended(store, task_id)
    assert (task.status, task.result) == (Status.COMPLETED, None)


async def test_ends_that_are_too_long_to_be_stored_end_their_task(workers: Workers, store: TaskStore) -> None:
    module = "__import__('tests.kit.workers.celery_plain', fromlist=['*'])"
    raised, returned = await evaluate(
        workers,
        f"{module}.raises_at_length.delay().get(timeout=20)",
        f"{module}.returns_at_length.delay().get(timeout=20)",
    )
    assert raised[0] == "RuntimeError"
    assert raised[1].startswith("OwnError('xxx")
    assert returned[0] == "BackendStoreError"
    assert "above max_result_bytes" in returned[1]


async def test_its_time_limit_ends_it_for_good(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "naps.apply_async((30,), time_limit=1)")
    task = await ended(store, task_id)
    assert task.error is not None
    assert (task.status, task.error.code, task.attempt) == (Status.FAILED, "timeout", 1)


async def test_it_is_cancelled_while_it_runs(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "naps.delay(30)")
    await runs(store, task_id)
    await store.cancel(task_id)
    assert (await ended(store, task_id, timeout_s=5)).status is Status.CANCELLED
    assert await ran(store, task_id) == ["start 0"]


async def test_the_traceback_of_what_failed_is_in_the_tasks_log(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "breaks.delay('for good')")
    await ended(store, task_id)
    (line,) = await store.log_lines(task_id)
    assert (line.level, line.message, line.attempt) == ("error", "attempt failed", 1)
    assert line.data["traceback"].endswith("ValueError: for good")
    assert "celery_plain.py" in line.data["traceback"].splitlines()[1]


# --- results, as Celery reads them


async def test_a_result_is_read_from_the_record(workers: Workers) -> None:
    assert await evaluate(
        workers,
        "add.delay(2, 3).get(timeout=30)",
        "(lambda r: [r.get(timeout=30), r.state, r.successful(), r.get()])(add.delay(2, 3))",
        "comes_back.delay(until=1).get(timeout=30)",
        "app.tasks['add'].delay(numbers=[1, 2]).get(timeout=30)",
        "makes_object.apply_async(ignore_result=True).get(timeout=30)",
        "add.apply_async((2, 4), ignore_result=True).get(timeout=30)",
        "AsyncResult('nobody').state",
        "add.apply_async((1,), countdown=60).state",
        "(lambda r: [r.forget(), r.get(timeout=30)])(add.delay(1, 1))",
    ) == [5, [5, "SUCCESS", True, 5], "after 1", {"sum": 3}, None, 6, "PENDING", "PENDING", [None, 2]]


async def test_what_a_task_raised_is_raised_by_get(workers: Workers, store: TaskStore) -> None:
    assert await evaluate(
        workers,
        "breaks.delay('for good').get(timeout=30)",
        "comes_back.delay().get(timeout=30)",
        "naps.apply_async((30,), time_limit=1).get(timeout=30)",
        "naps.delay(30).get(timeout=0.2)",
        "(lambda r: [r.revoke(terminate=True), r.get(timeout=30)])(naps.delay(30))",
        "add.apply_async((1,), countdown=1, expires=0.2).get(timeout=30)",
        "breaks.delay('for good').get(timeout=30, propagate=False).args",
    ) == [
        ["ValueError", "for good"],
        ["ConnectionError", "not yet"],
        ["TimeLimitExceeded", ANY],
        ["TimeoutError", ANY],
        ["TaskRevokedError", ANY],
        ["TaskRevokedError", "it was not started before it expired"],
        ["for good"],
    ]
    own, trace = await evaluate(
        workers,
        "breaks.delay('exit').get(timeout=30)",
        "(lambda r: [r.get(timeout=30, propagate=False) and None, r.state, r.traceback])(breaks.delay('for good'))",
    )
    assert own == ["RuntimeError", "SystemExit(5)"]
    assert trace[1] == "FAILURE"
    assert trace[2].rstrip().endswith("ValueError: for good")


async def test_chains_groups_and_chords_have_results(workers: Workers) -> None:
    assert await evaluate(
        workers,
        "chain(add.s(1, 2), add.s(10), add.s(100)).apply_async().get(timeout=30)",
        "group(add.s(n, n) for n in range(20)).apply_async().get(timeout=30)",
        "chord([add.s(n, 1) for n in range(5)])(total_of.s()).get(timeout=60)",
        "chord([add.s(n, 1, 0.5) for n in range(5)])(total_of.s()).get(timeout=60)",
        "(group(add.s(n, n) for n in range(3)) | total_of.s() | add.s(1)).apply_async().get(timeout=60)",
    ) == [113, [2 * n for n in range(20)], 15, 15, 7]
    assert await evaluate(
        workers,
        "(lambda g: [g.save().id == g.id, app.GroupResult.restore(g.id).get(timeout=30)])(group(add.s(1), add.s(2))())",
        "app.GroupResult.restore('any')",
        "chain(add.s(1, 2), group(add.s(1), add.s(2)), total_of.s()).apply_async().get(timeout=30)",
    ) == [[True, [1, 2]], None, 9]


async def test_the_parts_of_a_chord_may_be_groups(workers: Workers) -> None:
    # The last part joins all parts before its own record has ended.
    inner = "chain(add.si(1, 200), group(add.si(1, 1000), add.si(1, 2000)))"
    assert await evaluate(
        workers,
        f"chain(add.si(1), group(add.si(1, 100), {inner}), add.si(1, 10)).apply_async().get(timeout=30)",
    ) == [11]


async def test_a_frozen_chord_that_is_applied_again_ends_however_slow_its_caller_is(workers: Workers) -> None:
    module = "__import__('tests.kit.workers.celery_plain', fromlist=['*'])"
    assert await evaluate(workers, f"{module}.frozen_chord_twice()") == [[True, True, True]]


async def test_parameters_may_have_any_name(workers: Workers) -> None:
    # `map` and `starmap` call a task of Celery's own with its parameter `task`.
    assert await evaluate(
        workers,
        "named.delay(task=1, args=2, kwargs=3, request=4, name=5).get(timeout=30)",
        "group(add.starmap([(1, 1), (2, 2)]), total_of.map([[1, 2], [3]])).apply_async().get(timeout=30)",
    ) == [[1, 2, 3, 4, 5], [[2, 4], [3, 3]]]


async def test_what_fails_early_is_told_to_all_that_waits_for_it(workers: Workers, store: TaskStore) -> None:
    noted = "note_failure.s().set(task_id={!r})"
    module = "__import__('tests.kit.workers.celery_plain', fromlist=['*'])"
    assert await evaluate(
        workers,
        "chain(breaks.s('first'), add.s(1)).apply_async().get(timeout=30)",
        "[str(r.get(timeout=30, propagate=False)) for r in links_of(chain(breaks.s('a'), add.s(1), add.s(2))())]",
        "chord([add.s(1, 1), breaks.s('head')])(total_of.s()).get(timeout=30)",
        "chord([chain(breaks.si('early'), add.si(1)), add.si(2)], total_of.s())().get(timeout=30)",
        "chain(chord([add.s(1, 1), breaks.s('head')], total_of.s()), add.s(1)).apply_async().get(timeout=30)",
        f"chord([breaks.si('x'), add.si(2)], total_of.s().set(link_error=[{module}.{noted.format('errback')}]))()"
        ".get(timeout=30)",
    ) == [
        ["ValueError", "first"],
        ["a", "a", "a"],
        ["ValueError", "head"],
        ["ValueError", "early"],
        ["ValueError", "head"],
        ["ValueError", "x"],
    ]
    await eventually(lambda: has_record(store, "errback"), because="the errback of the body is submitted")
    assert (await ended(store, "errback")).status is Status.COMPLETED


async def test_states_classes_and_children_are_those_of_celery(workers: Workers) -> None:
    module = "__import__('tests.kit.workers.celery_plain', fromlist=['*'])"
    assert await evaluate(
        workers,
        f"{module}.reports_state.delay().get(timeout=30)",
        f"{module}.raises_own.delay().get(timeout=30)",
        f"(lambda r: [r.get(timeout=30), [c.get(timeout=30) for c in r.children]])({module}.parent_of.delay(3))",
        f"str({module}.returns_typed.delay().get(timeout=30))",
        f"{module}.own_state({module}.keeps_own_state.delay())",
    ) == [
        [["PROGRESS", {"current": 1, "total": 4}, 25.0]],
        ["OwnError", "its text"],
        ["parent", [0, 1, 2]],
        "2026-01-02 03:04:05",
        ["OWN", {"kept": True}],
    ]


async def test_arguments_that_are_not_json_run_and_are_shown_as_celery_shows_them(
    workers: Workers, store: TaskStore
) -> None:
    ids = await publish(
        workers,
        "total.delay(float('nan'))",
        "total.delay(1, *[2, float('-inf')])",
        "total.delay(10 ** 400)",
        "total.apply_async(kwargs={'first': 'half \\ud83d'})",
    )
    found = [await ended(store, task_id) for task_id in ids]
    messages = [task.error.message.partition(":")[0] if task.error else None for task in found]
    assert messages == ["ValueError", "OverflowError", None, "UnicodeEncodeError"]
    assert [found[0].payload, found[1].payload] == [
        {"args": "(nan,)", "kwargs": {}},
        {"args": "(1, 2, -inf)", "kwargs": {}},
    ]
    assert found[2].payload["args"].startswith("(1000")
    assert "half" in found[3].payload["kwargs"]


async def test_a_number_of_any_length_is_kept_exactly(workers: Workers, store: TaskStore) -> None:
    (task_id,) = await publish(workers, "total.delay(2 ** 64, 1)")
    task = await ended(store, task_id)
    assert (task.payload, task.result) == ({"args": [2**64, 1], "kwargs": {}}, 2**64 + 1)
    assert await evaluate(workers, f"AsyncResult({task_id!r}).get(timeout=20)") == [2**64 + 1]
