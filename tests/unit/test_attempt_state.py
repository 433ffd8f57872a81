"""The states of an attempt: it ends once, and the first reason to stop counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.execution.attempt_state import AttemptState, End, State, StopReason
from celeriac.execution.leases import Leases
from celeriac.model import Claim, LeaseState

GRACE_S = 3.0
BY_THE_CODE = {End.RESULT, End.FAILURE, End.SUSPENDED, End.REPLACED, End.GIVEN_BACK}
DUE = {
    StopReason.CANCEL: End.CANCELLED,
    StopReason.TIMEOUT: End.TIMED_OUT,
    StopReason.LOST: End.LOST,
    StopReason.SHUTDOWN: End.GIVEN_BACK,
    StopReason.VANISHED: End.ABANDONED,
}


class Timer:
    def __init__(self, at_s: float, call: Callable[[], object]) -> None:
        self.at_s, self.call, self.cancelled = at_s, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: Any) -> Timer:
        timer = Timer(self.now_s + seconds, lambda: call(*arguments))
        self.timers.append(timer)
        return timer

    def pass_s(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at_s <= until_s]:
            first = min(due, key=lambda timer: timer.at_s)
            self.now_s = first.at_s
            self.timers.remove(first)
            first.call()
        self.now_s = until_s


class Owner:
    """An attempt's owner, and what it heard."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.stops: list[StopReason] = []
        self.overdue = 0
        self.attempt = AttemptState(
            call_later=self.clock.call_later, grace_s=GRACE_S, on_stop=self.stops.append, on_overdue=self._note
        )

    def _note(self) -> None:
        self.overdue += 1


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_an_attempt_goes_from_its_claim_to_one_end(owner: Owner) -> None:
    attempt = owner.attempt
    assert attempt.state is State.CLAIMED
    assert attempt.run()
    assert attempt.state is State.RUNNING
    assert attempt.finish(End.RESULT)
    assert (attempt.state, attempt.end) == (State.ENDED, End.RESULT)
    assert not attempt.finish(End.FAILURE)
    assert not attempt.stop(StopReason.CANCEL)
    assert not attempt.run()
    assert (attempt.end, owner.stops) == (End.RESULT, [])


def test_code_that_has_not_begun_has_no_result_but_may_fail_or_be_given_back(owner: Owner) -> None:
    assert {end for end in End if owner.attempt.may_end(end)} == {End.FAILURE, End.GIVEN_BACK}


def test_running_code_ends_by_itself_only(owner: Owner) -> None:
    owner.attempt.run()
    assert {end for end in End if owner.attempt.may_end(end)} == BY_THE_CODE
    assert owner.attempt.due_end is End.FAILURE


@pytest.mark.parametrize("reason", [StopReason.CANCEL, StopReason.TIMEOUT, StopReason.SHUTDOWN])
def test_code_that_is_being_stopped_may_still_be_faster(reason: StopReason) -> None:
    owner = Owner()
    owner.attempt.run()
    assert owner.attempt.stop(reason)
    assert owner.attempt.state is State.STOPPING
    assert {end for end in End if owner.attempt.may_end(end)} == BY_THE_CODE | {DUE[reason]}


@pytest.mark.parametrize("reason", [StopReason.LOST, StopReason.VANISHED])
def test_nothing_that_the_code_says_counts_once_its_claim_or_its_worker_is_gone(reason: StopReason) -> None:
    owner = Owner()
    owner.attempt.run()
    owner.attempt.stop(reason)
    assert {end for end in End if owner.attempt.may_end(end)} == {DUE[reason]}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(StopReason, 2)))
def test_the_first_reason_to_stop_counts(first: StopReason, second: StopReason) -> None:
    owner = Owner()
    assert owner.attempt.stop(first)
    assert not owner.attempt.stop(second)
    assert (owner.stops, owner.attempt.due_end) == ([first], DUE[first])


def test_an_attempt_that_is_stopped_before_it_runs_does_not_begin(owner: Owner) -> None:
    owner.attempt.stop(StopReason.CANCEL)
    assert not owner.attempt.run()
    assert not owner.attempt.may_end(End.RESULT)


def test_a_time_limit_stops_and_the_grace_runs_out_after_it(owner: Owner) -> None:
    owner.attempt.run()
    owner.attempt.limit(10)
    owner.clock.pass_s(9.9)
    assert owner.stops == []
    owner.clock.pass_s(0.1)
    assert owner.stops == [StopReason.TIMEOUT]
    owner.clock.pass_s(GRACE_S - 0.1)
    assert owner.overdue == 0
    owner.clock.pass_s(100)
    assert owner.overdue == 1


def test_a_limit_that_is_taken_away_stops_nothing(owner: Owner) -> None:
    owner.attempt.run()
    owner.attempt.limit(10)
    owner.attempt.unlimit()
    owner.clock.pass_s(100)
    assert (owner.stops, owner.overdue) == ([], 0)


def test_taking_a_limit_away_does_not_take_the_grace_away(owner: Owner) -> None:
    owner.attempt.run()
    owner.attempt.stop(StopReason.CANCEL)
    owner.attempt.unlimit()
    owner.clock.pass_s(GRACE_S)
    assert owner.overdue == 1


@pytest.mark.parametrize("stopped_first", [True, False])
def test_code_that_has_let_go_is_never_overdue(stopped_first: bool) -> None:
    owner = Owner()
    owner.attempt.run()
    steps: list[Callable[[], object]] = [lambda: owner.attempt.stop(StopReason.CANCEL), owner.attempt.let_go]
    for step in steps if stopped_first else reversed(steps):
        step()
    owner.attempt.limit(1)
    owner.clock.pass_s(100)
    assert (owner.stops, owner.overdue) == ([StopReason.CANCEL], 0)


STEPS: Final[dict[str, Callable[[Owner], object]]] = {
    "run": lambda owner: owner.attempt.run(),
    "limit": lambda owner: owner.attempt.limit(5),
    "unlimit": lambda owner: owner.attempt.unlimit(),
    "let go": lambda owner: owner.attempt.let_go(),
    "pass": lambda owner: owner.clock.pass_s(2),
}


@given(st.lists(st.one_of(st.sampled_from(sorted(STEPS)), st.sampled_from(StopReason), st.sampled_from(End))))
def test_whatever_happens_an_attempt_ends_once_and_is_stopped_once(steps: Sequence[str | StopReason | End]) -> None:
    owner = Owner()
    attempt = owner.attempt
    ends: list[End] = []
    for step in steps:
        before = (attempt.state, attempt.reason, attempt.end)
        if isinstance(step, StopReason):
            attempt.stop(step)
        elif isinstance(step, End):
            if attempt.finish(step):
                ends.append(step)
                assert step in BY_THE_CODE or (attempt.reason is not None and step is DUE[attempt.reason])
        else:
            STEPS[step](owner)
        if before[2] is not None:
            assert (attempt.state, attempt.reason, attempt.end) == before, "an end is final"
        assert (attempt.state is State.ENDED) == (attempt.end is not None)
        assert attempt.end is not None or attempt.may_end(attempt.due_end), "it can always end"
    assert ends == ([] if attempt.end is None else [attempt.end])
    assert len(owner.stops) <= 1
    assert owner.overdue <= len(owner.stops)


# --- leases


def claim(task_id: str, fence: str = "f") -> Claim:
    return Claim(task_id, fence, "t", "default", "{}", 1, 0, 1, None, {}, None, {})


class Held:
    def __init__(self, task_id: str, fence: str = "f") -> None:
        self.claim = claim(task_id, fence)
        self.stops: list[StopReason] = []

    def stop(self, reason: StopReason) -> None:
        self.stops.append(reason)


class Renewals:
    """Answers renewals, and keeps what they were."""

    def __init__(self, **answers: LeaseState) -> None:
        self.answers = answers
        self.calls: list[tuple[str, list[str], Any]] = []

    async def renew(
        self, worker: str, claims: Sequence[Claim], facts: Mapping[str, str] | None = None
    ) -> list[LeaseState]:
        self.calls.append((worker, [held.fence for held in claims], facts))
        return [self.answers.get(held.fence, LeaseState.HELD) for held in claims]


async def test_a_renewal_stops_what_was_cancelled_and_what_was_lost() -> None:
    leases = Leases[Held]()
    held = [Held("a", "kept"), Held("a", "gone"), Held("b", "asked")]
    for attempt in held:
        leases.hold(attempt)
    store = Renewals(gone=LeaseState.LOST, asked=LeaseState.CANCEL)
    await leases.renew(store, "w")
    assert store.calls == [("w", ["kept", "gone", "asked"], None)]
    assert [attempt.stops for attempt in held] == [[], [StopReason.LOST], [StopReason.CANCEL]]


async def test_a_process_that_holds_nothing_renews_its_presence_only() -> None:
    store = Renewals()
    await Leases[Held]().renew(store, "w")
    assert store.calls == []
    await Leases[Held]().renew(store, "w", {"host": "here"})
    assert store.calls == [("w", [], {"host": "here"})]


def test_an_old_attempt_and_its_successor_are_held_side_by_side() -> None:
    leases = Leases[Held]()
    old, new = Held("a", "1"), Held("a", "2")
    leases.hold(old)
    leases.hold(new)
    assert (list(leases.of_task("a")), len(leases)) == ([old, new], 2)
    leases.drop(old)
    leases.drop(old)
    assert (list(leases), len(leases)) == ([new], 1)
    leases.drop(new)
    assert (list(leases.of_task("a")), len(leases)) == ([], 0)
