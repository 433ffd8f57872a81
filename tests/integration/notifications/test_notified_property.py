"""Random interleavings of what two programs and time do to tasks that programs report, held against a model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from celeriac.errors import IllegalTransitionError, InvalidSubmissionError, TaskNotFoundError, TaskTakenError
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.notified import NotifiedTasks
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import Client, assert_consistent, events_of, record_of

T = TypeVar("T")

IDS = ("a", "b", "c")
FINAL = ("COMPLETED", "FAILED", "CANCELLED")
LONG_AGO_MS = 1000


@dataclass
class Expected:
    """A task as the model knows it. `presumed`: it failed only because nobody was heard of."""

    user: str | None
    status: str = "PENDING"
    attempt: int = 0
    holder: int | None = None
    presumed: bool = False


class Reported(RuleBasedStateMachine):
    """Two programs on a real server, and the model."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.client: Client = redis.Redis.from_url(url, decode_responses=True)
        self.client.flushdb()
        self.loop = asyncio.new_event_loop()
        # However slow the machine, only the rules let a lease run out.
        self.store = TaskStore(url, Settings(lease=3600).store)
        self.programs = [NotifiedTasks(self.store, holder=f"p{n}", name=f"p{n}") for n in range(2)]
        self.model: dict[str, Expected] = {}

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @rule(
        task_id=st.sampled_from(IDS),
        user=st.sampled_from([None, "7", "8"]),
        by=st.integers(0, 1),
        at_once=st.booleans(),
    )
    def register(self, task_id: str, user: str | None, by: int, at_once: bool) -> None:
        task, program = self.model.get(task_id), self.programs[by]
        calling = (program.open if at_once else program.register)(task_id, task_type="demo", user_id=user)
        if task is not None and task.status not in FINAL:
            # Left out, the user is whoever it was.
            if task.user is not None and user is not None and task.user != user:
                with pytest.raises(TaskTakenError):
                    self.run(calling)
                return
            task.user = task.user or user
        else:
            known = None if task is None else task.user
            task = self.model[task_id] = Expected(user or known)
        if at_once:
            self.begun(task, by)
        assert self.run(calling).status.stored == task.status

    def begun(self, task: Expected, by: int) -> None:
        if task.status != "PROCESSING":
            task.attempt += 1
        task.status, task.holder, task.presumed = "PROCESSING", by, False

    @rule(
        task_id=st.sampled_from(IDS),
        by=st.integers(0, 1),
        verb=st.sampled_from(["start", "progress", "complete", "fail", "cancel"]),
    )
    def say(self, task_id: str, by: int, verb: str) -> None:
        program, task = self.programs[by], self.model.get(task_id)
        calling, end = {
            "start": lambda: (program.start(task_id), None),
            "progress": lambda: (program.progress(task_id, 50), None),
            "complete": lambda: (program.complete(task_id, "1"), "COMPLETED"),
            "fail": lambda: (program.fail(task_id, code="Broken", message="it broke"), "FAILED"),
            "cancel": lambda: (program.cancel(task_id, "no more"), "CANCELLED"),
        }[verb]()
        if task is None:
            with pytest.raises(TaskNotFoundError):
                self.run(calling)
        elif task.status in FINAL and not task.presumed and end != task.status:
            with pytest.raises(IllegalTransitionError):
                self.run(calling)
        else:
            if task.status not in FINAL or task.presumed:
                self.begun(task, by)
                task.status = end or "PROCESSING"
            assert self.run(calling).status.stored == task.status

    @rule(task_id=st.sampled_from(IDS), by=st.integers(0, 1))
    def let_go(self, task_id: str, by: int) -> None:
        task = self.model.get(task_id)
        if task is None:
            return
        before = self.client.zscore(keys.LEASES, task_id)
        self.run(self.programs[by].let_go(task_id))
        after = self.client.zscore(keys.LEASES, task_id)
        if task.status == "PROCESSING" and task.holder == by:
            assert after > self.client.time()[0] * 1000 + 3_600_000, "it may be silent for long"
        else:
            assert after == before

    @precondition(lambda self: any(task.status == "PROCESSING" for task in self.model.values()))
    @rule()
    def all_who_hold_are_killed(self) -> None:
        for task_id, task in self.model.items():
            if task.status == "PROCESSING":
                self.client.zadd(keys.LEASES, {task_id: LONG_AGO_MS})
                task.status, task.presumed = "FAILED", True
        self.run(self.store.reap())

    @precondition(lambda self: any(task.status == "PENDING" for task in self.model.values()))
    @rule()
    def those_that_wait_expire(self) -> None:
        for task_id, task in self.model.items():
            if task.status == "PENDING":
                self.client.zadd(keys.EXPIRING, {task_id: LONG_AGO_MS})
                task.status, task.presumed = "FAILED", True
        self.run(self.store.reap())

    @rule(task_id=st.sampled_from(IDS))
    def nobody_else_runs_or_retries_it(self, task_id: str) -> None:
        task = self.model.get(task_id)
        if task is None:
            return
        self.run(self.store.sweep("notified"))
        assert not self.client.exists("notified"), "no message is ever sent for it"
        with pytest.raises((InvalidSubmissionError, IllegalTransitionError)):
            self.run(self.store.retry(task_id))

    @rule(task_id=st.sampled_from(IDS), user=st.sampled_from(["7", "8"]))
    def cancel_by_the_api(self, task_id: str, user: str) -> None:
        task = self.model.get(task_id)
        if task is not None and task.status == "PENDING":
            self.run(self.store.cancel(task_id))
            task.status = "CANCELLED"

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        records = {i: record_of(self.client, i) for i in self.model}
        found = {i: (r["status"], int(r["attempt"]), r.get("user_id")) for i, r in records.items()}
        assert found == {i: (task.status, task.attempt, task.user) for i, task in self.model.items()}
        for task_id, task in self.model.items():
            assert (self.client.zscore(keys.LEASES, task_id) is not None) == (task.status == "PROCESSING")
            assert (self.client.pttl(keys.task(task_id)) > 0) == (task.status in FINAL)
            for user in ("7", "8"):
                own = task.user == user
                active = self.client.zscore(keys.active(user), task_id) is not None
                recent = self.client.zscore(keys.recent(user), task_id) is not None
                assert (active, recent) == (own and task.status not in FINAL, own and task.status in FINAL)
            told = [event.fields["status"] for event in events_of(self.client, task_id) if event.kind == "status"]
            assert told[-1] == task.status

    def teardown(self) -> None:
        self.run(self.store.stop())
        self.loop.close()
        self.client.close()


def test_what_programs_report_is_always_as_they_said_last(valkey_url: str) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Reported(valkey_url),
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushdb()
        assert assert_consistent(client) == {}
