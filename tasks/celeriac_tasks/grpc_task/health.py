"""What is known of an executor's health, and how fresh that is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from celeriac.errors import ExecutorLostError

log = structlog.get_logger("celeriac.tasks.types.grpc_task")

#: Longest time for which an unhealthy verdict is believed: an executor that is back must not
#: go on failing tasks until the next regular check.
MAX_UNHEALTHY_AGE_S = 1.0


class Health:
    """The verdict of an executor's last HealthCheck, shared by all tasks of this process.

    `probe` makes one check and returns None (healthy) or the reason why not; it bounds itself in
    time. A healthy verdict is believed for `interval_s`, an unhealthy one for half of
    `retry_delay_s` at most, so that a retried task sees a new check. Any number of tasks that ask
    at once share one check. While tasks come or run, the verdict is renewed in the background on
    its interval (which also notices a peer that vanished under a silent stream, because the check
    uses the same connection); an executor that nobody uses is left alone.
    """

    def __init__(
        self,
        *,
        service: str,
        probe: Callable[[], Awaitable[str | None]],
        interval_s: float,
        retry_delay_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._probe = probe
        self._interval_s = interval_s
        self._unhealthy_age_s = min(interval_s, retry_delay_s / 2, MAX_UNHEALTHY_AGE_S)
        self._clock = clock
        self._problem: str | None = None
        self._checked_at: float | None = None
        self._check: asyncio.Task[str | None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._running = 0
        self._used = False

    async def require(self) -> None:
        """Return if the executor is healthy; raises `ExecutorLostError` (`service_unhealthy`) if not.

        Costs nothing while the verdict is fresh, one HealthCheck otherwise.
        """
        self._used = True
        problem = self._problem if self._fresh() else await self._shared_check()
        if problem is not None:
            raise ExecutorLostError(
                f"gRPC service {self._service!r} is not healthy: {problem}", code="service_unhealthy"
            )
        if self._renewal is None and self._interval_s > 0:
            self._renewal = asyncio.create_task(self._renew(), name=f"health of {self._service}")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count a running call: as long as there is one, the verdict is kept fresh."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._used = True

    def forget(self) -> None:
        """Drop the verdict: a call has just shown that it may be wrong."""
        self._checked_at = None

    async def close(self) -> None:
        """End the check and the renewal under way, if any."""
        for task in (self._renewal, self._check):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._renewal = self._check = None

    def _age_s(self) -> float:
        return math.inf if self._checked_at is None else self._clock() - self._checked_at

    def _fresh(self) -> bool:
        return self._age_s() < (self._interval_s if self._problem is None else self._unhealthy_age_s)

    async def _shared_check(self) -> str | None:
        if self._check is None:
            self._check = asyncio.create_task(self._run_check(), name=f"health check of {self._service}")
        # Shielded: the first to ask may be cancelled while others wait for the same answer.
        return await asyncio.shield(self._check)

    async def _run_check(self) -> str | None:
        try:
            problem = await self._probe()
        except Exception as exc:
            log.exception("health check broke", service=self._service)
            problem = f"the check itself failed: {exc}"
        finally:
            self._check = None
        if problem != self._problem:
            log.info("health changed", service=self._service, healthy=problem is None, problem=problem)
        self._problem, self._checked_at = problem, self._clock()
        return problem

    async def _renew(self) -> None:
        try:
            while self._used or self._running:
                self._used = False
                await asyncio.sleep(self._interval_s)
                # Somebody may just have waited for a check: one per interval is enough.
                if (self._used or self._running) and self._age_s() > self._interval_s / 2:
                    await self._shared_check()
        finally:
            self._renewal = None
