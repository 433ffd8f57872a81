"""Each transition by itself: what it allows, what it refuses, what a repeated call answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac.errors import (
    IllegalTransitionError,
    InvalidSubmissionError,
    QueueFullError,
    StaleClaimError,
    TaskNotFoundError,
)
from celeriac.model import (
    Amendment,
    Claim,
    Delivery,
    Dependency,
    Failure,
    Progress,
    Refusal,
    RemoteOrders,
    Status,
    Submission,
    ms_from_utc,
    utc_from_ms,
)
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from tests.kit.life_cycle_state import take_ids
from tests.kit.remote.claims import claim_next

BROKEN = Failure("broken", "it broke", True)
LONG_AGO_MS = 1000


@pytest.fixture
def settings() -> Settings:
    """Two places in the group `small`."""
    return Settings(groups={"small": GroupSettings(max_queue_length=2)}, max_scheduled=3)


async def running(store: TaskStore, task_id: str, **fields: Any) -> Claim:
    await store.submit(Submission(task_id=task_id, type="demo", **fields))
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


async def in_status(store: TaskStore, look: Any, status: Status) -> str:
    """Bring a task into a status the way it comes there in life; return its id."""
    task_id = f"is-{status.wire}"
    if status in (Status.SCHEDULED, Status.PENDING):
        await store.submit(
            Submission(task_id=task_id, type="demo", delay_ms=60_000 if status == Status.SCHEDULED else None)
        )
        return task_id
    if status is Status.WAITING:
        await store.submit(Submission(task_id="parent", type="demo"))
        await store.submit(Submission(task_id=task_id, type="demo", depends_on=[Dependency("parent")]))
        return task_id
    claim = await running(store, task_id)
    match status:
        case Status.RETRYING:
            await store.fail(claim, BROKEN, 60_000)
        case Status.COMPLETED:
            await store.complete(claim, "1")
        case Status.FAILED:
            await store.fail(claim, Failure("broken", "", False), 0)
        case Status.CANCELLED:
            await store.settle_cancelled(claim)
    assert (await store.get(task_id)).status == status
    return task_id


async def test_a_submission_is_stored_as_it_was_given(store: TaskStore, look: Any) -> None:
    payload = '{"text": "Ünïcödé \\u0000 \U0001f600"}'
    given = Submission(
        task_id="t", type="demo", payload=payload, group="media", priority=7, max_retries=5, timeout_ms=1500,
        user_id="jo:ann", metadata={"trace": ["ü", 1]}, original_file_path="/data/ü.mp4",
    )  # fmt: skip
    answer = await store.submit(given)
    assert (answer.task_id, answer.status, answer.created) == ("t", "pending", True)
    task = await store.get("t")
    assert task.payload == {"text": "Ünïcödé \0 \U0001f600"}
    assert (task.group, task.priority, task.max_retries, task.user_id) == ("media", 7, 5, "jo:ann")
    assert task.metadata == {"trace": ["ü", 1]}
    assert task.original_file_path == "/data/ü.mp4"
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    assert (claim.payload, claim.timeout_ms, claim.user_id, claim.metadata) == (payload, 1500, "jo:ann", given.metadata)
    assert claim.original_file_path == "/data/ü.mp4"


@pytest.mark.parametrize("task_id", ["ü\0\n", "a b", '"quoted\\"', "t" * 2000, "{x}", "%d", "-"])
async def test_odd_ids_live_like_others(store: TaskStore, look: Any, task_id: str) -> None:
    claim = await running(store, task_id)
    assert take_ids(look, "default") == [task_id]
    await store.complete(claim, '"ü"')
    assert (await store.get(task_id)).result == "ü"


async def test_megabytes_go_in_and_come_out(store: TaskStore, look: Any) -> None:
    text = '{"blob": "' + "x" * 10_000_000 + '"}'
    claim = await running(store, "t", payload=text)
    assert claim.payload == text
    await store.complete(claim, text)
    assert len((await store.get("t")).result["blob"]) == 10_000_000
    assert len(look.lindex("default\x06\x169", 0)) < 2000


async def test_what_foreign_programs_add_to_a_record_is_shown_with_it(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="t", type="demo"))
    extra = {f"field_{i}": str(i) for i in range(1000)}
    look.hset("task:t", mapping=extra)
    assert (await store.get("t")).extra == extra
    look.hdel("task:t", *extra)


@pytest.mark.parametrize("task_id", ["pending"])
async def test_the_name_of_the_external_list_is_no_task(store: TaskStore, look: Any, task_id: str) -> None:
    await store.submit(Submission(task_id="t", type="demo", delivery=Delivery.EXTERNAL))
    assert look.lrange("task:pending", 0, -1) == ["t"]
    with pytest.raises(InvalidSubmissionError):
        await store.submit(Submission(task_id=task_id, type="demo"))
    for call in (store.get, store.cancel, store.retry):
        with pytest.raises(TaskNotFoundError):
            await call(task_id)
    assert await store.claim(task_id, worker="w") == Refusal(task_id, "unknown")


@pytest.mark.parametrize("group", ["celeriac:leases", "celeriac:seq", "task:t", "unacked", "unacked_index"])
async def test_a_group_cannot_take_the_name_of_a_key(store: TaskStore, look: Any, group: str) -> None:
    with pytest.raises(InvalidSubmissionError, match="queue: a group cannot be named"):
        await store.submit(Submission(task_id="t", type="demo", group=group))
    assert look.keys() == []


async def test_a_group_whose_key_somebody_else_holds_is_refused_whole(store: TaskStore, look: Any) -> None:
    look.set("session", "of another program")
    refused = Submission(task_id="t", type="demo", group="session", priority=9, expires_in_ms=1000, idempotency_key="k")
    with pytest.raises(InvalidSubmissionError, match="holds something else"):
        await store.submit(refused)
    assert sorted(look.keys()) == ["celeriac:seq", "session"]


async def test_a_program_that_takes_the_key_of_a_group_later_does_not_stop_the_others(
    store: TaskStore, look: Any
) -> None:
    for task_id, group in (("bad", "later"), ("good", "default")):
        await store.submit(Submission(task_id=task_id, type="demo", group=group, priority=9, delay_ms=60_000))
        look.zadd(keys.DELAYED, {task_id: LONG_AGO_MS})
    look.set("later", "taken")
    assert (await store.promote())[0] == 2
    assert take_ids(look, "default") == ["good"]
    look.delete("later")
    look.hset("task:bad", "hinted_ms", LONG_AGO_MS)
    assert await store.sweep("later") == ["bad"]


async def test_an_idempotency_key_makes_one_task_of_many_submissions(store: TaskStore, look: Any) -> None:
    answers = await asyncio.gather(
        *(store.submit(Submission(task_id=f"t{i}", type="demo", idempotency_key="k")) for i in range(50))
    )
    assert {answer.task_id for answer in answers} == {"t0"}
    assert [answer.created for answer in answers] == [True] + [False] * 49
    assert len(look.keys("task:*")) == 1


async def test_idempotency_keys_of_different_users_never_meet(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="t1", type="demo", user_id="a:b", idempotency_key="c"))
    answer = await store.submit(Submission(task_id="t2", type="demo", user_id="a", idempotency_key="b:c"))
    assert answer.created


async def test_an_idempotency_key_that_outlives_its_task_makes_a_new_one(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t1", idempotency_key="k")
    assert 0 < look.pttl(keys.idempotency("", "k")) <= store.settings.idempotency_ttl * 1000
    await store.complete(claim, "1")
    look.delete("task:t1", keys.task_events("t1"))
    look.xtrim(keys.EVENTS, maxlen=0)
    assert (await store.submit(Submission(task_id="t2", type="demo", idempotency_key="k"))).created
    assert (await store.submit(Submission(task_id="t3", type="demo", idempotency_key="k"))).task_id == "t2"


async def test_a_full_group_refuses_and_keeps_nothing_of_it(store: TaskStore, look: Any) -> None:
    submissions = [Submission(task_id=f"t{i}", type="demo", group="small", idempotency_key=f"k{i}") for i in range(4)]
    answers = await asyncio.gather(*map(store.submit, submissions), return_exceptions=True)
    assert [isinstance(answer, QueueFullError) for answer in answers] == [False, False, True, True]
    assert look.keys("*t2*") == look.keys("*k2") == []
    assert take_ids(look, "small") == ["t0", "t1"]


async def test_a_full_group_takes_back_what_its_workers_lost(store: TaskStore, look: Any) -> None:
    claims = [await running(store, f"t{i}", group="small") for i in range(3)]
    for i in range(3, 5):
        await store.submit(Submission(task_id=f"t{i}", type="demo", group="small"))
    await store.release(claims[0])
    await store.fail(claims[1], BROKEN, 0)
    look.zadd(keys.LEASES, {"t2": LONG_AGO_MS})
    look.zadd(keys.DELAYED, {"t1": LONG_AGO_MS})
    await store.promote()
    assert await store.reap() == (1, 0, 0)
    assert (await store.group("small")).waiting == 5


async def test_the_schedule_is_bounded_and_retries_are_not_refused(store: TaskStore, look: Any) -> None:
    claim = await running(store, "r")
    for i in range(3):
        await store.submit(Submission(task_id=f"t{i}", type="demo", delay_ms=60_000))
    with pytest.raises(QueueFullError, match="scheduled"):
        await store.submit(Submission(task_id="t3", type="demo", delay_ms=60_000))
    assert await store.fail(claim, BROKEN, 60_000) == "retrying"


async def test_positions_follow_priority_then_arrival_with_returned_ones_in_front(store: TaskStore, look: Any) -> None:
    for task_id, priority in (("a0", 0), ("b5", 5), ("c5", 5), ("d9", 9), ("e0", 0), ("f4", 4)):
        await store.submit(Submission(task_id=task_id, type="demo", priority=priority))

    async def order() -> list[str]:
        tasks = [await store.get(task_id) for task_id in ("a0", "b5", "c5", "d9", "e0", "f4")]
        places = {await store.position(task): task.task_id for task in tasks}
        return [places[i] for i in range(1, 7)]

    assert await order() == ["d9", "b5", "c5", "f4", "a0", "e0"]
    for task_id in ("e0", "c5"):
        claim = await store.claim(task_id, worker="w")
        assert isinstance(claim, Claim)
        assert await store.position(await store.get(task_id)) is None
        await store.release(claim)
    assert await order() == ["d9", "c5", "b5", "f4", "e0", "a0"]


@pytest.mark.parametrize("status", [s for s in Status if s != Status.PENDING])
async def test_only_a_pending_task_can_be_claimed(store: TaskStore, look: Any, status: Status) -> None:
    task_id = await in_status(store, look, status)
    assert await store.claim(task_id, worker="w2") == Refusal(task_id, status.wire)


async def test_of_many_claims_at_once_one_is_granted(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="t", type="demo"))
    answers = await asyncio.gather(*(store.claim("t", worker=f"w{i}") for i in range(300)))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert (await store.get("t")).attempt == 1


@pytest.mark.parametrize("status", list(Status))
async def test_cancel_ends_what_waits_and_asks_what_runs(store: TaskStore, look: Any, status: Status) -> None:
    task_id = await in_status(store, look, status)
    if status in (Status.COMPLETED, Status.FAILED):
        with pytest.raises(IllegalTransitionError, match=f"is {status.wire}: cannot cancel it"):
            await store.cancel(task_id)
        return
    expected = Status.PROCESSING if status == Status.PROCESSING else Status.CANCELLED
    for _ in range(2):
        assert await store.cancel(task_id) == expected
    task = await store.get(task_id)
    assert (task.status, task.cancel_requested) == (expected, status == Status.PROCESSING)
    said = {
        Status.WAITING: "cancelled before it ran",
        Status.SCHEDULED: "cancelled before it ran",
        Status.PENDING: "cancelled before it ran",
        Status.RETRYING: "cancelled while it waited for its next attempt",
    }
    if status in said:
        assert task.error == Failure("cancelled", said[status], False)


@pytest.mark.parametrize("end", ["fail", "release", "reap", "settle"])
async def test_a_task_asked_to_cancel_ends_cancelled_however_its_attempt_ends(
    store: TaskStore, look: Any, end: str
) -> None:
    claim = await running(store, "t")
    await store.cancel("t")
    assert await store.progress(claim, 1, Progress(1))
    match end:
        case "fail":
            assert await store.fail(claim, BROKEN, 0) == "cancelled"
        case "release":
            assert await store.release(claim) == await store.release(claim) == "cancelled"
        case "reap":
            look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
            await store.reap()
        case "settle":
            await store.settle_cancelled(claim)
            await store.settle_cancelled(claim)
    task = await store.get("t")
    assert task.status == Status.CANCELLED
    assert task.error is not None
    assert task.error.code == "cancelled"


async def test_a_completion_that_overtakes_the_cancellation_counts(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    await store.cancel("t")
    await store.complete(claim, '"done"')
    assert (await store.get("t")).status == Status.COMPLETED


@pytest.mark.parametrize("status", list(Status))
async def test_retry_is_for_what_failed_or_was_cancelled(store: TaskStore, look: Any, status: Status) -> None:
    task_id = await in_status(store, look, status)
    if status not in (Status.FAILED, Status.CANCELLED):
        with pytest.raises(IllegalTransitionError, match=f"is {status.wire}: cannot retry it"):
            await store.retry(task_id)
        return
    assert await store.retry(task_id) == "pending"
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    assert (claim.attempt, claim.attempts_allowed) == (2, 5)
    assert (await store.get(task_id)).error is None


async def test_a_retry_respects_the_limit_of_its_group(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t", group="small")
    await store.fail(claim, Failure("x", "", False), 0)
    for i in range(2):
        await store.submit(Submission(task_id=f"u{i}", type="demo", group="small"))
    with pytest.raises(QueueFullError):
        await store.retry("t")
    assert (await store.get("t")).status == Status.FAILED


async def test_unknown_tasks_are_not_found(store: TaskStore, look: Any) -> None:
    look.hset("task:foreign", "colour", "blue")
    for task_id in ("nobody", "foreign", ""):
        with pytest.raises(TaskNotFoundError):
            await store.get(task_id)
    for call in (store.cancel, store.retry):
        with pytest.raises(TaskNotFoundError):
            await call("nobody")
    look.delete("task:foreign")


async def test_calls_of_a_lost_claim_are_stale(store: TaskStore, look: Any) -> None:
    old = await running(store, "t")
    look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
    assert await store.reap() == (1, 0, 0)
    new = await store.claim("t", worker="w2")
    assert isinstance(new, Claim)
    for call in (
        store.progress(old, 1, Progress(1)),
        store.complete(old, "1"),
        store.fail(old, BROKEN, 0),
        store.release(old),
        store.settle_cancelled(old),
    ):
        with pytest.raises(StaleClaimError, match="PROCESSING"):
            await call
    assert await store.renew("w", [old, new]) == ["lost", "held"]


async def test_attempts_used_up_by_dying_workers_fail_the_task_and_say_who_died(store: TaskStore, look: Any) -> None:
    await store.submit(Submission(task_id="t", type="demo", max_retries=1))
    for expected in ((1, 0, 0), (0, 1, 0)):
        assert isinstance(await store.claim("t", worker="w@host"), Claim)
        look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
        assert await store.reap() == expected
    error = (await store.get("t")).error
    assert error == Failure("worker_lost", "the worker w@host died or was cut off during attempt 2", True)


@pytest.mark.parametrize("max_retries", [0, 1, 2])
async def test_failures_are_retried_until_the_attempts_are_used_up(
    store: TaskStore, look: Any, max_retries: int
) -> None:
    await store.submit(Submission(task_id="t", type="demo", max_retries=max_retries))
    for _ in range(max_retries):
        claim = await store.claim("t", worker="w")
        assert isinstance(claim, Claim)
        assert await store.fail(claim, BROKEN, 0) == "retrying"
        await store.promote()
    last = await store.claim("t", worker="w")
    assert isinstance(last, Claim)
    assert await store.fail(last, BROKEN, 0) == "failed"
    task = await store.get("t")
    assert (task.status, task.attempt, task.error) == (Status.FAILED, max_retries + 1, BROKEN)


async def test_a_task_that_completes_after_a_failure_has_no_error_left(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    await store.fail(claim, BROKEN, 0)
    assert (await store.get("t")).error == BROKEN
    await store.promote()
    second = await store.claim("t", worker="w")
    assert isinstance(second, Claim)
    await store.complete(second, "1")
    task = await store.get("t")
    assert (task.status, task.error) == (Status.COMPLETED, None)


async def test_a_renewal_that_comes_before_the_reaper_saves_an_expired_lease(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    look.zadd(keys.LEASES, {"t": LONG_AGO_MS})
    assert await store.renew("w", [claim]) == ["held"]
    assert await store.reap() == (0, 0, 0)
    await store.complete(claim, "1")


async def test_a_repeated_failure_is_answered_alike_when_its_retry_is_due_by_then(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    assert await store.fail(claim, BROKEN, 0) == "retrying"
    await store.promote()
    assert await store.fail(claim, BROKEN, 0) == "retrying"
    assert (await store.get("t")).status == Status.PENDING


async def test_a_repeated_release_is_answered_alike_and_given_back_once(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    assert await store.release(claim) == await store.release(claim) == "pending"
    assert take_ids(look, "default") == ["t", "t"]  # the claim above took no message


async def test_a_released_task_may_still_expire(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t", expires_in_ms=60_000)
    assert look.zcard(keys.EXPIRING) == 0
    await store.release(claim)
    look.zadd(keys.EXPIRING, {"t": LONG_AGO_MS})
    assert await store.reap() == (0, 0, 1)


@pytest.mark.parametrize("delay_ms", [None, 60_000])
async def test_what_expires_unstarted_fails(store: TaskStore, look: Any, delay_ms: int | None) -> None:
    await store.submit(Submission(task_id="t", type="demo", expires_at_ms=LONG_AGO_MS, delay_ms=delay_ms))
    assert await store.reap() == (0, 0, 1)
    task = await store.get("t")
    assert task.status == Status.FAILED
    assert task.error is not None
    assert task.error.code == "expired"
    await store.retry("t")
    assert isinstance(await store.claim("t", worker="w"), Claim)


async def test_a_started_task_does_not_expire_between_its_attempts(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t", expires_in_ms=60_000)
    await store.fail(claim, BROKEN, 0)
    look.hset("task:t", "expires_ms", LONG_AGO_MS)
    await store.promote()
    assert await store.reap() == (0, 0, 0)
    assert isinstance(await store.claim("t", worker="w"), Claim)


@pytest.mark.parametrize("delay_ms", [-5, 10**40])
async def test_any_delay_of_a_retry_can_be_written_as_a_date(store: TaskStore, look: Any, delay_ms: int) -> None:
    claim = await running(store, "t")
    assert await store.fail(claim, BROKEN, delay_ms) == "retrying"
    assert (await store.get("t")).run_at is not None


async def test_progress_is_kept_in_order_and_a_repeat_is_ignored(store: TaskStore, look: Any) -> None:
    claim = await running(store, "t")
    for seq in (1, 2, 2, 1, 3):
        await store.progress(claim, seq, Progress(seq * 12.5, "stage", f"report {seq}", 1_700_000_000_000 + seq))
    told = [event.fields["percentage"] for event in await store.events("t") if event.kind == "progress"]
    assert told == ["12.5", "25", "37.5"]
    assert (await store.get("t")).progress == Progress(37.5, "stage", "report 3", 1_700_000_000_003)


async def test_a_text_with_half_a_surrogate_pair_harms_nobody(store: TaskStore, look: Any) -> None:
    claims = [await running(store, f"t{i}") for i in range(3)]
    answers = await asyncio.gather(
        store.complete(claims[0], "1"),
        store.fail(claims[1], Failure("broken", "no file \udcff", False), 0),
        store.progress(claims[2], 1, Progress(1, "caf\udce9")),
    )
    assert list(answers) == [None, "failed", False]
    assert (await store.get("t2")).progress.stage == "caf?"


async def test_a_message_that_celery_built_goes_out_again_as_it_was(store: TaskStore, look: Any) -> None:
    kept = '{"body": "aGk=", "headers": {"retries": 0, "argsrepr": "\\"retries\\": 7"}}'
    await store.submit(Submission(task_id="t", type="app.add", group="celery", celery_message=kept))
    assert look.lrange("celery\x06\x169", 0, -1) == [kept]
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    await store.fail(claim, BROKEN, 0)
    await store.promote()
    assert look.lrange("celery\x06\x169", 0, 0) == [kept.replace('"retries": 0', '"retries": 1')]


async def test_what_a_running_attempt_amends_is_what_the_next_one_gets(store: TaskStore, look: Any) -> None:
    kept = '{"body": "aGk=", "headers": {"retries": 0}}'
    first = Submission(task_id="t", type="app.add", group="celery", max_retries=0, celery_message=kept)
    await store.submit(first)
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    amended = '{"body": "aGEr/w==", "headers": {"retries": 0}}'
    call = replace(first, payload='{"args": [2]}', celery_message=amended, max_retries=4)
    call = replace(call, group="other", priority=9, timeout_ms=5000, expires_at_ms=32503680000000)
    await store.amend(claim, Amendment(call, attempts_allowed=5))
    assert look.zrange("celeriac:running:celery", 0, -1) == []
    assert look.zrange("celeriac:running:other", 0, -1) == ["t"]
    assert await store.fail(claim, BROKEN, 0) is Status.RETRYING
    with pytest.raises(StaleClaimError):
        await store.amend(claim, Amendment(replace(first, payload="{}"), attempts_allowed=9))
    await store.promote()
    assert look.lrange("other", 0, 0) == ['{"body": "aGEr/w==", "headers": {"retries": 1, "celeriac-edition": 1}}']
    task = await store.get("t")
    assert (task.group, task.priority, task.timeout_ms) == ("other", 9, 5000)
    assert task.expires_at == datetime(3000, 1, 1, tzinfo=UTC)
    second = await store.claim("t", worker="w")
    assert isinstance(second, Claim)
    assert (second.payload, second.attempts_allowed) == ('{"args": [2]}', 5)


async def test_an_amended_expiry_counts_from_the_stores_now_and_ends_a_task_that_waits_for_its_retry(
    store: TaskStore,
) -> None:
    first = Submission(task_id="t", type="app.add", group="celery", max_retries=3)
    await store.submit(first)
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    began = utc_from_ms(await server_ms(store))
    await store.amend(claim, Amendment(replace(first, expires_in_ms=50), attempts_allowed=4))
    expires_at = (await store.get("t")).expires_at
    assert expires_at is not None
    assert (expires_at - began).total_seconds() >= 0.05
    assert await store.fail(claim, BROKEN, 3_600_000) is Status.RETRYING
    while await server_ms(store) < ms_from_utc(expires_at):
        await asyncio.sleep(0.01)
    await store.reap()
    task = await store.get("t")
    assert task.error is not None
    assert (task.status, task.error.code, task.attempt) == (Status.FAILED, "expired", 1)


async def test_an_amended_attempt_lets_the_next_task_of_its_limited_group_start(store: TaskStore) -> None:
    await store.limit("celery", max_running=1)
    first = Submission(task_id="t", type="app.add", group="celery")
    await store.submit(first)
    await store.submit(replace(first, task_id="next"))
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    assert isinstance(await store.claim("next", worker="w"), Refusal)
    await store.amend(claim, Amendment(replace(first, group="other"), attempts_allowed=5))
    assert isinstance(await store.claim("next", worker="w"), Claim)


async def test_streams_stay_bounded_and_keep_what_was_promised(valkey_url: str) -> None:
    async with TaskStore(valkey_url, Settings(max_task_events=1000, max_global_events=1000).store) as store:
        claim = await running(store, "t")
        for first in range(1, 4001, 500):
            await asyncio.gather(*(store.report(claim, seq, Progress(1)) for seq in range(first, first + 500)))
        for key in (keys.task_events("t"), keys.EVENTS):
            assert 1000 <= await store.redis.xlen(key) <= 1200


async def test_what_ended_is_forgotten_after_its_retention(valkey_url: str) -> None:
    async with TaskStore(valkey_url, Settings(retention=60).store) as store:
        await store.complete(await running(store, "t"), "1")
        claim = await running(store, "reported")
        await store.report(claim, 1, Progress(1))
        await store.complete(claim, "1")
        assert not await store.redis.exists(keys.task_events("t")), "its record tells its events"
        for key in (keys.task("t"), keys.task("reported"), keys.task_events("reported")):
            assert 0 < await store.redis.pttl(key) <= 60_000


async def test_one_claim_for_remote_workers_ends_only_so_many_that_are_too_late(store: TaskStore, look: Any) -> None:
    remote = RemoteTasks(store, "gateway")
    orders = RemoteOrders(deadline_in_ms=1)
    waiting = [
        Submission(task_id=f"t{n}", type="remote", payload="{}", group="gpu", delivery=Delivery.REMOTE, remote=orders)
        for n in range(300)
    ]
    await asyncio.gather(*map(store.submit, waiting))
    in_time = Submission(task_id="last", type="remote", payload="{}", group="gpu", delivery=Delivery.REMOTE)
    await store.submit(in_time)
    await asyncio.sleep(0.01)
    first = await claim_next(remote, "gpu", ["w"])
    assert (first.granted, first.left) == ([], 101)
    second = await claim_next(remote, "gpu", ["w"])
    assert ([grant.claim.task_id for grant in second.granted], second.left) == (["last"], 0)


@pytest.mark.parametrize("before", [Status.SCHEDULED, Status.RETRYING])
async def test_a_task_that_waits_for_its_time_runs_now_and_only_once(
    store: TaskStore, look: Any, before: Status
) -> None:
    task_id = await in_status(store, look, before)
    take_ids(look, "default")
    # Several callers, and the promoter, at the same time.
    answers = await asyncio.gather(*(store.run_now(task_id) for _ in range(5)), store.promote())
    assert {answer for answer in answers if isinstance(answer, Status)} == {Status.PENDING}
    assert (await store.promote())[0] == 0
    assert take_ids(look, "default") == [task_id]
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    assert await store.run_now(task_id) is Status.PROCESSING
    assert (await store.get(task_id)).attempt == (1 if before == Status.SCHEDULED else 2)
    await store.complete(claim, "1")
    with pytest.raises(IllegalTransitionError, match="is completed: cannot run it"):
        await store.run_now(task_id)


@pytest.mark.parametrize("status", [Status.WAITING, Status.COMPLETED, Status.FAILED, Status.CANCELLED])
async def test_a_task_that_waits_for_others_or_has_ended_does_not_run_now(
    store: TaskStore, look: Any, status: Status
) -> None:
    task_id = await in_status(store, look, status)
    before = await store.get(task_id)
    with pytest.raises(IllegalTransitionError):
        await store.run_now(task_id)
    assert await store.get(task_id) == before
    with pytest.raises(TaskNotFoundError):
        await store.run_now("nobody")


async def test_a_task_that_runs_now_waits_for_a_paused_group(store: TaskStore) -> None:
    await store.submit(Submission(task_id="t", type="demo", delay_ms=60_000))
    await store.pause("default")
    assert await store.run_now("t") is Status.PENDING
    assert isinstance(await store.claim("t", worker="w"), Refusal)
