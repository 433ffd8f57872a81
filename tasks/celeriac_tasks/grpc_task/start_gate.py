"""Spreads a burst of calls, so that the executor's server does not reject a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: At most this many calls to one executor may be unanswered. A server on gRPC's C++ core (which Python uses too)
#: resets new calls at random when more than 1,000 calls wait to be accepted, counted over all connections.
MAX_UNANSWERED = 256
#: A call that is silent for longer has probably been accepted and is still working on its first message.
MAX_HOLD_S = 0.25


class StartGate:
    """Lets a call start at once, unless `MAX_UNANSWERED` calls of the last `MAX_HOLD_S` are still silent."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_UNANSWERED)

    async def enter(self) -> Callable[[], None]:
        """Wait for a turn; returns a function to call, once or more often, when the executor has answered."""
        await self._free.acquire()
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                timer.cancel()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(MAX_HOLD_S, leave)
        return leave
