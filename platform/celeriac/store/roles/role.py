"""The base of all background roles: start, stop, and a loop that no failed step ends."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from celeriac.errors import StoreUnavailableError

log = logging.getLogger(__name__)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended.

    One cancellation is not always enough: before Python 3.12, `asyncio.wait_for`, which redis-py uses for writing,
    swallows a cancellation that arrives when the write completes.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


class Role(ABC):
    """A background role: `step` is repeated until `stop`, whatever happens in it.

    Any number of processes may run a role at once, and each may be killed at any time.
    """

    #: Pause after a step that failed (seconds).
    pause_after_failure_s: ClassVar[float] = 0.5

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the loop. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name=type(self).__name__)

    async def stop(self) -> None:
        """End the loop. Idempotent."""
        if self._task is not None:
            await end(self._task)
            self._task = None

    @abstractmethod
    async def step(self) -> float:
        """Do what is due now; return the seconds until the next step."""

    async def _loop(self) -> None:
        while True:
            try:
                pause_s = await self.step()
            except StoreUnavailableError as exc:
                log.debug("%s waits for the store: %s", type(self).__name__, exc)
                pause_s = self.pause_after_failure_s
            except Exception:
                log.exception("%s: a step failed; the loop goes on", type(self).__name__)
                pause_s = self.pause_after_failure_s
            await asyncio.sleep(pause_s)
