"""Random interleavings of everything that can happen to tasks, held against a model after each step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celeriac.errors import (
    IllegalTransitionError,
    InvalidSubmissionError,
    QueueFullError,
    SignalReceivedError,
    StaleClaimError,
    TaskEndedError,
)
from celeriac.limits.rules import StartRate
from celeriac.model import (
    Claim,
    Delivery,
    Dependency,
    Failure,
    LeaseState,
    OnUnmet,
    Progress,
    Refusal,
    RemoteOrders,
    Status,
    Submission,
    Submitted,
    Wait,
    WaitForSignal,
    WaitForTask,
    WaitUntil,
    When,
)
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.remote import RemoteTasks
from celeriac.store.server.channel import StoreChannel
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import STEPS, Client, assert_consistent, messages, take_message, write_as_before
from tests.kit.remote.claims import claim_next

T = TypeVar("T")

LIMIT_OF_B = 3
#: Groups are forgotten as soon as they are idle. However slow the machine, only the rules let a lease run out.
SETTINGS = Settings(lease=3600, group_retention=0, groups={"b": GroupSettings(max_queue_length=LIMIT_OF_B)})
GROUPS = ("a", "b")
LONG_AGO_MS = 1000
FAR_MS = 4_000_000_000_000
#: Few, so that much happens to each.
MOST_TASKS = 5
#: So low that one start uses it up until `a_rate_allows_the_next` gives it back.
RATE = StartRate.parse("1/d")
#: Whose tasks they are, in turn.
USERS = ("7", None, "7", None, "8")


@dataclass
class Expected:
    """A task as the model knows it."""

    status: str
    group: str
    max_retries: int
    allowed: int
    attempt: int = 0
    fence: str | None = None
    #: The claim that gave it back last.
    released_by: str | None = None
    cancel_requested: bool = False
    #: Whether no other attempt follows the one that runs.
    revoked: bool = False
    reports: int = 0
    remote: bool = False
    #: How many calls had the id before, and the claim whose attempt put something else in the task's place.
    replacement: int = 0
    awaited_by: str | None = None
    #: Whether it waits for the last part of that, and the claim whose attempt will wait in vain.
    awaits: bool = False
    unreached_by: str | None = None
    #: What it depends on, and which of that is open.
    parents: dict[str, str] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    on_unmet: str = "cancel"
    later: bool = False
    #: How many messages of it have become stale, and the call that begins when it has ended: group, retries, later.
    edition: int = 0
    next: tuple[str, int, bool] | None = None
    #: What its handler has kept and the signals that it received, in order; and whether there ever was anything.
    kept: list[tuple[str, str]] = field(default_factory=list)
    noted: bool = False
    #: The signals and sleeps that are open, the claim that suspended it last, and whether its attempt goes on.
    asks: set[str] = field(default_factory=set)
    suspended_by: str | None = None
    resumes: bool = False

    def keeps(self, kind: str) -> list[str]:
        """Return the names of what it keeps of this kind."""
        return [name for one, name in self.kept if one == kind]

    def keep(self, kind: str, name: str) -> None:
        """Keep something once."""
        if (kind, name) not in self.kept:
            self.kept.append((kind, name))
        self.noted = True

    def forget(self) -> None:
        """Forget all: another call has its id."""
        self.kept, self.noted, self.resumes, self.suspended_by = [], False, False, None
        self.asks = set()


class LifeCycle(RuleBasedStateMachine):
    """The life cycle on a real server, and its model."""

    tasks: Bundle[str] = Bundle("tasks")
    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.client: Client = redis.Redis.from_url(url, decode_responses=True)
        self.client.flushdb()
        self.loop = asyncio.new_event_loop()
        self.stores = [TaskStore(url, SETTINGS.store), TaskStore(url, SETTINGS.store)]
        self.store = self.stores[0]
        self.channel = StoreChannel(url, SETTINGS.store)
        self.remote = RemoteTasks(self.store, "gateway")
        self.model: dict[str, Expected] = {}
        #: The latest claim of each task.
        self.latest: dict[str, Claim] = {}
        self.keys: dict[tuple[str | None, str], str] = {}
        self.paused: set[str] = set()
        #: How many further calls of ids were made.
        self.calls = 0
        #: What groups are limited to: how many may run (None: any number), and whether they have a rate.
        self.limits: dict[str, tuple[int | None, bool]] = {}
        #: Groups whose rate is used up, should they have one.
        self.used_up: set[str] = set()
        #: Groups of which a message was lost: a sweep has to find it.
        self.lost: set[str] = set()

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Return what a call returns; a status as the store spells it, and so does the model."""
        answer = self.loop.run_until_complete(call)
        return answer.stored if isinstance(answer, Status) else answer

    # --- front doors

    @initialize(target=tasks)
    def first(self) -> Any:
        return self.submit("a", 0, 1, False, False, None, False, {}, None)

    @precondition(lambda self: len(self.model) < MOST_TASKS)
    @rule(
        target=tasks,
        group=st.sampled_from(GROUPS),
        priority=st.integers(0, 9),
        max_retries=st.integers(0, 2),
        later=st.booleans(),
        expires=st.booleans(),
        key=st.none() | st.sampled_from(["k1", "k2"]),
        remote=st.booleans(),
        parents=st.just({}) | st.dictionaries(st.integers(0, MOST_TASKS - 1), st.sampled_from(When), max_size=3),
        on_unmet=st.none() | st.sampled_from(OnUnmet),
    )
    def submit(
        self,
        group: str,
        priority: int,
        max_retries: int,
        later: bool,
        expires: bool,
        key: str | None,
        remote: bool,
        parents: dict[int, When],
        on_unmet: OnUnmet | None,
    ) -> Any:
        task_id = f"t{len(self.model)}"
        user_id = USERS[len(self.model) % len(USERS)]
        named = {f"t{number}": when for number, when in parents.items() if number < len(self.model)}
        submission = Submission(
            task_id=task_id,
            type="demo",
            depends_on=[Dependency(parent, when) for parent, when in named.items()],
            on_unmet=on_unmet,
            group=group,
            priority=priority,
            max_retries=max_retries,
            delay_ms=3_600_000 if later else None,
            expires_in_ms=7_200_000 if expires else None,
            user_id=user_id,
            idempotency_key=key,
            delivery=Delivery.REMOTE if remote else Delivery.CELERY,
            remote=RemoteOrders(deadline_in_ms=7_200_000) if remote else None,
        )
        if key is not None and (user_id, key) in self.keys:
            first = self.keys[user_id, key]
            answer = self.run(self.store.submit(submission))
            assert (answer.task_id, answer.status.stored, answer.created) == (first, self.model[first].status, False)
            return multiple()
        task = Expected("WAITING", group, max_retries, max_retries + 1, remote=remote, later=later)
        task.parents = {parent: when.value for parent, when in named.items()}
        task.open, task.on_unmet = dict(task.parents), on_unmet or "cancel"
        self.hear(task)
        if task.status == "PENDING" and self.full(group, remote):
            with pytest.raises(QueueFullError):
                self.run(self.store.submit(submission))
            return multiple()
        answer = self.run(self.store.submit(submission))
        assert (answer.task_id, answer.status.stored, answer.created) == (task_id, task.status, True)
        self.model[task_id] = task
        if key is not None:
            self.keys[user_id, key] = task_id
        return task_id

    @rule(task_id=tasks)
    def submit_the_same_id_again(self, task_id: str) -> None:
        task = self.model[task_id]
        answer = self.run(self.store.submit(Submission(task_id=task_id, type="demo", group=task.group)))
        assert (answer.status.stored, answer.created) == (task.status, False)

    @rule(
        task_id=tasks,
        group=st.sampled_from(GROUPS),
        max_retries=st.integers(0, 2),
        later=st.booleans(),
        repeat=st.booleans(),
    )
    def call_its_id_again(self, task_id: str, group: str, max_retries: int, later: bool, repeat: bool) -> None:
        task = self.model[task_id]
        call = Submission(
            task_id=task_id,
            type="again",
            group=group,
            max_retries=max_retries,
            delay_ms=3_600_000 if later else None,
            expires_in_ms=7_200_000,
        )
        self.calls += 1
        nonce, ends = f"call {self.calls}", Status(task.status).final
        nobodys = self.client.hget(keys.task(task_id), "user_id") is None and not task.remote and not task.parents
        notes = nobodys and task.status == "PROCESSING" and not task.cancel_requested and task.next is None
        answer = self.channel.submit_again(call, nonce)
        if notes:
            task.next = group, max_retries, later
        elif nobodys and ends:
            self.begin_again(task, (group, max_retries, later))
        assert answer == Submitted(task_id, Status(task.status), created=notes or (nobodys and ends))
        if repeat:
            assert self.channel.submit_again(call, nonce) == answer

    def begin_again(self, task: Expected, call: tuple[str, int, bool]) -> None:
        task.group, task.max_retries, later = call
        task.status, task.allowed = "SCHEDULED" if later else "PENDING", task.attempt + 1 + task.max_retries
        task.fence = task.released_by = task.awaited_by = task.next = None
        task.cancel_requested = task.revoked = task.awaits = False
        task.replacement, task.edition = 0, task.edition + 1
        task.forget()

    def ended(self, task: Expected, status: str) -> None:
        """Note a final status; a noted call of the task's id begins, unless the task was cancelled."""
        task.status = status
        if task.next is not None and status != "CANCELLED":
            self.dependants_hear()
            self.begin_again(task, task.next)
        task.next = None

    @rule(task_id=tasks, spare=st.booleans())
    def cancel(self, task_id: str, spare: bool) -> None:
        task = self.model[task_id]
        if task.status in ("COMPLETED", "FAILED"):
            with pytest.raises(IllegalTransitionError):
                self.run(self.store.cancel(task_id))
            return
        if task.status == "PROCESSING" and spare:
            task.revoked = True
        elif task.status == "PROCESSING":
            task.cancel_requested = True
        else:
            task.status = "CANCELLED"
        task.next = None
        assert self.run(self.store.cancel(task_id, running="spare" if spare else "")) == task.status

    @rule(task_id=tasks)
    def retry(self, task_id: str) -> None:
        task = self.model[task_id]
        if task.status not in ("FAILED", "CANCELLED"):
            with pytest.raises(IllegalTransitionError):
                self.run(self.store.retry(task_id))
        elif self.full(task.group, task.remote):
            with pytest.raises(QueueFullError):
                self.run(self.store.retry(task_id))
        else:
            task.open = {parent: when for parent, when in task.parents.items() if not self.has_ended(parent)}
            status = "WAITING" if task.open else "PENDING"
            assert self.run(self.store.retry(task_id)) == status
            self.retried(task, status)

    def retried(self, task: Expected, status: str) -> None:
        task.later = False
        task.status, task.fence, task.released_by, task.cancel_requested = status, None, None, False
        task.allowed = task.attempt + 1 + task.max_retries
        task.awaits, task.awaited_by, task.revoked = False, None, False
        task.asks, task.resumes, task.suspended_by = set(), False, None

    @rule(task_id=tasks, step=st.sampled_from(["a", "b"]))
    def retry_from_a_step(self, task_id: str, step: str) -> None:
        task = self.model[task_id]
        if not self.has_ended(task_id):
            with pytest.raises(IllegalTransitionError):
                self.run(self.store.retry(task_id, from_step=step))
        elif step not in task.keeps("step"):
            with pytest.raises(InvalidSubmissionError):
                self.run(self.store.retry(task_id, from_step=step))
        elif self.full(task.group, task.remote):
            with pytest.raises(QueueFullError):
                self.run(self.store.retry(task_id, from_step=step))
        else:
            task.open = {parent: when for parent, when in task.parents.items() if not self.has_ended(parent)}
            status = "WAITING" if task.open else "PENDING"
            assert self.run(self.store.retry(task_id, from_step=step)) == status
            task.kept = task.kept[: task.kept.index(("step", step))]
            self.retried(task, status)

    # --- executors

    @rule(target=claims, task_id=tasks)
    def claim(self, task_id: str) -> Any:
        return self.judge_claim(task_id, self.run(self.store.claim(task_id, worker="w")))

    @rule(target=claims, group=st.sampled_from(GROUPS))
    def claim_what_the_next_message_names(self, group: str) -> Any:
        message = take_message(self.client, group)
        return multiple() if message is None else self.claim(message["headers"]["id"])

    @rule(target=claims, task_id=tasks)
    def claim_from_two_processes_at_once(self, task_id: str) -> Any:
        async def race() -> list[Claim | Refusal]:
            return await asyncio.gather(*(store.claim(task_id, worker="w") for store in self.stores * 2))

        answers = self.run(race())
        granted = [answer for answer in answers if isinstance(answer, Claim)]
        task = self.model[task_id]
        if task.status != "PENDING" or task.remote or task.group in self.paused or not self.room(task.group):
            assert not granted
            return multiple()
        assert len(granted) == 1
        return self.judge_claim(task_id, granted[0])

    @rule(target=claims, group=st.sampled_from(GROUPS))
    def claim_all_at_once(self, group: str) -> Any:
        waiting = [i for i in self.having("PENDING") if self.model[i].group == group and not self.model[i].remote]

        async def race() -> list[Claim | Refusal]:
            return await asyncio.gather(*(self.store.claim(task_id, worker="w") for task_id in waiting))

        expected = 0 if group in self.paused else min(len(waiting), self.room(group))
        answers = self.run(race())
        granted = [answer for answer in answers if isinstance(answer, Claim)]
        assert len(granted) == expected
        return multiple(*(self.granted(answer.task_id, answer) for answer in granted))

    @rule()
    def claim_what_nobody_submitted(self) -> None:
        assert self.run(self.store.claim("stranger", worker="w")) == Refusal("stranger", "unknown")

    def judge_claim(self, task_id: str, answer: Claim | Refusal) -> Any:
        self.dependants_hear()
        task = self.model[task_id]
        if task.status != "PENDING":
            assert answer == Refusal(task_id, task.status.lower())
            return multiple()
        if task.remote:
            assert answer == Refusal(task_id, "remote")
            return multiple()
        if task.group in self.paused:
            assert answer == Refusal(task_id, "paused")
            return multiple()
        if not self.room(task.group):
            assert answer == Refusal(task_id, "limited")
            return multiple()
        return self.granted(task_id, answer)

    def granted(self, task_id: str, answer: Claim | Refusal) -> Claim:
        self.dependants_hear()
        task = self.model[task_id]
        assert isinstance(answer, Claim)
        task.attempt += not task.resumes
        task.status, task.fence, task.reports, task.resumes = "PROCESSING", answer.fence, 0, False
        assert answer.has_kept == task.noted
        self.latest[task_id] = answer
        if self.limits.get(task.group, (None, False))[1]:
            self.used_up.add(task.group)
        assert (answer.attempt, answer.attempts_allowed) == (task.attempt, task.allowed)
        return answer

    @rule(task_id=tasks)
    def claim_by_the_message_of_the_first_call(self, task_id: str) -> None:
        task = self.model[task_id]
        if task.status == "PENDING" and not task.remote and task.edition:
            assert self.run(self.store.claim(task_id, worker="w", edition=0)) == Refusal(task_id, "replaced")

    # --- what replaces a task

    @rule(
        task_id=tasks,
        group=st.sampled_from(GROUPS),
        more=st.integers(0, 2),
        max_retries=st.integers(0, 2),
        later=st.booleans(),
        expires=st.booleans(),
    )
    def replace(self, task_id: str, group: str, more: int, max_retries: int, later: bool, expires: bool) -> None:
        task = self.model[task_id]
        number = task.replacement + more
        if number == 0:
            return
        call = Submission(
            task_id=task_id,
            type=f"demo{number}",
            group=group,
            max_retries=max_retries,
            delay_ms=3_600_000 if later else None,
            expires_in_ms=7_200_000 if expires else None,
            replacement=number,
        )
        answer = self.channel.submit(call)
        if task.remote or more == 0 or task.status in ("COMPLETED", "CANCELLED"):
            assert (answer.created, answer.status.stored) == (False, task.status)
            return
        if task.cancel_requested:
            self.ended(task, "CANCELLED")
            assert (answer.created, answer.status.stored) == (False, "CANCELLED")
            return
        if self.has_ended(task_id) or task.status == "WAITING":
            task.parents, task.open = {}, {}
        task.forget()
        task.status = "SCHEDULED" if later else "PENDING"
        assert (answer.created, answer.status.stored) == (True, task.status)
        task.group, task.max_retries, task.allowed = group, max_retries, task.attempt + 1 + max_retries
        task.fence = task.released_by = task.awaited_by = None
        task.replacement, task.awaits, task.revoked = number, False, False
        task.edition += 1
        assert self.client.hget(keys.task(task_id), "type") == f"demo{number}"

    @rule(claim=claims)
    def wait_for_what_replaces_it(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        expected: str | None = None
        if task.awaited_by == claim.fence and task.status in ("SCHEDULED", "CANCELLED"):
            expected = task.status
        elif self.holds(claim):
            task.status = expected = "CANCELLED" if task.cancel_requested else "SCHEDULED"
            if task.cancel_requested:
                task.next = None
            elif task.unreached_by == claim.fence:
                expected = None
                task.fence = None
                self.ended(task, "FAILED")
            else:
                task.awaits, task.awaited_by, task.fence, task.released_by = True, claim.fence, None, None
                task.suspended_by = None
        elif task.status == "CANCELLED":
            expected = "CANCELLED"
        elif task.awaited_by == claim.fence:
            expected = task.status
        assert self.run(self.store.await_replacement(claim, "celery.chain")) == expected

    @rule(task_id=tasks, number=st.integers(1, 3))
    def what_it_waits_for_fails(self, task_id: str, number: int) -> None:
        task = self.model[task_id]
        fails = self.is_awaiting(task) and number > task.replacement
        assert self.channel.fail_replaced([(task_id, number)], "a link failed") == ([task_id] if fails else [])
        if fails:
            self.ended(task, "FAILED")
        elif task.status == "PROCESSING" and number > task.replacement:
            task.unreached_by = task.fence

    @staticmethod
    def is_awaiting(task: Expected) -> bool:
        return task.status == "SCHEDULED" and task.awaits

    # --- remote workers

    @rule(target=claims, group=st.sampled_from(GROUPS), workers=st.integers(1, 3), lost=st.booleans())
    def remote_workers_take_the_next(self, group: str, workers: int, lost: bool) -> Any:
        return multiple(*self.take_remote(group, workers, lost))

    def take_remote(self, group: str, workers: int, lost: bool) -> list[Claim]:
        waiting = [] if group in self.paused else self.client.zrange(keys.remote(group), 0, -1)
        ids = [f"W{n}" for n in range(workers)]
        room = self.room(group)

        found = self.run(claim_next(self.remote, group, ids, twice=lost))
        granted = {grant.place: grant.claim for grant in found.granted}
        assert [granted[place].task_id for place in sorted(granted)] == waiting[: min(workers, room)]
        limited = room < min(workers, len(waiting))
        assert found.left == (0 if limited and not lost else len(waiting) - len(granted))
        return [self.granted(claim.task_id, claim) for claim in granted.values()]

    @rule(claim=claims)
    def a_remote_worker_vanishes(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if not (task.remote and self.holds(claim)):
            return

        async def vanish() -> str:
            return await self.remote.abandon(claim)

        answer = self.run(vanish())
        self.taken_back(claim.task_id)
        assert answer == task.status

    @rule(task_id=tasks)
    def a_deadline_passes(self, task_id: str) -> None:
        task = self.model[task_id]
        if not task.remote or "deadline_ms" not in self.client.hgetall(keys.task(task_id)):
            return
        if not Status(task.status).final:
            assert self.run(self.remote.time_out(task_id)) > 3_600_000  # type: ignore[operator]
            self.client.hset(keys.task(task_id), "deadline_ms", LONG_AGO_MS)
            self.client.zadd(keys.DEADLINES, {task_id: LONG_AGO_MS})
            self.run(self.store.reap())
            task.status = "FAILED"
        assert self.run(self.remote.time_out(task_id)) == task.status

    @rule(task_id=tasks)
    def the_version_before_has_written_the_record(self, task_id: str) -> None:
        write_as_before(self.client, task_id)

    @rule(claim=claims, repeat=st.booleans())
    def progress(self, claim: Claim, repeat: bool) -> None:
        task = self.model[claim.task_id]
        if not self.holds(claim):
            with pytest.raises(StaleClaimError):
                self.run(self.store.progress(claim, 1000, Progress(99)))
            return
        repeat = repeat and task.reports > 0
        task.reports += not repeat
        length = len(self.run(self.store.events(claim.task_id)))
        report = Progress(task.reports, "stage", "message", 1)
        assert self.run(self.store.progress(claim, task.reports, report)) == task.cancel_requested
        assert len(self.run(self.store.events(claim.task_id))) == length + (not repeat)

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if task.fence == claim.fence and task.status in ("PROCESSING", "COMPLETED"):
            self.run(self.store.complete(claim, '{"done": true}'))
            self.ended(task, "COMPLETED")
        else:
            with pytest.raises(StaleClaimError):
                self.run(self.store.complete(claim, '"of a zombie"'))

    @rule(claim=claims, retryable=st.booleans())
    def fail(self, claim: Claim, retryable: bool) -> None:
        task = self.model[claim.task_id]
        failing = self.store.fail(claim, Failure("broken", "it broke", retryable), 3_600_000)
        if task.fence != claim.fence or task.status == "COMPLETED":
            with pytest.raises(StaleClaimError):
                self.run(failing)
            return
        answer = "RETRYING" if task.status == "PENDING" else task.status
        if task.status == "PROCESSING":
            answer = "RETRYING" if retryable and task.attempt < task.allowed else "FAILED"
            if task.cancel_requested or (task.revoked and answer == "RETRYING"):
                answer = "CANCELLED"
            task.status = answer
            if answer != "RETRYING":
                self.ended(task, answer)
        # A repeated call: the same answer, even when its retry is due by now.
        assert self.run(failing) == answer

    @rule(target=claims, task_id=tasks, steps=st.integers(1, 8), retryable=st.booleans())
    def its_attempts_fail(self, task_id: str, steps: int, retryable: bool) -> Any:
        """Bring one task on, step by step: by single rules hardly any comes to its last attempt."""
        made = []
        for _ in range(steps):
            task = self.model[task_id]
            if task.status in ("SCHEDULED", "RETRYING"):
                self.its_time_comes(task_id)
            elif task.status == "PROCESSING":
                self.fail(self.latest[task_id], retryable)
            elif task.status == "PENDING" and isinstance(claim := self.claim(task_id), Claim):
                made.append(claim)
            else:
                break
        return multiple(*made)

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if task.released_by == claim.fence:
            assert self.run(self.store.release(claim)) == "PENDING"
        elif task.fence == claim.fence and task.status == "CANCELLED":
            assert self.run(self.store.release(claim)) == "CANCELLED"
        elif not self.holds(claim):
            with pytest.raises(StaleClaimError):
                self.run(self.store.release(claim))
        elif task.cancel_requested or task.revoked:
            assert self.run(self.store.release(claim)) == "CANCELLED"
            self.ended(task, "CANCELLED")
        else:
            assert self.run(self.store.release(claim)) == "PENDING"
            task.status, task.fence, task.released_by, task.suspended_by = "PENDING", None, claim.fence, None
            task.awaited_by = None
            # One that has kept something goes on as the same attempt.
            task.resumes = task.noted
            task.attempt -= not task.noted

    @rule(claim=claims)
    def settle_cancelled(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if task.fence == claim.fence and task.status in ("PROCESSING", "CANCELLED"):
            self.run(self.store.settle_cancelled(claim))
            self.ended(task, "CANCELLED")
        else:
            with pytest.raises(StaleClaimError):
                self.run(self.store.settle_cancelled(claim))

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        expected = LeaseState.LOST
        if self.holds(claim):
            asked = self.model[claim.task_id].cancel_requested
            expected = LeaseState.CANCEL if asked else LeaseState.HELD
        assert self.run(self.store.renew("w", [claim])) == [expected]

    # --- what outlives a run of a handler

    @rule(claim=claims, name=st.sampled_from(["a", "b"]))
    def keep_a_step(self, claim: Claim, name: str) -> None:
        task = self.model[claim.task_id]
        keeping = self.store.note_step(claim, f"step:{name}", f'"{claim.fence}"')
        if not self.holds(claim):
            with pytest.raises(StaleClaimError):
                self.run(keeping)
            return
        noted, _ = self.run(keeping)
        assert (noted.value == f'"{claim.fence}"') or name in task.keeps("step"), "the first result counts"
        task.keep("step", name)

    @rule(claim=claims, pick=st.integers(0, MOST_TASKS))
    def keep_a_child(self, claim: Claim, pick: int) -> None:
        # An earlier task, so that none waits for itself.
        earlier = list(self.model)[: list(self.model).index(claim.task_id)]
        if not earlier:
            return
        child = earlier[pick % len(earlier)]
        keeping = self.store.note_step(claim, f"child:{child}", child)
        if not self.holds(claim):
            with pytest.raises(StaleClaimError):
                self.run(keeping)
            return
        self.run(keeping)
        self.model[claim.task_id].keep("child", child)

    @rule(
        claim=claims,
        signals=st.dictionaries(st.sampled_from(["s", "x"]), st.booleans(), max_size=2),
        sleeps=st.booleans(),
        for_children=st.booleans(),
        repeat=st.booleans(),
    )
    def suspend(self, claim: Claim, signals: dict[str, bool], sleeps: bool, for_children: bool, repeat: bool) -> None:
        task = self.model[claim.task_id]
        waits: list[Wait] = [
            WaitForSignal(name, name, timeout_ms=3_600_000 if timed else None, users=["9"])
            for name, timed in signals.items()
        ]
        waits += [WaitUntil("sleep", FAR_MS)] if sleeps else []
        children = task.keeps("child") if for_children else []
        waits += [WaitForTask(child) for child in children]
        if task.suspended_by == claim.fence:
            assert self.run(self.store.suspend(claim, waits)) == "WAITING"
            return
        if not self.holds(claim):
            if task.status == "CANCELLED" and task.fence == claim.fence:
                assert self.run(self.store.suspend(claim, waits)) == "CANCELLED"
                return
            with pytest.raises(StaleClaimError):
                self.run(self.store.suspend(claim, waits))
            return
        if task.cancel_requested:
            assert self.run(self.store.suspend(claim, waits)) == "CANCELLED"
            self.ended(task, "CANCELLED")
            return
        there = {*task.keeps("signal"), *task.keeps("wait")}
        asks = {f"signal:{name}" for name in signals if name not in there} | ({"sleep:sleep"} if sleeps else set())
        open_children = {child: "ended" for child in children if not self.has_ended(child)}
        if not asks and not open_children:
            assert self.run(self.store.suspend(claim, waits)) is None
            return
        assert self.run(self.store.suspend(claim, waits)) == "WAITING"
        task.status, task.asks, task.open, task.resumes = "WAITING", asks, open_children, True
        task.fence, task.suspended_by, task.released_by, task.awaited_by = None, claim.fence, None, None
        if repeat:
            assert self.run(self.store.suspend(claim, waits)) == "WAITING"

    @rule(
        target=claims,
        task_id=tasks,
        turns=st.integers(1, 9),
        signals=st.dictionaries(st.sampled_from(["s", "x"]), st.booleans(), max_size=2),
        sleeps=st.booleans(),
        pick=st.integers(0, MOST_TASKS),
    )
    def it_waits_and_goes_on(self, task_id: str, turns: int, signals: dict[str, bool], sleeps: bool, pick: int) -> Any:
        """Bring one task on, wait by wait: by single rules hardly any is suspended and goes on."""
        made = []
        for _ in range(turns):
            task = self.model[task_id]
            if task.status in ("SCHEDULED", "RETRYING"):
                self.its_time_comes(task_id)
            elif task.status == "PROCESSING":
                claim = self.latest[task_id]
                self.keep_a_child(claim, pick)
                self.keep_a_step(claim, "a")
                self.suspend(claim, signals, sleeps, True, False)
            elif task.status == "WAITING" and (asked := sorted(task.asks - {"sleep:sleep"})):
                self.signal(task_id, asked[0].removeprefix("signal:"))
            elif task.status == "WAITING" and task.asks:
                self.its_waits_are_over(task_id)
            elif task.status == "WAITING" and task.resumes and task.open:
                # Its children end, so that it hears of them.
                self.cancel(next(iter(task.open)), False)
                self.dependants_hear()
            elif task.status == "PENDING" and isinstance(claim := self.claim(task_id), Claim):
                made.append(claim)
            else:
                break
        return multiple(*made)

    @rule(task_id=tasks, name=st.sampled_from(["s", "x"]))
    def signal(self, task_id: str, name: str) -> None:
        task = self.model[task_id]
        if name in task.keeps("signal"):
            with pytest.raises(SignalReceivedError):
                self.run(self.store.signal(task_id, name, "1"))
        elif self.has_ended(task_id):
            with pytest.raises(TaskEndedError):
                self.run(self.store.signal(task_id, name, "1"))
        else:
            self.run(self.store.signal(task_id, name, "1"))
            task.keep("signal", name)
            self.comes(task, f"signal:{name}")

    def comes(self, task: Expected, name: str) -> None:
        """Note that something that a task may wait for is there."""
        if task.status == "WAITING" and name in task.asks:
            task.asks.discard(name)
            self.hear(task)

    @precondition(lambda self: self.asking())
    @rule(pick=st.integers(0, MOST_TASKS))
    def a_time_that_is_waited_for_comes(self, pick: int) -> None:
        asking = self.asking()
        self.its_waits_are_over(asking[pick % len(asking)])

    def asking(self) -> list[str]:
        """Return the tasks that wait for something that has a time."""
        return [task_id for task_id in self.having("WAITING") if self.client.zscore(keys.DELAYED, task_id)]

    def its_waits_are_over(self, task_id: str) -> None:
        """Let everything with a time be over that a task waits for."""
        task, items = self.model[task_id], keys.open_conditions(task_id)
        for name, text in self.client.hgetall(items).items():
            if name.startswith("sleep:"):
                self.client.hset(items, name, LONG_AGO_MS)
            elif "expires_ms" in text:
                self.client.hset(items, name, json.dumps({**json.loads(text), "expires_ms": LONG_AGO_MS}))
                task.keep("wait", name.removeprefix("signal:"))
            else:
                continue
            task.asks.discard(name)
        self.client.zadd(keys.DELAYED, {task_id: LONG_AGO_MS})
        self.run(self.store.promote())
        self.hear(task)

    # --- operators

    @rule(group=st.sampled_from(GROUPS))
    def pause(self, group: str) -> None:
        self.run(self.store.pause(group))
        self.paused.add(group)

    @rule(group=st.sampled_from(GROUPS), steps=st.integers(1, 3))
    def resume(self, group: str, steps: int) -> None:
        assert self.run(self.store.resume(group, steps=steps)) == (group in self.paused)
        self.paused.discard(group)

    @rule()
    def carry_on(self) -> None:
        self.run(self.store.carry_on())

    @rule(group=st.sampled_from(GROUPS), max_running=st.none() | st.integers(1, 3), rated=st.booleans())
    def limit(self, group: str, max_running: int | None, rated: bool) -> None:
        if not rated:
            # With a rate goes what it knows of earlier starts.
            self.used_up.discard(group)
        if max_running is None and not rated:
            assert self.run(self.store.unlimit(group)) == (self.limits.pop(group, None) is not None)
            return
        self.run(self.store.limit(group, max_running=max_running, rate=RATE if rated else None))
        self.limits[group] = max_running, rated

    # --- what time does

    @precondition(lambda self: self.used_up)
    @rule(pick=st.integers(0, 1))
    def a_rate_allows_the_next(self, pick: int) -> None:
        groups = sorted(self.used_up)
        self.let_the_rate_allow(groups[pick % len(groups)])

    def let_the_rate_allow(self, group: str) -> None:
        rule = f"group:{group}"
        if self.client.exists(keys.rates(rule)):
            self.client.zadd(keys.rates(rule), {"": LONG_AGO_MS})
        if self.client.zscore(keys.LIMITS_DUE, f"{rule}\n"):
            self.client.zadd(keys.LIMITS_DUE, {f"{rule}\n": LONG_AGO_MS})
        self.run(self.store.promote())
        self.used_up.discard(group)

    @precondition(lambda self: self.having("PROCESSING"))
    @rule(pick=st.integers(0, MOST_TASKS))
    def a_worker_dies(self, pick: int) -> None:
        running = self.having("PROCESSING")
        self.the_worker_dies(running[pick % len(running)])

    def the_worker_dies(self, task_id: str) -> None:
        self.client.zadd(keys.LEASES, {task_id: LONG_AGO_MS})
        self.run(self.store.reap())
        self.taken_back(task_id)

    def taken_back(self, task_id: str) -> None:
        task = self.model[task_id]
        if task.cancel_requested or task.revoked:
            self.ended(task, "CANCELLED")
        elif task.attempt < task.allowed:
            task.status, task.fence = "PENDING", None
        else:
            self.ended(task, "FAILED")

    @precondition(lambda self: self.having("SCHEDULED", "RETRYING"))
    @rule(pick=st.integers(0, MOST_TASKS))
    def a_time_comes(self, pick: int) -> None:
        delayed = self.having("SCHEDULED", "RETRYING")
        self.its_time_comes(delayed[pick % len(delayed)])

    def its_time_comes(self, task_id: str) -> None:
        self.client.zadd(keys.DELAYED, {task_id: LONG_AGO_MS})
        self.run(self.store.promote())
        task = self.model[task_id]
        if self.is_awaiting(task):
            self.ended(task, "FAILED")
        else:
            task.status = "PENDING"

    @precondition(lambda self: self.client.zcard(keys.EXPIRING))
    @rule(by_claim=st.booleans())
    def one_expires(self, by_claim: bool) -> None:
        task_id = self.client.zrange(keys.EXPIRING, 0, 0)[0]
        task = self.model[task_id]
        self.client.zadd(keys.EXPIRING, {task_id: LONG_AGO_MS})
        self.client.hset(keys.task(task_id), "expires_ms", LONG_AGO_MS)
        if by_claim and task.status == "PENDING" and not task.remote:
            assert self.run(self.store.claim(task_id, worker="w")) == Refusal(task_id, "expired")
        else:
            self.run(self.store.reap())
        self.ended(task, "FAILED")

    # --- what brokers do

    @rule(group=st.sampled_from(GROUPS), step=st.sampled_from(STEPS), oldest=st.booleans())
    def a_message_gets_lost(self, group: str, step: str, oldest: bool) -> None:
        name = f"{group}{step}"
        self.lost.add(group)
        _ = self.client.rpop(name) if oldest else self.client.lpop(name)

    @rule(group=st.sampled_from(GROUPS), step=st.sampled_from(STEPS), index=st.integers(0, 20), front=st.booleans())
    def a_message_is_doubled(self, group: str, step: str, index: int, front: bool) -> None:
        name = f"{group}{step}"
        text = self.client.lindex(name, index)
        if text is not None:
            (self.client.rpush if front else self.client.lpush)(name, text)

    @rule()
    def sweep(self) -> None:
        self.let_the_grace_pass()
        for group in GROUPS:
            before = len(messages(self.client, group))
            sent = self.run(self.store.sweep(group))
            assert all(self.model[task_id].status == "PENDING" for task_id in sent)
            assert len(messages(self.client, group)) == before + len(sent)

    # --- what must hold

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        self.dependants_hear()
        found = assert_consistent(self.client)
        assert {i: (r["status"], int(r["attempt"])) for i, r in found.items()} == {
            i: (task.status, task.attempt) for i, task in self.model.items()
        }

    @invariant()
    def what_a_limit_holds_goes_on_by_itself(self) -> None:
        for group in GROUPS:
            held = {member.split("\n")[-1] for member in self.client.zrange(keys.parked(f"group:{group}"), 0, -1)}
            waiting = {i for i in self.having("PENDING") if self.model[i].group == group}
            assert held <= waiting
            if not held or self.lost or group in self.paused or self.client.hexists(keys.RESUMING, group):
                continue
            assert group in self.limits
            most = self.limits[group][0]
            free = 0 if most is None else most - self.running(group)
            looked_at = self.client.zscore(keys.LIMITS_DUE, f"group:{group}\n")
            # Remote workers have a lane of their own, and an index instead of messages.
            told = {message["headers"]["id"] for message in messages(self.client, group)}
            for remote, out in ((False, told), (True, set(self.client.zrange(keys.remote(group), 0, -1)))):
                lane = {i for i in waiting if self.model[i].remote == remote}
                if held & lane:
                    assert len(out & lane - held) >= free or looked_at, f"{held} of {group} wait for nothing"

    def teardown(self) -> None:
        try:
            self.bring_all_to_an_end()
        finally:
            for store in self.stores:
                self.run(store.stop())
            self.loop.close()
            self.client.close()

    def bring_all_to_an_end(self) -> None:
        """Work as one plain worker with its background roles does: what was accepted must end."""
        for group in GROUPS:
            self.resume(group, 1)
        self.run(self.store.carry_on())
        for turn in range(3 + 6 * len(self.model)):
            waiting = [i for i, task in self.model.items() if not Status(task.status).final]
            if not waiting:
                return
            note(f"turn {turn}: {waiting}")
            for task_id in waiting:
                if self.model[task_id].status == "PROCESSING":
                    self.the_worker_dies(task_id)
                elif self.model[task_id].status in ("SCHEDULED", "RETRYING"):
                    self.its_time_comes(task_id)
                elif task_id in self.asking():
                    self.its_waits_are_over(task_id)
                for name in ("s", "x"):
                    if f"signal:{name}" in self.model[task_id].asks and self.model[task_id].status == "WAITING":
                        self.signal(task_id, name)
            if self.lost:
                self.sweep()
            for group, (_, rated) in self.limits.items():
                if rated:
                    self.let_the_rate_allow(group)
            for group in GROUPS:
                while (message := take_message(self.client, group)) is not None:
                    answer = self.claim(message["headers"]["id"])
                    if isinstance(answer, Claim):
                        self.complete(answer)
                for claim in self.take_remote(group, MOST_TASKS, False):
                    self.complete(claim)
            self.the_store_is_as_the_model_says()
        raise AssertionError(f"these never ended: {json.dumps(waiting)}")

    # --- dependencies in the model

    def has_ended(self, task_id: str) -> bool:
        return Status(self.model[task_id].status).final

    def hear(self, task: Expected) -> None:
        """Bring a waiting task to where the ends of its parents lead."""
        for parent, when in list(task.open.items()):
            status = self.model[parent].status
            if not self.has_ended(parent):
                continue
            if when not in ("ended", status.lower()) and task.on_unmet != "run":
                task.status, task.open = "CANCELLED" if task.on_unmet == "cancel" else "FAILED", {}
                return
            del task.open[parent]
        if not task.open and not task.asks:
            task.status, task.later = "SCHEDULED" if task.later else "PENDING", False

    def dependants_hear(self) -> None:
        # A task depends on earlier ones only, so one pass is enough.
        for task in self.model.values():
            if task.status == "WAITING":
                self.hear(task)

    # --- the model's own questions

    def having(self, *statuses: str) -> list[str]:
        return [task_id for task_id, task in self.model.items() if task.status in statuses]

    def full(self, group: str, remote: bool) -> bool:
        waiting = sum(
            task.status == "PENDING" and task.group == group and task.remote == remote for task in self.model.values()
        )
        return group == "b" and waiting >= LIMIT_OF_B

    def running(self, group: str) -> int:
        return sum(task.status == "PROCESSING" and task.group == group for task in self.model.values())

    def room(self, group: str) -> int:
        """Return how many tasks of a group its limits let start now."""
        most, rated = self.limits.get(group, (None, False))
        places = MOST_TASKS if most is None else max(most - self.running(group), 0)
        return min(places, 0 if group in self.used_up else 1) if rated else places

    def holds(self, claim: Claim) -> bool:
        task = self.model[claim.task_id]
        return task.status == "PROCESSING" and task.fence == claim.fence

    def let_the_grace_pass(self) -> None:
        for task_id, task in self.model.items():
            if task.status == "PENDING":
                self.client.hset(keys.task(task_id), "hinted_ms", LONG_AGO_MS)


def test_no_interleaving_breaks_the_life_cycle_or_loses_a_task(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that much happens while a group is half resumed.
    monkeypatch.setattr("celeriac.store.task_store._RESUMED_AT_ONCE", 2)
    run_state_machine_as_test(
        partial(LifeCycle, valkey_url),  # type: ignore[arg-type]  # it calls what makes a machine
        settings=settings(
            max_examples=150,
            stateful_step_count=50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
