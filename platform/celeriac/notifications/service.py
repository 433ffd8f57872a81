"""Reports what a program's task is doing, call by call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import (
    CeleriacError,
    InvalidSubmissionError,
    JsonError,
    PayloadTooLargeError,
    StoreUnavailableError,
    Violation,
)
from celeriac.handlers.results import encode_result, text_of
from celeriac.notifications.reporter import OnCancel, Reporter

if TYPE_CHECKING:
    from celeriac.store.notified import Heard

log = logging.getLogger(__name__)

#: At most this many registrations may have an outcome that is not known yet.
_MAX_OPEN: Final = 10_000

#: The reporter of this process, shared by all services.
shared_reporter: Final = Reporter()


class TaskNotificationService:
    """Makes a task of what a program does, so that the task's user can follow it and find it again.

    The service keeps no state of tasks: another process may continue where this one stopped. The process that
    reported about a running task last holds it. If that process is killed, the task fails as `worker_lost`. If it
    ends normally, the task may be silent for as long as the setting `notifications.silence` says.
    """

    def __init__(self, reporter: Reporter = shared_reporter) -> None:
        self._reporter = reporter
        self._registering: dict[str, concurrent.futures.Future[Heard]] = {}
        #: Ids of tasks whose end a decorator in this process reports.
        self.decorated: set[str] = set()

    def register_task(
        self,
        task_id: str,
        user_id: int | str | None = None,
        task_type: str = "task",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the task, as `pending`. If one with this id has ended, it runs again; if one goes on, nothing changes.

        Raises `TaskTakenError` if a task with this id belongs to another user and has not ended. In a running event
        loop it waits at most `notifications.register_wait` for the store; the next call about the task raises a later
        error.
        """
        future = self._register(task_id, user_id, task_type, metadata)
        wait_s = None
        try:
            asyncio.get_running_loop()
            wait_s = self._reporter.settings().notifications.register_wait
        except RuntimeError:
            pass
        try:
            future.result(wait_s)
        except concurrent.futures.TimeoutError:
            if not future.done() and len(self._registering) < _MAX_OPEN:
                self._registering[task_id] = future
                future.add_done_callback(_log_failure)
                return
            raise

    async def notify_started(self, task_id: str, *, on_cancel: OnCancel | None = None) -> None:
        """Report that the task runs in this process. If a user asks to cancel it, another thread calls `on_cancel`."""
        await self._registered(task_id)
        await answered(self._reporter.call(task_id, lambda tasks: tasks.start(task_id), on_cancel=on_cancel))

    async def notify_progress(self, task_id: str, progress: float, message: str = "", step: str = "") -> None:
        """Report progress, 0 to 100. This starts a task that waits."""
        await self._registered(task_id)
        await answered(
            self._reporter.call(task_id, lambda tasks: tasks.progress(task_id, progress, step=step, message=message))
        )

    async def notify_completed(self, task_id: str, result: Any = None) -> None:
        """End the task with a result: a value that can be written as JSON, or a Pydantic model.

        Raises `InvalidSubmissionError` or `PayloadTooLargeError` if the result cannot be stored; the task then goes on.
        """
        encoded = self._encoded(result)
        await self._registered(task_id)
        await answered(self._reporter.call(task_id, lambda tasks: tasks.complete(task_id, encoded)))

    async def notify_failed(self, task_id: str, error: BaseException | str, error_type: str | None = None) -> None:
        """End the task as failed. `error_type` defaults to the name of the exception's class."""
        await self._registered(task_id)
        code, message = describe(error, error_type)
        await answered(self._reporter.call(task_id, lambda tasks: tasks.fail(task_id, code=code, message=message)))

    async def notify_cancelled(self, task_id: str, message: str = "cancelled") -> None:
        """End the task as cancelled."""
        await self._registered(task_id)
        await answered(self._reporter.call(task_id, lambda tasks: tasks.cancel(task_id, message)))

    def close(self) -> None:
        """Release the tasks that this process holds, and disconnect. The end of the program does so too."""
        self._reporter.close()

    # --- for `notifier.py`: the work goes on, even if the store is not available

    def open(
        self,
        task_id: str,
        user_id: int | str | None,
        task_type: str,
        metadata: Mapping[str, Any] | None,
        on_cancel: OnCancel | None,
    ) -> concurrent.futures.Future[Heard]:
        """Register and start the task in one step."""
        user = None if user_id is None else str(user_id)
        return self._reporter.call(
            task_id,
            lambda tasks: tasks.open(task_id, task_type=task_type, user_id=user, metadata=metadata),
            on_cancel=on_cancel,
        )

    def report_completed(self, task_id: str, result: Any) -> concurrent.futures.Future[Heard]:
        """End the task with a result; a result that cannot be stored becomes null."""
        try:
            encoded = self._encoded(result)
        except CeleriacError as exc:
            log.warning("task %s completed, and its result could not be stored: %s", task_id, exc)
            encoded = "null"
        return self._reporter.call(task_id, lambda tasks: tasks.complete(task_id, encoded), insist=True)

    def report_failed(self, task_id: str, error: BaseException) -> concurrent.futures.Future[Heard]:
        """End the task as failed, or as cancelled if a cancellation ended it."""
        if isinstance(error, asyncio.CancelledError):
            return self._reporter.call(
                task_id, lambda tasks: tasks.cancel(task_id, "cancelled while it ran"), insist=True
            )
        code, message = describe(error)
        return self._reporter.call(task_id, lambda tasks: tasks.fail(task_id, code=code, message=message), insist=True)

    # --- shared by these methods

    def _register(
        self, task_id: str, user_id: int | str | None, task_type: str, metadata: Mapping[str, Any] | None
    ) -> concurrent.futures.Future[Heard]:
        user = None if user_id is None else str(user_id)
        return self._reporter.call(
            task_id, lambda tasks: tasks.register(task_id, task_type=task_type, user_id=user, metadata=metadata)
        )

    async def _registered(self, task_id: str) -> None:
        """Wait for a registration whose outcome is not known yet; raises its error."""
        future = self._registering.pop(task_id, None)
        if future is not None:
            await answered(future)

    def _encoded(self, result: Any) -> str:
        try:
            encoded = encode_result(result)
        except JsonError as exc:
            raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc
        limit = self._reporter.settings().max_result_bytes
        if len(encoded) > limit:
            raise PayloadTooLargeError("the result", len(encoded), limit)
        return encoded.decode()


def describe(error: BaseException | str, error_type: str | None = None) -> tuple[str, str]:
    """Return the code and the message that a record has for an error."""
    if isinstance(error, str):
        return error_type or "failed", error
    name = type(error).__name__
    return error_type or name, text_of(error) or name


async def answered(future: concurrent.futures.Future[Heard]) -> None:
    """Wait until the store has answered; raises `StoreUnavailableError` if the service was closed before that."""
    try:
        await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
        raise StoreUnavailableError("the notification service was closed before the store answered") from None


def _log_failure(future: concurrent.futures.Future[Heard]) -> None:
    if not future.cancelled() and (exc := future.exception()) is not None:
        log.warning("a task could not be registered: %s", exc)


#: The service of this process.
task_notification_service: Final = TaskNotificationService()
