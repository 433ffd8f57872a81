"""Waiting for the ends of tasks: one channel per process, any number of waiters, no poll.

The script that ends a task tells the channel which the task was submitted with, result included. When
messages may have been missed (the connection was away), the records of all that is waited for are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from celeriac.errors import StoreUnavailableError
from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub

log = logging.getLogger(__name__)

#: Records read at once after a gap.
_PAGE: Final = 500
_FIELDS: Final = ("status", "result", "error_code", "error_message")


class Outcome(NamedTuple):
    """How a task ended: `text` is its result as JSON, or else its error message."""

    status: Status
    code: str
    text: str


class Delta(NamedTuple):
    """Part of a result: the attempt it belongs to, its number in it (from 1), and what it says."""

    attempt: int
    number: int
    content: str


class Waiter:
    """Waits for the end of one task; `outcome` gets it, `on_delta` each part of its result before."""

    def __init__(self, on_delta: Callable[[Delta], object] | None = None) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.on_delta = on_delta


class Replies:
    """The waiters of a process."""

    def __init__(self, store: TaskStore, hub: LiveHub, process: str) -> None:
        self.channel = keys.replies(process)
        self._store = store
        self._hub = hub
        self._waiters: dict[str, Waiter] = {}
        self._end: Callable[[], None] | None = None
        self._looks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen."""
        self._end = await self._hub.listen(self.channel, self._heard)

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._end is not None:
            self._end()
            self._end = None
        for look in list(self._looks):
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)

    def expect(self, task_id: str, on_delta: Callable[[Delta], object] | None = None) -> Waiter:
        """Return what gets the end of a task that is about to be submitted; `forget` it afterwards."""
        waiter = self._waiters[task_id] = Waiter(on_delta)
        return waiter

    def forget(self, task_id: str) -> None:
        """Wait no longer. Idempotent."""
        self._waiters.pop(task_id, None)

    async def look(self, task_ids: Sequence[str]) -> None:
        """Read the records of tasks, and settle the waiters of those that have ended."""
        for start in range(0, len(task_ids), _PAGE):
            page = task_ids[start : start + _PAGE]
            found = await self._store.read(*(("HMGET", keys.task(task_id), *_FIELDS) for task_id in page))
            for task_id, (status, result, code, message) in zip(page, found, strict=True):
                if status is not None and Status(status).final:
                    self._settle(task_id, Outcome(Status(status), code or "", result or message or ""))

    def _heard(self, text: str | None) -> None:
        if text is None:
            if self._waiters:
                self._look_soon(list(self._waiters))
            return
        task_id, _, rest = text.partition("\n")
        waiter = self._waiters.get(task_id)
        if waiter is None:
            return
        kind, code, body = rest.split("\n", 2)
        if kind == "delta":
            if waiter.on_delta is not None:
                attempt, _, number = code.partition(":")
                waiter.on_delta(Delta(int(attempt), int(number), body))
        elif kind == Status.COMPLETED and code == "large":
            self._look_soon([task_id])
        else:
            self._settle(task_id, Outcome(Status(kind), code, body))

    def _settle(self, task_id: str, outcome: Outcome) -> None:
        waiter = self._waiters.get(task_id)
        if waiter is not None and not waiter.outcome.done():
            waiter.outcome.set_result(outcome)

    def _look_soon(self, task_ids: Sequence[str]) -> None:
        look = asyncio.get_running_loop().create_task(self._look(task_ids))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look(self, task_ids: Sequence[str]) -> None:
        while task_ids:
            try:
                await self.look(task_ids)
                return
            except StoreUnavailableError as exc:
                log.debug("waiting for the store to read how tasks ended: %s", exc)
                await asyncio.sleep(0.2)
                task_ids = [task_id for task_id in task_ids if task_id in self._waiters]
