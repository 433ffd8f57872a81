"""Say what a task is doing, call by call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celeriac.errors import (
    CeleriacError,
    InvalidSubmissionError,
    PayloadTooLargeError,
    StoreUnavailableError,
    Violation,
)
from celeriac.handlers.results import encode_result, text_of
from celeriac.notifications.line import NotificationLine, OnCancel

if TYPE_CHECKING:
    from celeriac.store.notified import Heard

log = logging.getLogger(__name__)

#: Registrations whose outcome is not known yet, at most.
_MAX_OPEN: Final = 10_000

#: The connection of this process, shared by all services.
shared_line: Final = NotificationLine()


class TaskNotificationService:
    """Makes a task of what a program does, so that its user can watch it and find it again.

    Nothing is kept here: another process may go on where this one left off. The process that spoke of
    a running task last holds it; if it is killed, the task fails as `worker_lost`, if it ends in good
    order, the task may be silent for the setting `notifications.silence`.
    """

    def __init__(self, line: NotificationLine = shared_line) -> None:
        self._line = line
        self._registering: dict[str, concurrent.futures.Future[Heard]] = {}
        #: Ids whose end a decorator of this process tells.
        self.decorated: set[str] = set()

    def register_task(
        self,
        task_id: str,
        user_id: int | str | None = None,
        task_type: str = "task",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the task, as `pending`. One of this id that has ended gets a new run; one that goes on is left as it is.

        Raises `TaskTakenError` where another user's task of this id goes on. In a running event loop it waits for
        the store no longer than `notifications.register_wait`; what goes wrong later is raised by the next call.
        """
        future = self._register(task_id, user_id, task_type, metadata)
        wait_s = None
        try:
            asyncio.get_running_loop()
            wait_s = self._line.settings().notifications.register_wait
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
        """Say that it runs, here. `on_cancel` is called, in another thread, when somebody asks to cancel it."""
        await self._registered(task_id)
        await heard(self._line.call(task_id, lambda tasks: tasks.start(task_id), on_cancel=on_cancel))

    async def notify_progress(self, task_id: str, progress: float, message: str = "", step: str = "") -> None:
        """Say how far it is: `progress` is 0 to 100. A task that waits is started by this."""
        await self._registered(task_id)
        await heard(
            self._line.call(task_id, lambda tasks: tasks.progress(task_id, progress, step=step, message=message))
        )

    async def notify_completed(self, task_id: str, result: Any = None) -> None:
        """End it with a result, anything that JSON or Pydantic can write.

        Raises `InvalidSubmissionError` or `PayloadTooLargeError` where it cannot be kept; the task then goes on.
        """
        encoded = self._encoded(result)
        await self._registered(task_id)
        await heard(self._line.call(task_id, lambda tasks: tasks.complete(task_id, encoded)))

    async def notify_failed(self, task_id: str, error: BaseException | str, error_type: str | None = None) -> None:
        """End it as failed; `error_type` is the exception's class unless given."""
        await self._registered(task_id)
        code, message = describe(error, error_type)
        await heard(self._line.call(task_id, lambda tasks: tasks.fail(task_id, code=code, message=message)))

    async def notify_cancelled(self, task_id: str, message: str = "cancelled") -> None:
        """End it as cancelled."""
        await self._registered(task_id)
        await heard(self._line.call(task_id, lambda tasks: tasks.cancel(task_id, message)))

    def close(self) -> None:
        """Let go of what this process holds, and disconnect; programs that end do so by themselves."""
        self._line.close()

    # --- for the ways that bracket the work (`running.py`): trouble with the store must not stop it

    def open(
        self,
        task_id: str,
        user_id: int | str | None,
        task_type: str,
        metadata: Mapping[str, Any] | None,
        on_cancel: OnCancel | None,
    ) -> concurrent.futures.Future[Heard]:
        """Register and start in one step."""
        user = None if user_id is None else str(user_id)
        return self._line.call(
            task_id,
            lambda tasks: tasks.open(task_id, task_type=task_type, user_id=user, metadata=metadata),
            on_cancel=on_cancel,
        )

    def tell_completed(self, task_id: str, result: Any) -> concurrent.futures.Future[Heard]:
        """End it with a result; one that cannot be kept is left out."""
        try:
            encoded = self._encoded(result)
        except CeleriacError as exc:
            log.warning("task %s completed, and its result is left out: %s", task_id, exc)
            encoded = "null"
        return self._line.call(task_id, lambda tasks: tasks.complete(task_id, encoded), insist=True)

    def tell_failed(self, task_id: str, error: BaseException) -> concurrent.futures.Future[Heard]:
        """End it as failed, or as cancelled where that is what ended it."""
        if isinstance(error, asyncio.CancelledError):
            return self._line.call(task_id, lambda tasks: tasks.cancel(task_id, "cancelled while it ran"), insist=True)
        code, message = describe(error)
        return self._line.call(task_id, lambda tasks: tasks.fail(task_id, code=code, message=message), insist=True)

    # --- parts

    def _register(
        self, task_id: str, user_id: int | str | None, task_type: str, metadata: Mapping[str, Any] | None
    ) -> concurrent.futures.Future[Heard]:
        user = None if user_id is None else str(user_id)
        return self._line.call(
            task_id, lambda tasks: tasks.register(task_id, task_type=task_type, user_id=user, metadata=metadata)
        )

    async def _registered(self, task_id: str) -> None:
        """Wait for a registration that is still on its way; raises what went wrong with it."""
        future = self._registering.pop(task_id, None)
        if future is not None:
            await heard(future)

    def _encoded(self, result: Any) -> str:
        try:
            encoded = encode_result(result)
        except Exception as exc:  # also of a serializer that somebody wrote
            raise InvalidSubmissionError(
                [Violation("result", f"cannot be written as JSON: {text_of(exc) or type(exc).__name__}")]
            ) from exc
        limit = self._line.settings().max_result_bytes
        if len(encoded) > limit:
            raise PayloadTooLargeError("the result", len(encoded), limit)
        return encoded.decode()


def describe(error: BaseException | str, error_type: str | None = None) -> tuple[str, str]:
    """Return what a record says of an error: its type and its text."""
    if isinstance(error, str):
        return error_type or "failed", error
    name = type(error).__name__
    return error_type or name, text_of(error) or name


async def heard(future: concurrent.futures.Future[Heard]) -> None:
    """Wait until the store has heard; raises `StoreUnavailableError` if the service was closed before that."""
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
