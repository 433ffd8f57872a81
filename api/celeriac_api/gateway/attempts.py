"""The tasks that the workers of an API process have in hand: how each begins, is taken back, and ends in the store."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from celeriac.errors import CeleriacError, StaleClaimError, StoreUnavailableError
from celeriac.execution.log_lines import kept_line
from celeriac.handlers.task_log import failure_line
from celeriac.model import Claim, Failure, LeaseState
from celeriac.settings import DispatchSettings, TaskLogSettings
from celeriac.store.remote import Grant, RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac.tasks.retry import RetryPolicy
from celeriac_api.gateway import messages
from celeriac_api.gateway.connection import RemoteAttempt, WorkerConnection

log = logging.getLogger(__name__)

#: How late a task that failed runs again.
_BACKOFF: Final = RetryPolicy()
#: Pause before the store is told again how a task ended (seconds).
_AGAIN_S: Final = 0.5
#: A cancel that comes this shortly before a task's deadline, or later, was asked for because of it (seconds).
_LATE_S: Final = 0.5


class Attempts:
    """Sees to it that every attempt ends; its lease is held until the store knows how.

    An attempt ends once: by the worker's answer (`complete`, `fail`), by `stop`, or by `vanished`.
    """

    def __init__(
        self, *, store: TaskStore, remote: RemoteTasks, dispatch: DispatchSettings, task_log: TaskLogSettings
    ) -> None:
        self._store = store
        self._remote = remote
        self._dispatch = dispatch
        self._task_log = task_log
        #: What the process has leases of; also while its end is on its way to the store.
        self._held: dict[str, RemoteAttempt] = {}
        self._work: set[asyncio.Task[None]] = set()

    def begin(self, grant: Grant, connection: WorkerConnection) -> None:
        """Put a task into a worker's hand, for as long as it may take."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        attempt = RemoteAttempt.of(grant, connection, now)
        claim = attempt.claim
        connection.running[claim.task_id] = attempt
        self._held[claim.task_id] = attempt
        limit_ms = claim.timeout_ms
        if limit_ms is None and attempt.deadline is None:
            limit_ms = self._dispatch.default_timeout_ms
        ends_at = [] if limit_ms is None else [now + limit_ms / 1000]
        if attempt.deadline is not None:
            ends_at.append(attempt.deadline)
        attempt.timer = loop.call_at(min(ends_at), self.stop, attempt, "timeout")
        connection.pinged_at = connection.heard_at = max(connection.heard_at, now)
        connection.post(messages.task(claim, round((min(ends_at) - now) * 1000)))

    def complete(self, attempt: RemoteAttempt, result_json: str) -> None:
        """End an attempt with its result."""
        sent = self._remote.complete(attempt.claim, result_json)

        def answered(answer: asyncio.Future[str]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._ended(attempt, answer.result())
            else:
                self._settle(attempt, lambda: self._store.complete(attempt.claim, result_json))

        sent.add_done_callback(answered)

    def fail(self, attempt: RemoteAttempt, failure: Failure) -> None:
        """End an attempt as failed; it is tried again later while attempts are left."""
        delay_ms = _BACKOFF.delay_ms(attempt.claim.retries + 1, random.random())  # noqa: S311 - spreads load, no secret
        if not attempt.told:
            self._say_failed(attempt, failure)
        self._settle(attempt, lambda: self._store.fail(attempt.claim, failure, delay_ms))

    def _say_failed(self, attempt: RemoteAttempt, failure: Failure) -> None:
        line = kept_line(failure_line(attempt.claim, failure), self._task_log)
        if line is not None:
            attempt.lines += 1
            sent = self._store.log(attempt.claim, attempt.lines, line)
            # A store that is away costs the line; the record has the error.
            sent.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def stop(self, attempt: RemoteAttempt, reason: str) -> None:
        """Take a task back from a worker that goes on with it; its place stays taken until it answers."""
        if attempt.stopped is not None:
            return
        attempt.disarm()
        attempt.stopped = reason
        attempt.connection.post(messages.cancel(attempt.claim.task_id, reason))
        loop = asyncio.get_running_loop()
        attempt.timer = loop.call_later(self._dispatch.cancel_grace, self._ignored, attempt)
        if reason == "cancelled":
            self._settle(attempt, lambda: self._store.settle_cancelled(attempt.claim))
        elif reason == "timeout" and attempt.deadline is None:
            self.fail(attempt, Failure("timeout", "Task timeout", retryable=True))
        elif reason == "timeout":
            self._settle(attempt, lambda: self._time_out(attempt.claim.task_id))
        else:
            self._held.pop(attempt.claim.task_id, None)

    def vanished(self, attempt: RemoteAttempt, *, draining: bool) -> None:
        """Take a task from a worker that is gone; one that had to go, since the process ends, loses no attempt."""
        attempt.disarm()
        if attempt.stopped is not None:
            return
        attempt.stopped = "vanished"

        async def abandon() -> None:
            # Stale: it has ended otherwise.
            await self._remote.abandon(attempt.claim)

        if draining:
            self._settle(attempt, lambda: self._store.release(attempt.claim))
        else:
            self._settle(attempt, abandon)

    def cancel_asked(self, task_id: str | None) -> None:
        """Hear that somebody asked to cancel a task."""
        if task_id is None:
            return  # what was missed comes with the next renewal
        attempt = self._held.get(task_id)
        if attempt is not None:
            late = attempt.deadline is not None and asyncio.get_running_loop().time() >= attempt.deadline - _LATE_S
            self.stop(attempt, "timeout" if late else "cancelled")

    async def renew(self) -> None:
        """Renew all leases, and stop what was cancelled or lost."""
        attempts = list(self._held.values())
        if not attempts:
            return
        states = await self._store.renew(self._remote.gateway, [attempt.claim for attempt in attempts])
        for attempt, state in zip(attempts, states, strict=True):
            if self._held.get(attempt.claim.task_id) is not attempt or attempt.stopped is not None:
                continue
            if state is LeaseState.CANCEL:
                self.stop(attempt, "cancelled")
            elif state is LeaseState.LOST and attempt.claim.task_id in attempt.connection.running:
                self.stop(attempt, "lost")

    async def give_back(self, claim: Claim) -> None:
        """Return a task that no worker began, however long the store is away."""
        await self._until_done(lambda: self._store.release(claim))

    def spawn(self, step: Coroutine[Any, Any, None]) -> None:
        """Do a step that nobody waits for; `finish` does."""
        task = asyncio.get_running_loop().create_task(step)
        self._work.add(task)
        task.add_done_callback(self._done)

    async def finish(self, within_s: float) -> None:
        """Wait for the steps that are under way, and cancel those that take too long."""
        if self._work:
            await asyncio.wait(self._work, timeout=within_s)
        for task in list(self._work):
            task.cancel()

    def _ignored(self, attempt: RemoteAttempt) -> None:
        log.warning("remote worker %s keeps a task that was taken back", attempt.connection.worker_id)
        attempt.connection.close(messages.NOT_RESPONDING, "a task that was taken back is still being kept")

    async def _time_out(self, task_id: str) -> None:
        """End a task at its deadline; the server's clock says when that is."""
        while isinstance(left_ms := await self._remote.time_out(task_id), int):
            await asyncio.sleep(left_ms / 1000)

    def _settle(self, attempt: RemoteAttempt, step: Callable[[], Awaitable[object]]) -> None:
        """Tell the store how an attempt ended, until it knows."""

        async def settle() -> None:
            try:
                await self._until_done(step)
                self._ended(attempt, "ok")
            except StaleClaimError as exc:
                self._ended(attempt, f"stale:{exc}")

        self.spawn(settle())

    def _ended(self, attempt: RemoteAttempt, answer: str) -> None:
        task_id = attempt.claim.task_id
        if self._held.get(task_id) is attempt:
            del self._held[task_id]
        if answer.startswith("stale:") and attempt.stopped is None:
            attempt.connection.post(
                messages.error(f"task {task_id} is no longer yours: the answer counts no more", task_id)
            )

    async def _until_done(self, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
                return
            except StoreUnavailableError as exc:
                log.debug("the store is away, trying again: %s", exc)
                await asyncio.sleep(_AGAIN_S)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, CeleriacError) else logging.ERROR
            log.log(level, "a step of the gateway failed", exc_info=error)
