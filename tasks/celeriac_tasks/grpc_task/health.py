"""The cached health of an executor, and how long it stays valid."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from celeriac.errors import ExecutorLostError

log = structlog.get_logger("celeriac.tasks.types.grpc_task")

#: An unhealthy verdict is valid for at most this long, so that an executor that has recovered does not
#: fail tasks until the next regular check.
MAX_UNHEALTHY_AGE_S = 1.0


class Health:
    """The verdict of an executor's last HealthCheck, shared by all tasks of this process.

    `probe` makes one check and returns None (healthy) or the reason why the executor is unhealthy; it has its own
    timeout. A healthy verdict is valid for `interval_s`. An unhealthy verdict is valid for at most half of
    `retry_delay_s`, so that a retried task gets a new check. Tasks that ask at the same time share one check.
    While tasks arrive or run, a background check renews the verdict every `interval_s`; because it uses the same
    connection, it also detects a peer that vanished under a silent stream. An unused executor is not checked.
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
        """Raise `ExecutorLostError` (`service_unhealthy`) unless the executor is healthy.

        While the verdict is fresh this costs nothing; otherwise it makes one HealthCheck.
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
        """Count a running call; the verdict is kept fresh while there is one."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._used = True

    def forget(self) -> None:
        """Drop the verdict, because a call has just shown that it may be wrong."""
        self._checked_at = None

    async def close(self) -> None:
        """Cancel a running check and the background renewal, if there are any."""
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
        # Shielded, because the first task that asks may be cancelled while others wait for the same answer.
        return await asyncio.shield(self._check)

    async def _run_check(self) -> str | None:
        try:
            problem = await self._probe()
        except Exception as exc:
            log.exception("the health check raised an error", service=self._service)
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
                # A task may have just made a check; one per interval is enough.
                if (self._used or self._running) and self._age_s() > self._interval_s / 2:
                    await self._shared_check()
        finally:
            self._renewal = None
