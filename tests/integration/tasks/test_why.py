"""Why a task waits: each reason in each of its cases, as the store has it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from celeriac.errors import TaskNotFoundError
from celeriac.limits.rules import By, LimitRule, StartRate
from celeriac.model import (
    Claim,
    Delivery,
    Dependency,
    Failure,
    Status,
    Submission,
    WaitForSignal,
    WaitUntil,
    rfc3339,
    utc_from_ms,
)
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.reasons import why_from_record, why_record
from celeriac.tasks.registry import registry
from celeriac.tasks.service import Tasks
from tests.kit.code_versions import version, worker_starts


@pytest.fixture
def tasks(store: TaskStore, valkey_url: str) -> Tasks:
    return Tasks(store=store, types=TypeCatalog(registry, store), settings=Settings(redis_url=valkey_url))


async def submitted(store: TaskStore, task_id: str, **fields: Any) -> str:
    given = {"type": "report", "payload": "{}", "group": "reports", **fields}
    await store.submit(Submission(task_id=task_id, **given))
    return task_id


async def why(tasks: Tasks, task_id: str) -> list[dict[str, Any]]:
    """Return the reasons without their texts, which must be there."""
    found = why_record(await tasks.why(task_id))
    assert all(reason["text"] for reason in found["reasons"])
    return [{name: value for name, value in reason.items() if name != "text"} for reason in found["reasons"]]


async def text(tasks: Tasks, task_id: str, code: str) -> str:
    reasons: list[Mapping[str, Any]] = why_record(await tasks.why(task_id))["reasons"]
    (found,) = (str(reason["text"]) for reason in reasons if reason["code"] == code)
    return found


def place(position: int, group: str = "reports") -> dict[str, Any]:
    return {"code": "position", "group": group, "position": position, "ahead": position - 1}


NOBODY = {"code": "no_worker", "group": "reports", "type": "report"}


async def test_its_place_counts_those_that_are_served_before_it(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    first, second = await submitted(store, "a"), await submitted(store, "b")
    assert await why(tasks, first) == [place(1)]
    assert await why(tasks, second) == [place(2)]
    await submitted(store, "c", priority=9)
    assert await why(tasks, second) == [place(3)]
    assert await text(tasks, second, "position") == "2 tasks are ahead of it in the group reports"
    assert await text(tasks, "c", "position") == "it is the next one in the group reports"


async def test_what_runs_has_ended_or_is_unknown_has_no_reason(tasks: Tasks, store: TaskStore) -> None:
    task_id = await submitted(store, "a")
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    assert why_record(await tasks.why(task_id)) == {"status": "processing", "reasons": []}
    await store.complete(claim, "1")
    assert why_record(await tasks.why(task_id)) == {"status": "completed", "reasons": []}
    for unknown in ("nobody", "pending"):
        with pytest.raises(TaskNotFoundError):
            await tasks.why(unknown)


async def test_a_time_and_a_retry_say_until_when(tasks: Tasks, store: TaskStore) -> None:
    (reason,) = await why(tasks, await submitted(store, "a", delay_ms=60_000))
    assert (reason["code"], set(reason)) == ("scheduled", {"code", "until"})
    assert await text(tasks, "a", "scheduled") == f"it is scheduled for {reason['until']}"
    claim = await store.claim(await submitted(store, "b", max_retries=1), worker="w")
    assert isinstance(claim, Claim)
    await store.fail(claim, Failure("broken", "boom", True), 60_000)
    (reason,) = await why(tasks, "b")
    assert (reason["code"], set(reason)) == ("retry", {"code", "until"})


async def test_a_pause_says_since_when_and_why(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    pause = await store.pause("reports", "SES quota, INC-1234")
    reasons = await why(tasks, await submitted(store, "a"))
    assert [reason["code"] for reason in reasons] == ["paused", "position"]
    assert (reasons[0]["group"], reasons[0]["note"]) == ("reports", "SES quota, INC-1234")
    assert await text(tasks, "a", "paused") == (
        f"the group reports is paused since {reasons[0]['since']}: SES quota, INC-1234"
    )
    assert pause.note == "SES quota, INC-1234"
    await store.pause("reports", "")
    assert (await why(tasks, "a"))[0]["note"] is None
    await store.resume("reports")
    assert await why(tasks, "a") == [place(1)]


async def test_a_limit_says_which_and_how_far_it_is(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    await store.limit("reports", max_running=1, rate=None, note="")
    running = await store.claim(await submitted(store, "a"), worker="w")
    assert isinstance(running, Claim)
    limit = {"code": "limit", "rule": "group:reports", "key": None}
    assert await why(tasks, await submitted(store, "b")) == [{**limit, "running": 1, "max_running": 1}, place(1)]
    assert await text(tasks, "b", "limit") == "the group reports is at its limit: 1 of 1 run"
    await store.complete(running, "1")
    assert await why(tasks, "b") == [place(1)]


async def test_a_rate_says_when_its_turn_is(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    await store.limit("reports", max_running=None, rate=StartRate.parse("2/h"), note="")
    for name in "abcd":
        await submitted(store, name)
    assert isinstance(await store.claim("a", worker="w"), Claim)
    turns = []
    for name in "bcd":
        (limit, _) = await why(tasks, name)
        assert (limit["code"], limit["rate"], limit["key"]) == ("limit", "2/h", None)
        turns.append(limit["until"])
    assert turns == sorted(set(turns))


@pytest.mark.parametrize("delivery", ["", Delivery.BROKER.value])
async def test_a_group_that_nobody_serves_and_a_type_that_nobody_knows(
    tasks: Tasks, store: TaskStore, delivery: str
) -> None:
    task_id = await submitted(store, "a", delivery=Delivery(delivery))
    assert await why(tasks, task_id) == [NOBODY, place(1)]
    assert await text(tasks, task_id, "no_worker") == "no worker serves the group reports"
    await worker_starts(store, "elsewhere", version(report=None), "default")
    assert await why(tasks, task_id) == [NOBODY, place(1)]
    # A remote worker takes none of these.
    await store.renew("remote", [], {"kind": "remote", "groups": "reports"})
    assert await why(tasks, task_id) == [NOBODY, place(1)]
    await worker_starts(store, "stranger", version(other=None), "reports")
    assert await why(tasks, task_id) == [NOBODY, place(1)]
    assert await text(tasks, task_id, "no_worker") == "no worker of the group reports knows the type report"
    # A plain Celery task is known like a type; one of two workers is enough.
    await worker_starts(store, "plain", version(other=None), "reports", plain=("report",))
    assert await why(tasks, task_id) == [place(1)]


async def test_a_worker_that_does_not_say_what_it_knows_counts_as_knowing(tasks: Tasks, store: TaskStore) -> None:
    await store.renew("old", [], {"kind": "celery", "groups": "reports"})
    assert await why(tasks, await submitted(store, "a")) == [place(1)]


async def test_remote_tasks_wait_for_remote_workers(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(remote=None), "reports")
    task_id = await submitted(store, "a", type="remote", delivery=Delivery.REMOTE)
    assert await why(tasks, task_id) == [{**NOBODY, "type": "remote"}, place(1)]
    assert await text(tasks, task_id, "no_worker") == "no remote worker serves the group reports"
    await store.renew("gpu", [], {"kind": "remote", "groups": "reports"})
    assert await why(tasks, task_id) == [place(1)]


async def test_dependencies_are_named_with_what_they_do(tasks: Tasks, store: TaskStore) -> None:
    parent = await submitted(store, "parent")
    task_id = await submitted(store, "child", depends_on=(Dependency(parent),))
    assert await why(tasks, task_id) == [{"code": "dependency", "task": parent, "node": None, "status": "pending"}]
    assert await text(tasks, task_id, "dependency") == "it waits for the task parent to be completed, which is pending"
    await submitted(store, "step", workflow_id="flow", node="fetch")
    await submitted(store, "next", depends_on=(Dependency("step"),))
    (reason,) = await why(tasks, "next")
    assert reason == {"code": "dependency", "task": "step", "node": "fetch", "status": "pending"}
    assert await text(tasks, "next", "dependency") == (
        "it waits for the task step (fetch) to be completed, which is pending"
    )


async def test_a_suspended_attempt_says_which_signals_and_times_it_waits_for(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    claim = await store.claim(await submitted(store, "a"), worker="w")
    assert isinstance(claim, Claim)
    now_ms = round(time.time() * 1000)
    waits = [
        WaitForSignal("approval", "approval", timeout_ms=60_000, title="Refund 120 €?", users=["7", "8"]),
        WaitForSignal("anything", "anything"),
        WaitUntil("rest", now_ms + 60_000),
    ]
    assert await store.suspend(claim, waits) is Status.WAITING
    anything, approval, sleeping = await why(tasks, "a")
    record = {wait.signal: wait for wait in (await store.waits(None))[0]}
    assert approval == {
        "code": "signal",
        "signal": "approval",
        "title": "Refund 120 €?",
        "since": rfc3339(record["approval"].since),
        "expires_at": rfc3339(record["approval"].expires_at or datetime.max),
        "users": ["7", "8"],
    }
    assert anything == {
        "code": "signal",
        "signal": "anything",
        "title": None,
        "since": rfc3339(record["anything"].since),
        "expires_at": None,
        "users": [],
    }
    assert sleeping == {"code": "sleeping", "until": rfc3339(utc_from_ms(now_ms + 60_000))}
    texts = [reason["text"] for reason in why_record(await tasks.why("a"))["reasons"]]
    assert texts == [
        "it waits for the signal anything",
        f"it waits for the signal approval until {approval['expires_at']}: Refund 120 €?",
        f"it sleeps until {sleeping['until']}",
    ]


async def test_a_task_that_waits_for_something_else_is_warned_of_if_nobody_takes_it(
    tasks: Tasks, store: TaskStore
) -> None:
    await submitted(store, "later", delay_ms=60_000)
    await submitted(store, "asks", delay_ms=60_000, awaits={"signal": "go"})
    warning = {"code": "no_worker", "text": "no worker serves the group reports", "group": "reports", "type": "report"}
    assert why_record(await tasks.why("later"))["warnings"] == [warning]
    # It needs no worker.
    assert "warnings" not in why_record(await tasks.why("asks"))
    assert why_from_record(why_record(await tasks.why("later"))) == await tasks.why("later")
    await worker_starts(store, "w", version(report=None), "reports")
    assert "warnings" not in why_record(await tasks.why("later"))


async def test_every_status_that_waits_has_a_reason_and_no_other_has(tasks: Tasks, store: TaskStore) -> None:
    await submitted(store, "is_pending")
    await submitted(store, "is_scheduled", delay_ms=60_000)
    await submitted(store, "is_waiting", depends_on=(Dependency("is_pending"),))
    await submitted(store, "is_retrying", max_retries=1, group="other")
    claim = await store.claim("is_retrying", worker="w")
    assert isinstance(claim, Claim)
    await store.fail(claim, Failure("broken", "boom", True), 60_000)
    for name, group in (("processing", "p"), ("completed", "c"), ("failed", "f"), ("cancelled", "x")):
        await submitted(store, f"is_{name}", group=group)
        claim = await store.claim(f"is_{name}", worker="w")
        assert isinstance(claim, Claim)
        if name == "completed":
            await store.complete(claim, "1")
        elif name == "failed":
            await store.fail(claim, Failure("broken", "boom", False), 0)
        elif name == "cancelled":
            await store.settle_cancelled(claim)
    found = {}
    for status in Status:
        answer = why_record(await tasks.why(f"is_{status.wire}"))
        found[answer["status"]] = [reason["code"] for reason in answer["reasons"]]
    assert found == {
        "scheduled": ["scheduled"],
        "waiting": ["dependency"],
        "retrying": ["retry"],
        "pending": ["no_worker", "position"],
        "processing": [],
        "completed": [],
        "failed": [],
        "cancelled": [],
    }


async def test_the_rules_of_a_key_and_a_user_and_an_order_are_named(tasks: Tasks, store: TaskStore) -> None:
    await worker_starts(store, "w", version(report=None), "reports")
    for rule in (
        LimitRule("per key", group="reports", by=By.KEY, max_running=1),
        LimitRule("per user", type="report", by=By.USER, max_running=1),
        LimitRule("in turn", group="reports", by=By.KEY, ordered=True),
    ):
        await store.set_rule(rule)
    first = await store.claim(await submitted(store, "a", key="c1", user_id="u1"), worker="w")
    assert isinstance(first, Claim)
    await submitted(store, "b", key="c1", user_id="u1")
    limits = [reason for reason in await why(tasks, "b") if reason["code"] == "limit"]
    full = {"running": 1, "max_running": 1}
    assert sorted(limits, key=lambda one: str(one["rule"])) == [
        {"code": "limit", "rule": "in turn", "key": "c1", **full},
        {"code": "limit", "rule": "per key", "key": "c1", **full},
        {"code": "limit", "rule": "per user", "key": "u1", **full},
    ]
    # Told to come back later: with or without a rule.
    assert await store.rate_limited(first, 600) is Status.PENDING
    for task_id in ("a", "b"):
        (closed,) = [one for one in await why(tasks, task_id) if one["code"] == "limit" and one["rule"] is None]
        assert (closed["key"], closed["rate"]) == ("c1", None)
        assert closed["until"]


async def test_all_that_holds_it_up_is_told_before_its_place(tasks: Tasks, store: TaskStore) -> None:
    await store.limit("reports", max_running=1, rate=None, note="")
    assert isinstance(await store.claim(await submitted(store, "a"), worker="w"), Claim)
    await submitted(store, "b")
    await store.pause("reports", "")
    assert [reason["code"] for reason in await why(tasks, "b")] == ["paused", "no_worker", "limit", "position"]
