"""In which order a worker asks for messages: each group gets its turn, whatever the number of groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celeriac_tasks.engine.brokers.transport import ServedGroups


def served(own: list[str], guests: list[str], at_once: int = 3) -> ServedGroups:
    groups = ServedGroups(guests_at_once=at_once)
    groups.update(own)
    groups.keep(guests)
    return groups


def test_its_own_queues_are_always_asked_and_guests_in_turn() -> None:
    groups = served(["default"], ["a", "b", "c", "d", "e"])
    assert groups.consume(0) == ["default", "a", "b", "c"]
    groups.nothing_came()
    assert groups.consume(0) == ["default", "d", "e", "a"]
    groups.rotate("e")
    # `d` had nothing, and `e` was served.
    assert groups.consume(0) == ["default", "a", "b", "c"]


def test_a_group_that_woke_up_is_asked_at_once_and_its_nudge_is_the_first_key() -> None:
    groups = served(["default"], ["a", "b", "c", "d"])
    groups.nudge = "nudge"
    groups.invite("new")
    groups.invite("d")
    assert groups.consume(0) == ["nudge", "default", "d", "new", "a"]


def test_a_guest_that_became_a_queue_of_its_own_is_asked_once() -> None:
    groups = served(["default", "a"], ["a", "b"])
    assert sorted(groups.consume(0)) == ["a", "b", "default"]


def test_what_is_not_kept_is_let_go_and_what_is_kept_stays_in_its_place() -> None:
    groups = served([], ["a", "b", "c", "d"])
    groups.rotate("b")
    assert groups.guests == ["c", "d", "a", "b"]
    groups.keep(["b", "d", "e"])
    assert groups.guests == ["d", "b", "e"]
    groups.keep([])
    assert groups.consume(0) == []


@given(
    own=st.integers(1, 4), guests=st.integers(0, 40), at_once=st.integers(1, 10), full=st.sets(st.integers(0, 39)),
    own_full=st.booleans(),
)  # fmt: skip
def test_a_task_waits_for_at_most_one_turn_of_each_other_group(
    own: int, guests: int, at_once: int, full: set[int], own_full: bool
) -> None:
    queues, names = [f"own{i}" for i in range(own)], [f"g{i}" for i in range(guests)]
    groups = served(queues, names, at_once)
    # Each of these always has a message more.
    busy = {f"g{i}" for i in full if i < guests} | (set(queues[1:]) if own_full else set())
    for patient in [queues[0], *names[-1:]]:
        asked = 0
        while True:
            window = groups.consume(0)
            assert len(window) <= own + at_once
            came = next((name for name in window if name in busy or name == patient), None)
            if came == patient:
                groups.rotate(came)
                break
            asked += 1
            assert asked <= 2 * (own + guests) + 2, "another group is served again and again"
            if came is None:
                groups.nothing_came()
            else:
                groups.rotate(came)


def test_a_drained_worker_asks_for_no_group_and_still_hears_a_nudge() -> None:
    groups = served(["a", "b"], ["guest"])
    groups.nudge = "nudge"
    groups.drained = True
    assert groups.consume(3) == ["nudge"]
    groups.drained = False
    assert groups.consume(3) == ["nudge", "a", "b", "guest"]
    groups.nudge = ""
    groups.drained = True
    # kombu would never ask again, if it had nothing to ask for.
    assert len(groups.consume(3)) == 1
    assert groups.consume(3)[0] not in ("a", "b", "guest")
