"""What a handler may do, in a real worker: return, raise, report, be stopped. Nothing takes the worker down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, ended, ran, runs, statuses, submit, workers_on_a_server

BOTH = pytest.mark.parametrize("suffix", ["", "_sync"], ids=["async", "sync"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, WorkerProcess]]:
    """One server and one worker for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("handlers")) as (workers, store):
        worker = await workers.start(
            store,
            max_result_bytes=300_000,
            worker__progress_buffer=200,
            task_log__buffer=50,
            task_log__lines=10_000,
        )
        yield workers.redis_url, worker
        assert worker.alive, worker.said()


@pytest.fixture
async def store(place: tuple[str, WorkerProcess]) -> AsyncIterator[TaskStore]:
    async with TaskStore(place[0], Settings().store) as connected:
        yield connected


@pytest.fixture
def worker(place: tuple[str, WorkerProcess]) -> WorkerProcess:
    return place[1]


async def progress_of(store: TaskStore, task_id: str) -> list[tuple[str, str]]:
    """Return (stage, message) of each report, and check that none follows the end."""
    events = await store.events(task_id, count=100_000)
    assert events[-1].kind == "status"
    return [(event.fields["stage"], event.fields["message"]) for event in events if event.kind == "progress"]


# --- what it gets and gives


@BOTH
async def test_a_handler_gets_its_typed_payload_and_its_value_is_the_result(store: TaskStore, suffix: str) -> None:
    task = await ended(store, await submit(store, f"add{suffix}", {"numbers": [1, 2, 39]}))
    assert (task.status, task.result, task.attempt, task.error) == (Status.COMPLETED, {"sum": 42}, 1, None)
    assert await statuses(store, task.task_id) == ["PENDING", "PROCESSING", "COMPLETED"]


async def test_a_handler_without_parameters_runs(store: TaskStore) -> None:
    assert (await ended(store, await submit(store, "without_parameters"))).result == "nothing needed"


async def test_a_payload_that_does_not_fit_fails_at_once_and_says_where(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "add", {"numbers": []}))
    assert task.status is Status.FAILED
    assert task.error is not None
    assert (task.error.code, task.error.retryable, task.attempt) == ("invalid_payload", False, 1)
    assert "payload.numbers" in task.error.message


async def test_the_context_knows_the_attempt(store: TaskStore, worker: WorkerProcess) -> None:
    task_id = await submit(store, "context", user_id="ada", metadata={"a": [1]}, max_retries=7, group="default")
    task = await ended(store, task_id)
    assert task.result == {
        "task_id": task_id, "type": "context", "group": "default", "attempt": 1,
        "max_retries": 7, "user_id": "ada", "metadata": {"a": [1]}, "cancelled": False,
    }  # fmt: skip
    said = next(line for line in worker.said().splitlines() if "said by a handler" in line and task_id in line)
    assert "green" in said


@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("model", {"at": "2026-01-02T03:04:05Z", "size": 1}),
        ("dataclass", {"name": "a", "parts": [1, 2]}),
        ("datetime", "2026-01-02T03:04:05+00:00"),
        ("huge", {"n": 10**40}),
        ("set", [1]),
        ("none", None),
    ],
)
async def test_a_result_is_written_as_json(store: TaskStore, what: str, result: Any) -> None:
    task_id = await submit(store, "returns", {"what": what})
    task = await ended(store, task_id)
    assert (task.status, task.result) == (Status.COMPLETED, result)


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        ("bytes", "bad_result", "bytes"),
        ("nan", "bad_result", "result.x is NaN; JSON has no such number: send null or a string"),
        ("endless", "bad_result", "ircular"),
        ("object", "bad_result", "object"),
        ("large", "result_too_large", "max_result_bytes"),
        ("wide", "result_too_large", "max_result_bytes"),
    ],
)
async def test_a_result_that_cannot_be_kept_fails_once(store: TaskStore, what: str, code: str, text: str) -> None:
    task = await ended(store, await submit(store, "returns", {"what": what}))
    assert task.status is Status.FAILED
    assert task.error is not None
    assert task.error.code == code
    assert text in task.error.message
    assert await ran(store, task.task_id) == ["attempt 1"], "to run again would end the same way"


# --- what it raises


@BOTH
@pytest.mark.parametrize(
    ("how", "code", "attempts"),
    [
        ("odd", "exception", 3),
        ("final", "exception", 1),
        ("skip", "enough", 1),
        ("task", "own_code", 3),
        ("silent", "exception", 3),
        ("exit", "exception", 3),
        ("interrupt", "exception", 3),
        ("cancelled", "cancelled_inside", 3),
        ("stop_iteration", "exception", 3),
        ("generator_exit", "exception", 3),
        ("memory", "exception", 3),
        ("group", "exception", 3),
    ],
)
async def test_what_a_handler_raises_fails_its_task_only(
    store: TaskStore, worker: WorkerProcess, suffix: str, how: str, code: str, attempts: int
) -> None:
    task = await ended(store, await submit(store, f"fails{suffix}", {"how": how}))
    assert task.status is Status.FAILED
    assert task.error is not None
    assert (task.error.code, task.attempt) == (code, attempts)
    assert await ran(store, task.task_id) == [f"attempt {n}" for n in range(1, attempts + 1)]
    assert await statuses(store, task.task_id) == [
        *["PENDING", "PROCESSING", "RETRYING"] * (attempts - 1), "PENDING", "PROCESSING", "FAILED",
    ]  # fmt: skip
    assert worker.alive


async def test_a_later_attempt_may_succeed(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "fails", {"how": "odd", "until": 2}))
    assert (task.status, task.attempt, task.result, task.error) == (Status.COMPLETED, 2, "at last", None)


async def test_retry_after_chooses_the_delay(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "fails", {"how": "after", "until": 2}))
    at = {(e.fields["status"], e.fields["attempt"]): int(e.id.split("-")[0]) for e in await store.events(task.task_id)}
    assert at["PENDING", "1"] - at["RETRYING", "1"] >= 300
    assert task.status is Status.COMPLETED


async def test_an_exit_left_behind_on_the_loop_does_not_end_the_others(store: TaskStore, worker: WorkerProcess) -> None:
    other = await submit(store, "add", {"numbers": [1], "pause_s": 0.5})
    assert (await ended(store, await submit(store, "leaves_exit_behind"))).result == "still here"
    assert (await ended(store, other)).status is Status.COMPLETED
    assert worker.alive


# --- what it reports


async def test_reports_are_kept_in_order_and_all_before_the_end(store: TaskStore) -> None:
    task_id = await submit(store, "reports", {"awaited": 50, "left": 150, "thread": 50})
    assert (await ended(store, task_id)).status is Status.COMPLETED
    assert await progress_of(store, task_id) == [
        *(("awaited", str(n)) for n in range(50)),
        *(("left", str(n)) for n in range(150)),
        *(("thread", str(n)) for n in range(50)),
    ]


async def test_a_plain_function_that_reports_fast_waits_for_the_store(store: TaskStore) -> None:
    task_id = await submit(store, "reports_sync", {"count": 3000})
    assert (await ended(store, task_id)).status is Status.COMPLETED
    assert await progress_of(store, task_id) == [("sync", str(n)) for n in range(3000)]


async def test_a_coroutine_that_never_awaits_its_reports_is_told_to(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "flood", max_retries=0))
    assert task.status is Status.FAILED
    assert task.error is not None
    assert "await ctx.progress" in task.error.message
    assert len(await progress_of(store, task.task_id)) == 200


# --- how it is stopped


@pytest.mark.parametrize("task_type", ["sleeps", "spins", "polite"])
async def test_the_time_limit_ends_an_attempt(store: TaskStore, task_type: str) -> None:
    task = await ended(store, await submit(store, task_type, timeout_ms=300, max_retries=0))
    assert task.status is Status.FAILED
    assert task.error is not None
    assert (task.error.code, task.error.retryable) == ("timeout", True)
    assert task.finished_at is not None
    assert task.started_at is not None
    # They would go on for a minute.
    assert (task.finished_at - task.started_at).total_seconds() < 20


@pytest.mark.parametrize(("task_type", "s"), [("blocks", 15), ("stubborn", 15)])
async def test_an_attempt_that_does_not_stop_ends_without_its_handler(
    store: TaskStore, worker: WorkerProcess, task_type: str, s: float
) -> None:
    task_id = await submit(store, task_type, {"s": s}, timeout_ms=200, max_retries=0)
    task = await ended(store, task_id, timeout_s=10)
    assert task.status is Status.FAILED
    assert task.error is not None
    assert task.error.code == "timeout"
    assert (await ran(store, task_id)) == ["start 1"], "its end is recorded while it still goes on"
    await eventually(lambda: ran_twice(store, task_id), because="the handler comes to its end")
    assert (await store.get(task_id)).status is Status.FAILED, "what it returns after that changes nothing"
    assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "FAILED"]
    assert [line.message for line in await store.log_lines(task_id)] == ["the handler does not stop", "attempt failed"]


async def ran_twice(store: TaskStore, task_id: str) -> bool:
    return len(await ran(store, task_id)) == 2


@pytest.mark.parametrize("task_type", ["sleeps", "spins", "polite"])
async def test_cancelling_stops_what_runs(store: TaskStore, task_type: str) -> None:
    task_id = await submit(store, task_type)
    await runs(store, task_id)
    assert await store.cancel(task_id) is Status.PROCESSING
    task = await ended(store, task_id, timeout_s=5)
    assert task.status is Status.CANCELLED
    if task_type == "sleeps":
        assert "cancelled cancel" in await ran(store, task_id)


async def test_cancelling_a_handler_that_swallows_it_ends_the_task_all_the_same(store: TaskStore) -> None:
    task_id = await submit(store, "stubborn", {"s": 30})
    await runs(store, task_id)
    await store.cancel(task_id)
    assert (await ended(store, task_id)).status is Status.CANCELLED
    assert await ran(store, task_id) == ["start 1"], "it goes on"


async def test_a_handler_that_ends_in_spite_of_the_cancellation_has_ended(store: TaskStore) -> None:
    task_id = await submit(store, "stubborn", {"s": 60, "once": True})
    await runs(store, task_id)
    await store.cancel(task_id)
    assert (await ended(store, task_id)).result == "outlived it"


async def test_cancelling_between_two_attempts_keeps_the_next_from_running(store: TaskStore) -> None:
    task_id = await submit(store, "fails", {"how": "long after"}, max_retries=2)
    await eventually(lambda: is_retrying(store, task_id), because="it waits for its next attempt")
    assert await store.redis.zscore(keys.DELAYED, task_id) is not None
    assert await store.cancel(task_id) is Status.CANCELLED
    assert await store.redis.zscore(keys.DELAYED, task_id) is None, "nothing becomes due"
    await asyncio.sleep(0.5)
    assert await ran(store, task_id) == ["attempt 1"]
    assert (await store.get(task_id)).status is Status.CANCELLED


async def is_retrying(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.RETRYING


async def test_a_cancelled_scheduled_task_never_runs(store: TaskStore) -> None:
    task_id = await submit(store, "sleeps", delay_ms=60_000)
    assert await store.redis.zscore(keys.DELAYED, task_id) is not None
    assert await store.cancel(task_id) is Status.CANCELLED
    assert await store.redis.zscore(keys.DELAYED, task_id) is None, "nothing becomes due"
    await asyncio.sleep(0.5)
    assert await ran(store, task_id) == []


async def test_a_scheduled_task_runs_when_it_is_due(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "noop", {"a": 1}, delay_ms=700))
    assert task.started_at is not None
    assert (task.started_at - task.created_at).total_seconds() >= 0.7
    assert await statuses(store, task.task_id) == ["SCHEDULED", "PENDING", "PROCESSING", "COMPLETED"]


async def test_a_finished_task_runs_once_more_when_it_is_retried_by_hand(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "fails", {"how": "skip", "until": 2}))
    assert task.status is Status.FAILED
    await store.retry(task.task_id)
    assert (await ended(store, task.task_id)).status is Status.COMPLETED


async def test_a_retry_by_hand_begins_the_pauses_anew_and_the_handler_knows_its_last_attempt(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "backs_off", max_retries=1))
    await store.retry(task.task_id)
    # After 50 ms again: the pauses of its policy grow a hundredfold.
    task = await ended(store, task.task_id)
    assert task.error is not None
    assert (task.attempt, task.error.message) == (4, "OddError: attempt 4 of 4")


async def test_a_type_that_no_worker_knows_waits_for_one(store: TaskStore, worker: WorkerProcess) -> None:
    task_id = await submit(store, "nobody_has_this")
    await asyncio.sleep(0.5)
    assert (await store.get(task_id)).status is Status.PENDING
    assert worker.alive
    await store.cancel(task_id)


# --- what it says


@BOTH
async def test_what_a_handler_says_is_in_its_tasks_log(store: TaskStore, suffix: str) -> None:
    task = await ended(store, await submit(store, f"says{suffix}", {"lines": 2, "fail": True}, max_retries=0))
    assert task.status is Status.FAILED
    lines = await store.log_lines(task.task_id)
    assert [(line.level, line.message) for line in lines] == [
        ("info", "1 of 2"),
        ("warning", "a line"),
        ("warning", "a line"),
        ("error", "caught"),
        ("error", "attempt failed"),
    ]
    assert [dict(line.data) for line in lines[1:3]] == [{"page": 7, "n": n, "password": "***"} for n in range(2)]
    assert lines[3].data["traceback"].endswith("KeyError: 'inside'")
    assert (lines[4].data["code"], lines[4].data["error"]) == ("exception", "ValueError: Bearer *** was refused")
    trace = lines[4].data["traceback"]
    assert trace.endswith("ValueError: Bearer *** was refused")
    # It begins in the handler, not in what called it.
    assert "engine_types.py" in trace.splitlines()[1]
    assert {line.attempt for line in lines} == {1}


async def test_an_attempt_that_ran_too_long_says_so_in_its_log(store: TaskStore) -> None:
    task = await ended(store, await submit(store, "sleeps", {"s": 30}, timeout_ms=200, max_retries=1), timeout_s=40)
    assert task.status is Status.FAILED
    lines = await store.log_lines(task.task_id)
    assert [(line.attempt, line.level, line.message, line.data["code"]) for line in lines] == [
        (1, "warning", "attempt failed", "timeout"),
        (2, "error", "attempt failed", "timeout"),
    ]
    assert {line.data["error"] for line in lines} == {"the attempt ran longer than its time limit"}


@BOTH
async def test_a_handler_that_logs_faster_than_the_store_takes_it_goes_on_and_the_gap_is_told(
    store: TaskStore, suffix: str
) -> None:
    task = await ended(store, await submit(store, f"says{suffix}", {"lines": 5000}))
    assert task.status is Status.COMPLETED

    async def told() -> list[str]:
        lines = await store.log_lines(task.task_id, count=10_000)
        return [line.message for line in lines if "were left out" in line.message]

    # Why it failed is said however much is on its way.
    flooded = await ended(store, await submit(store, f"says{suffix}", {"lines": 5000, "fail": True}, max_retries=0))
    assert flooded.status is Status.FAILED
    assert "attempt failed" in {line.message for line in await store.log_lines(flooded.task_id, count=10_000)}

    if suffix == "":
        # It never gave way, so that all beyond the first 50 found no room.
        assert await eventually(told, because="what was left out is said") == [
            "4952 lines were left out: they came faster than the store took them"
        ]
    kept = [line.data["n"] for line in await store.log_lines(task.task_id, count=10_000) if line.message == "a line"]
    assert kept == sorted(set(kept))
    assert kept[:20] == list(range(20))
