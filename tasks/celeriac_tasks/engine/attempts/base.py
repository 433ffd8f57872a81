"""The base classes of the app's Celery tasks: in every pool, an attempt starts with a claim and ends in the record."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from inspect import iscoroutine, signature
from math import isfinite
from typing import Any, Final

from billiard.common import terminate_handler_fired
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

from celeriac.errors import (
    InvalidReferenceError,
    InvalidSubmissionError,
    RateLimited,
    SkipRetry,
    TaskError,
    TaskTimeoutError,
)
from celeriac.execution.attempt import Attempt, Interrupt, new_interrupt
from celeriac.execution.runner import AttemptEnd
from celeriac.handlers.rate_limited import rate_limited_by
from celeriac.model import Amendment, Refusal, Status
from celeriac.tasks.key_source import KeySource
from celeriac_tasks.engine.attempts.coroutines import RUNNING, Body, is_coroutine_task, run_eagerly
from celeriac_tasks.engine.attempts.replacing import number_replacement, replacement_of
from celeriac_tasks.engine.calls.call_keys import key_of_task
from celeriac_tasks.engine.calls.messages import (
    PRIVATE,
    RAN,
    TIMES,
    built_here,
    edition_of,
    limit_shown,
    runs_unrecorded,
    time_limits,
)
from celeriac_tasks.engine.calls.payloads import submitted_arguments
from celeriac_tasks.engine.ends.follow_up import leave_nothing, tell_failure, tell_success
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: The attribute of classes whose `__call__` makes the claim, whatever a library has put around it.
_ATTEMPTS: Final = "celeriac_attempts"
#: The attribute of a Celery request that holds the running attempt.
ATTEMPT: Final = "celeriac_attempt"
#: The attribute of a Celery request of `apply()` or of a task without a record, which has begun.
_EAGER: Final = "celeriac_eager"
#: The attribute of a Celery request that holds a retry that the task asked for with `throw=False`.
UNTHROWN: Final = "celeriac_unthrown"


class CeleriacTask(Task):
    """A Celery task with a record.

    Plain Celery tasks run as they do on stock Celery. An exception fails the task for good; `self.retry()` and
    `autoretry_for` wait in the store. If the claim is refused (a duplicate or stale message), nothing runs.
    """

    abstract = True
    Strategy = "celeriac_tasks.engine.calls.arrivals:strategy"
    Request = "celeriac_tasks.engine.ends.request:RecordedRequest"
    #: A task whose process died is not a failed one: its record gets another attempt. Celery would store a failure.
    reject_on_worker_lost = True

    @cached_property
    def key_source(self) -> KeySource | None:
        """What reads the keys of its calls, if `key` says it."""
        return key_of_task(self)

    def run_attempt(self, args: Any, kwargs: Any) -> Any:
        """Claim the task, run its body once, and record the end. Celery's tracer gets what the body raised."""
        request = self.request
        runtime = self._runtime()
        if (ran := vars(request).pop(RAN, None)) is not None:
            return self._go_on(runtime, ran)
        attempt = runtime.begin(request.id, edition=edition_of(vars(request)))
        if isinstance(attempt, Refusal):
            raise Ignore(f"refused: {attempt.reason}")
        begin_request(request, attempt)
        try:
            if built_here(vars(request)):
                try:
                    args, kwargs = submitted_arguments(runtime.wait(runtime.runner.payload(attempt)))
                except InvalidReferenceError as exc:
                    return self._answer(self._failed(runtime, attempt, exc))
                except InvalidSubmissionError as exc:
                    return self._answer(self._unfit(runtime, attempt, exc))
                request.update(args=args, kwargs=kwargs)
            return self._answer(self._run_attempt(runtime, attempt, args, kwargs))
        finally:
            runtime.loop.call_soon_threadsafe(runtime.runner.forget, attempt)

    def _go_on(self, runtime: Runtime, ran: Ran) -> Any:
        """End an attempt whose body has run on the direct path, as `run_attempt` does."""
        vars(self.request).update(vars(ran.request))
        try:
            return self._answer(self._end_of(runtime, ran.attempt, ran.outcome))
        finally:
            runtime.loop.call_soon_threadsafe(runtime.runner.forget, ran.attempt)

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
        if isinstance(exc, RateLimited) and throw and args is None and kwargs is None:
            # `autoretry_for` may name it too, but nothing has failed: the task goes back.
            raise exc
        claim = attempt.claim
        limit = claim.max_retries if max_retries is None else max_retries
        # A manual retry grants all attempts again, so the request's own count does not tell how many were used.
        if limit <= claim.retries:
            args, kwargs = next_arguments(self.run, request, args, kwargs)
            given = request.args if args is None else args, request.kwargs if kwargs is None else kwargs
            raise exc or self._retried_too_often(*given)
        allowed = claim.attempts_allowed - claim.max_retries + limit
        if args is not None or kwargs is not None or options or allowed != claim.attempts_allowed:
            args, kwargs = next_arguments(self.run, request, args, kwargs)
            call = self.app.described(self.signature_from_request(request, args, kwargs, **options))
            if "expires" not in options:
                # A task that has started does not expire.
                call = replace(call, expires_at_ms=None, expires_in_ms=None)
            attempt.amendment = Amendment(replace(call, max_retries=limit), allowed)
        if countdown is None and eta is not None:
            now = datetime.now(eta.tzinfo or UTC).replace(tzinfo=eta.tzinfo)
            countdown = max((eta - now).total_seconds(), 0)
        retry = Retry(exc=exc, when=self.default_retry_delay if countdown is None else countdown)
        if throw:
            raise retry
        # The task may do more before it returns; then this attempt ends.
        setattr(request, UNTHROWN, retry)
        return retry

    def _retried_too_often(self, args: Any, kwargs: Any) -> MaxRetriesExceededError:
        """Return Celery's own exception with Celery's own words, which projects look for in their logs."""
        text = f"Can't retry {self.name}[{self.request.id}] args:{tuple(args or ())} kwargs:{kwargs}"
        return self.MaxRetriesExceededError(text, task_args=args, task_kwargs=kwargs)

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

    def on_replace(self, sig: Any) -> Any:
        """Publish what takes the place of this task, as in Celery; the record then follows that.

        The call that has this task's id takes over its record: at once, or when its turn comes (see `replacing.py`).
        """
        attempt: Attempt | None = getattr(self.request, ATTEMPT, None)
        if attempt is None:
            return super().on_replace(sig)
        number_replacement(sig, replacement_of(self.request) + 1)
        try:
            return super().on_replace(sig)
        except Ignore:
            attempt.replaced_by = str(sig.task)
            raise

    def _get_request(self) -> Any:
        # What the body of a coroutine has started, with `asyncio.gather` for example, has no stack of its own.
        running = RUNNING.get() if self.request_stack.top is None else None
        return running[1] if running is not None and running[0] is self else super()._get_request()

    request = property(_get_request)

    def _runtime(self) -> Runtime:
        return current_runtime(self.app, worker_id=str(self.request.hostname))

    def _run_attempt(self, runtime: Runtime, attempt: Attempt, args: Any, kwargs: Any) -> AttemptEnd:
        if attempt.claim.timeout_ms is not None:
            runtime.loop.call_soon_threadsafe(attempt.limit, attempt.claim.timeout_ms / 1000)
        return self._end_of(runtime, attempt, partial(self._value, runtime, attempt, args, kwargs))

    def _end_of(self, runtime: Runtime, attempt: Attempt, body: Callable[[], Any]) -> AttemptEnd:
        """Run a body, and record how it ended."""
        runner, state = runtime.runner, b""
        try:
            value = body()
            if attempt.replaced_by is None:
                if unthrown := getattr(self.request, UNTHROWN, None):
                    raise unthrown
                state = tell_success(self, self.request, value, is_ending=True)
        except BaseException as exc:
            if attempt.replaced_by is None:
                return self._end_raised(runtime, attempt, exc)
        if attempt.replaced_by is None:
            return runtime.wait(runner.succeed(attempt, value, keep=False, celery_state=state))
        # What takes its place has been published, so nothing that the task did afterwards counts.
        return runtime.wait(runner.replaced(attempt, attempt.replaced_by))

    def _end_raised(self, runtime: Runtime, attempt: Attempt, raised: BaseException) -> AttemptEnd:
        """Record the end of an attempt whose body raised something."""
        runner = runtime.runner
        if (told := rate_limited_by(raised)) is not None:
            return runtime.wait(runner.rate_limited(attempt, told))
        try:
            raise raised
        except asyncio.CancelledError:
            return runtime.wait(runner.stopped(attempt, retry=False))
        except Retry as exc:
            error = TaskError(str(exc.exc or exc), code="retry")
            behind = exc.exc if isinstance(exc.exc, BaseException) else None
            end = runtime.wait(runner.fail(attempt, error, delay_s=_seconds(exc.when), raised=behind))
            # Handlers of retries (`on_retry`, signals, monitors) see what the task raised.
            return replace(end, error=exc) if end.status is Status.RETRYING else end
        except Reject as exc:
            if exc.requeue:
                return runtime.wait(runner.give_back(attempt))
            self._tell_failure(attempt, exc)
            return runtime.wait(runner.fail_for_good(attempt, exc))
        except Ignore as exc:
            return replace(runtime.wait(runner.succeed(attempt, None, keep=False)), error=exc)
        except SystemExit as exc:
            if not terminate_handler_fired():
                return self._failed(runtime, attempt, exc)  # only this task ends, not the worker
            runtime.wait(runner.interrupted(attempt))
            raise
        except BaseException as exc:
            return self._failed(runtime, attempt, exc)

    def _value(self, runtime: Runtime, attempt: Attempt, args: Any, kwargs: Any) -> Any:
        """Run the body once; returns or raises what it does."""
        softly_limited = partial(self._softly_limited, runtime.loop)
        if is_coroutine_task(self):
            value = _body_of(self)(*args, **kwargs)
        else:
            interrupt = new_interrupt()
            with attempt.interruptible(interrupt), interrupt, softly_limited(interrupt):
                value = _body_of(self)(*args, **kwargs)
        return Body(self, attempt, value, runtime).result(softly_limited) if iscoroutine(value) else value

    def _unfit(self, runtime: Runtime, attempt: Attempt, exc: InvalidSubmissionError) -> AttemptEnd:
        """Fail an attempt whose payload does not fit, now that the results to which it refers are there."""
        return self._failed(runtime, attempt, SkipRetry(str(exc), code="invalid_payload"))

    def _failed(self, runtime: Runtime, attempt: Attempt, exc: BaseException) -> AttemptEnd:
        self._tell_failure(attempt, exc)
        return runtime.wait(runtime.runner.fail_for_good(attempt, exc))

    def _tell_failure(self, attempt: Attempt, exc: BaseException) -> None:
        tell_failure(self, self.request, exc)
        attempt.untold = False

    @contextmanager
    def _softly_limited(self, loop: AbstractEventLoop, interrupt: Interrupt | Body) -> Iterator[None]:
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
        if outcome.status is Status.FAILED and outcome.error is not None:
            # What Celery does not know yet, a worker will tell it by the record (`teller.py`).
            leave_nothing(self.request)
            if isinstance(outcome.error, TaskTimeoutError):
                raise TimeLimitExceeded(time_limits(self.request.timelimit)[0])
            raise outcome.error
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
        if request.called_directly or request.is_eager or unrecorded(request):
            return self.run(*args, **kwargs)
        runtime = self._runtime()
        follow_up, edition = partial(tell_success, self, request), edition_of(vars(request))
        return self._answer(runtime.wait(runtime.runner.run(request.id, follow_up, edition=edition)))


class Ran:
    """How the body of a plain Celery task ended on the direct path, for the tracer, which sees to all the rest."""

    def __init__(self, attempt: Attempt, request: Any, value: Any, error: BaseException | None) -> None:
        self.attempt = attempt
        self.request = request
        self._value = value
        self._error = error

    def outcome(self) -> Any:
        """Return or raise what the body did."""
        if self._error is not None:
            raise self._error
        return self._value


def begin_request(request: Any, attempt: Attempt) -> None:
    """Make the request of a plain Celery task tell of an attempt that has begun."""
    attempt.by_celery = attempt.untold = True
    claim = attempt.claim
    if claim.redelivered:
        request.delivery_info = {**(request.delivery_info or {}), "redelivered": True}
    setattr(request, ATTEMPT, attempt)
    _, soft_s = time_limits(request.timelimit)
    # The message has the hard limit of its pool, which is later.
    # An earlier message of the task that comes once more, late, has an earlier count of retries.
    retries = claim.attempt - 1 - claim.attempts_before
    request.update(timelimit=[limit_shown(claim.timeout_ms), soft_s], retries=retries)


def has_own_call(task: Task) -> bool:
    """Whether something besides the claim is called before the body of a task: its own, or a library's."""
    task_class = type(task)
    return _ATTEMPTS not in vars(_first_caller(task_class)) or _calls_of(task_class) is not Task.__call__


def recorded(base: type[Task]) -> type[Task]:
    """Return a subclass of a task class whose tasks have records; `base` itself if its tasks have them already.

    The project's class comes first, so that what it overrides counts. Calls go through the claim before anything
    else. A class that receives its messages in its own way (`Strategy`, as celery-batches does) stays as it is.
    """
    if base.Strategy not in (Task.Strategy, CeleriacTask.Strategy):
        log.warning("tasks of the class %s have no records: it receives its messages in its own way", base.__qualname__)
        return base
    if issubclass(base, RegisteredTask) or _ATTEMPTS in vars(_first_caller(base)):
        return base
    bases = (base,) if issubclass(base, CeleriacTask) else (base, CeleriacTask)
    about: dict[str, Any] = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    if base.Request not in (Task.Request, CeleriacTask.Request):
        # Imported here because few projects have requests of their own, and only workers make any.
        from celeriac_tasks.engine.ends.request import recorded_request

        about["Request"] = recorded_request(base.Request)
    return type(base.__name__, bases, {**about, "__call__": _attempted, _ATTEMPTS: True, "abstract": True})


def unrecorded(request: Any) -> bool:
    """Whether a received request runs as in stock Celery, without a record. Takes our own headers off it."""
    eta, expires = vars(request).get(TIMES) or (request.eta, request.expires)
    request.eta, request.expires = eta, expires
    if request.headers:
        # Tasks pass their headers on to other calls, which have no record yet.
        request.headers = {name: value for name, value in request.headers.items() if name not in PRIVATE} or None
    return runs_unrecorded(vars(request))


def _in_prefork_pool() -> bool:
    """Whether this is a process of Celery's prefork pool, which sees to soft time limits by itself."""
    return getattr(current_process(), "index", None) is not None


def _attempted(task: CeleriacTask, /, *args: Any, **kwargs: Any) -> Any:
    """Run one attempt. Celery's tracer calls this in the pool's process or thread, a project's own `__call__` later."""
    request = task.request
    # A plain function call, which of a coroutine function returns the coroutine; a running task may also call itself.
    direct = request.called_directly or request.is_eager or getattr(request, ATTEMPT, None) is not None
    as_stock = not direct and unrecorded(request)
    if (request.is_eager or as_stock) and not hasattr(request, _EAGER):
        setattr(request, _EAGER, True)
        value = _calls_of(type(task))(task, *args, **kwargs)
        return run_eagerly(task, value) if iscoroutine(value) else value
    if direct or as_stock:
        return _calls_of(type(task))(task, *args, **kwargs)
    return task.run_attempt(args, kwargs)


def _body_of(task: CeleriacTask) -> Callable[..., Any]:
    """Return what an attempt runs: a `__call__` of the project's own, which calls `run` at some time, or `run`."""
    call = _calls_of(type(task))
    return task.run if call is Task.__call__ else partial(call, task)


def _calls_of(task_class: type[Task]) -> Callable[..., Any]:
    """Return the `__call__` behind the claim: the first one of the project's classes, or Celery's.

    Libraries such as Sentry put one of theirs into the task's class, which calls the one that was there. They are
    before the claim.
    """
    ancestors = list(task_class.__mro__)
    behind = next((i + 1 for i, found in enumerate(ancestors) if _ATTEMPTS in vars(found)), 0)
    callers = (found for found in ancestors[behind:] if "__call__" in vars(found) and _ATTEMPTS not in vars(found))
    first: Callable[..., Any] = vars(next(callers))["__call__"]
    return first


def _first_caller(task_class: type[Task]) -> type:
    """Return the class whose `__call__` a task of this class has."""
    return next(found for found in task_class.__mro__ if "__call__" in vars(found))


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
