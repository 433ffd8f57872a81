"""Random interleavings of everything that can happen to tasks, held against a model after each step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
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

from celeriac.errors import IllegalTransitionError, QueueFullError, StaleClaimError
from celeriac.limits.rules import StartRate
from celeriac.model import (
    Claim,
    Delivery,
    Failure,
    LeaseState,
    Progress,
    Refusal,
    RemoteOrders,
    Status,
    Submission,
)
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.remote import Grants, RemoteTasks
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import STEPS, Client, assert_consistent, messages, take_message

T = TypeVar("T")

LIMIT_OF_B = 3
#: Groups are forgotten as soon as they are idle.
SETTINGS = Settings(group_retention=0, groups={"b": GroupSettings(max_queue_length=LIMIT_OF_B)})
GROUPS = ("a", "b")
LONG_AGO_MS = 1000
#: Few, so that much happens to each.
MOST_TASKS = 5
#: So low that one start uses it up until `a_rate_allows_the_next` gives it back.
RATE = StartRate.parse("1/d")
#: Whose tasks they are, in turn.
USERS = ("7", None, "7", "8")


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
    reports: int = 0
    remote: bool = False


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
        self.remote = RemoteTasks(self.store, "gateway")
        self.model: dict[str, Expected] = {}
        #: The latest claim of each task.
        self.latest: dict[str, Claim] = {}
        self.keys: dict[tuple[str | None, str], str] = {}
        self.paused: set[str] = set()
        #: What groups are limited to: how many may run (None: any number), and whether they have a rate.
        self.limits: dict[str, tuple[int | None, bool]] = {}
        #: Groups whose rate is used up, should they have one.
        self.used_up: set[str] = set()
        #: Groups of which a message was lost: a sweep has to find it.
        self.lost: set[str] = set()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    # --- front doors

    @initialize(target=tasks)
    def first(self) -> Any:
        return self.submit("a", 0, 1, False, False, None, False)

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
    ) -> Any:
        task_id = f"t{len(self.model)}"
        user_id = USERS[len(self.model) % len(USERS)]
        submission = Submission(
            task_id=task_id,
            type="demo",
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
            assert (answer.task_id, answer.status, answer.created) == (first, self.model[first].status, False)
            return multiple()
        if not later and self.full(group, remote):
            with pytest.raises(QueueFullError):
                self.run(self.store.submit(submission))
            return multiple()
        answer = self.run(self.store.submit(submission))
        assert (answer.task_id, answer.created) == (task_id, True)
        self.model[task_id] = Expected(
            "SCHEDULED" if later else "PENDING", group, max_retries, max_retries + 1, remote=remote
        )
        if key is not None:
            self.keys[user_id, key] = task_id
        return task_id

    @rule(task_id=tasks)
    def submit_the_same_id_again(self, task_id: str) -> None:
        task = self.model[task_id]
        answer = self.run(self.store.submit(Submission(task_id=task_id, type="demo", group=task.group)))
        assert (answer.status, answer.created) == (task.status, False)

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        task = self.model[task_id]
        if task.status in ("COMPLETED", "FAILED"):
            with pytest.raises(IllegalTransitionError):
                self.run(self.store.cancel(task_id))
            return
        if task.status == "PROCESSING":
            task.cancel_requested = True
        else:
            task.status = "CANCELLED"
        assert self.run(self.store.cancel(task_id)) == task.status

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
            assert self.run(self.store.retry(task_id)) == "PENDING"
            task.status, task.fence, task.released_by, task.cancel_requested = "PENDING", None, None, False
            task.allowed = task.attempt + 1 + task.max_retries

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
        task = self.model[task_id]
        assert isinstance(answer, Claim)
        task.attempt += 1
        task.status, task.fence, task.reports = "PROCESSING", answer.fence, 0
        self.latest[task_id] = answer
        if self.limits.get(task.group, (None, False))[1]:
            self.used_up.add(task.group)
        assert (answer.attempt, answer.attempts_allowed) == (task.attempt, task.allowed)
        return answer

    # --- remote workers

    @rule(target=claims, group=st.sampled_from(GROUPS), workers=st.integers(1, 3), lost=st.booleans())
    def remote_workers_take_the_next(self, group: str, workers: int, lost: bool) -> Any:
        return multiple(*self.take_remote(group, workers, lost))

    def take_remote(self, group: str, workers: int, lost: bool) -> list[Claim]:
        waiting = [] if group in self.paused else self.client.zrange(keys.remote(group), 0, -1)
        ids = [f"W{n}" for n in range(workers)]
        room = self.room(group)

        async def take() -> Grants:
            reply = await self.remote.claim_next(group, ids)
            number = self.remote.calls
            if lost:  # the reply got lost, so the store asks again
                self.remote._calls -= 1
                reply = await self.remote.claim_next(group, ids)
            return self.remote.read_grants(number, reply)

        found = self.run(take())
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

    @rule(claim=claims, repeat=st.booleans())
    def progress(self, claim: Claim, repeat: bool) -> None:
        task = self.model[claim.task_id]
        if not self.holds(claim):
            with pytest.raises(StaleClaimError):
                self.run(self.store.progress(claim, 1000, Progress(99)))
            return
        repeat = repeat and task.reports > 0
        task.reports += not repeat
        length = self.client.xlen(keys.task_events(claim.task_id))
        report = Progress(task.reports, "stage", "message", 1)
        assert self.run(self.store.progress(claim, task.reports, report)) == task.cancel_requested
        assert self.client.xlen(keys.task_events(claim.task_id)) == length + (not repeat)

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if task.fence == claim.fence and task.status in ("PROCESSING", "COMPLETED"):
            self.run(self.store.complete(claim, '{"done": true}'))
            task.status = "COMPLETED"
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
        if task.status == "PROCESSING":
            if task.cancel_requested:
                task.status = "CANCELLED"
            else:
                task.status = "RETRYING" if retryable and task.attempt < task.allowed else "FAILED"
        # A repeated call: the same answer, even when its retry is due by now.
        assert self.run(failing) == ("RETRYING" if task.status == "PENDING" else task.status)

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
        elif task.cancel_requested:
            assert self.run(self.store.release(claim)) == "CANCELLED"
            task.status = "CANCELLED"
        else:
            assert self.run(self.store.release(claim)) == "PENDING"
            task.status, task.fence, task.released_by = "PENDING", None, claim.fence
            task.attempt -= 1

    @rule(claim=claims)
    def settle_cancelled(self, claim: Claim) -> None:
        task = self.model[claim.task_id]
        if task.fence == claim.fence and task.status in ("PROCESSING", "CANCELLED"):
            self.run(self.store.settle_cancelled(claim))
            task.status = "CANCELLED"
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
        self.client.hset(keys.group(group), "next_start_ms", LONG_AGO_MS)
        if self.limits.get(group, (None, False))[1]:
            assert self.client.zscore(keys.LIMITS_DUE, group), "nobody would look at a group with a rate"
            self.client.zadd(keys.LIMITS_DUE, {group: LONG_AGO_MS})
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
        if task.cancel_requested:
            task.status = "CANCELLED"
        elif task.attempt < task.allowed:
            task.status, task.fence = "PENDING", None
        else:
            task.status = "FAILED"

    @precondition(lambda self: self.having("SCHEDULED", "RETRYING"))
    @rule(pick=st.integers(0, MOST_TASKS))
    def a_time_comes(self, pick: int) -> None:
        delayed = self.having("SCHEDULED", "RETRYING")
        self.its_time_comes(delayed[pick % len(delayed)])

    def its_time_comes(self, task_id: str) -> None:
        self.client.zadd(keys.DELAYED, {task_id: LONG_AGO_MS})
        self.run(self.store.promote())
        self.model[task_id].status = "PENDING"

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
        task.status = "FAILED"

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
        found = assert_consistent(self.client)
        assert {i: (r["status"], int(r["attempt"])) for i, r in found.items()} == {
            i: (task.status, task.attempt) for i, task in self.model.items()
        }

    @invariant()
    def what_a_limit_holds_goes_on_by_itself(self) -> None:
        for group in GROUPS:
            held = set(self.client.zrange(keys.limited(group), 0, -1))
            waiting = {i for i in self.having("PENDING") if self.model[i].group == group and not self.model[i].remote}
            assert held <= waiting
            if not held or self.lost or group in self.paused or self.client.hexists(keys.RESUMING, group):
                continue
            out = {message["headers"]["id"] for message in messages(self.client, group)} & waiting - held
            assert group in self.limits
            most = self.limits[group][0]
            free = 0 if most is None else most - self.running(group)
            assert len(out) >= free or self.client.zscore(keys.LIMITS_DUE, group), f"{held} of {group} wait for nothing"

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
        for turn in range(3 + 4 * len(self.model)):
            waiting = [i for i, task in self.model.items() if not Status(task.status).final]
            if not waiting:
                return
            note(f"turn {turn}: {waiting}")
            for task_id in waiting:
                if self.model[task_id].status == "PROCESSING":
                    self.the_worker_dies(task_id)
                elif self.model[task_id].status in ("SCHEDULED", "RETRYING"):
                    self.its_time_comes(task_id)
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
