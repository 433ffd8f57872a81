"""Relays progress messages from the stream to the task's context, no faster than the task asks for."""

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

#: How many reports of one stream may be on their way to the store: enough to fill its batches, and few
#: enough that a service which reports faster is slowed down through its own stream.
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
    """Passes on the reports of one stream in order, at most one per `interval_s`.

    With an interval, the first report is sent at once. Later reports within the interval replace each other, and
    the newest is sent when the interval ends or at `flush`. Without an interval, every report is sent.
    At most `window` reports are on their way to the store; beyond that, `report` waits, which slows the stream.
    It holds at most one timer. A report that cannot be stored is dropped: the executor's work is worth more than
    a report about it, and the runner decides whether the claim still holds.
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
        """Take one report; `percentage` is limited to 0 to 100, and a `timestamp_ms` of 0 means now."""
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
        """Send the held report, and wait until all reports are stored or dropped."""
        self.close()
        if self._held is not None:
            await self._room()
            self._send()
        if self._on_their_way:
            await asyncio.wait(list(self._on_their_way))

    def close(self) -> None:
        """Stop the timer; a held report stays held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _room(self) -> None:
        while len(self._on_their_way) >= self._window:
            # `wait`, not `await`: cancelling this stream must not cancel a report that the store already has.
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
            log.info("cannot store a progress report", problem=str(problem))
