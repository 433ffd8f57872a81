"""The messages that wait to be sent over one connection: in order, bounded, the newest progress of each task only."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

#: If this many messages wait, `delta` makes its caller wait, and lines of logs are left out.
CAPACITY: Final = 256


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a task, as it is sent."""

    task_id: str
    text: str
    #: Whether the task completed.
    ok: bool


class Outbox:
    """A queue of messages. Belongs to one connection and one event loop."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[object, str | Result] = OrderedDict()
        #: The message that was taken and may not have been sent yet.
        self._taken: str | Result | None = None
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    def put(self, message: str | Result) -> None:
        """Queue a message that is never left out: an answer, or a message of the protocol itself."""
        self._add(object(), message)

    def put_progress(self, task_id: str, message: str) -> None:
        """Queue a report. It replaces a report of the same task that still waits."""
        self._add(task_id, message)

    def put_line(self, message: str) -> bool:
        """Queue a line of a task's log; return False if there is no room. A closed queue drops it and returns True."""
        if len(self._waiting) >= self._capacity and not self._closed:
            return False
        self._add(object(), message)
        return True

    async def put_delta(self, message: str) -> None:
        """Queue a partial result, waiting for room. A closed queue drops it."""
        while not self._closed and len(self._waiting) >= self._capacity:
            self._room.clear()
            await self._room.wait()
        self._add(object(), message)

    async def take(self) -> str | Result:
        """Wait for the next message and return it. Call `sent` when it is sent."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        _, self._taken = self._waiting.popitem(last=False)
        self._room.set()
        return self._taken

    def sent(self) -> None:
        """Note that the message that was taken last is sent."""
        self._taken = None
        if not self._waiting:
            self._idle.set()

    async def join(self) -> None:
        """Wait until everything is sent, or the queue is closed."""
        await self._idle.wait()

    def close(self) -> list[Result]:
        """Accept no more messages, release all waiting callers, and return the answers that may not have been sent."""
        self._closed = True
        self._room.set()
        self._idle.set()
        left = [message for message in (self._taken, *self._waiting.values()) if isinstance(message, Result)]
        self._taken = None
        self._waiting.clear()
        return left

    def _add(self, name: object, message: str | Result) -> None:
        if not self._closed:
            self._waiting[name] = message
            self._arrived.set()
            self._idle.clear()
