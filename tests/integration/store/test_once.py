"""Unique tasks and debounced ones: who holds a key, until when, and what a conflict does; on a real server."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from celeriac.errors import DuplicateTaskError
from celeriac.model import Claim, Debounce, Failure, OnConflict, Status, Submission, Submitted, UniqueKey, Until
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import records

#: After each test all indexes are as the records say.
pytestmark = pytest.mark.usefixtures("look")


async def submit(store: TaskStore, task_id: str, mode: str = "return", key: str = "k", **more: object) -> Submitted:
    until = more.pop("until", Until.ENDED)
    once = UniqueKey(key, until=until, for_ms=more.pop("for_ms", None), on_conflict=OnConflict(mode))  # type: ignore[arg-type]
    return await store.submit(Submission(task_id=task_id, type="demo", once=once, **more))  # type: ignore[arg-type]


async def claim(store: TaskStore, task_id: str) -> Claim:
    granted = await store.claim(task_id, worker="w")
    assert isinstance(granted, Claim)
    return granted


async def statuses(store: TaskStore, *ids: str) -> list[Status]:
    return [(await store.get(task_id)).status for task_id in ids]


async def conflicts(store: TaskStore, task_id: str) -> list[tuple[str, str]]:
    return [
        (event.fields["on_conflict"], event.fields["next"])
        for event in await store.events(task_id)
        if event.kind == "deduplicated"
    ]


async def test_a_held_key_answers_with_its_holder_and_the_timeline_of_that_says_so(store: TaskStore) -> None:
    first = await submit(store, "a")
    assert (first.task_id, first.created, first.deduplicated) == ("a", True, False)
    again = await submit(store, "b")
    assert (again.task_id, again.status, again.created, again.deduplicated) == ("a", Status.PENDING, False, True)
    assert await store.known(["a", "b"]) == [True, False]
    assert await conflicts(store, "a") == [("return", "")]
    with pytest.raises(DuplicateTaskError) as caught:
        await submit(store, "c", "reject")
    assert caught.value.task_id == "a"
    assert (await submit(store, "d", key="other")).created


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "cancel_running", "gone", "foreign"])
async def test_a_key_is_free_when_its_holder_has_ended_or_is_gone(store: TaskStore, end: str) -> None:
    await submit(store, "a", max_retries=0)
    if end == "cancel":
        await store.cancel("a")
    elif end == "gone":
        await store.read(("DEL", keys.task("a")))
    elif end == "foreign":
        await store.read(("HSET", keys.task("a"), "status", "COMPLETED"))
    else:
        held = await claim(store, "a")
        assert (await submit(store, "b")).task_id == "a"
        if end == "complete":
            await store.complete(held, "1")
        elif end == "fail":
            await store.fail(held, Failure("broken", "it broke", retryable=False), 0)
        else:
            await store.cancel("a", running="at_once")
    if end not in ("gone", "foreign"):
        assert await store.read(("KEYS", "celeriac:once:*")) == [[]]
    assert (await submit(store, "c")).created
    if end in ("gone", "foreign"):
        # What a foreign program did is not consistent.
        await store.read(("FLUSHDB",))


async def test_a_retry_keeps_the_key_and_the_end_of_all_attempts_frees_it(store: TaskStore) -> None:
    await submit(store, "a", max_retries=1)
    await store.fail(await claim(store, "a"), Failure("broken", "it broke", retryable=True), 60_000)
    assert await statuses(store, "a") == [Status.RETRYING]
    assert (await submit(store, "b")).deduplicated


async def test_a_key_until_the_start_is_free_while_the_task_runs_and_after_it(store: TaskStore) -> None:
    await submit(store, "a", until=Until.STARTED, max_retries=1)
    assert (await submit(store, "b", until=Until.STARTED)).task_id == "a"
    held = await claim(store, "a")
    assert (await submit(store, "b", until=Until.STARTED)).created
    await store.fail(held, Failure("broken", "it broke", retryable=True), 60_000)
    assert (await submit(store, "c", until=Until.STARTED)).task_id == "b"
    await store.cancel("b")
    assert (await submit(store, "d", until=Until.STARTED)).created


async def test_a_key_for_a_time_outlives_the_task_and_its_record_but_not_its_time(store: TaskStore) -> None:
    await submit(store, "a", until=Until.TIME, for_ms=600_000, user_id="7")
    await store.complete(await claim(store, "a"), "1")
    assert (await submit(store, "b", until=Until.TIME, for_ms=600_000)).status is Status.COMPLETED
    await store.remove("a", user_id="7")
    again = await submit(store, "c", until=Until.TIME, for_ms=600_000)
    assert (again.task_id, again.status, again.deduplicated) == ("a", Status.COMPLETED, True)
    [[pointer]] = await store.read(("KEYS", "celeriac:once:*"))
    [left_ms] = await store.read(("PTTL", pointer))
    assert 0 < left_ms <= 600_000
    await store.read(("PEXPIRE", pointer, 0))
    assert (await submit(store, "d", until=Until.TIME, for_ms=600_000)).created
    # The check of the indexes expects all records.
    await store.read(("FLUSHDB",))


async def test_replace_cancels_a_waiting_holder_at_once_and_says_by_whom(store: TaskStore) -> None:
    await submit(store, "a")
    new = await submit(store, "b", "replace")
    assert (new.task_id, new.created, new.status) == ("b", True, Status.PENDING)
    old = await store.get("a")
    assert old.error is not None
    assert (old.status, old.error.code, old.error.retryable) == (Status.CANCELLED, "superseded", False)
    assert old.error.message.endswith(" b")
    assert await conflicts(store, "a") == [("replace", "b")]


async def test_replace_waits_until_a_running_holder_has_stopped_however_often_it_is_replaced(store: TaskStore) -> None:
    await submit(store, "a")
    held = await claim(store, "a")
    assert (await submit(store, "b", "replace")).status is Status.WAITING
    assert (await submit(store, "c", "replace")).status is Status.WAITING
    assert await statuses(store, "a", "b", "c") == [Status.PROCESSING, Status.CANCELLED, Status.WAITING]
    assert (await submit(store, "d")).task_id == "c"
    await store.settle_cancelled(held, "stopped")
    old = await store.get("a")
    assert old.error is not None
    assert (old.error.code, old.error.message.split()[-1]) == ("superseded", "c")
    assert await statuses(store, "c") == [Status.PENDING]
    assert (await submit(store, "e")).task_id == "c"


async def test_latest_has_one_that_runs_and_one_that_waits_with_the_last_payload(store: TaskStore) -> None:
    await submit(store, "a", "latest", payload='{"n":1}')
    assert (await submit(store, "b", "latest", payload='{"n":2}')).task_id == "a"
    held = await claim(store, "a")
    assert held.payload == '{"n":2}'
    second = await submit(store, "c", "latest", payload='{"n":3}')
    assert (second.task_id, second.created, second.status) == ("c", True, Status.WAITING)
    third = await submit(store, "d", "latest", payload='{"n":4}', secret_fields=("n",))
    assert (third.task_id, third.deduplicated) == ("c", True)
    await store.fail(held, Failure("broken", "it broke", retryable=False), 0)
    assert (await submit(store, "e", "latest", payload='{"n":5}')).task_id == "c"
    assert (await claim(store, "c")).payload == '{"n":5}'
    assert (await submit(store, "f", "latest")).status is Status.WAITING


async def test_one_of_latest_that_waits_can_be_cancelled_and_another_one_takes_its_place(store: TaskStore) -> None:
    await submit(store, "a", "latest")
    held = await claim(store, "a")
    await submit(store, "b", "latest")
    await store.cancel("b")
    assert (await submit(store, "c")).task_id == "a"
    assert (await submit(store, "d", "latest")).status is Status.WAITING
    await store.complete(held, "1")
    assert await statuses(store, "d") == [Status.PENDING]


async def test_a_retried_task_holds_its_key_again_unless_another_one_does(store: TaskStore) -> None:
    await submit(store, "a")
    await store.cancel("a")
    await store.retry("a")
    assert (await submit(store, "b")).task_id == "a"
    await store.cancel("a")
    await submit(store, "b")
    with pytest.raises(DuplicateTaskError) as caught:
        await store.retry("a")
    assert caught.value.task_id == "b"
    assert await statuses(store, "a") == [Status.CANCELLED]
    await store.complete(await claim(store, "b"), "1")
    await store.retry("a")
    assert (await submit(store, "c")).task_id == "a"


async def test_users_and_types_have_keys_of_their_own(store: TaskStore) -> None:
    for user in (None, "7", "8"):
        for kind in ("demo", "other"):
            once = UniqueKey("k", user_id=user)
            made = await store.submit(Submission(task_id=f"{user}-{kind}", type=kind, once=once, user_id=user))
            assert made.created


@pytest.mark.parametrize("mode", list(OnConflict))
async def test_a_submission_that_is_repeated_because_its_reply_was_lost_gets_the_same_answer(
    store: TaskStore, mode: OnConflict
) -> None:
    await submit(store, "a", user_id="7")
    held = await claim(store, "a")
    outcomes = []
    for _ in range(3):
        store.unique = lambda: "the first reply was lost"  # type: ignore[method-assign]
        outcomes.append(await outcome_of(submit(store, "b", mode, payload='{"n":1}')))
        del store.unique
        if not (await store.get("a")).status.final:
            await (store.settle_cancelled(held) if mode is OnConflict.REPLACE else store.complete(held, "1"))
        assert (await submit(store, "c", key="other")).task_id == "c"
    first, second, third = outcomes
    assert first[:2] == second[:2] == third[:2]
    assert len(await conflicts(store, "a")) == 1


async def outcome_of(submission: Coroutine[Any, Any, Submitted]) -> tuple[str, bool, bool]:
    """Return what a submission is answered: an id, whether it was made, and whether it was refused."""
    try:
        answer = await submission
    except DuplicateTaskError as exc:
        return exc.task_id, False, True
    return answer.task_id, answer.created, False


async def test_in_one_batch_each_sees_what_those_before_it_did(store: TaskStore) -> None:
    made = await asyncio.gather(*(submit(store, f"t{n}", "replace") for n in range(20)))
    assert all(one.created for one in made)
    assert Counter(await statuses(store, *(f"t{n}" for n in range(20)))) == {Status.CANCELLED: 19, Status.PENDING: 1}


async def debounce(store: TaskStore, task_id: str, delay_ms: int = 60_000, **more: object) -> Submitted:
    payload = more.pop("payload", "{}")
    asked = Debounce("k", delay_ms=delay_ms, **more)  # type: ignore[arg-type]
    return await store.submit(
        Submission(task_id=task_id, type="demo", payload=payload, delay_ms=delay_ms, debounce=asked)  # type: ignore[arg-type]
    )


async def test_a_debounced_task_moves_with_each_call_and_has_the_payload_of_the_last(store: TaskStore) -> None:
    first = await debounce(store, "a", payload='{"n":1}')
    assert (first.created, first.status) == (True, Status.SCHEDULED)
    due = (await store.get("a")).run_at
    again = await debounce(store, "b", 120_000, payload='{"n":2}')
    assert (again.task_id, again.created, again.debounced) == ("a", False, True)
    task = await store.get("a")
    assert due is not None
    assert task.run_at is not None
    assert timedelta(seconds=59) < task.run_at - due < timedelta(seconds=120)
    assert task.payload == {"n": 2}
    await debounce(store, "c", payload='{"n":3}', keeps_first=True)
    assert (await store.get("a")).payload == {"n": 2}


async def test_a_debounced_task_does_not_move_further_than_the_first_call_allows(store: TaskStore) -> None:
    await debounce(store, "a", max_delay_ms=90_000)
    made = (await store.get("a")).created_at
    await debounce(store, "b", 600_000, max_delay_ms=900_000)
    run_at = (await store.get("a")).run_at
    assert made is not None
    assert run_at is not None
    assert timedelta(seconds=89) < run_at - made < timedelta(seconds=91)


async def test_a_debounced_task_that_waits_for_a_worker_goes_back_to_wait_for_calls(store: TaskStore) -> None:
    await debounce(store, "a", 1)
    await asyncio.sleep(0.01)
    await store.promote()
    assert await statuses(store, "a") == [Status.PENDING]
    again = await debounce(store, "b", 60_000)
    assert (again.task_id, again.status) == ("a", Status.SCHEDULED)
    refused = await store.claim("a", worker="w")
    assert not isinstance(refused, Claim)


@pytest.mark.parametrize("end", ["started", "cancelled"])
async def test_after_the_start_or_a_cancellation_the_next_call_begins_anew(store: TaskStore, end: str) -> None:
    await debounce(store, "a", 1)
    if end == "started":
        await asyncio.sleep(0.01)
        await store.promote()
        await claim(store, "a")
    else:
        await store.cancel("a")
    assert (await debounce(store, "b")).created
    assert (await debounce(store, "c")).task_id == "b"
    await store.cancel("b")
    assert await store.read(("KEYS", "celeriac:debounce:*")) == [[]]


#: Replaces the task of the key again and again, until it is killed.
_SUBMITTER = """
import asyncio, sys
from celeriac.model import OnConflict, Submission, UniqueKey
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore

async def main():
    async with TaskStore(sys.argv[1], Settings().store) as store:
        for number in range(1_000_000):
            once = UniqueKey("k", on_conflict=OnConflict.REPLACE)
            await store.submit(Submission(task_id=f"t{number}", type="demo", once=once))
            print(number, flush=True)

asyncio.run(main())
"""


async def test_a_submitter_that_is_killed_leaves_exactly_one_holder(
    store: TaskStore, valkey_url: str, look: Any
) -> None:
    for killed_after in (1, 2, 20):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SUBMITTER, valkey_url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(killed_after):
            assert await process.stdout.readline()
        process.kill()
        await process.wait()
        alive = [one for one, record in records(look).items() if not Status(record["status"]).final]
        assert len(alive) == 1
        assert (await submit(store, "after")).task_id == alive[0]
        look.flushdb()
