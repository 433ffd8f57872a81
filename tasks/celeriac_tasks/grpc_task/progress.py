"""From the stream's progress messages to the task's context, no faster than asked for."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from celeriac_tasks.grpc_task.struct_json import whole

log = structlog.get_logger("celeriac.tasks.types.grpc_task")

#: Reports of one stream that may be on their way to the store: enough to fill its batches, few
#: enough that a service which reports faster is slowed by its own stream.
MAX_ON_THEIR_WAY = 64


class Publish(Protocol):
    """`Context.progress`."""

    def __call__(
        self, percentage: float, stage: str = "", message: str = "", *, timestamp_ms: int | None = None
    ) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class _Report:
    percentage: float
    stage: str
    message: str
    timestamp_ms: int


class ProgressRelay:
    """Passes on the reports of one stream, in order, at most one per `interval_s`.

    With an interval, the first report goes out at once; later ones within it replace each other and
    the newest goes out when it has passed, or at `flush`. Without one, each report goes out.
    At most `window` reports are on their way to the store; beyond, `report` waits, and so the stream.
    Holds at most one timer. A report that cannot be stored is dropped: an executor's work is worth
    more than a report on it, and whether the claim still holds is the runner's to say.
    """

    def __init__(
        self,
        publish: Publish,
        *,
        interval_s: float,
        window: int = MAX_ON_THEIR_WAY,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._publish = publish
        self._interval_s = interval_s
        self._window = window
        self._now = now
        self._held: _Report | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at: float = -math.inf
        #: Oldest first; a dict because it is an ordered set.
        self._on_their_way: dict[asyncio.Future[None], None] = {}

    async def report(self, percentage: float, stage: str, message: str, timestamp_ms: int) -> None:
        """Take one report: `percentage` is put into 0 to 100, a `timestamp_ms` of 0 is now."""
        self._held = _Report(
            percentage=0 if math.isnan(percentage) else whole(min(max(percentage, 0.0), 100.0)),
            stage=stage,
            message=message,
            timestamp_ms=timestamp_ms if timestamp_ms > 0 else round(self._now() * 1000),
        )
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_at:
            self._timer = loop.call_at(self._next_at, self._interval_passed)
            return
        await self._room()
        self._send()

    async def flush(self) -> None:
        """Send what is held and wait until nothing is on its way any more."""
        self.close()
        if self._held is not None:
            await self._room()
            self._send()
        if self._on_their_way:
            await asyncio.wait(list(self._on_their_way))

    def close(self) -> None:
        """Stop the timer; what is held stays held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _room(self) -> None:
        while len(self._on_their_way) >= self._window:
            # `wait`, not `await`: cancelling this stream must not cancel what the store was given.
            await asyncio.wait((next(iter(self._on_their_way)),))

    def _interval_passed(self) -> None:
        self._timer = None
        if len(self._on_their_way) < self._window:
            self._send()
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(self._interval_s, 0.05), self._interval_passed)

    def _send(self) -> None:
        report, self._held = self._held, None
        if report is None:
            return
        if self._interval_s > 0:
            self._next_at = asyncio.get_running_loop().time() + self._interval_s
        stored = asyncio.ensure_future(
            self._publish(report.percentage, report.stage, report.message, timestamp_ms=report.timestamp_ms)
        )
        self._on_their_way[stored] = None
        stored.add_done_callback(self._settled)

    def _settled(self, stored: asyncio.Future[None]) -> None:
        self._on_their_way.pop(stored, None)
        if not stored.cancelled() and (problem := stored.exception()) is not None:
            log.info("a progress report could not be stored", problem=str(problem))
