"""An id of a plain Celery task that is called again: what ends runs once more, and what comes twice runs once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from celeriac.model import Amendment, Claim, Refusal, Status, Submission
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import STEPS
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, PLAIN, output_of, publish, publish_as_stranger
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, has_record, ran, runs, statuses

CHOSEN = "the-report-of-monday"
#: Where messages of the lowest priority lie.
LIST = f"g{STEPS[-1]}"


async def _call(workers: Workers, *calls: str) -> str:
    """Run calls one after another in a program of its own; return what it logged."""
    program = f"import logging, sys\nlogging.basicConfig(stream=sys.stdout)\nfrom {PLAIN} import *\n"
    return await output_of([sys.executable, "-c", program + "\n".join(calls)], workers.environment(**BOTH))


async def test_the_id_of_an_ended_task_runs_again_in_the_same_record(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, **BOTH)
    await _call(workers, f"add.apply_async((1,), task_id={CHOSEN!r}, priority=2)")
    first = await ended(store, CHOSEN)
    said = await _call(workers, f"add.apply_async((2, 5), task_id={CHOSEN!r}, queue='default')")
    assert "not run again" not in said
    await eventually(lambda: _has_run(store, 2), because="it runs again")
    again = await ended(store, CHOSEN)
    assert (first.result, again.result) == (1, 7)
    assert (again.payload, again.attempt) == ({"args": [2, 5], "kwargs": {}}, 2)
    assert await ran(store, CHOSEN) == ["start 0", "1 + 0", "start 0", "2 + 5"], "its retries count anew"
    assert (await statuses(store, CHOSEN)) == ["PENDING", "PROCESSING", "COMPLETED"] * 2


async def _has_run(store: TaskStore, times: int) -> bool:
    return await has_record(store, CHOSEN) and (await statuses(store, CHOSEN)).count("COMPLETED") == times


async def test_a_call_of_a_running_tasks_id_begins_after_its_end_and_a_third_says_that_it_does_not(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await workers.start(store, **BOTH)
    await _call(workers, f"add.apply_async((1, 0, 0, {str(gate)!r}), task_id={CHOSEN!r})")
    await runs(store, CHOSEN)
    second, third = (f"add.apply_async(({n},), task_id={CHOSEN!r})" for n in (2, 3))
    said = await _call(workers, second, third)
    assert said.count("is not run again: its id has a record already (processing)") == 1
    gate.touch()
    await eventually(lambda: _has_run(store, 2), because="both have run, one after the other")
    assert await ran(store, CHOSEN) == ["start 0", "1 + 0", "start 0", "2 + 0"]


async def test_a_cancellation_is_also_meant_for_the_call_that_waits_for_the_end(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store, **BOTH)
    await _call(workers, f"naps.apply_async((60,), task_id={CHOSEN!r})")
    await runs(store, CHOSEN)
    await _call(workers, f"add.apply_async((2,), task_id={CHOSEN!r})")
    await store.cancel(CHOSEN)
    assert (await ended(store, CHOSEN)).status is Status.CANCELLED
    check_one_end(await statuses(store, CHOSEN))
    # The id itself is not banned.
    await _call(workers, f"add.apply_async((3,), task_id={CHOSEN!r})")
    await eventually(lambda: _has_run(store, 1), because="it runs again")


async def test_a_link_that_a_dead_worker_had_published_runs_once(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store, **BOTH)
    (task_id,) = await publish(workers, f"calls_and_dies.delay({CHOSEN!r})")
    await worker.gone(within_s=20)
    await workers.start(store, **BOTH)
    assert (await ended(store, task_id)).attempt == 2
    assert await ran(store, task_id) == ["called", "called"]
    check_one_end(await statuses(store, CHOSEN))
    # Another run of the same task is another publication.
    await _call(workers, f"calls_and_dies.apply_async(({CHOSEN!r},), task_id={task_id!r})")
    await eventually(lambda: _has_run(store, 2), because="it is called again")


async def test_a_stranger_may_call_an_id_again_too(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, **BOTH)
    for number in (1, 2):
        call = {"name": f"{PLAIN}.add", "args": [number], "task_id": CHOSEN}
        await publish_as_stranger(workers, call, broker=workers.redis_url, queue="default")
        await eventually(lambda times=number: _has_run(store, times), because="it runs")
    assert await ran(store, CHOSEN) == ["start 0", "1 + 0", "start 0", "2 + 0"]


async def test_a_message_from_before_a_retry_with_other_arguments_is_refused(store: TaskStore) -> None:
    message = '{"headers": {"retries": 0, "id": "t"}, "properties": {}}'
    await store.submit(Submission(task_id="t", type="demo", group="g", celery_message=message))
    claim = await store.claim("t", worker="w", edition=0)
    assert isinstance(claim, Claim)
    other = Submission(task_id="t", type="demo", group="g", celery_message=message, payload='{"other": 1}')
    await store.amend(claim, Amendment(other, claim.attempts_allowed))
    await store.release(claim)
    sent = [json.loads(text)["headers"] for text in await store.redis.lrange(LIST, 0, -1)]
    assert [headers.get("celeriac-edition") for headers in sent] == [None, 1]
    assert await store.claim("t", worker="w", edition=0) == Refusal("t", "replaced")
    again = await store.claim("t", worker="w", edition=1)
    assert isinstance(again, Claim)
    assert again.redelivered
