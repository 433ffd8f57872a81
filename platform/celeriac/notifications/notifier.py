"""Report a piece of work as a task: a decorator for a function, a context manager for its steps.

Both hold the task while the work goes on. A store that is not available delays what users see, but never the
work: a report that fails is logged, and the end of the task is reported when the store is available again.
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
from celeriac.notifications.service import TaskNotificationService, answered, task_notification_service

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
    """Make each call of an async function a task. It starts with the call and ends with its result or exception.

    `task_id` and `user_id` may be functions of the call's arguments. Without a `task_id` each call gets a new id.
    An exception fails the task and is raised to the caller. A user who cancels the task cancels the call.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"task_notifier decorates async functions, and {function!r} is not one: use task_notification_service"
            )

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            chosen_id = task_id(*args, **kwargs) if callable(task_id) else task_id or uuid.uuid4().hex
            chosen_user = user_id(*args, **kwargs) if callable(user_id) else user_id
            await _report_start(
                chosen_id, service.open(chosen_id, chosen_user, task_type, metadata, _cancel_of_this_call())
            )
            service.decorated.add(chosen_id)
            try:
                result = await function(*args, **kwargs)
            except BaseException as exc:
                await _report_end(chosen_id, service.report_failed(chosen_id, exc))
                raise
            finally:
                service.decorated.discard(chosen_id)
            await _report_end(chosen_id, service.report_completed(chosen_id, result))
            return result

        return run

    return decorate


class TaskProgressContext:
    """Counts the steps of a task: `async with TaskProgressContext(task_id, total_steps=10) as progress`.

    Registers the task if it is not registered yet. When the block ends, the task completes with `result`, which the
    block may set; an exception fails the task and is raised. Inside a function decorated by `task_notifier` with the
    same id, the decorator reports the end.
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
            raise ValueError(f"total_steps must be at least 1, not {total_steps}")
        self.task_id = task_id
        self.total_steps = total_steps
        #: Steps done so far.
        self.current_step = 0
        #: What the task completes with.
        self.result: Any = None
        #: Whether a user asked to cancel the task. The block decides when to stop.
        self.cancelled = False
        self._user_id = user_id
        self._task_type = task_type
        self._metadata = metadata
        self._service = service

    async def __aenter__(self) -> Self:
        def asked_to_cancel() -> None:
            self.cancelled = True

        opened = self._service.open(self.task_id, self._user_id, self._task_type, self._metadata, asked_to_cancel)
        await _report_start(self.task_id, opened)
        return self

    async def increment(self, message: str = "", steps: int = 1) -> None:
        """Count one step or several as done; `message` describes them."""
        self.current_step = min(max(self.current_step + steps, 0), self.total_steps)
        step = f"Step {self.current_step}/{self.total_steps}"
        percentage = 100 * self.current_step / self.total_steps
        try:
            await self._service.notify_progress(self.task_id, round(percentage, 2), message=message, step=step)
        except CeleriacError as exc:
            log.warning("a step of task %s could not be reported: %s", self.task_id, exc)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.task_id in self._service.decorated:
            return
        if error is not None:
            await _report_end(self.task_id, self._service.report_failed(self.task_id, error))
        else:
            await _report_end(self.task_id, self._service.report_completed(self.task_id, self.result))


def _cancel_of_this_call() -> Callable[[], None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    return lambda: _in_loop(loop, task.cancel)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        log.debug("the event loop of a task ended before the task could be cancelled")


async def _report_start(task_id: str, future: concurrent.futures.Future[Heard]) -> None:
    try:
        await answered(future)
    except TaskTakenError:
        raise
    except CeleriacError as exc:
        log.warning("the start of task %s could not be reported: %s", task_id, exc)


async def _report_end(task_id: str, future: concurrent.futures.Future[Heard]) -> None:
    """Wait a moment until the end is reported. It is reported later if that takes longer, while this process lives."""
    try:
        async with asyncio.timeout(_END_WAIT_S):
            await asyncio.shield(answered(future))
    except TimeoutError:
        log.warning("the end of task %s will be reported when the store is available again", task_id)
    except CeleriacError as exc:
        log.warning("the end of task %s could not be reported: %s", task_id, exc)


#: How long work that has ended waits until its end is reported (seconds).
_END_WAIT_S = 3.0
