"""The base classes of the app's Celery tasks: in every pool, an attempt starts with a claim and ends in the record."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry

from celeriac.errors import TaskError
from celeriac.execution.attempt import Amendment, Attempt, ThreadInterrupt
from celeriac.execution.runner import AttemptEnd
from celeriac.model import Refusal, Status
from celeriac_tasks.engine import messages
from celeriac_tasks.engine.follow_up import publish_follow_up
from celeriac_tasks.engine.runtime import Runtime, current_runtime

#: The attribute of a Celery request that holds the running attempt.
_ATTEMPT: Final = "celeriac_attempt"


class CeleriacTask(Task):
    """A Celery task with a record.

    Plain Celery tasks run as they do on stock Celery. An exception fails the task for good; `self.retry()` and
    `autoretry_for` wait in the store. If the claim is refused (a duplicate or stale message), nothing runs.
    """

    abstract = True
    Strategy = "celeriac_tasks.engine.arrivals:strategy"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one attempt. Celery's tracer calls this in the pool's process or thread."""
        request = self.request
        if request.called_directly or request.is_eager or getattr(request, _ATTEMPT, None) is not None:
            # A plain function call; a running task may also call itself.
            return super().__call__(*args, **kwargs)
        runtime = self._runtime()
        attempt = runtime.wait(runtime.runner.begin(request.id))
        if isinstance(attempt, Refusal):
            raise Ignore(f"refused: {attempt.reason}")
        attempt.by_celery = True
        setattr(request, _ATTEMPT, attempt)
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

        New `args` and `kwargs` replace those of the record. The submission fixed where and how the task runs
        (`queue`, `priority`, …), so such options raise `TypeError`.
        """
        request = self.request
        attempt: Attempt | None = getattr(request, _ATTEMPT, None)
        if attempt is None:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        if options:
            raise TypeError(f"retry() cannot change {', '.join(sorted(options))}: publish another task instead")
        claim = attempt.claim
        limit = claim.max_retries if max_retries is None else max_retries
        # A manual retry grants all attempts again, so the request's own count does not tell how many were used.
        if limit <= claim.retries:
            raise exc or MaxRetriesExceededError(f"{self.name}[{request.id}] has used up its {limit} retries")
        allowed = claim.attempts_allowed - claim.max_retries + limit
        if args is not None or kwargs is not None or allowed != claim.attempts_allowed:
            attempt.amendment = self._amendment(args, kwargs, limit, allowed)
        if countdown is None and eta is not None:
            now = datetime.now(eta.tzinfo or UTC).replace(tzinfo=eta.tzinfo)
            countdown = max((eta - now).total_seconds(), 0)
        retry = Retry(exc=exc, when=self.default_retry_delay if countdown is None else countdown)
        if throw:
            raise retry
        return retry

    def replace(self, sig: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise `NotImplementedError`: Celery would run another task under an id that already has a record."""
        raise NotImplementedError(f"replace() is not supported: publish {sig.task} as a separate task")

    def _amendment(self, args: Any, kwargs: Any, limit: int, allowed: int) -> Amendment:
        request = self.request
        args = request.args if args is None else args
        kwargs = request.kwargs if kwargs is None else kwargs
        embed = {name: getattr(request, name, None) for name in ("callbacks", "errbacks", "chain", "chord")}
        return Amendment(
            messages.plain_payload(args or (), kwargs or {}),
            messages.encoded_body(args or (), kwargs or {}, embed),
            limit,
            allowed,
        )

    def _runtime(self) -> Runtime:
        return current_runtime(self.app, worker_id=str(self.request.hostname))

    def _run_attempt(self, runtime: Runtime, attempt: Attempt, args: Any, kwargs: Any) -> AttemptEnd:
        interrupt = ThreadInterrupt()
        runner = runtime.runner
        if attempt.claim.timeout_ms is not None:
            runtime.loop.call_soon_threadsafe(attempt.state.limit, attempt.claim.timeout_ms / 1000)
        try:
            with attempt.interruptible(interrupt), interrupt:
                value = self.run(*args, **kwargs)
            publish_follow_up(self.app, self.request, value)
        except asyncio.CancelledError:
            return runtime.wait(runner.stopped(attempt, retry=False))
        except Retry as exc:
            error = TaskError(str(exc.exc or exc), code="retry")
            raised = exc.exc if isinstance(exc.exc, BaseException) else None
            return runtime.wait(runner.fail(attempt, error, delay_s=_seconds(exc.when), raised=raised))
        except Reject as exc:
            return runtime.wait(runner.give_back(attempt) if exc.requeue else runner.fail_for_good(attempt, exc))
        except Ignore:
            value = None
        except BaseException as exc:  # even a SystemExit ends only this task, not the worker
            return runtime.wait(runner.fail_for_good(attempt, exc))
        return runtime.wait(runner.succeed(attempt, value, keep=False))

    def _answer(self, outcome: AttemptEnd) -> Any:
        if outcome.status is Status.COMPLETED:
            return outcome.value
        if outcome.status is Status.RETRYING:
            raise Retry(exc=outcome.error)
        if outcome.status is Status.FAILED and outcome.error is not None:
            raise outcome.error
        raise Ignore(outcome.note or "cancelled")


class RegisteredTask(CeleriacTask):
    """A registered task type as Celery sees it. Other pools call it; our own pool goes straight to the runner."""

    abstract = True

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler directly (eager mode, unit tests)."""
        return self.app.celeriac_registry.get(self.name)(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one attempt through the runner."""
        request = self.request
        if request.called_directly or request.is_eager:
            return self.run(*args, **kwargs)
        runtime = self._runtime()
        follow_up = partial(publish_follow_up, self.app, request)
        return self._answer(runtime.wait(runtime.runner.run(request.id, follow_up)))


def _seconds(when: Any) -> float | None:
    return float(when) if isinstance(when, int | float) else None
