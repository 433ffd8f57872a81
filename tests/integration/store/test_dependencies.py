"""Tasks that wait for others: when they start, how they end, and what is kept for them; on a real server."""

from __future__ import annotations

import asyncio
import json

import pytest

from celeriac.errors import DependedOnError, InvalidSubmissionError
from celeriac.model import Claim, Dependency, Failure, OnUnmet, Status, Submission, When
from celeriac.store import keys
from celeriac.store.server.channel import StoreChannel
from celeriac.store.task_store import TaskStore


async def submit(store: TaskStore, task_id: str, *parents: str | Dependency, **more: object) -> Status:
    depends_on = [one if isinstance(one, Dependency) else Dependency(one) for one in parents]
    submission = Submission(task_id=task_id, type="demo", depends_on=depends_on, **more)  # type: ignore[arg-type]
    return (await store.submit(submission)).status


async def status(store: TaskStore, task_id: str) -> Status:
    return (await store.get(task_id)).status


async def run(store: TaskStore, task_id: str, end: Status = Status.COMPLETED) -> None:
    """Give a task this end, through the transitions that a worker calls."""
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    if end is Status.COMPLETED:
        await store.complete(claim, json.dumps(f"result of {task_id}"))
    elif end is Status.FAILED:
        await store.fail(claim, Failure("broken", "it broke", retryable=False), 0)
    else:
        await store.cancel(task_id, running="at_once")


async def test_a_task_starts_when_its_last_parent_has_completed(store: TaskStore) -> None:
    for parent in ("a", "b"):
        await submit(store, parent)
    assert await submit(store, "c", "a", "b") is Status.WAITING
    assert (await store.get("c")).waiting_for == (Dependency("a"), Dependency("b"))
    await run(store, "a")
    assert (await store.get("c")).waiting_for == (Dependency("b"),)
    await run(store, "b")
    child = await store.get("c")
    assert (child.status, child.waiting_for) == (Status.PENDING, None)
    claim = await store.claim("c", worker="w")
    assert isinstance(claim, Claim)
    assert claim.depends_on == (Dependency("a"), Dependency("b"))


ENDS = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
MET = {(When.COMPLETED, Status.COMPLETED), (When.FAILED, Status.FAILED), *((When.ENDED, end) for end in ENDS)}
AS = {
    None: Status.CANCELLED,
    OnUnmet.CANCEL: Status.CANCELLED,
    OnUnmet.FAIL: Status.FAILED,
    OnUnmet.RUN: Status.PENDING,
}


@pytest.mark.parametrize("ended_before", [True, False])
@pytest.mark.parametrize("on_unmet", AS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("when", list(When))
async def test_each_condition_is_met_by_its_ends_and_else_on_unmet_decides(
    store: TaskStore, when: When, end: Status, on_unmet: OnUnmet | None, ended_before: bool
) -> None:
    await submit(store, "p")
    if ended_before:
        await run(store, "p", end)
    await submit(store, "c", Dependency("p", when), on_unmet=on_unmet, user_id="7")
    if not ended_before:
        await run(store, "p", end)
    child = await store.get("c")
    if (when, end) in MET:
        assert (child.status, child.error) == (Status.PENDING, None)
        return
    assert child.status is AS[on_unmet]
    if child.status.final:
        assert child.error is not None
        assert child.error.code == "dependency_failed"
        assert "p" in child.error.message.split(", ")[0].split()
        assert await store.read(("ZCARD", keys.active("7")), ("ZCARD", keys.SUSPENDED)) == [0, 0]


async def test_an_unmet_condition_ends_the_chain_behind_it_and_the_rest_of_its_tree_goes_on(store: TaskStore) -> None:
    await submit(store, "a")
    for number in range(200):
        await submit(store, f"chain-{number}", "a" if number == 0 else f"chain-{number - 1}")
    await submit(store, "clean-up", Dependency("chain-199", When.ENDED))
    await run(store, "a", Status.FAILED)
    assert {await status(store, f"chain-{number}") for number in range(200)} == {Status.CANCELLED}
    assert await status(store, "clean-up") is Status.PENDING


async def test_a_parent_that_does_not_exist_or_is_another_users_is_refused_with_its_place(store: TaskStore) -> None:
    await submit(store, "mine", user_id="7")
    await submit(store, "theirs", user_id="8")
    for wrong in ("nobody", "theirs"):
        with pytest.raises(InvalidSubmissionError) as caught:
            await submit(store, "c", "mine", wrong, user_id="7", parents_of="7")
        assert [violation.field for violation in caught.value.violations] == ["depends_on.1"]
    assert await submit(store, "c", "mine", "theirs", user_id="7") is Status.WAITING


async def test_a_delay_and_a_dependency_are_both_waited_for(store: TaskStore) -> None:
    await submit(store, "p")
    assert await submit(store, "soon", "p", delay_ms=1) is Status.WAITING
    assert await submit(store, "late", "p", delay_ms=60_000) is Status.WAITING
    await asyncio.sleep(0.01)
    await run(store, "p")
    assert await status(store, "soon") is Status.PENDING
    assert await status(store, "late") is Status.SCHEDULED
    assert (await store.get("late")).run_at is not None


async def test_a_waiting_task_can_be_cancelled_and_expires(store: TaskStore) -> None:
    await submit(store, "p")
    await submit(store, "cancelled", "p")
    await submit(store, "expires", "p", expires_in_ms=1)
    await submit(store, "child", "cancelled")
    assert await store.cancel("cancelled") is Status.CANCELLED
    await asyncio.sleep(0.01)
    await store.reap()
    await run(store, "p")
    assert [await status(store, one) for one in ("cancelled", "expires", "child")] == [
        Status.CANCELLED,
        Status.FAILED,
        Status.CANCELLED,
    ]
    await nothing_is_left(store, "p", "cancelled", "expires", "child")


async def nothing_is_left(store: TaskStore, *task_ids: str) -> None:
    """Check that no index of dependencies holds anything."""
    left = await store.read(
        ("ZCARD", keys.SUSPENDED),
        ("ZCARD", keys.RELEASING),
        *(("EXISTS", keys.open_conditions(one), keys.dependants(one)) for one in task_ids),
        *(("HEXISTS", keys.task(one), "dependants") for one in task_ids),
    )
    assert not any(left)


async def test_a_parents_record_is_kept_until_its_dependants_have_ended(store: TaskStore) -> None:
    await submit(store, "p", user_id="7", retention_ms=600_000)
    await submit(store, "other")
    await submit(store, "c", "p", "other", user_id="7", parents_of=None)
    await run(store, "p")
    assert (await store.read(("PTTL", keys.task("p"))))[0] == -1
    with pytest.raises(DependedOnError):
        await store.remove("p", user_id="7")
    await submit(store, "late", "p")
    await run(store, "late")
    assert (await store.read(("PTTL", keys.task("p"))))[0] == -1, "c still depends on it"
    await run(store, "other")
    await run(store, "c")
    assert 0 < (await store.read(("PTTL", keys.task("p"))))[0] <= 600_000


async def test_a_retry_waits_for_parents_that_have_not_ended(store: TaskStore) -> None:
    await submit(store, "p")
    await submit(store, "c", "p")
    await run(store, "p", Status.FAILED)
    assert await status(store, "c") is Status.CANCELLED
    assert await store.retry("p") is Status.PENDING
    assert await store.retry("c") is Status.WAITING
    await run(store, "p")
    await run(store, "c")
    await nothing_is_left(store, "p", "c")


async def test_ten_thousand_dependants_are_released_in_steps_each_once(store: TaskStore) -> None:
    await submit(store, "p")
    for first in range(0, 10_000, 500):
        await asyncio.gather(*(submit(store, f"c{number}", "p") for number in range(first, first + 500)))
    await run(store, "p")
    (held,) = await store.read(("ZCARD", keys.SUSPENDED))
    assert 9_000 < held < 10_000, "one script does a part of it"
    for _ in range(50):
        moved, next_ms = await store.promote()
        assert moved == 0
        if next_ms is None:
            break
    assert await store.read(("ZCARD", keys.SUSPENDED), ("ZCARD", keys.waiting("default"))) == [0, 10_000]
    first = await store.read(("ZRANGE", keys.waiting("default"), 0, 2))
    assert first == [["c0", "c1", "c2"]]
    await nothing_is_left(store)


async def test_a_thousand_parents_release_one_task(store: TaskStore) -> None:
    parents = [f"p{number}" for number in range(1000)]
    await asyncio.gather(*(submit(store, parent) for parent in parents))
    await submit(store, "c", *parents)
    await asyncio.gather(*(run(store, parent) for parent in parents[1:]))
    assert await status(store, "c") is Status.WAITING
    await run(store, "p0")
    await run(store, "c")
    await nothing_is_left(store, "c", *parents)


async def test_a_call_that_replaces_a_waiting_task_waits_for_nothing(store: TaskStore, valkey_url: str) -> None:
    await submit(store, "p")
    await submit(store, "c", "p")
    replacement = Submission(task_id="c", type="other", replacement=1)
    channel = StoreChannel(valkey_url, store.settings)
    assert (await asyncio.to_thread(channel.submit, replacement)).status is Status.PENDING
    await run(store, "p", Status.FAILED)
    assert await status(store, "c") is Status.PENDING
    await nothing_is_left(store, "p", "c")
