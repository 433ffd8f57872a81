"""Runs attempts: claim, handler, end. All pools and all kinds of tasks use it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import structlog

from celeriac import json_text
from celeriac.errors import (
    ExecutorLostError,
    InvalidSubmissionError,
    JsonError,
    RetryAfter,
    StaleClaimError,
    StoreUnavailableError,
    TaskError,
    TaskTimeoutError,
)
from celeriac.execution.attempt import STOP_GRACE_S, Attempt, ThreadInterrupt
from celeriac.execution.attempt_state import End, StopReason
from celeriac.execution.attempt_store import AttemptStore
from celeriac.execution.daemon_threads import DaemonThreads
from celeriac.execution.leases import Leases
from celeriac.execution.lost_time import Watch
from celeriac.handlers.results import result_text, text_of
from celeriac.handlers.task_log import failure_line
from celeriac.model import Claim, Failure, Refusal, Status
from celeriac.moments import MAX_DELAY_S
from celeriac.settings import TaskLogSettings
from celeriac.tasks.registry import Registry, TaskType
from celeriac.tasks.retry import RetryPolicy

log = logging.getLogger(__name__)

#: The error code if a handler raised an exception that is not one of Celeriac's.
_CODE_OF_PLAIN_EXCEPTIONS = "exception"
_TIMED_OUT = "the attempt ran longer than its time limit"


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended.

    `status` is None if this process does not decide it: the claim was refused or lost, or the task was given back;
    `note` says which.
    """

    status: Status | None
    note: str = ""
    value: Any = None
    error: Exception | None = None
    runtime_s: float = 0.0


class Runner:
    """Runs the attempts of one process; it belongs to the runtime's event loop."""

    def __init__(
        self,
        *,
        store: AttemptStore,
        registry: Registry,
        policy_of: Callable[[TaskType, Any], RetryPolicy],
        worker_id: str,
        threads: int,
        progress_buffer: int,
        max_result_bytes: int,
        task_log: TaskLogSettings,
        jitter: Callable[[], float] = random.random,
        log_failures: bool = True,
        watch: Watch | None = None,
    ) -> None:
        #: Counts how long the loop is blocked; None: nothing counts that.
        self.watch = watch
        self._store = store
        self._registry = registry
        #: Returns the retry policy of a type for a validated payload.
        self._policy_of = policy_of
        self._progress_buffer = progress_buffer
        self._max_result_bytes = max_result_bytes
        self._task_log = task_log
        self._worker_id = worker_id
        #: Returns a number in [0, 1) for each retry, which spreads retries over time.
        self._jitter = jitter
        #: Whether what a handler raises is logged, with its traceback.
        self._log_failures = log_failures
        #: Where plain functions run.
        self.threads = DaemonThreads(threads, name="task")
        #: The attempts that run here.
        self.leases: Leases[Attempt] = Leases()
        self._loop = asyncio.get_running_loop()
        #: The number of claims on their way, and the ends that are being recorded while their handlers still run.
        self._beginning = 0
        self._endings: set[asyncio.Task[AttemptEnd]] = set()
        self._draining = False
        #: Whether `drain` gives running attempts no more time; any thread may set it.
        self.hurried = False

    # --- what runs

    async def drain(self, grace_s: float) -> None:
        """Begin no more attempts, let running ones continue for `grace_s`, and then give the rest back."""
        self._draining = True
        if self.leases:
            log.info("stopping: %d running tasks have %g s to end", len(self.leases), grace_s)
        await self._idle_within(grace_s, unless_hurried=True)
        if self.leases:
            log.info("stopping: %d running tasks are given back", len(self.leases))
            for attempt in self.leases:
                attempt.stop(StopReason.SHUTDOWN)
            await self._idle_within(STOP_GRACE_S + 1)
        self.threads.shutdown()

    async def _idle_within(self, limit_s: float, *, unless_hurried: bool = False) -> None:
        give_up_at = self._loop.time() + limit_s
        while (self.leases or self._beginning or self._endings) and self._loop.time() < give_up_at:
            if unless_hurried and self.hurried:
                return
            await asyncio.sleep(0.02)

    # --- an attempt, step by step

    async def begin(self, task_id: str) -> Attempt | Refusal:
        """Claim the task; call `forget` when the attempt has ended."""
        self._beginning += 1
        try:
            claim = await self._store.claim(task_id, worker=self._worker_id)
            if isinstance(claim, Refusal):
                return claim
            if self._draining:
                await self._store.release(claim)
                return Refusal(task_id, "shutdown")
        finally:
            self._beginning -= 1
        attempt = Attempt(
            claim,
            store=self._store,
            loop=self._loop,
            buffer=self._progress_buffer,
            task_log=self._task_log,
            overdue=self._end_without_handler,
            watch=self.watch,
        )
        self.leases.hold(attempt)
        return attempt

    async def succeed(self, attempt: Attempt, value: Any, *, keep: bool = True) -> AttemptEnd:
        """End an attempt with what its handler returned.

        A value that cannot be stored fails the task; if `keep` is false, the result is null instead.
        """
        result, problem = result_text(value, self._max_result_bytes)
        if problem is not None:
            if keep:
                return await self._end(attempt, problem, 0)
            log.warning("task %s: its result is not stored: %s", attempt.claim.task_id, problem.message)

        async def complete() -> Status:
            await self._store.complete(attempt.claim, result, attempt.context.result_file_path)
            return Status.COMPLETED

        return await self._record(attempt, End.RESULT, complete, value=value)

    async def fail(
        self,
        attempt: Attempt,
        exc: BaseException,
        delay_s: float | None = None,
        *,
        raised: BaseException | None = None,
        end: End = End.FAILURE,
    ) -> AttemptEnd:
        """End an attempt with what its handler raised; the retry policy decides whether another attempt follows.

        `raised` is the exception behind `exc`, for the log.
        """
        task_type = self._registry.get(attempt.claim.type)
        failure = failure_of(exc, task_type.final_errors if task_type else ())
        if isinstance(exc, RetryAfter):
            delay_s = exc.delay_s
        delay_ms = (
            self._delay_ms(attempt, task_type)
            if delay_s is None or not math.isfinite(delay_s)
            else round(min(max(delay_s, 0), MAX_DELAY_S) * 1000)
        )
        return await self._end(attempt, failure, delay_ms, exc, raised, end)

    async def fail_for_good(self, attempt: Attempt, exc: BaseException, *, end: End = End.FAILURE) -> AttemptEnd:
        """End an attempt with what its handler raised, without another attempt, as in plain Celery."""
        failure = failure_of(exc)
        return await self._end(attempt, Failure(failure.code, failure.message, False), 0, exc, end=end)

    async def give_back(self, attempt: Attempt) -> AttemptEnd:
        """Give the task back to its group; the attempt does not count."""

        async def release() -> None:
            await attempt.reported()
            await self._store.release(attempt.claim)

        return await self._record(attempt, End.GIVEN_BACK, release, note="given back")

    async def stopped(self, attempt: Attempt, *, retry: bool = True) -> AttemptEnd:
        """End an attempt whose handler was stopped; `retry`: after a time limit, the retry policy decides."""
        end = attempt.state.due_end
        if end is End.GIVEN_BACK:
            return await self.give_back(attempt)
        if end is End.CANCELLED:
            return await self._record(attempt, end, partial(self._settle_cancelled, attempt))
        if end in (End.TIMED_OUT, End.FAILURE):
            error = (
                TaskTimeoutError(_TIMED_OUT)
                if end is End.TIMED_OUT
                # Nobody stopped the handler: it raised CancelledError by itself.
                else TaskError("the handler was cancelled from inside", code="cancelled_inside")
            )
            return await (self.fail if retry else self.fail_for_good)(attempt, error, end=end)
        attempt.state.finish(end)
        return self._outcome(attempt, None, note="claim lost")

    def forget(self, attempt: Attempt) -> None:
        """Note that the attempt no longer runs in this process."""
        attempt.state.let_go()
        self.leases.drop(attempt)

    def _end_without_handler(self, attempt: Attempt) -> None:
        """Record the end of an attempt whose handler does not stop; what the handler does later is ignored."""
        if attempt.state.end is not None:
            return  # the handler has ended, and its end is on the way to the store
        self.forget(attempt)
        attempt.context.log.warning("the handler does not stop", reason=attempt.context.stop_reason)
        ending = self._loop.create_task(self.stopped(attempt))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    # --- a task type's attempt as a whole

    async def run(self, task_id: str, follow_up: Callable[[Any], object] | None = None) -> AttemptEnd:
        """Run one attempt of a task whose type is registered here; never raises.

        `follow_up` is called in a thread with the value that the handler returned, before the end is recorded.
        """
        try:
            attempt = await self.begin(task_id)
        except (StaleClaimError, StoreUnavailableError) as exc:
            log.error("task %s was not claimed: %s", task_id, exc)
            return AttemptEnd(None, note="store away")
        if isinstance(attempt, Refusal):
            return AttemptEnd(None, note=f"refused: {attempt.reason}")
        try:
            return await self._run(attempt, follow_up)
        except Exception as exc:
            log.exception("the end of task %s could not be recorded; its lease will run out", task_id)
            return AttemptEnd(None, note="not recorded", error=exc)
        finally:
            self.forget(attempt)

    async def _run(self, attempt: Attempt, follow_up: Callable[[Any], object] | None) -> AttemptEnd:
        task_type = self._registry.get(attempt.claim.type)
        if task_type is None or task_type.handler is None:
            text = f"this worker has no task type {attempt.claim.type!r}"
            return await self.fail(attempt, TaskError(text, code="unknown_type"))
        try:
            arguments = self._arguments(task_type, attempt)
        except (InvalidSubmissionError, JsonError) as exc:
            return await self._end(attempt, Failure("invalid_payload", str(exc), False), 0, exc)
        except Exception as exc:  # from a validator of the task type
            return await self.fail(attempt, exc)
        limit_ms = attempt.claim.timeout_ms
        limit_s = task_type.timeout_s if limit_ms is None else limit_ms / 1000
        if task_type.is_async:
            attempt.lost.on_the_loop()
        if limit_s is not None:
            attempt.limit(limit_s)
        call = self._call if task_type.is_async else self._call_in_thread
        value, error = await call(attempt, task_type, arguments)
        if attempt.lost.own_s and attempt.overdue_s > 0 and attempt.state.stop(StopReason.TIMEOUT):
            # It blocked the loop past its own time limit, so the limit could not stop it.
            error = asyncio.CancelledError()
        attempt.state.unlimit()
        if error is None and follow_up is not None:
            try:
                await self._loop.run_in_executor(self.threads, follow_up, value)
            except Exception as exc:
                error = exc
        if error is None:
            return await self.succeed(attempt, value)
        if isinstance(error, asyncio.CancelledError):
            return await self.stopped(attempt)
        if self._draining and isinstance(error, ExecutorLostError):
            # As a rule, the executor is stopped together with this worker; the task is not to blame.
            return await self.give_back(attempt)
        return await self.fail(attempt, error)

    # Both ways to call a handler return its exception instead of raising it: a SystemExit would end the event loop and
    # everything that runs on it, and a StopIteration cannot pass through a future.

    async def _call(
        self, attempt: Attempt, task_type: TaskType, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        running = asyncio.current_task()
        assert running is not None
        assert task_type.handler is not None
        try:
            with attempt.interruptible(running.cancel):
                return await task_type.handler(**arguments), None
        except BaseException as exc:
            return None, exc
        finally:
            # `stop` cancelled this asyncio task, which still has to record the end.
            while attempt.context.cancelled and running.cancelling():
                running.uncancel()

    async def _call_in_thread(
        self, attempt: Attempt, task_type: TaskType, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        interrupt = ThreadInterrupt()
        handler = task_type.handler
        assert handler is not None

        def body() -> tuple[Any, BaseException | None]:
            try:
                with interrupt:
                    return handler(**arguments), None
            except BaseException as exc:
                return None, exc

        try:
            with attempt.interruptible(interrupt):
                return await self._loop.run_in_executor(self.threads, body)
        except asyncio.CancelledError as exc:
            return None, exc

    # --- a handler that blocks the loop

    @staticmethod
    def running_in(frame: FrameType) -> Attempt | None:
        """Return the attempt whose async handler a frame has called."""
        found: Attempt | None = frame.f_locals.get("attempt") if frame.f_code is _CALL else None
        return found

    def timed_out(self, attempt: Attempt) -> tuple[Failure, int]:
        """Return how an attempt fails that ran longer than its limit, and the ms until the next attempt."""
        delay_ms = self._delay_ms(attempt, self._registry.get(attempt.claim.type))
        return failure_of(TaskTimeoutError(_TIMED_OUT)), delay_ms

    # --- parts

    def _delay_ms(self, attempt: Attempt, task_type: TaskType | None) -> int:
        """Return the milliseconds until the next attempt, by the retry policy."""
        policy = self._policy(attempt.claim, task_type)
        return policy.delay_ms(attempt.claim.retries + 1, self._jitter())

    def _arguments(self, task_type: TaskType, attempt: Attempt) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if task_type.payload_parameter is not None:
            arguments[task_type.payload_parameter] = task_type.validate(
                json_text.read(attempt.claim.payload, "payload")
            )
        if task_type.context_parameter is not None:
            arguments[task_type.context_parameter] = attempt.context
        return arguments

    def _policy(self, claim: Claim, task_type: TaskType | None) -> RetryPolicy:
        if task_type is None:
            return RetryPolicy()
        if task_type.policy is None:
            return task_type.retry
        try:
            return self._policy_of(task_type, task_type.validate(json_text.read(claim.payload)))
        except Exception:  # a validator of the task type may raise anything
            return task_type.retry

    async def _end(
        self,
        attempt: Attempt,
        failure: Failure,
        delay_ms: int,
        error: BaseException | None = None,
        raised: BaseException | None = None,
        end: End = End.FAILURE,
    ) -> AttemptEnd:
        async def fail() -> Status:
            self._say_failed(attempt, failure, raised or error)
            if attempt.amendment is not None:
                await self._store.amend(attempt.claim, attempt.amendment)
            return await self._store.fail(attempt.claim, failure, delay_ms)

        return await self._record(attempt, end, fail, error=error or TaskError(failure.message, code=failure.code))

    async def _settle_cancelled(self, attempt: Attempt) -> Status:
        await attempt.reported()
        await self._store.settle_cancelled(attempt.claim)
        return Status.CANCELLED

    async def _record(
        self,
        attempt: Attempt,
        end: End,
        write: Callable[[], Awaitable[Status | None]],
        *,
        note: str = "",
        value: Any = None,
        error: BaseException | None = None,
    ) -> AttemptEnd:
        """End an attempt, and write its end to the store; every end of an attempt is recorded here.

        `write` returns the task's new status.
        """
        if not attempt.state.finish(end):
            return self._lost(
                attempt, StaleClaimError(attempt.claim.task_id, attempt.state.end or attempt.state.due_end)
            )
        try:
            status = await write()
        except (StaleClaimError, StoreUnavailableError) as exc:
            return self._lost(attempt, exc)
        return self._outcome(attempt, status, note=note, value=value, error=error)

    def _say_failed(self, attempt: Attempt, failure: Failure, raised: BaseException | None) -> None:
        """Log that an attempt failed: in the task's log, and in this process's log unless Celery does that."""
        claim = attempt.claim
        line = failure_line(claim, failure, raised)
        attempt.log(line, always=True)
        if self._log_failures and not attempt.by_celery:
            structlog.get_logger("celeriac.task").warning(
                line.message,
                task_id=claim.task_id,
                task_type=claim.type,
                attempt=claim.attempt,
                code=failure.code,
                error=failure.message,
                exc_info=raised if "traceback" in line.data else None,
            )

    def _lost(self, attempt: Attempt, exc: Exception) -> AttemptEnd:
        log.warning(
            "task %s: the end of attempt %d does not count: %s", attempt.claim.task_id, attempt.claim.attempt, exc
        )
        return self._outcome(attempt, None, note="claim lost", error=exc)

    def _outcome(
        self,
        attempt: Attempt,
        status: Status | None,
        *,
        note: str = "",
        value: Any = None,
        error: BaseException | None = None,
    ) -> AttemptEnd:
        if error is not None and not isinstance(error, Exception):
            # A caller that raises it again must not end its process with it.
            error = RuntimeError(repr(error))
        return AttemptEnd(status, note, value, error, time.monotonic() - attempt.started)


#: The code of the frame that calls an async handler.
_CALL = Runner._call.__code__


def failure_of(exc: BaseException, final_errors: tuple[type[BaseException], ...] = ()) -> Failure:
    """Return an exception as the failure that is recorded."""
    name, text = type(exc).__name__, text_of(exc)
    if isinstance(exc, TaskError):
        return Failure(str(exc.code), text or name, bool(exc.retryable) and not isinstance(exc, final_errors))
    return Failure(_CODE_OF_PLAIN_EXCEPTIONS, f"{name}: {text}" if text else name, not isinstance(exc, final_errors))
