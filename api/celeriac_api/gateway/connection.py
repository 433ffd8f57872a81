"""One remote worker: what it can take, what it runs, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Send

from celeriac import json_text
from celeriac.execution.attempt_state import AttemptState, StopReason
from celeriac.execution.end_rate import EndRate
from celeriac.model import Claim
from celeriac.up.ports import host_of
from celeriac_api.gateway import messages
from celeriac_api.http.outbox import Outbox

log = logging.getLogger(__name__)

#: How long the last messages to a worker that is being disconnected may take (seconds).
_CLOSE_S: Final = 2.0
#: A cancel that comes this shortly before a task's deadline, or later, was asked for because of it (seconds).
_LATE_S: Final = 0.5


@dataclass(eq=False, slots=True)
class RemoteAttempt:
    """A task that a worker runs."""

    claim: Claim
    connection: WorkerConnection
    #: When the task as a whole must have ended (the loop's clock).
    deadline: float | None
    #: When it was given to the worker (the loop's clock).
    began: float
    #: Where the attempt is, why it was taken back, and how it ends.
    state: AttemptState = field(init=False)
    reports: int = 0
    deltas: int = 0
    lines: int = 0
    #: The worker itself has written to the task's log why the attempt failed.
    told: bool = False

    def stop(self, reason: StopReason) -> None:
        """Take the task back from the worker; the first reason counts."""
        late = self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline - _LATE_S
        self.state.stop(StopReason.TIMEOUT if late and reason is StopReason.CANCEL else reason)


@dataclass(eq=False, slots=True)
class WorkerConnection:
    """A connected worker. Messages are sent in order, through a bounded buffer."""

    worker_id: str
    group: str
    address: str
    started_ms: int
    send: Send
    buffer: int
    heard_at: float
    #: Sends a text at once; returns False if the worker does not take it now.
    write: Callable[[str], bool] | None = None
    #: As the worker announces.
    concurrency: int = 1
    models: tuple[str, ...] = ()
    name: str = ""
    ready: bool = False
    draining: bool = False
    #: An operator wants it to take no more tasks.
    drained: bool = False
    #: The server is about to stop.
    leaving: bool = False
    #: By task id. A task that was taken back stays until the worker answers.
    running: dict[str, RemoteAttempt] = field(default_factory=dict)
    #: How many tasks it has answered for, and how many of them per minute lately.
    ended: int = 0
    per_minute: float = 0.0
    _rate: EndRate = field(default_factory=EndRate)
    #: Tasks that are being claimed for it.
    reserved: int = 0
    #: The worker was disconnected, or is about to be.
    closed: bool = False
    pinged_at: float = 0.0
    #: What operators were shown of it last, None if that is to be written again.
    noted: dict[str, str] | None = None
    _outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        most = self.buffer + self.concurrency
        self._outbox = Outbox(self.send, most=most, on_failure=self._cannot_write, write=self.write)

    @property
    def takes(self) -> bool:
        """Whether it takes tasks, as far as itself and operators say."""
        return self.ready and not (self.draining or self.drained)

    @property
    def free(self) -> int:
        """How many more tasks the worker can take."""
        if not self.takes or self.leaving or self.closed:
            return 0
        return max(self.concurrency - len(self.running) - self.reserved, 0)

    def post(self, text: str) -> None:
        """Send a message soon. A worker that reads too slowly is disconnected."""
        if self.closed:
            return
        # The worker may have lowered its concurrency while tasks are on their way to it.
        self._outbox.most = self.buffer + max(self.concurrency, len(self.running))
        if not self._outbox.put(text):
            log.warning("remote worker %s reads too slowly: disconnected", self.worker_id)
            self.close(messages.NOT_RESPONDING, "messages are not read")

    def close(self, code: int, reason: str) -> None:
        """Disconnect the worker after it was sent what waits. Idempotent."""
        if not self.closed:
            self.closed = True
            self._outbox.close(code, reason)

    @property
    def has_room(self) -> bool:
        """Whether the worker may be heard: it reads what it is sent."""
        return not self._outbox.half_full

    async def room(self) -> None:
        """Wait while more than half of the buffer is full."""
        while self._outbox.half_full and not self.closed:
            await self._outbox.emptied(at_most_s=1)

    async def flushed(self) -> None:
        """Wait until everything is sent, at most for a short while."""
        await self._outbox.emptied(at_most_s=_CLOSE_S)

    def abort(self) -> None:
        """Forget what waits, because the worker is gone."""
        self.closed = True
        self._outbox.abort()

    def reckon(self, now: float) -> None:
        """Reckon out how many of its tasks end per minute; `now` is of the loop's clock."""
        self.per_minute = self._rate.note(now, self.ended)

    def facts(self) -> dict[str, str]:
        """Return what operators see of the worker."""
        return {
            "kind": "remote",
            "name": self.name,
            "address": self.address,
            "host": host_of(self.address),
            "groups": self.group,
            "models": json_text.write(self.models),
            "concurrency": str(self.concurrency),
            "running": str(len(self.running)),
            "tasks": json_text.write(list(self.running)),
            "ready": "1" if self.takes else "0",
            "drains": "1",
            "started_ms": str(self.started_ms),
            "ended_per_minute": str(self.per_minute),
        }

    def _cannot_write(self, error: Exception) -> None:
        # The worker is gone. The reading side notices that too.
        log.debug("remote worker %s cannot be written to: %s", self.worker_id, error)


def describe(value: Any, limit: int = 100) -> str:
    """Return what a worker sent as a short text."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "…"
