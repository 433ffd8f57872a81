"""The attempts of the remote workers of an API process: how each begins, is taken back, and ends in the store."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from celeriac.errors import (
    CeleriacError,
    InvalidReferenceError,
    QueueFullError,
    RateLimited,
    StaleClaimError,
    StepLimitError,
    StoreUnavailableError,
)
from celeriac.execution.attempt_state import AttemptState, End, StopReason
from celeriac.execution.leases import Leases
from celeriac.execution.log_lines import kept_line
from celeriac.execution.lost_time import LostTime, Watch
from celeriac.handlers.rate_limited import rate_limited_line
from celeriac.handlers.task_log import failure_line
from celeriac.model import Claim, Failure, LogLine, Status
from celeriac.settings import DispatchSettings, TaskLogSettings
from celeriac.store.patience import PAUSE_S, until_back
from celeriac.store.remote import Grant, RemoteTasks
from celeriac.store.suspension import WaitForSignal
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.replies import CallEnd, Replies
from celeriac.tasks.retry import RetryPolicy
from celeriac.terminal.task_end import end_of
from celeriac.terminal.task_lines import TaskLines
from celeriac_api.gateway import messages
from celeriac_api.gateway.connection import RemoteAttempt, WorkerConnection

log = logging.getLogger(__name__)

#: When a failed task runs again.
_BACKOFF: Final = RetryPolicy()
#: What a `cancel` message says, by why the task is taken back. For other reasons the worker is gone.
_SAID: Final = {StopReason.CANCEL: "cancelled", StopReason.TIMEOUT: "timeout", StopReason.LOST: "lost"}
#: What the store answers to a result and to a cancelled attempt that has ended just now.
_STATUS_OF: Final[dict[object, Status]] = {"ok": Status.COMPLETED, True: Status.CANCELLED}


class Attempts:
    """Begins attempts, takes them back, and records their ends. It holds a lease until the store knows the end.

    The worker's answer ends an attempt (`complete`, `fail`), unless something else took it back before
    (`RemoteAttempt.stop`, `vanished`).
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        remote: RemoteTasks,
        dispatch: DispatchSettings,
        task_log: TaskLogSettings,
        let_go: Callable[[RemoteAttempt], object],
        watch: Watch | None = None,
        lines: TaskLines | None = None,
        replies: Replies | None = None,
    ) -> None:
        """`let_go` frees the worker of an attempt that it was not told of."""
        #: The tasks that workers run, until the store knows their ends.
        self.leases: Leases[RemoteAttempt] = Leases()
        self._store = store
        self._remote = remote
        self._dispatch = dispatch
        self._task_log = task_log
        self._let_go = let_go
        #: Shows each end of an attempt on the terminal; None: this process shows none.
        self._lines = lines
        #: The callers of this process, who hear from it how their tasks ended; None: all hear it from the store.
        self._replies = replies
        self._call_later = partial(LostTime(watch).call_later, asyncio.get_running_loop())
        self._work: set[asyncio.Future[Any]] = set()

    def begin(self, grant: Grant, connection: WorkerConnection) -> None:
        """Give a task to a worker, with its time limit."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        claim = grant.claim
        left_s = None if grant.deadline_in_ms is None else grant.deadline_in_ms / 1000
        attempt = RemoteAttempt(claim, connection, None if left_s is None else now + left_s, now)
        attempt.state = AttemptState(
            # The answer of a worker may have waited to be read while the loop was blocked.
            call_later=self._call_later,
            grace_s=self._dispatch.cancel_grace,
            on_stop=partial(self._take_back, attempt),
            on_overdue=partial(self._ignored, attempt),
        )
        connection.running[claim.task_id] = attempt
        self.leases.hold(attempt)
        limit_ms = claim.timeout_ms
        if limit_ms is None and left_s is None:
            limit_ms = self._dispatch.default_timeout_ms
        if limit_ms is None:
            assert left_s is not None
            limit_s = left_s
        else:
            # What it ran before it waited counts, and the wait itself does not.
            limit_s = max(limit_ms - claim.ran_ms, 1) / 1000
            limit_s = limit_s if left_s is None else min(limit_s, left_s)
        attempt.state.run()
        attempt.state.limit(limit_s)
        connection.pinged_at = connection.heard_at = max(connection.heard_at, now)
        if claim.depends_on or claim.has_kept:
            self.spawn(self._tell_with_more(attempt, round(limit_s * 1000)))
        else:
            connection.post(messages.task(claim, round(limit_s * 1000)))

    async def _tell_with_more(self, attempt: RemoteAttempt, timeout_ms: int) -> None:
        """Give a task to its worker together with what it depends on and what it has received."""
        claim = attempt.claim
        try:
            parents = await self._store.parents(claim.depends_on) if claim.depends_on else {}
            kept = await self._store.kept(claim.task_id) if claim.has_kept else None
            attempt.connection.post(messages.task(claim, timeout_ms, parents, kept))
        except StoreUnavailableError:
            if attempt.state.finish(End.GIVEN_BACK):
                self._let_go(attempt)
                await self.give_back(attempt.claim)
        except InvalidReferenceError as exc:
            self.fail(attempt, Failure(str(exc.code), str(exc), retryable=False))
            self._let_go(attempt)

    def complete(self, attempt: RemoteAttempt, result_json: str) -> None:
        """End an attempt with its result."""
        if not attempt.state.finish(End.RESULT):
            return
        if self._replies is not None and self._replies.wants_only_end(attempt.claim.task_id):
            told = partial(self._tell, self._replies, attempt, result_json)
            self._record(attempt, lambda: self._remote.complete(attempt.claim, result_json), told)
        else:
            self._record(attempt, lambda: self._store.send_result(attempt.claim, result_json), self._shown(attempt))

    def _tell(self, replies: Replies, attempt: RemoteAttempt, result_json: str, answer: object) -> None:
        """Tell the caller of a task that its result is in the store."""
        replies.settle(attempt.claim.task_id, CallEnd(Status.COMPLETED, "", result_json))
        self._show(attempt, None, 0, answer)

    def suspend(self, attempt: RemoteAttempt, wait: WaitForSignal) -> None:
        """Let the task wait for a signal, without a worker. It is given to one again when the signal has come."""
        if attempt.state.finish(End.SUSPENDED):
            self._record(attempt, lambda: self._suspend(attempt.claim, wait))

    async def _suspend(self, claim: Claim, wait: WaitForSignal) -> object:
        try:
            status = await self._store.suspend(claim, [wait])
        except (StepLimitError, QueueFullError) as exc:
            return await self._store.fail(claim, Failure(exc.code, str(exc), retryable=False), 0)
        # If the signal is there already, the attempt goes on elsewhere. That does not count as another one.
        return await self._store.release(claim) if status is None else status

    def fail(self, attempt: RemoteAttempt, failure: Failure, *, end: End = End.FAILURE) -> None:
        """End an attempt as failed; it is tried again later while attempts are left."""
        if attempt.state.finish(end):
            delay_ms = _BACKOFF.delay_ms(attempt.claim.retries + 1, random.random())  # noqa: S311 - spreads load
            if not attempt.told:
                self._say_failed(attempt, failure)
            show = partial(self._show, attempt, failure, delay_ms)
            self._record(attempt, lambda: self._store.fail(attempt.claim, failure, delay_ms), show)

    def rate_limited(self, attempt: RemoteAttempt, message: str, retry_after_s: float) -> None:
        """Give a task back that somebody else's service refused for now; the attempt does not count."""
        if attempt.state.finish(End.GIVEN_BACK):
            self._log(attempt, rate_limited_line(message, retry_after_s))
            show = partial(self._show, attempt, Failure(RateLimited.code, message, True), round(retry_after_s * 1000))
            self._record(attempt, lambda: self._store.rate_limited(attempt.claim, retry_after_s), show)

    def _say_failed(self, attempt: RemoteAttempt, failure: Failure) -> None:
        self._log(attempt, failure_line(attempt.claim, failure))

    def _log(self, attempt: RemoteAttempt, said: LogLine) -> None:
        line = kept_line(said, self._task_log)
        if line is not None:
            attempt.lines += 1
            sent = self._store.log(attempt.claim, attempt.lines, line)
            # If the store is unavailable, only the log line is lost: the record has the error.
            sent.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def vanished(self, attempt: RemoteAttempt, *, draining: bool) -> None:
        """Take a task from a worker that is gone. If this process ends, the attempt is not counted."""
        attempt.state.let_go()
        attempt.stop(StopReason.SHUTDOWN if draining else StopReason.VANISHED)

    def cancel_asked(self, task_id: str | None) -> None:
        """Stop a task that somebody asked to cancel."""
        if task_id is not None:  # what was missed comes with the next renewal
            for attempt in self.leases.of_task(task_id):
                attempt.stop(StopReason.CANCEL)

    def _take_back(self, attempt: RemoteAttempt, reason: StopReason) -> None:
        """Tell a worker to stop, and end its attempt at once. Its place stays taken until the worker answers."""
        claim, end = attempt.claim, attempt.state.due_end
        if reason in _SAID:
            attempt.connection.post(messages.cancel(claim.task_id, _SAID[reason]))
        if end is End.TIMED_OUT and attempt.deadline is None:
            self.fail(attempt, Failure("timeout", "Task timeout", retryable=True), end=end)
            return
        attempt.state.finish(end)
        if end is End.CANCELLED:
            self._record(attempt, lambda: self._store.settle_cancelled(claim), self._shown(attempt))
        elif end is End.TIMED_OUT:
            self._record(attempt, lambda: self._time_out(claim.task_id))
        elif end is End.GIVEN_BACK:
            self._record(attempt, lambda: self._store.release(claim), self._shown(attempt))
        elif end is End.ABANDONED:
            self._record(attempt, lambda: self._remote.abandon(claim))
        else:
            self.leases.drop(attempt)

    async def give_back(self, claim: Claim) -> None:
        """Return a task that no worker began, however long the store is unavailable."""
        await until_back(lambda: self._store.release(claim), what="a task that no worker began")

    def spawn(self, step: Coroutine[Any, Any, None]) -> None:
        """Start a step that only `finish` waits for."""
        task = asyncio.get_running_loop().create_task(step)
        self._work.add(task)
        task.add_done_callback(self._done)

    async def finish(self, within_s: float) -> None:
        """Wait for the steps that have started, and cancel those that take too long."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + within_s
        while self._work and loop.time() < give_up_at:
            await asyncio.wait(self._work, timeout=give_up_at - loop.time())
        for task in list(self._work):
            task.cancel()

    def _ignored(self, attempt: RemoteAttempt) -> None:
        log.warning("remote worker %s keeps a task that was taken back", attempt.connection.worker_id)
        attempt.connection.close(messages.NOT_RESPONDING, "a task that was taken back is still being kept")

    async def _time_out(self, task_id: str) -> None:
        """End a task at its deadline, by the clock of the store."""
        while isinstance(left_ms := await self._remote.time_out(task_id), int):
            await asyncio.sleep(left_ms / 1000)

    def _record(
        self,
        attempt: RemoteAttempt,
        write: Callable[[], Awaitable[object]],
        show: Callable[[object], object] = lambda _: None,
    ) -> None:
        """Tell the store how an attempt ended, until it knows; `show` gets its answer then."""
        writing = asyncio.ensure_future(write())
        self._work.add(writing)
        writing.add_done_callback(partial(self._recorded, attempt, write, show))

    def _recorded(
        self,
        attempt: RemoteAttempt,
        write: Callable[[], Awaitable[object]],
        show: Callable[[object], object],
        writing: asyncio.Future[object],
    ) -> None:
        self._work.discard(writing)
        if writing.cancelled():
            return  # the process ends: the lease runs out
        error = writing.exception()
        if isinstance(error, StoreUnavailableError):
            log.debug("the store is away, trying again: %s", error)
            self.spawn(self._record_later(attempt, write, show))
            return
        self.leases.drop(attempt)
        task_id = attempt.claim.task_id
        if isinstance(error, StaleClaimError) or (error is None and str(writing.result()).startswith("stale:")):
            if attempt.state.reason is None:
                attempt.connection.post(
                    messages.error(f"task {task_id} is no longer yours: the answer is ignored", task_id)
                )
        elif error is not None:
            log.error("task %s: its end could not be recorded; its lease will run out", task_id, exc_info=error)
        else:
            show(writing.result())

    async def _record_later(
        self, attempt: RemoteAttempt, write: Callable[[], Awaitable[object]], show: Callable[[object], object]
    ) -> None:
        await asyncio.sleep(PAUSE_S)
        self._record(attempt, write, show)

    def _shown(self, attempt: RemoteAttempt) -> Callable[[object], object]:
        return partial(self._show, attempt, None, 0)

    def _show(self, attempt: RemoteAttempt, failure: Failure | None, delay_ms: int, answer: object) -> None:
        """Show on the terminal how an attempt ended; `answer` is what the store said of it."""
        status = answer if isinstance(answer, Status) else _STATUS_OF.get(answer)
        if status is not None and self._lines is not None and self._lines.has_room():
            took_s = asyncio.get_running_loop().time() - attempt.began
            self._lines.add(end_of(attempt.claim, status, took_s, failure, again_s=delay_ms / 1000))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, CeleriacError) else logging.ERROR
            log.log(level, "a step of the gateway failed", exc_info=error)
