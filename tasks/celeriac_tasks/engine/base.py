"""The base classes of the app's Celery tasks: in every pool, an attempt starts with a claim and ends in the record."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from inspect import signature
from math import isfinite
from typing import Any, Final

from billiard.process import current_process
from celery import Task
from celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
)

from celeriac.errors import TaskError, TaskTimeoutError
from celeriac.execution.attempt import Attempt, ThreadInterrupt
from celeriac.execution.runner import AttemptEnd
from celeriac.model import Amendment, Refusal, Status
from celeriac_tasks.engine.follow_up import tell_cancelled, tell_failure, tell_success
from celeriac_tasks.engine.messages import time_limits
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: The attribute of a Celery request that holds the running attempt.
ATTEMPT: Final = "celeriac_attempt"


class CeleriacTask(Task):
    """A Celery task with a record.

    Plain Celery tasks run as they do on stock Celery. An exception fails the task for good; `self.retry()` and
    `autoretry_for` wait in the store. If the claim is refused (a duplicate or stale message), nothing runs.
    """

    abstract = True
    Strategy = "celeriac_tasks.engine.arrivals:strategy"

    def run_attempt(self, args: Any, kwargs: Any) -> Any:
        """Claim the task, run its body once, and record the end. Celery's tracer gets what the body raised."""
        request = self.request
        runtime = self._runtime()
        attempt = runtime.wait(runtime.runner.begin(request.id))
        if isinstance(attempt, Refusal):
            raise Ignore(f"refused: {attempt.reason}")
        attempt.by_celery = True
        setattr(request, ATTEMPT, attempt)
        _, soft_s = time_limits(request.timelimit)
        # The message has the hard limit of its pool, which is later.
        request.timelimit = [None if attempt.claim.timeout_ms is None else attempt.claim.timeout_ms / 1000, soft_s]
        try:
            return self._answer(self._run_attempt(runtime, attempt, args, kwargs))
        finally:
            runtime.loop.call_soon_threadsafe(runtime.runner.forget, attempt)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Fail this attempt and run the next one later, as in Celery; meanwhile the task waits in the store.

        Arguments and options (`queue`, `priority`, `headers`, `link`, ...) replace those of the record.
        """
        request = self.request
        attempt: Attempt | None = getattr(request, ATTEMPT, None)
        if attempt is None:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        claim = attempt.claim
        limit = claim.max_retries if max_retries is None else max_retries
        # A manual retry grants all attempts again, so the request's own count does not tell how many were used.
        if limit <= claim.retries:
            raise exc or MaxRetriesExceededError(f"{self.name}[{request.id}] has used up its {limit} retries")
        allowed = claim.attempts_allowed - claim.max_retries + limit
        if args is not None or kwargs is not None or options or allowed != claim.attempts_allowed:
            args, kwargs = next_arguments(self.run, request, args, kwargs)
            call = self.app.described(self.signature_from_request(request, args, kwargs, **options))
            attempt.amendment = Amendment(replace(call, max_retries=limit), allowed)
        if countdown is None and eta is not None:
            now = datetime.now(eta.tzinfo or UTC).replace(tzinfo=eta.tzinfo)
            countdown = max((eta - now).total_seconds(), 0)
        retry = Retry(exc=exc, when=self.default_retry_delay if countdown is None else countdown)
        if throw:
            raise retry
        return retry

    def update_state(self, task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any) -> None:
        """Store a state of the task's own, as in Celery, and report its progress if `meta` tells a share.

        A share is `percent`, or `current` of `total`; a text is `description`, `status` or `message`.
        """
        attempt: Attempt | None = getattr(self.request, ATTEMPT, None)
        if attempt is not None and task_id in (None, self.request.id) and isinstance(meta, Mapping):
            share = percentage_of(meta)
            if share is not None:
                texts = [meta[name] for name in ("description", "status", "message") if isinstance(meta.get(name), str)]
                attempt.report(share, str(state or ""), texts[0] if texts else "", None)
        super().update_state(task_id=task_id, state=state, meta=meta, **kwargs)

    def replace(self, sig: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise `NotImplementedError`: Celery would run another task under an id that already has a record."""
        raise NotImplementedError(f"replace() is not supported: publish {sig.task} as a separate task")

    def _runtime(self) -> Runtime:
        return current_runtime(self.app, worker_id=str(self.request.hostname))

    def _run_attempt(self, runtime: Runtime, attempt: Attempt, args: Any, kwargs: Any) -> AttemptEnd:
        interrupt = ThreadInterrupt()
        runner = runtime.runner
        if attempt.claim.timeout_ms is not None:
            runtime.loop.call_soon_threadsafe(attempt.limit, attempt.claim.timeout_ms / 1000)
        try:
            with attempt.interruptible(interrupt), interrupt, self._softly_limited(runtime.loop, interrupt):
                value = _body_of(self)(*args, **kwargs)
            tell_success(self, self.request, value)
        except asyncio.CancelledError:
            return runtime.wait(runner.stopped(attempt, retry=False))
        except Retry as exc:
            error = TaskError(str(exc.exc or exc), code="retry")
            raised = exc.exc if isinstance(exc.exc, BaseException) else None
            end = runtime.wait(runner.fail(attempt, error, delay_s=_seconds(exc.when), raised=raised))
            # Handlers of retries (`on_retry`, signals, monitors) see what the task raised.
            return replace(end, error=exc) if end.status is Status.RETRYING else end
        except Reject as exc:
            return runtime.wait(runner.give_back(attempt) if exc.requeue else runner.fail_for_good(attempt, exc))
        except Ignore as exc:
            return replace(runtime.wait(runner.succeed(attempt, None, keep=False)), error=exc)
        except BaseException as exc:  # even a SystemExit ends only this task, not the worker
            tell_failure(self, self.request, exc)
            return runtime.wait(runner.fail_for_good(attempt, exc))
        return runtime.wait(runner.succeed(attempt, value, keep=False))

    @contextmanager
    def _softly_limited(self, loop: AbstractEventLoop, interrupt: ThreadInterrupt) -> Iterator[None]:
        """Raise `SoftTimeLimitExceeded` in the task when its soft limit has passed, unless its pool does that."""
        _, soft_s = time_limits(self.request.timelimit)
        soft_s = soft_s or self.soft_time_limit
        if not soft_s or _in_prefork_pool():
            yield
            return
        timers: list[TimerHandle] = []

        def start() -> None:
            timers.append(loop.call_later(soft_s, interrupt.warn, SoftTimeLimitExceeded))

        loop.call_soon_threadsafe(start)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(lambda: timers[0].cancel())

    def _answer(self, outcome: AttemptEnd) -> Any:
        if isinstance(outcome.error, Ignore):
            raise outcome.error
        if outcome.status is Status.COMPLETED:
            return outcome.value
        if outcome.status is Status.RETRYING:
            raise outcome.error if isinstance(outcome.error, Retry) else Retry(exc=outcome.error)
        if isinstance(outcome.error, TaskTimeoutError):
            raise TimeLimitExceeded(str(outcome.error))
        if outcome.status is Status.FAILED and outcome.error is not None:
            raise outcome.error
        if outcome.status is Status.CANCELLED:
            tell_cancelled(self, self.request)
        raise Ignore(outcome.note or "cancelled")


class RegisteredTask(CeleriacTask):
    """A registered task type as Celery sees it. Other pools call it; our own pool goes straight to the runner."""

    abstract = True
    #: The record has the result.
    ignore_result = True

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler directly (eager mode, unit tests)."""
        return self.app.celeriac_registry.get(self.name)(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one attempt through the runner."""
        request = self.request
        if request.called_directly or request.is_eager:
            return self.run(*args, **kwargs)
        runtime = self._runtime()
        return self._answer(runtime.wait(runtime.runner.run(request.id, partial(tell_success, self, request))))


def recorded(base: type[Task]) -> type[Task]:
    """Return a subclass of a task class whose tasks have records; `base` itself if its tasks have them already.

    The project's class comes first, so that what it overrides counts. Calls go through the claim before anything
    else. A class that receives its messages in its own way (`Strategy`, as celery-batches does) stays as it is.
    """
    if base.Strategy not in (Task.Strategy, CeleriacTask.Strategy):
        log.warning("tasks of the class %s have no records: it receives its messages in its own way", base.__qualname__)
        return base
    if issubclass(base, RegisteredTask) or base.__call__ is _attempted:
        return base
    bases = (base,) if issubclass(base, CeleriacTask) else (base, CeleriacTask)
    about = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return type(base.__name__, bases, {**about, "__call__": _attempted, "abstract": True})


def _in_prefork_pool() -> bool:
    """Whether this is a process of Celery's prefork pool, which sees to soft time limits by itself."""
    return getattr(current_process(), "index", None) is not None


def _attempted(task: CeleriacTask, *args: Any, **kwargs: Any) -> Any:
    """Run one attempt. Celery's tracer calls this in the pool's process or thread, a project's own `__call__` later."""
    request = task.request
    if request.called_directly or request.is_eager or getattr(request, ATTEMPT, None) is not None:
        # A plain function call; a running task may also call itself.
        return _calls_of(type(task))(task, *args, **kwargs)
    return task.run_attempt(args, kwargs)


def _body_of(task: CeleriacTask) -> Callable[..., Any]:
    """Return what an attempt runs: a `__call__` of the project's own, which calls `run` at some time, or `run`."""
    call = _calls_of(type(task))
    return task.run if call is Task.__call__ else partial(call, task)


def _calls_of(task_class: type[Task]) -> Callable[..., Any]:
    """Return the first `__call__` of a class that is not ours: the project's, or Celery's."""
    defined = (vars(ancestor).get("__call__") for ancestor in task_class.__mro__)
    first: Callable[..., Any] = next(call for call in defined if call is not None and call is not _attempted)
    return first


def percentage_of(meta: Mapping[str, Any]) -> float | None:
    """Return how much of a task is done (0 to 100) by what `update_state` was given, None if that does not say it."""
    try:
        percent = meta["percent"] if "percent" in meta else 100 * meta["current"] / meta["total"]
        return float(percent) if isfinite(percent) else None
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def next_arguments(run: Callable[..., Any], request: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a retry that names only some of them; the others are those of the running call.

    A new positional argument replaces an old one that was given by name, and the other way round.
    """
    if (args is None) == (kwargs is None):
        return args, kwargs
    try:
        shape = signature(run)
        parameters = list(shape.parameters.values())
        both_ways = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        if kwargs is None:
            covered = both_ways & {p.name for p in parameters[: len(args)]}
            return args, {name: value for name, value in (request.kwargs or {}).items() if name not in covered}
        before = shape.bind_partial(*(request.args or ()))
    except (TypeError, ValueError):
        # Celery checks the arguments when it runs the task, and says what is wrong with them.
        return args, kwargs
    replaced = before.arguments.keys() & kwargs.keys() & both_ways
    before.arguments.update({name: kwargs[name] for name in replaced})
    others = {name: value for name, value in kwargs.items() if name not in replaced}
    return before.args, {**before.kwargs, **others}


def _seconds(when: Any) -> float | None:
    return float(when) if isinstance(when, int | float) else None
