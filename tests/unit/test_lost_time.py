"""Timers that do not count the time in which somebody else blocked the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celeriac.execution.lost_time import CATCH_UP_S, LostTime


class Clock:
    """A loop whose timers fire when the test says so, and the watch that counts what was lost."""

    def __init__(self) -> None:
        self.armed: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []
        self.lost = 0.0
        self.cancelled = 0

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> Clock:
        self.armed.append((seconds, call, arguments))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def lost_s(self) -> float:
        return self.lost

    def fire(self) -> float:
        """Fire the last timer; return the seconds for which it was armed."""
        seconds, call, arguments = self.armed.pop()
        call(*arguments)
        return seconds


def armed(lost: LostTime, clock: Clock, seconds: float) -> list[str]:
    """Arm a timer, and return what it has called so far."""
    called: list[str] = []
    lost.call_later(clock, seconds, called.append, "called")  # type: ignore[arg-type]
    return called


def test_without_a_block_a_timer_calls_in_time() -> None:
    clock = Clock()
    called = armed(LostTime(clock), clock, 5)
    assert clock.fire() == 5
    assert called == ["called"]


def test_a_coroutine_gets_back_all_that_others_took_also_while_it_waits_for_that() -> None:
    clock = Clock()
    lost = LostTime(clock)
    lost.on_the_loop()
    called = armed(lost, clock, 5)
    clock.lost = 22.0
    clock.fire()
    clock.lost = 25.0
    assert clock.fire() == pytest.approx(22)
    assert called == []
    assert clock.fire() == pytest.approx(3)
    assert called == ["called"]


def test_what_was_lost_before_does_not_count() -> None:
    clock = Clock()
    clock.lost = 100.0
    lost = LostTime(clock)
    lost.on_the_loop()
    called = armed(lost, clock, 5)
    clock.fire()
    assert called == ["called"]


def test_the_one_that_blocks_gets_nothing_back_for_its_own_block() -> None:
    clock = Clock()
    lost = LostTime(clock)
    lost.on_the_loop()
    called = armed(lost, clock, 5)
    clock.lost = 22.0
    lost.own_s = 22.0
    clock.fire()
    assert called == ["called"]


def test_a_thread_or_a_remote_worker_goes_on_meanwhile_and_only_its_answer_is_late() -> None:
    clock = Clock()
    called = armed(LostTime(clock), clock, 5)
    clock.lost = 22.0
    clock.fire()
    assert clock.fire() == CATCH_UP_S
    assert called == ["called"]


def test_without_a_watch_the_timer_is_the_loops() -> None:
    clock = Clock()
    called = armed(LostTime(None), clock, 5)
    clock.lost = 22.0
    clock.fire()
    assert called == ["called"]


def test_a_timer_can_be_called_off() -> None:
    clock = Clock()
    timer = LostTime(clock).call_later(clock, 5, print)  # type: ignore[arg-type]
    timer.cancel()
    assert clock.cancelled == 1
