"""Spreads a burst of calls, so that the executor's server does not reject a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

#: At most this many calls to one executor may be unanswered that it may not have accepted. A server on gRPC's C++ core
#: (which Python uses too) resets new calls at random when more than 1,000 calls wait to be accepted, counted over all
#: connections.
MAX_UNANSWERED = 256
#: How many questions, one after another, must have an answer while no earlier call has one, before earlier calls count
#: as accepted. One question tells little: a busy server often takes a call that has just come before those that wait.
QUESTIONS = 8
#: Time between two questions (seconds).
PAUSE_S = 0.1


class Turn:
    """The turn of one call. Each method may be called once or more often."""

    def __init__(self, gate: StartGate) -> None:
        self._gate = gate

    def sent(self) -> None:
        """The call is on its way: what is sent from now on arrives after it."""
        self._gate.note_sent(self)

    def answered(self) -> None:
        """The executor has answered the call, or it has ended."""
        self._gate.leave(self)


class StartGate:
    """Lets a call start at once, unless `MAX_UNANSWERED` calls are silent that the executor may not have accepted.

    A silent call may well be at work on its first message. So when calls wait for their turn, `ask` sends a call that
    takes no time, and returns whether there was any answer. A server accepts the calls of one kind in their order. As
    long as it has calls to accept that were sent before, it also answers some of these. So if it answers questions for
    a while and none of these calls, they are all accepted, and silent for reasons of their own.
    """

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._free = asyncio.Semaphore(MAX_UNANSWERED)
        self._waiting = 0
        #: The calls that are silent, and those of them that have been sent.
        self._silent: set[Turn] = set()
        self._sent: set[Turn] = set()
        self._asking: asyncio.Task[None] | None = None

    async def enter(self) -> Turn:
        """Wait for a turn."""
        if self._free.locked():
            self._waiting += 1
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask_while_calls_wait(), name="what has been accepted?")
            try:
                await self._free.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._free.acquire()
        turn = Turn(self)
        self._silent.add(turn)
        return turn

    def note_sent(self, turn: Turn) -> None:
        """See `Turn.sent`."""
        if turn in self._silent:
            self._sent.add(turn)

    def leave(self, turn: Turn) -> None:
        """See `Turn.answered`."""
        if turn in self._silent:
            self._silent.discard(turn)
            self._sent.discard(turn)
            self._free.release()

    async def close(self) -> None:
        """End the question that is under way, if there is one."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking

    async def _ask_while_calls_wait(self) -> None:
        try:
            while self._waiting:
                before = self._sent.copy()
                if before and await self._are_accepted(before):
                    for turn in before:
                        self.leave(turn)
                else:
                    await asyncio.sleep(PAUSE_S)
        finally:
            self._asking = None

    async def _are_accepted(self, before: set[Turn]) -> bool:
        """Ask until the server must have accepted those of these calls that are silent; False if it does not answer."""
        silent, questions = len(before), 0
        while silent and questions < QUESTIONS:
            if not await self._ask():
                return False
            await asyncio.sleep(PAUSE_S)
            before &= self._silent
            questions = questions + 1 if len(before) == silent else 0
            silent = len(before)
        return True
