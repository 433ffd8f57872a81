"""How long tests wait: what they say, and longer on a busy machine."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.kit import waiting
from tests.kit.waiting import PATIENCE_S, Load, eventually, in_time


@pytest.mark.parametrize(
    ("load", "timeout_s", "allowed_s"),
    [
        (0.5, 4.0, 4.0),
        (2.0, 4.0, 4.0),
        (5.0, 4.0, 10.0),
        (90.0, 4.0, 20.0),
        (90.0, 30.0, PATIENCE_S),
        (90.0, 100.0, 100.0),
    ],
)
def test_a_time_is_longer_if_programs_wait_for_processors(
    monkeypatch: pytest.MonkeyPatch, load: float, timeout_s: float, allowed_s: float
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert Load().allowance_s(timeout_s) == allowed_s


def test_programs_that_have_just_begun_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seen = iter([2, 6, 10])
    monkeypatch.setattr(waiting, "running_now", lambda: next(seen))
    load = Load()
    for _ in range(3):
        load.look()
    assert load.allowance_s(4.0) == 12.0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_this_program_runs_while_it_looks() -> None:
    assert waiting.running_now() >= 1


async def test_what_does_not_come_to_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(waiting, "running_now", lambda: 0)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: it rains"):
        await eventually(lambda: False, because="it rains", timeout_s=0.05)


async def test_what_is_true_is_returned() -> None:
    seen = iter([0, None, "sun"])
    assert await eventually(lambda: next(seen), because="it shines") == "sun"


async def test_what_comes_in_time_is_returned_and_what_does_not_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(waiting, "running_now", lambda: 0)
    assert await in_time(asyncio.sleep(0, "sun"), 5, because="it shines") == "sun"
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(AssertionError, match="it rains"):
        await in_time(never, 0.05, because="it rains")
    assert never.cancelled()
