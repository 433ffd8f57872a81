"""Celery tasks that are coroutine functions: their bodies run on the event loop of the runtime, in every pool.

Celery's tracer is not asynchronous, so it waits meanwhile: in a slot of the pool, or in our pool in a greenlet.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as CancelledFutureError
from contextlib import AbstractContextManager
from inspect import iscoroutinefunction, unwrap
from typing import Any, Final

from celery import Task
from celery._state import _task_stack
from celery.app.autoretry import add_autoretry_behaviour
from celery.exceptions import SoftTimeLimitExceeded

from celeriac.execution.attempt import Attempt
from celeriac.execution.attempt_state import StopReason
from celeriac.execution.runner import counts_as_handler
from celeriac.threads.os_threads import OsThread, wait_for
from celeriac_tasks.engine.runtime import Runtime

#: The task that runs in this context, with its request: also for what it has started, such as `asyncio.gather`.
RUNNING: Final[contextvars.ContextVar[tuple[Any, Any] | None]] = contextvars.ContextVar("celeriac_task", default=None)


def is_coroutine_task(task: Task) -> bool:
    """Whether the body of a task is a coroutine function."""
    return iscoroutinefunction(unwrap(getattr(task, "_orig_run", task.run)))


class Body:
    """The body of one attempt, a coroutine, on the runtime's loop; any thread may interrupt it."""

    def __init__(self, task: Task, attempt: Attempt, work: Coroutine[Any, Any, Any], runtime: Runtime) -> None:
        self._task = task
        self._request = task.request
        self._attempt = attempt
        self._work = work
        self._runtime = runtime
        self._running: asyncio.Task[Any] | None = None
        self._wanted = False
        self._warning: type[Exception] | None = None

    def result(self, softly_limited: Callable[[Body], AbstractContextManager[None]]) -> Any:
        """Run it, while this thread waits; returns or raises what it does."""
        with self._attempt.interruptible(self), softly_limited(self):
            ending = self._runtime.spawn(self._run())
            while True:
                try:
                    wait_for(ending)
                    break
                except SoftTimeLimitExceeded as exc:
                    # The prefork pool tells its process's main thread, which is this one.
                    self.warn(type(exc))
                except BaseException:
                    self()
                    raise
        try:
            value, error = ending.result()
        except CancelledFutureError:
            raise asyncio.CancelledError from None
        if error is not None:
            raise _retry_of(self._task, error)
        return value

    def __call__(self) -> None:
        """Cancel it, or prevent its start."""
        self._runtime.loop.call_soon_threadsafe(self._cancel)

    def warn(self, exception: type[Exception]) -> None:
        """Raise an exception where it waits; it may catch it and go on."""
        self._runtime.loop.call_soon_threadsafe(self._warn, exception)

    # An exception is returned: a SystemExit would end the event loop, and a StopIteration cannot pass through a future.

    async def _run(self) -> tuple[Any, BaseException | None]:
        running = self._running = asyncio.current_task()
        assert running is not None
        attempt = self._attempt
        attempt.lost.on_the_loop()
        RUNNING.set((self._task, self._request))
        steps = _Steps(self._work, self._task, self._request, self._warned)
        try:
            if self._wanted:
                self._work.close()
                raise asyncio.CancelledError
            value = await steps
        except BaseException as exc:
            return None, exc
        finally:
            self._running = None
            while running.cancelling():
                running.uncancel()
        if attempt.lost.own_s and attempt.overdue_s > 0 and attempt.state.stop(StopReason.TIMEOUT):
            # It blocked the loop past its own time limit, so the limit could not stop it.
            return None, asyncio.CancelledError()
        return value, None

    def _cancel(self) -> None:
        self._wanted = True
        if self._running is not None:
            self._running.cancel()

    def _warn(self, exception: type[Exception]) -> None:
        if self._running is not None and not self._wanted:
            self._warning = exception
            self._running.cancel()

    def _warned(self) -> BaseException | None:
        """Return what to raise instead of a `CancelledError` that was only the way to wake it."""
        warning, self._warning = self._warning, None
        if warning is None or self._wanted or self._running is None:
            return None
        self._running.uncancel()
        return warning()


counts_as_handler(Body._run)


class _Steps:
    """Runs each step of a coroutine with its task and request as the current ones, as Celery's tracer does it."""

    def __init__(
        self,
        work: Coroutine[Any, Any, Any],
        task: Task,
        request: Any,
        instead_of_cancelled: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        self._work = work
        self._task = task
        self._request = request
        self._instead_of_cancelled = instead_of_cancelled

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self._step(self._work.send, None)

    def send(self, value: Any) -> Any:
        """Go on with a value."""
        return self._step(self._work.send, value)

    def throw(self, error: Any, *more: Any) -> Any:
        """Go on with an exception."""
        raised = more[0] if more and more[0] is not None else error
        if isinstance(raised, asyncio.CancelledError) or raised is asyncio.CancelledError:
            raised = self._instead_of_cancelled() or raised
        return self._step(self._work.throw, raised)

    def close(self) -> None:
        """End it."""
        self._step(self._work.close)

    def _step(self, call: Callable[..., Any], *arguments: Any) -> Any:
        requests = self._task.request_stack
        _task_stack.push(self._task)
        requests.push(self._request)
        try:
            return call(*arguments)
        finally:
            requests.pop()
            _task_stack.pop()


def run_eagerly(task: Task, work: Coroutine[Any, Any, Any]) -> Any:
    """Run the body of a task that `apply()` calls, on a loop of its own; returns or raises what it does."""
    request = task.request

    async def run() -> Any:
        RUNNING.set((task, request))
        return await _Steps(work, task, request)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        context = contextvars.copy_context()
        outcome = context.run(_outcome, run)
    else:
        # The caller is asynchronous itself, and its loop cannot run another one.
        outcome = _outcome_in_thread(run)
    value, error = outcome
    if error is not None:
        raise _retry_of(task, error)
    return value


def _outcome(run: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, BaseException | None]:
    try:
        return asyncio.run(run()), None
    except BaseException as exc:
        return None, exc


def _outcome_in_thread(run: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, BaseException | None]:
    outcomes: list[tuple[Any, BaseException | None]] = []
    context = contextvars.copy_context()
    thread = OsThread(lambda: outcomes.append(context.run(_outcome, run)), name="eager-task")
    thread.start()
    thread.join(None)
    return outcomes[0]


def _retry_of(task: Task, error: BaseException) -> BaseException:
    """Return what Celery's `autoretry_for` makes of an exception. Its wrapper sees only that a coroutine is made."""
    if not hasattr(task, "_orig_run"):
        return error
    stand_in: Any = _Raising(task, error)
    add_autoretry_behaviour(stand_in)
    try:
        stand_in.run()
    except BaseException as exc:
        return exc
    return error


class _Raising:
    """A task as `add_autoretry_behaviour` sees it, whose body raises an exception."""

    def __init__(self, task: Task, error: BaseException) -> None:
        self._task = task
        self._error = error

    def run(self) -> None:
        """Raise it."""
        raise self._error

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_run":
            raise AttributeError(name)
        return getattr(self._task, name)
