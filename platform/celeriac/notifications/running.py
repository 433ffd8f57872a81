"""Bracket the work: a decorator for a function, a context manager for its steps.

Both hold the task while the work goes on. A store that is away delays what users see, and never the
work: what could not be told is logged, and the end is told when the store is back.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from celeriac.errors import CeleriacError, TaskTakenError
from celeriac.notifications.service import TaskNotificationService, heard, task_notification_service

if TYPE_CHECKING:
    from celeriac.store.notified import Heard

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def task_notifier(
    task_id: str | Callable[..., str] | None = None,
    user_id: int | str | Callable[..., int | str | None] | None = None,
    task_type: str = "task",
    metadata: Mapping[str, Any] | None = None,
    *,
    service: TaskNotificationService = task_notification_service,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Make each call of an async function a task: started, then completed with what it returns, or failed.

    `task_id` and `user_id` may be functions of the call's arguments. Without a `task_id` each call has a
    new one. An exception goes on to the caller. Somebody who cancels the task cancels the call.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError("task_notifier decorates async functions; in others use task_notification_service")

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            chosen_id = task_id(*args, **kwargs) if callable(task_id) else task_id or uuid.uuid4().hex
            chosen_user = user_id(*args, **kwargs) if callable(user_id) else user_id
            await _tell(chosen_id, service.open(chosen_id, chosen_user, task_type, metadata, _cancel_of_this_call()))
            service.decorated.add(chosen_id)
            try:
                result = await function(*args, **kwargs)
            except BaseException as exc:
                await _tell_end(chosen_id, service.tell_failed(chosen_id, exc))
                raise
            finally:
                service.decorated.discard(chosen_id)
            await _tell_end(chosen_id, service.tell_completed(chosen_id, result))
            return result

        return run

    return decorate


class TaskProgressContext:
    """Counts the steps of a task: `async with TaskProgressContext(task_id, total_steps=10) as progress`.

    Registers the id if nobody has. A clean exit completes the task with `result`, which may be set inside;
    an exception fails it, and goes on. Inside a `task_notifier` of the same id the end is the decorator's.
    """

    def __init__(
        self,
        task_id: str,
        total_steps: int,
        *,
        user_id: int | str | None = None,
        task_type: str = "task",
        metadata: Mapping[str, Any] | None = None,
        service: TaskNotificationService = task_notification_service,
    ) -> None:
        if total_steps < 1:
            raise ValueError("total_steps must be at least 1")
        self.task_id = task_id
        self.total_steps = total_steps
        #: Steps done so far.
        self.current_step = 0
        #: What the task completes with.
        self.result: Any = None
        #: Whether somebody asked to cancel the task; stopping is up to the code inside.
        self.cancelled = False
        self._user_id = user_id
        self._task_type = task_type
        self._metadata = metadata
        self._service = service

    async def __aenter__(self) -> Self:
        def asked_to_cancel() -> None:
            self.cancelled = True

        opened = self._service.open(self.task_id, self._user_id, self._task_type, self._metadata, asked_to_cancel)
        await _tell(self.task_id, opened)
        return self

    async def increment(self, message: str = "", steps: int = 1) -> None:
        """Count a step as done (or several); `message` says which it was."""
        self.current_step = min(max(self.current_step + steps, 0), self.total_steps)
        step = f"Step {self.current_step}/{self.total_steps}"
        percentage = 100 * self.current_step / self.total_steps
        try:
            await self._service.notify_progress(self.task_id, round(percentage, 2), message=message, step=step)
        except CeleriacError as exc:
            log.warning("task %s: a step could not be told: %s", self.task_id, exc)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.task_id in self._service.decorated:
            return
        if error is not None:
            await _tell_end(self.task_id, self._service.tell_failed(self.task_id, error))
        else:
            await _tell_end(self.task_id, self._service.tell_completed(self.task_id, self.result))


def _cancel_of_this_call() -> Callable[[], None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    return lambda: _in_loop(loop, task.cancel)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        log.debug("a task's loop has ended before it could be cancelled")


async def _tell(task_id: str, future: concurrent.futures.Future[Heard]) -> None:
    try:
        await heard(future)
    except TaskTakenError:
        raise
    except CeleriacError as exc:
        log.warning("task %s cannot be followed: %s", task_id, exc)


async def _tell_end(task_id: str, future: concurrent.futures.Future[Heard]) -> None:
    """Wait for the end to be heard for a while; it is told in any case while this process lives."""
    try:
        async with asyncio.timeout(_END_WAIT_S):
            await asyncio.shield(heard(future))
    except TimeoutError:
        log.warning("task %s: its end will be told when the store is back", task_id)
    except CeleriacError as exc:
        log.warning("task %s: its end could not be told: %s", task_id, exc)


#: How long the caller of something that has ended waits until that is heard (seconds).
_END_WAIT_S = 3.0
