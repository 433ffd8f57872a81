"""Runs attempts: claim, handler, end. All pools and all kinds of tasks use it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType, FrameType
from typing import Any, Final

import structlog

from celeriac import json_text
from celeriac.errors import (
    ExecutorLostError,
    InvalidReferenceError,
    InvalidSubmissionError,
    JsonError,
    QueueFullError,
    RateLimited,
    RetryAfter,
    StaleClaimError,
    StepLimitError,
    StoreUnavailableError,
    TaskError,
    TaskTimeoutError,
)
from celeriac.execution.attempt import STOP_GRACE_S, Attempt, new_interrupt
from celeriac.execution.attempt_state import End, StopReason
from celeriac.execution.attempt_store import AttemptStore
from celeriac.execution.attempt_work import AttemptWork, WorkSettings
from celeriac.execution.leases import Leases
from celeriac.execution.lost_time import Watch
from celeriac.handlers.durable import suspended_by
from celeriac.handlers.rate_limited import rate_limited_by, rate_limited_line
from celeriac.handlers.results import result_text, text_of
from celeriac.handlers.running import HANDLER_RUNS
from celeriac.handlers.task_log import failure_line
from celeriac.model import Claim, Failure, Parent, Parents, Refusal, Status, Wait
from celeriac.moments import MAX_DELAY_S
from celeriac.settings import TaskLogSettings
from celeriac.signals.links import SignalLinks
from celeriac.tasks.references import may_have_references, resolved
from celeriac.tasks.registry import Registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType
from celeriac.terminal.task_end import end_of
from celeriac.terminal.task_lines import TaskLines
from celeriac.threads.daemon_threads import threads_for_functions

log = logging.getLogger(__name__)

#: The error code if a handler raised an exception that is not one of Celeriac's.
_CODE_OF_PLAIN_EXCEPTIONS = "exception"
_TIMED_OUT = "the attempt ran longer than its time limit"
#: The least time limit of a run that continues a suspended attempt (seconds).
_LEAST_LIMIT_S: Final = 0.05


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
        work: WorkSettings,
        jitter: Callable[[], float] = random.random,
        log_failures: bool = True,
        lines: TaskLines | None = None,
        watch: Watch | None = None,
        links: SignalLinks | None = None,
    ) -> None:
        self._links = links
        #: Counts how long the loop is blocked; None: nothing counts that.
        self.watch = watch
        self._store = store
        self._registry = registry
        #: Returns the retry policy of a type for a validated payload.
        self._policy_of = policy_of
        self._progress_buffer = progress_buffer
        self._max_result_bytes = max_result_bytes
        self._task_log = task_log
        self._work = work
        self._worker_id = worker_id
        #: Returns a number in [0, 1) for each retry, which spreads retries over time.
        self._jitter = jitter
        #: Shows each end of an attempt on the terminal; None: this process shows none.
        self._lines = lines
        #: Whether what a handler raises is in the process's log, with its traceback.
        self._log_failures = log_failures and lines is None
        #: Where plain functions run.
        self.threads = threads_for_functions(threads, name="task")
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

    async def begin(self, task_id: str, *, edition: int | None = None) -> Attempt | Refusal:
        """Claim the task; call `forget` when the attempt has ended. `edition`: see `TaskStore.claim`."""
        self._beginning += 1
        try:
            claim = await self._store.claim(task_id, worker=self._worker_id, edition=edition)
            if isinstance(claim, Refusal):
                return claim
            if self._draining:
                await self._store.release(claim)
                return Refusal(task_id, "shutdown")
        finally:
            self._beginning -= 1
        task_type = self._registry.get(claim.type)
        attempt = Attempt(
            claim,
            store=self._store,
            loop=self._loop,
            buffer=self._progress_buffer,
            task_log=self._task_log,
            overdue=self._end_without_handler,
            watch=self.watch,
            links=self._links,
            work=AttemptWork(claim, store=self._store, loop=self._loop, threads=self.threads, settings=self._work),
            blocking=task_type is not None and not task_type.is_async,
        )
        self.leases.hold(attempt)
        return attempt

    async def payload(self, attempt: Attempt) -> Any:
        """Return the payload of an attempt, with the results of the tasks that it depends on where it refers to them.

        Reads these tasks if there are any. Raises `InvalidReferenceError`, `JsonError` and `StoreUnavailableError`.
        """
        claim = attempt.claim
        payload = json_text.read(claim.payload, "payload")
        if claim.depends_on and may_have_references(claim.payload):
            return resolved(payload, await self._parents(attempt))
        return payload

    async def _parents(self, attempt: Attempt) -> Mapping[str, Parent]:
        if not attempt.context.parents:
            found = await self._store.parents(attempt.claim.depends_on)
            attempt.context.parents = Parents(found, attempt.claim.workflow_id)
        return attempt.context.parents

    async def succeed(
        self, attempt: Attempt, value: Any, *, keep: bool = True, celery_state: bytes = b""
    ) -> AttemptEnd:
        """End an attempt with what its handler returned, and with what Celery's result backend keeps of that.

        A value that cannot be stored fails the task; if `keep` is false, the result is null instead.
        """
        result, problem = result_text(value, self._max_result_bytes)
        if problem is not None:
            if keep:
                return await self._end(attempt, problem, 0)
            log.warning("task %s: its result is not stored: %s", attempt.claim.task_id, problem.message)

        async def complete() -> Status:
            await self._store.complete(attempt.claim, result, attempt.context.result_file_path, celery_state)
            self.show(attempt, Status.COMPLETED)
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

    async def replaced(self, attempt: Attempt, name: str) -> AttemptEnd:
        """End an attempt whose handler has put `name` in the place of its task."""
        if attempt.state.reason is StopReason.LOST:
            # It has lost its claim to what it published itself.
            return await self.stopped(attempt)

        async def wait() -> Status | None:
            await attempt.reported()
            return await self._store.await_replacement(attempt.claim, name)

        return await self._record(attempt, End.REPLACED, wait, note=f"replaced by {name}")

    async def _suspend(self, attempt: Attempt, waits: Sequence[Wait]) -> AttemptEnd | None:
        """End an attempt until all that it waits for is there; None if that is so by now, and its handler may run."""
        await attempt.context.durable.settled()
        await attempt.reported()
        if not attempt.state.may_end(End.SUSPENDED):
            return await self.stopped(attempt)
        try:
            status = await self._store.suspend(attempt.claim, waits)
        except (StaleClaimError, StoreUnavailableError) as exc:
            attempt.state.finish(End.SUSPENDED)
            return self._lost(attempt, exc)
        except QueueFullError as exc:
            return await self.fail(attempt, TaskError(f"too many tasks wait: {exc}", code=exc.code))
        except StepLimitError as exc:
            return await self.fail(attempt, exc)
        if status is None:
            return await self.stopped(attempt) if attempt.state.reason is not None else None
        attempt.state.finish(End.SUSPENDED)
        return self._outcome(attempt, status, note="suspended")

    async def give_back(self, attempt: Attempt) -> AttemptEnd:
        """Give the task back to its group; the attempt does not count."""

        async def release() -> None:
            await attempt.reported()
            if await self._store.release(attempt.claim) is Status.PENDING:
                self.show(attempt, Status.PENDING)

        return await self._record(attempt, End.GIVEN_BACK, release, note="given back")

    async def rate_limited(self, attempt: Attempt, told: RateLimited) -> AttemptEnd:
        """Give the task back, and let nothing of its key start for as long as `told` says; no attempt is counted."""
        failure = failure_of(told)

        async def release() -> None:
            attempt.log(rate_limited_line(failure.message, told.retry_after_s), always=True)
            await attempt.reported()
            status = await self._store.rate_limited(attempt.claim, told.retry_after_s)
            if status is Status.PENDING:
                self.show(attempt, status, failure, round(told.retry_after_s * 1000))
            else:
                self.show(attempt, status)

        return await self._record(attempt, End.GIVEN_BACK, release, note="rate limited", error=told)

    async def undo(self, attempt: Attempt) -> None:
        """Give back an attempt that nobody runs."""
        try:
            await self.give_back(attempt)
        finally:
            self.forget(attempt)

    async def interrupted(self, attempt: Attempt) -> AttemptEnd:
        """End an attempt whose process is being ended: it is given back, unless there was another reason to stop."""
        attempt.stop(StopReason.SHUTDOWN)
        return await self.stopped(attempt, retry=False)

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
        # A plain Celery task that timed out does not run again, whether its handler lets go or not.
        ending = self._loop.create_task(self.stopped(attempt, retry=not attempt.by_celery))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    # --- a task type's attempt as a whole

    async def run(
        self,
        task_id: str,
        follow_up: Callable[[Any], object] | None = None,
        *,
        edition: int | None = None,
        on_return: Callable[[], object] | None = None,
    ) -> AttemptEnd:
        """Run one attempt of a task whose type is registered here; never raises.

        `follow_up` is called in a thread with the value that the handler returned, before the end is recorded.
        `on_return` is called when the handler has returned, and its thread is free.
        """
        try:
            attempt = await self.begin(task_id, edition=edition)
        except (StaleClaimError, StoreUnavailableError) as exc:
            log.error("task %s was not claimed: %s", task_id, exc)
            return AttemptEnd(None, note="store away")
        if isinstance(attempt, Refusal):
            return AttemptEnd(None, note=f"refused: {attempt.reason}")
        attempt.untold = follow_up is not None
        try:
            return await self._run(attempt, follow_up, on_return)
        except Exception as exc:
            log.exception("the end of task %s could not be recorded; its lease will run out", task_id)
            return AttemptEnd(None, note="not recorded", error=exc)
        finally:
            self.forget(attempt)

    async def _run(
        self, attempt: Attempt, follow_up: Callable[[Any], object] | None, on_return: Callable[[], object] | None
    ) -> AttemptEnd:
        task_type = self._registry.get(attempt.claim.type)
        if task_type is None or task_type.handler is None:
            text = f"this worker has no task type {attempt.claim.type!r}"
            return await self.fail(attempt, TaskError(text, code="unknown_type"))
        try:
            arguments = await self._arguments(task_type, attempt)
        except InvalidReferenceError as exc:
            return await self.fail(attempt, exc)
        except (InvalidSubmissionError, JsonError) as exc:
            return await self._end(attempt, Failure("invalid_payload", str(exc), False), 0, exc)
        except Exception as exc:  # from a validator of the task type
            return await self.fail(attempt, exc)
        limit_ms = attempt.claim.timeout_ms
        limit_s = task_type.timeout_s if limit_ms is None else limit_ms / 1000
        if task_type.is_async:
            attempt.lost.on_the_loop()
        if limit_s is not None:
            # The time in which the attempt was suspended does not count.
            attempt.limit(max(limit_s - attempt.claim.ran_ms / 1000, _LEAST_LIMIT_S))
        call = self._call if task_type.is_async else self._call_in_thread
        while True:
            value, error = await call(attempt, task_type, arguments)
            if (waits := suspended_by(error)) is None:
                break
            if (end := await self._suspend(attempt, waits)) is not None:
                return end
            attempt.context.durable.begin_again()
        if attempt.lost.own_s and attempt.overdue_s > 0 and attempt.state.stop(StopReason.TIMEOUT):
            # It blocked the loop past its own time limit, so the limit could not stop it.
            error = asyncio.CancelledError()
        attempt.state.unlimit()
        if on_return is not None:
            on_return()
        if error is None and follow_up is not None:
            try:
                await self._loop.run_in_executor(self.threads, follow_up, value)
            except Exception as exc:
                error = exc
        if error is None:
            return await self.succeed(attempt, value)
        if isinstance(error, asyncio.CancelledError):
            return await self.stopped(attempt)
        if (told := rate_limited_by(error)) is not None:
            return await self.rate_limited(attempt, told)
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
        before = HANDLER_RUNS.set(True)
        try:
            with attempt.interruptible(running.cancel):
                return await task_type.handler(**arguments), None
        except BaseException as exc:
            return None, exc
        finally:
            HANDLER_RUNS.reset(before)
            # `stop` cancelled this asyncio task, which still has to record the end.
            while attempt.context.cancelled and running.cancelling():
                running.uncancel()

    async def _call_in_thread(
        self, attempt: Attempt, task_type: TaskType, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        interrupt = new_interrupt()
        handler = task_type.handler
        assert handler is not None

        def body() -> tuple[Any, BaseException | None]:
            before = HANDLER_RUNS.set(True)
            try:
                with interrupt:
                    return handler(**arguments), None
            except BaseException as exc:
                return None, exc
            finally:
                HANDLER_RUNS.reset(before)

        try:
            with attempt.interruptible(interrupt):
                return await self.threads.call(body)
        except asyncio.CancelledError as exc:
            return None, exc

    # --- a handler that blocks the loop

    @staticmethod
    def running_in(frame: FrameType) -> Attempt | None:
        """Return the attempt whose async handler a frame has called."""
        found: Attempt | None = frame.f_locals.get("attempt") if frame.f_code in _CALLS else None
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

    async def _arguments(self, task_type: TaskType, attempt: Attempt) -> dict[str, Any]:
        parameters, payload = task_type.parameters, None
        if attempt.claim.depends_on:
            await self._parents(attempt)
        if parameters.take_payload:
            payload = task_type.validate(await self.payload(attempt))
        return parameters.arguments(payload, attempt.context)

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
            status = await self._store.fail(attempt.claim, failure, delay_ms, untold=attempt.untold)
            if not attempt.ended_early:
                self.show(attempt, status, failure, delay_ms)
            return status

        return await self._record(attempt, end, fail, error=error or TaskError(failure.message, code=failure.code))

    async def _settle_cancelled(self, attempt: Attempt) -> Status:
        await attempt.reported()
        if await self._store.settle_cancelled(attempt.claim):
            self.show(attempt, Status.CANCELLED)
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

    def show(self, attempt: Attempt, status: Status, failure: Failure | None = None, delay_ms: int = 0) -> None:
        """Show on the terminal how an attempt ended, and with which status of its task."""
        if self._lines is not None and self._lines.has_room():
            took_s = time.monotonic() - attempt.started
            self._lines.add(end_of(attempt.claim, status, took_s, failure, again_s=delay_ms / 1000))

    def _say_failed(self, attempt: Attempt, failure: Failure, raised: BaseException | None) -> None:
        """Log that an attempt failed: in the task's log, and in this process's unless Celery or a shown line does."""
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


#: The code of the frames that call an async handler; each has the variable `attempt`.
_CALLS: Final[set[CodeType]] = set()


def counts_as_handler(call: Callable[..., Any]) -> None:
    """Take a function for one that calls the handler of its variable `attempt` on the loop, to find who blocks it."""
    _CALLS.add(call.__code__)


counts_as_handler(Runner._call)


def failure_of(exc: BaseException, final_errors: tuple[type[BaseException], ...] = ()) -> Failure:
    """Return an exception as the failure that is recorded."""
    name, text = type(exc).__name__, text_of(exc)
    if isinstance(exc, TaskError):
        return Failure(str(exc.code), text or name, bool(exc.retryable) and not isinstance(exc, final_errors))
    return Failure(_CODE_OF_PLAIN_EXCEPTIONS, f"{name}: {text}" if text else name, not isinstance(exc, final_errors))
