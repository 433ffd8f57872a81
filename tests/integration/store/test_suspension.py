"""Suspended attempts: what they wait for, what their tasks keep, and how they go on; on a real server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from celeriac.errors import (
    DependedOnError,
    IllegalTransitionError,
    InvalidSubmissionError,
    QueueFullError,
    SignalReceivedError,
    StaleClaimError,
    StepLimitError,
    TaskEndedError,
    TaskNotFoundError,
    Violation,
)
from celeriac.limits.rules import StartRate
from celeriac.model import (
    AwaitedSignal,
    AwaitedTime,
    Claim,
    Dependency,
    Failure,
    LeaseState,
    Refusal,
    Status,
    Submission,
    When,
    utc_from_ms,
)
from celeriac.settings import Settings, StepSettings
from celeriac.store import keys
from celeriac.store.suspension import WaitForSignal, WaitForTask, WaitUntil
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import assert_consistent, move_moment, take_ids

LONG_AGO_MS = 1000
FAR_MS = 4_000_000_000_000
APPROVAL = WaitForSignal("approval", "approval", title="Refund?", schema='{"type": "boolean"}', users=["9"])


@pytest.fixture
def settings() -> Settings:
    """Small limits."""
    return Settings(
        max_scheduled=4, steps=StepSettings(most=6, max_task_bytes=1024, max_signals=3, max_signal_bytes=64)
    )


async def running(store: TaskStore, task_id: str = "t", **fields: Any) -> Claim:
    await store.submit(Submission(task_id=task_id, type="demo", **fields))
    return await claimed(store, task_id)


async def claimed(store: TaskStore, task_id: str = "t") -> Claim:
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim), claim
    return claim


async def times_pass(store: TaskStore, look: Any, task_id: str = "t") -> None:
    """Let everything that the task waits for come to its time."""
    for name, text in look.hgetall(keys.open_conditions(task_id)).items():
        if text.isdecimal():
            look.hset(keys.open_conditions(task_id), name, LONG_AGO_MS)
        elif text.startswith("{"):
            question = json.loads(text)
            if "expires_ms" in question:
                look.hset(keys.open_conditions(task_id), name, json.dumps({**question, "expires_ms": LONG_AGO_MS}))
    if look.zscore(keys.DELAYED, task_id):
        look.zadd(keys.DELAYED, {task_id: LONG_AGO_MS})
    await store.promote()


async def test_a_suspended_attempt_holds_nothing_and_goes_on_as_the_same_attempt(store: TaskStore, look: Any) -> None:
    claim = await running(store, user_id="7", timeout_ms=60_000)
    take_ids(look, "default")
    assert await store.suspend(claim, [APPROVAL]) is Status.WAITING
    task = await store.get("t")
    assert (task.status, task.attempt, task.worker) == (Status.WAITING, 1, None)
    assert task.waiting_for == (AwaitedSignal("approval", "Refund?", {"type": "boolean"}, None),)
    assert look.zcard(keys.LEASES) == look.zcard(keys.running("default")) == 0
    assert take_ids(look, "default") == []
    assert_consistent(look)
    assert await store.renew("w", [claim]) == [LeaseState.LOST]
    with pytest.raises(StaleClaimError):
        await store.complete(claim, "1")

    await store.signal("t", "approval", "true", check=lambda schema: None)
    task = await store.get("t")
    assert (task.status, task.attempt, task.waiting_for) == (Status.PENDING, 1, None)
    assert take_ids(look, "default") == ["t"]
    assert_consistent(look)
    again = await claimed(store)
    assert (again.attempt, again.attempts_allowed, again.has_kept) == (1, claim.attempts_allowed, True)
    assert again.fence != claim.fence
    assert (await store.kept("t")).signals["approval"].value == "true"
    await store.complete(again, "1")
    assert_consistent(look)


async def test_a_suspension_that_is_repeated_changes_nothing(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    assert await store.suspend(claim, [APPROVAL]) is Status.WAITING
    before = look.hgetall("task:t")
    assert await store.suspend(claim, [APPROVAL]) is Status.WAITING
    assert look.hgetall("task:t") == before
    await store.signal("t", "approval", "true")
    second = await claimed(store)
    assert await store.suspend(claim, [APPROVAL]) is Status.WAITING, "its first answer was lost"
    assert (await store.get("t")).status is Status.PROCESSING
    with pytest.raises(StaleClaimError):
        await store.suspend(replace(second, fence="another"), [APPROVAL])


async def test_what_is_there_already_suspends_nothing(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    await store.signal("t", "approval", "1")
    await store.submit(Submission(task_id="child", type="demo"))
    await store.complete(await claimed(store, "child"), "1")
    there = [
        WaitForSignal("approval", "approval"),
        WaitUntil("sleep", LONG_AGO_MS),
        WaitForTask("child"),
        WaitForTask("x"),
    ]
    assert await store.suspend(claim, there) is None
    assert (await store.get("t")).status is Status.PROCESSING
    assert_consistent(look)
    await store.complete(claim, "1")


@pytest.mark.parametrize("first", ["signal", "time", "task"])
async def test_it_goes_on_when_the_last_thing_is_there(store: TaskStore, look: Any, first: str) -> None:
    claim = await running(store)
    await store.submit(Submission(task_id="child", type="demo"))
    await store.note_step(claim, "child:c", "child")
    waits = [
        WaitForSignal("approval", "approval", timeout_ms=9_000_000),
        WaitUntil("sleep", FAR_MS),
        WaitForTask("child"),
    ]
    assert await store.suspend(claim, waits) is Status.WAITING
    moment = AwaitedTime(utc_from_ms(FAR_MS))
    found = (await store.get("t")).waiting_for
    assert found is not None
    assert (found[0], found[2]) == (Dependency("child", When.ENDED), moment)

    async def time() -> None:
        look.hset(keys.open_conditions("t"), "sleep:sleep", LONG_AGO_MS)
        look.zadd(keys.DELAYED, {"t": LONG_AGO_MS})
        await store.promote()

    async def task() -> None:
        await store.complete(await claimed(store, "child"), "1")

    async def signal() -> None:
        await store.signal("t", "approval", "1")

    moves = {"signal": signal, "time": time, "task": task}
    order = [first, *sorted(moves.keys() - {first})]
    for name in order:
        assert (await store.get("t")).status is Status.WAITING
        await moves[name]()
        assert_consistent(look)
    assert (await store.get("t")).status is Status.PENDING
    await store.complete(await claimed(store), "1")
    assert_consistent(look)


async def test_a_wait_that_times_out_is_kept_and_a_later_signal_is_a_new_one(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    wait = WaitForSignal("approval", "approval", timeout_ms=60_000)
    await store.suspend(claim, [wait])
    assert (await store.get("t")).waiting_for[0].expires_at is not None  # type: ignore[index,union-attr]
    await store.promote()
    assert (await store.get("t")).status is Status.WAITING
    await times_pass(store, look)
    assert (await store.get("t")).status is Status.PENDING
    assert "wait:approval" in (await store.kept("t")).steps
    assert_consistent(look)
    again = await claimed(store)
    assert await store.suspend(again, [wait]) is None, "its time was over before"
    await store.signal("t", "approval", "1")
    assert await store.suspend(again, [wait._replace(wait="approval#2")]) is None
    await store.complete(again, "1")


async def test_first_signal_counts_and_a_repeated_call_is_the_same_one(store: TaskStore, look: Any) -> None:
    await running(store)
    at = await store.signal("t", "approval", "1")
    with pytest.raises(SignalReceivedError) as refused:
        await store.signal("t", "approval", "2")
    assert refused.value.received_at == at
    assert (await store.signals("t", "approval", "other"))["approval"].value == "1"
    nonce = look.hget(keys.signals("t"), "approval").split(" ")[1]
    store.unique = lambda: nonce  # type: ignore[method-assign]  # the first answer was lost
    assert await store.signal("t", "approval", "1") == at


async def test_signals_are_bounded_and_judged(store: TaskStore, look: Any) -> None:
    with pytest.raises(TaskNotFoundError):
        await store.signal("t", "approval", "1")
    claim = await running(store, user_id="7")
    for name in ("a", "b", "c"):
        await store.signal("t", name, "1", user_id="7")
    with pytest.raises(InvalidSubmissionError, match="has received 3 signals"):
        await store.signal("t", "d", "1")
    with pytest.raises(InvalidSubmissionError, match="above the limit of 64"):
        await store.signal("t", "e", json.dumps("x" * 64))
    with pytest.raises(InvalidSubmissionError, match="not the name of a signal"):
        await store.signal("t", "a b", "1")
    with pytest.raises(TaskNotFoundError):
        await store.signal("t", "a", "1", user_id="8")
    await store.complete(claim, "1")
    with pytest.raises(TaskEndedError):
        await store.signal("t", "z", "1")
    assert look.pttl(keys.signals("t")) > 0, "it leaves with the record"


async def test_those_whom_the_question_names_may_signal_while_it_is_asked(store: TaskStore) -> None:
    claim = await running(store, user_id="7")
    with pytest.raises(TaskNotFoundError):
        await store.signal("t", "approval", "true", user_id="9")
    await store.suspend(claim, [APPROVAL])
    with pytest.raises(TaskNotFoundError):
        await store.signal("t", "approval", "true", user_id="8")
    await store.signal("t", "approval", "true", user_id="9")


async def test_a_value_is_checked_against_the_schema_of_the_moment(store: TaskStore) -> None:
    def check(schema: Any) -> None:
        assert schema == {"type": "boolean"}
        raise InvalidSubmissionError([Violation("value", "is not a boolean")])

    await store.suspend(await running(store), [APPROVAL])
    with pytest.raises(InvalidSubmissionError, match="is not a boolean"):
        await store.signal("t", "approval", "1", check=check)
    assert (await store.get("t")).status is Status.WAITING
    await store.signal("t", "approval", "true", check=lambda _: None)
    assert (await store.get("t")).status is Status.PENDING


async def test_an_early_value_that_does_not_fit_is_dropped_and_only_that_one(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    await store.signal("t", "approval", '"yes"')
    early = (await store.signals("t", "approval"))["approval"]
    assert await store.suspend(claim, [APPROVAL._replace(dropped=early.number + 1)]) is None, "another value has come"
    assert await store.suspend(claim, [APPROVAL._replace(dropped=early.number)]) is Status.WAITING
    await store.signal("t", "approval", "true")
    assert (await store.signals("t", "approval"))["approval"].value == "true"


async def test_a_race_of_signals_and_suspensions_loses_nothing(store: TaskStore, look: Any) -> None:
    for number in range(30):
        claim = await running(store, f"t{number}")
        calls = [store.suspend(claim, [APPROVAL]), store.signal(claim.task_id, "approval", "true")]
        await asyncio.gather(*(calls if number % 2 else reversed(calls)))
        status = (await store.get(claim.task_id)).status
        assert status in (Status.PROCESSING, Status.PENDING)
        await store.complete(claim if status is Status.PROCESSING else await claimed(store, claim.task_id), "1")
    assert_consistent(look)


async def test_waits_are_listed_for_those_who_may_answer(store: TaskStore) -> None:
    for number, user in enumerate(("7", "8", None)):
        claim = await running(store, f"t{number}", user_id=user)
        question = WaitForSignal("q", title=f"Q{number}", users=["9"] if number < 2 else [], timeout_ms=60_000)
        await store.suspend(claim, [question])

    async def listed(user: str | None) -> list[str]:
        found, after, pages = [], None, 0
        while pages == 0 or after is not None:
            page, after = await store.waits(user, after=after, count=2)
            found += [f"{wait.task_id} {wait.title}" for wait in page]
            assert all((wait.signal, wait.type, bool(wait.expires_at)) == ("q", "demo", True) for wait in page)
            pages += 1
        return sorted(found)

    assert await listed(None) == ["t0 Q0", "t1 Q1", "t2 Q2"]
    assert await listed("9") == ["t0 Q0", "t1 Q1"]
    assert await listed("7") == ["t0 Q0"]
    await store.signal("t0", "q", "1")
    await store.cancel("t1")
    assert (await listed(None), await listed("9"), await listed("7")) == (["t2 Q2"], [], [])


async def test_many_waits_of_one_moment_are_listed_page_by_page(store: TaskStore, look: Any) -> None:
    for number in range(4):
        await store.suspend(await running(store, f"t{number}"), [WaitForSignal("q")])
    look.zadd(keys.WAITS, dict.fromkeys(look.zrange(keys.WAITS, 0, -1), 5000))
    found, after = await store.waits(None, count=1)
    while after is not None:
        page, after = await store.waits(None, after=after, count=1)
        found += page
    assert [wait.task_id for wait in found] == ["t0", "t1", "t2", "t3"]


# --- steps


async def test_a_step_is_kept_once_in_order_and_renews_the_lease(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
    first, now_ms = await store.note_step(claim, "step:charge", '{"id": 1}', took_ms=250)
    assert (first.value, first.noted_ms, first.noted_ms - first.began_ms) == ('{"id": 1}', now_ms, 250)
    assert look.zscore(keys.LEASES, "t") > now_ms
    assert await store.note_step(claim, "step:charge", '{"id": 2}') == (first, pytest.approx(now_ms, abs=10_000))
    await store.note_step(claim, "step:mail", "null")
    steps = await store.steps("t")
    assert [(step.name, step.result, step.size) for step in steps] == [("charge", {"id": 1}, 9), ("mail", None, 4)]
    assert [step.name for step in await store.steps("t", after=steps[0].number)] == ["mail"]
    with pytest.raises(StaleClaimError):
        await store.note_step(replace(claim, fence="another"), "step:x", "1")
    await store.fail(claim, Failure("broken", "", True), 0)
    with pytest.raises(StaleClaimError):
        await store.note_step(claim, "step:x", "1")


async def test_what_a_task_keeps_is_bounded(store: TaskStore) -> None:
    claim = await running(store)
    with pytest.raises(StepLimitError, match="above 1024 bytes"):
        await store.note_step(claim, "step:large", json.dumps("x" * 1024))
    for number in range(6):
        await store.note_step(claim, f"step:{number}", "1")
    with pytest.raises(StepLimitError, match="has kept 6 steps"):
        await store.note_step(claim, "step:6", "1")
    with pytest.raises(StepLimitError):
        await store.suspend(claim, [WaitForSignal("q", "q", timeout_ms=5)])
    assert await store.suspend(claim, [WaitForSignal("q", "q")]) is Status.WAITING


async def test_a_sleep_is_over_when_it_was_first_said(store: TaskStore) -> None:
    claim = await running(store)
    noted, now_ms = await store.note_step(claim, "sleep:sleep", "", took_ms=60_000)
    assert int(noted.value) == now_ms + 60_000
    again, _ = await store.note_step(claim, "sleep:sleep", "", took_ms=90_000)
    assert again == noted
    kept = await store.kept("t")
    assert (kept.steps["sleep:sleep"], kept.now_ms >= now_ms) == (noted, True)


async def test_too_many_that_wait_are_refused(store: TaskStore) -> None:
    claims = [await running(store, f"t{number}") for number in range(5)]
    for claim in claims[:4]:
        await store.suspend(claim, [APPROVAL])
    with pytest.raises(QueueFullError):
        await store.suspend(claims[4], [APPROVAL])
    assert (await store.get("t4")).status is Status.PROCESSING


# --- children


async def with_child(store: TaskStore, *, ended: bool = False) -> Claim:
    claim = await running(store)
    await store.submit(Submission(task_id="child", type="demo", retention_ms=60_000, user_id="7"))
    if ended:
        await store.complete(await claimed(store, "child"), "1")
    await store.note_step(claim, "child:c", "child")
    return claim


@pytest.mark.parametrize("ended", [True, False])
async def test_a_child_is_kept_until_its_parent_has_ended(store: TaskStore, look: Any, ended: bool) -> None:
    claim = await with_child(store, ended=ended)
    if not ended:
        await store.suspend(claim, [WaitForTask("child")])
        await store.complete(await claimed(store, "child"), "1")
        claim = await claimed(store)
    assert look.ttl("task:child") == -1
    with pytest.raises(DependedOnError):
        await store.remove("child", user_id="7")
    assert_consistent(look)
    await store.complete(claim, "1")
    assert look.ttl("task:child") > 0
    assert_consistent(look)


async def test_a_parent_that_is_cancelled_lets_go_of_its_child(store: TaskStore, look: Any) -> None:
    await store.suspend(await with_child(store), [WaitForTask("child"), WaitUntil("sleep", FAR_MS), APPROVAL])
    assert await store.cancel("t") is Status.CANCELLED
    assert (await store.get("t")).error == Failure("cancelled", "cancelled while it waited", False)
    assert look.zcard(keys.dependants("child")) == look.zcard(keys.WAITS) == look.zcard(keys.DELAYED) == 0
    assert_consistent(look)
    await store.complete(await claimed(store, "child"), "1")
    assert look.ttl("task:child") > 0
    assert await store.retry("t") is Status.PENDING
    assert look.ttl("task:child") == -1, "the parent may read it again"
    assert_consistent(look)
    again = await claimed(store)
    assert (again.attempt, again.has_kept) == (2, True)


# --- what else happens to a task


async def test_it_does_not_expire_once_it_has_started(store: TaskStore, look: Any) -> None:
    claim = await running(store, expires_in_ms=60_000)
    await store.note_step(claim, "step:a", "1")
    await store.suspend(claim, [APPROVAL])
    look.hset("task:t", "expires_ms", LONG_AGO_MS)
    await store.reap()
    await store.signal("t", "approval", "1")
    again = await claimed(store)
    assert again.attempt == 1
    assert await store.release(again) is Status.PENDING
    await store.reap()
    third = await claimed(store)
    assert (third.attempt, third.redelivered) == (1, True)


async def test_the_time_that_an_attempt_ran_is_kept(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    move_moment(look, "t", "started_ms", -5000)
    await store.suspend(claim, [APPROVAL])
    await store.signal("t", "approval", "1")
    again = await claimed(store)
    assert 5000 <= again.ran_ms < 60_000
    move_moment(look, "t", "started_ms", -5000)
    await store.suspend(again, [WaitUntil("sleep", FAR_MS)])
    await times_pass(store, look)
    assert 10_000 <= (await claimed(store)).ran_ms < 65_000


async def test_a_worker_that_dies_after_a_suspension_costs_an_attempt_of_its_own(store: TaskStore, look: Any) -> None:
    await store.suspend(await running(store, max_retries=1), [APPROVAL])
    await store.reap()
    assert (await store.get("t")).status is Status.WAITING
    await store.signal("t", "approval", "1")
    await claimed(store)
    look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
    await store.reap()
    again = await claimed(store)
    assert (again.attempt, again.ran_ms) == (2, 0)


async def test_a_cancellation_comes_before_a_suspension(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    await store.cancel("t")
    assert await store.suspend(claim, [APPROVAL]) is Status.CANCELLED
    assert_consistent(look)


async def test_a_paused_or_limited_group_holds_back_what_goes_on(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    take_ids(look, "default")
    await store.limit("default", max_running=1, rate=StartRate.parse("100/s"))
    await store.submit(Submission(task_id="other", type="demo"))
    await store.suspend(claim, [APPROVAL])
    assert take_ids(look, "default") == ["other"], "the place is free"
    await claimed(store, "other")
    await store.signal("t", "approval", "1")
    assert await store.claim("t", worker="w") == Refusal("t", "limited")
    assert take_ids(look, "default") == []


async def test_a_retry_from_a_step_forgets_what_came_after_it(store: TaskStore, look: Any) -> None:
    claim = await running(store)
    await store.note_step(claim, "step:a", "1")
    await store.signal("t", "early", "1")
    await store.note_step(claim, "step:b", "2")
    await store.signal("t", "late", "1")
    await store.submit(Submission(task_id="child", type="demo"))
    await store.note_step(claim, "child:c", "child")
    await store.note_step(claim, "sleep:sleep", "5000")
    with pytest.raises(IllegalTransitionError):
        await store.retry("t", from_step="b")
    await store.complete(claim, '"done"')
    with pytest.raises(IllegalTransitionError):
        await store.retry("t")
    with pytest.raises(InvalidSubmissionError, match="has kept no step 'x'"):
        await store.retry("t", from_step="x")
    assert await store.retry("t", from_step="b") is Status.PENDING
    assert_consistent(look)
    kept = await store.kept("t")
    assert {name: one.number > 0 for name, one in kept.steps.items()} == {"step:a": True, "child:c": False}
    assert set(kept.signals) == {"early"}
    task = await store.get("t")
    assert (task.result, task.finished_at) == (None, None)
    again = await claimed(store)
    await store.submit(Submission(task_id="child2", type="demo"))
    noted, _ = await store.note_step(again, "child:c", "child2")
    assert noted.value == "child2"
    await store.complete(again, "1")
    assert_consistent(look)


# --- tasks that need no worker


async def test_a_task_that_needs_no_worker_completes_with_the_signal(store: TaskStore, look: Any) -> None:
    awaits = {"signal": "approval", "schema": '{"type": "boolean"}', "title": "Refund?"}
    answer = await store.submit(Submission(task_id="t", type="wait", awaits=awaits, user_id="7"))
    assert answer.status is Status.WAITING
    assert (await store.get("t")).waiting_for == (AwaitedSignal("approval", "Refund?", {"type": "boolean"}, None),)
    assert_consistent(look)
    await store.signal("t", "approval", "true", check=lambda _: None)
    task = await store.get("t")
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, True, 0)
    assert_consistent(look)


@pytest.mark.parametrize("default", [None, '{"by": "nobody"}'])
async def test_a_task_that_needs_no_worker_ends_when_its_time_is_over(
    store: TaskStore, look: Any, default: str | None
) -> None:
    awaits: dict[str, Any] = {"signal": "approval", "timeout_ms": 60_000}
    await store.submit(Submission(task_id="t", type="wait", awaits=awaits | ({"default": default} if default else {})))
    await times_pass(store, look)
    task = await store.get("t")
    if default:
        assert (task.status, task.result) == (Status.COMPLETED, {"by": "nobody"})
    else:
        assert task.error == Failure("wait_timeout", "the signal approval has not come in time", False)
        assert await store.retry("t") is Status.WAITING
        await store.signal("t", "approval", "1")
        assert (await store.get("t")).status is Status.COMPLETED
    assert_consistent(look)


async def test_a_task_that_sleeps_needs_no_worker(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="p", type="demo"))
    sleep = Submission(
        task_id="t", type="sleep", awaits={"sleep": "sleep", "for_ms": 60_000}, depends_on=[Dependency("p")]
    )
    await store.submit(sleep)
    assert (await store.get("t")).waiting_for == (Dependency("p"),)
    await store.complete(await claimed(store, "p"), "1")
    (moment,) = (await store.get("t")).waiting_for or ()
    assert isinstance(moment, AwaitedTime)
    assert_consistent(look)
    await times_pass(store, look)
    assert ((await store.get("t")).status, (await store.get("t")).result) == (Status.COMPLETED, None)
    assert_consistent(look)


async def test_a_signal_may_come_before_a_task_without_a_worker_begins_to_wait(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="p", type="demo"))
    await store.submit(Submission(task_id="t", type="wait", awaits={"signal": "a"}, depends_on=[Dependency("p")]))
    await store.signal("t", "a", '"early"')
    assert (await store.get("t")).status is Status.WAITING
    await store.complete(await claimed(store, "p"), "1")
    await store.promote()
    assert (await store.get("t")).result == "early"
    assert_consistent(look)
