"""Spread a burst of calls so that the executor's server does not throw a part of it away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Calls to one executor that it may not have answered yet. A server of gRPC's C++ core (so of Python
#: too) resets new calls at random when more than 1,000 wait to be accepted, on all connections.
MAX_UNANSWERED = 256
#: A call that is silent for longer has been accepted, most probably, and works on its first word.
MAX_HOLD_S = 0.25


class StartGate:
    """Lets calls start: at once, unless `MAX_UNANSWERED` started within `MAX_HOLD_S` and are still silent."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_UNANSWERED)

    async def enter(self) -> Callable[[], None]:
        """Wait for the turn; return what to call when the executor has answered, any number of times."""
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
