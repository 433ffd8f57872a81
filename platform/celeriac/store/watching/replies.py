"""Waiting for the ends of tasks: one channel per process, any number of waiters, no polling.

The script that ends a task publishes the end, with the result, on the channel that the task was submitted with. If
messages may have been missed because the connection was lost, the records of all awaited tasks are read. A process that
has ended the task itself tells its own waiters (`settle`), and nothing is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from celeriac.model import Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.wakeups import FeedReader
from celeriac.task_fields import status_of

#: Records that are read at once; each may hold a large result.
_RECORDS_AT_ONCE: Final = 50
_FIELDS: Final = ("status", "result", "error_code", "error_message")


class CallEnd(NamedTuple):
    """How a task ended: `text` is its result as JSON, or else its error message."""

    status: Status
    code: str
    text: str


class Delta(NamedTuple):
    """Part of a result: the attempt that it belongs to, its number in the attempt (from 1), and the text."""

    attempt: int
    number: int
    content: str


class Waiter:
    """Waits for the end of one task: `outcome` gets the end, `on_delta` each part of the result before it."""

    def __init__(self, on_delta: Callable[[Delta], object] | None = None) -> None:
        self.outcome: asyncio.Future[CallEnd] = asyncio.get_running_loop().create_future()
        self.on_delta = on_delta


class Replies(FeedReader):
    """The waiters of a process. A record is read where the message could not carry the end, or may have been missed."""

    def __init__(self, *, store: TaskStore, hub: LiveHub, process: str) -> None:
        super().__init__(at_once=_RECORDS_AT_ONCE)
        self.channel = keys.replies(process)
        self._store = store
        self._hub = hub
        self._waiters: dict[str, Waiter] = {}
        self._end: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begin to listen."""
        await super().start()
        self._end = await self._hub.listen(self.channel, self._heard)

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._end is not None:
            self._end()
            self._end = None
        await super().stop()

    def expect(self, task_id: str, on_delta: Callable[[Delta], object] | None = None) -> Waiter:
        """Return a waiter for a task that is about to be submitted; `forget` it afterwards."""
        waiter = self._waiters[task_id] = Waiter(on_delta)
        return waiter

    def wants_only_end(self, task_id: str) -> bool:
        """Return whether a caller of this process waits for the end of a task, and for nothing before it."""
        waiter = self._waiters.get(task_id)
        return waiter is not None and waiter.on_delta is None

    def forget(self, task_id: str) -> None:
        """Stop waiting. Idempotent."""
        self._waiters.pop(task_id, None)

    async def look(self, names: Sequence[str]) -> None:
        """Read the records of tasks (by id), and settle the waiters of those that have ended."""
        task_ids = [task_id for task_id in names if task_id in self._waiters]
        found = await self._store.read_records(*(("HMGET", keys.task(task_id), *_FIELDS) for task_id in task_ids))
        for task_id, (status, result, code, message) in zip(task_ids, found, strict=True):
            if status is not None and status_of(status).final:
                self.settle(task_id, CallEnd(status_of(status), code or "", result or message or ""))

    def _heard(self, text: str | None) -> None:
        if text is None:
            self.wake(self._waiters)
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
        elif kind == Status.COMPLETED.stored and code == "large":
            self.wake([task_id])
        else:
            self.settle(task_id, CallEnd(Status(kind), code, body))

    def settle(self, task_id: str, outcome: CallEnd) -> None:
        """Tell the waiter of a task how that has ended, if there is one. Idempotent."""
        waiter = self._waiters.get(task_id)
        if waiter is not None and not waiter.outcome.done():
            waiter.outcome.set_result(outcome)
