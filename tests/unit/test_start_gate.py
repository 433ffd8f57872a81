"""The gate that spreads a burst of calls: when silent calls count as accepted."""

from __future__ import annotations

import asyncio

import pytest

from celeriac_tasks.grpc_task import start_gate
from celeriac_tasks.grpc_task.start_gate import MAX_UNANSWERED, QUESTIONS, StartGate, Turn
from tests.kit.waiting import eventually


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_gate, "PAUSE_S", 0.0)


async def full(gate: StartGate) -> list[Turn]:
    """Let as many calls start as may be silent at once."""
    turns = [await gate.enter() for _ in range(MAX_UNANSWERED)]
    for turn in turns:
        turn.sent()
    return turns


async def test_calls_that_stay_silent_while_questions_are_answered_count_as_accepted() -> None:
    questions = 0

    async def ask() -> bool:
        nonlocal questions
        questions += 1
        return True

    gate = StartGate(ask)
    await full(gate)
    assert questions == 0
    # As many again start, since all that were sent before are accepted.
    await asyncio.gather(*(gate.enter() for _ in range(MAX_UNANSWERED)))
    assert questions == QUESTIONS
    await gate.close()


async def test_while_the_server_still_answers_earlier_calls_the_others_may_not_be_accepted() -> None:
    """A busy server takes a question first and accepts one earlier call after the other."""
    turns: list[Turn] = []
    started = 0
    most = 0

    async def ask() -> bool:
        nonlocal most
        most = max(most, started - (MAX_UNANSWERED - len(turns)))
        if turns:
            turns.pop(0).answered()
        return True

    gate = StartGate(ask)
    turns = await full(gate)

    async def start() -> None:
        nonlocal started
        await gate.enter()
        started += 1

    waiting = [asyncio.create_task(start()) for _ in range(2 * MAX_UNANSWERED)]
    await eventually(lambda: not turns, because="all earlier calls are answered in the end")
    assert most <= 0, "each answer has let one call start, and no more"
    for one in waiting:
        one.cancel()
    await gate.close()


async def test_a_server_that_answers_no_question_has_accepted_nothing() -> None:
    asked = asyncio.Event()

    async def ask() -> bool:
        asked.set()
        return False

    gate = StartGate(ask)
    turns = await full(gate)
    late = asyncio.create_task(gate.enter())
    await asked.wait()
    await asyncio.wait([late], timeout=0.05)
    assert not late.done()
    turns[0].answered()
    assert isinstance(await late, Turn)
    await gate.close()
