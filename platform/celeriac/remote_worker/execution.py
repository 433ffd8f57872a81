"""One run of the handler, and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from celeriac.errors import TaskError
from celeriac.handlers.rate_limited import rate_limited_by
from celeriac.handlers.tracebacks import traceback_text
from celeriac.model import Failure, Status
from celeriac.remote_worker import messages
from celeriac.remote_worker.outbox import Outbox, Result
from celeriac.remote_worker.task import RemoteTask, WaitsForSignal
from celeriac.terminal.task_end import TaskEnd, error_text

if TYPE_CHECKING:
    from celeriac.remote_worker.connection import Connection

#: A coroutine function, or a plain function, which runs in a thread of its own.
Handler = Callable[[RemoteTask], Any]


class Execution:
    """Runs the handler once. `outbox` is that of the task's connection, None while there is no connection."""

    def __init__(
        self,
        message: Mapping[str, Any],
        handler: Handler,
        *,
        outbox: Outbox,
        limit: int,
        done: Callable[[Execution], None],
    ) -> None:
        self.outbox: Outbox | None = outbox
        self.task = RemoteTask(message, self)
        self.answer: Result | None = None
        #: How it ended, for the terminal; None until then.
        self.end: TaskEnd | None = None
        #: The connection and the message that gave the task again before its cancelled run had stopped.
        self.following: tuple[Connection, dict[str, Any]] | None = None
        self._handler = handler
        self._limit = limit
        self._done = done
        self._began = time.monotonic()
        self._left_out = 0
        self._in_thread = not _is_async(handler)
        self._begun = False
        self._running = asyncio.create_task(self._run(), name=f"remote-task-{self.task.id}")

    def stop(self, reason: str) -> None:
        """Ask the handler to stop. An `async` handler is cancelled; a plain one must check `task.cancelled`."""
        if self.task.cancelled:
            return
        self.task.stop(reason)
        # A coroutine that is cancelled before its first step would not run at all, and could not send an answer.
        if self._begun and not self._in_thread:
            self._running.cancel()

    async def abandon(self) -> None:
        """Stop waiting for the handler. A thread that does not check `cancelled` goes on until the process ends."""
        self.task.stop("shutdown")
        if self._begun:
            self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def send_progress(self, task_id: str, percentage: float, message: str, stage: str) -> None:
        """Queue a report, if there is a connection."""
        if self.outbox is not None and self.answer is None:
            self.outbox.put_progress(task_id, messages.progress(task_id, percentage, message, stage))

    async def send_delta(self, task_id: str, content: str) -> None:
        """Queue a partial result after the reports before it, if there is a connection."""
        if self.outbox is not None and self.answer is None:
            await self.outbox.put_delta(messages.delta(task_id, content))

    def send_log(self, task_id: str, level: str, message: str, data: Mapping[str, Any]) -> None:
        """Queue a line of the task's log, if there is a connection and room; a later line counts those left out."""
        if self.outbox is None or self.answer is not None:
            return
        if self._left_out:
            text = f"{self._left_out} lines were left out: they came faster than the connection took them"
            if self.outbox.put_line(messages.log(task_id, "warning", text, {})):
                self._left_out = 0
        if self._left_out or not self.outbox.put_line(messages.log(task_id, level, message, data)):
            self._left_out += 1

    async def _run(self) -> None:
        task_id, ok = self.task.id, False
        self._begun = True
        try:
            self.task.raise_if_cancelled()
            result = await (self._in_a_thread() if self._in_thread else self._handler(self.task))
            text = messages.complete(task_id, result, self._duration_ms(), limit=self._limit)
            ok = True
            self._ended(Status.COMPLETED)
        except WaitsForSignal as exc:
            # Not to be kept as an answer: a task that is given again looks at its signals anew.
            text = self._waiting(exc)
        except asyncio.CancelledError as exc:
            if self.task.cancelled:
                text = messages.cancelled(task_id, self._duration_ms())
                self._ended(Status.CANCELLED)
            else:
                text = messages.failed(task_id, exc, self._duration_ms())
                self._ended(Status.RETRYING, exc)
        except Exception as exc:
            text = self._failed(exc)
        self.task.flush()
        self.answer = Result(task_id, text, ok)
        self._done(self)

    def _failed(self, error: Exception) -> str:
        """Return the answer of a handler that raised this."""
        if (told := rate_limited_by(error)) is not None:
            # The server writes it into the task's log.
            self._ended(Status.PENDING, told)
            return messages.failed(self.task.id, told, self._duration_ms())
        self._ended(Status.RETRYING if messages.may_run_again(error) else Status.FAILED, error)
        # A `TaskError` is raised on purpose, so that the log needs no traceback.
        trace = {} if isinstance(error, TaskError) else {"traceback": traceback_text(error)}
        self.send_log(self.task.id, "warning", "attempt failed", {"error": str(error), **trace})
        return messages.failed(self.task.id, error, self._duration_ms())

    def _waiting(self, wait: WaitsForSignal) -> str:
        try:
            return messages.wait(self.task.id, wait.signal, wait.timeout_s, wait.schema, wait.title)
        except TaskError as exc:
            self._ended(Status.FAILED, exc)
            return messages.failed(self.task.id, exc, self._duration_ms())

    async def _in_a_thread(self) -> Any:
        """Run the handler in a daemon thread: a thread of a pool would keep the process alive."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):
                future.set_exception(RuntimeError("the handler raised StopIteration"))
            else:
                future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(self._handler, self.task)
            except BaseException as exc:
                error = exc
            with contextlib.suppress(RuntimeError):  # the loop has ended, so nothing waits for the result
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=work, name=f"remote-task-{self.task.id}", daemon=True).start()
        result = await future
        return await result if isinstance(result, Awaitable) else result

    def _ended(self, status: Status, error: BaseException | None = None) -> None:
        """Note how the attempt ended. The server decides whether a task that failed runs again."""
        said = "" if error is None else error_text(Failure("exception", messages.error_text(error), retryable=True))
        took_s = time.monotonic() - self._began
        self.end = TaskEnd("", "remote", self.task.id, status, took_s, error=said, again_s=None)

    def _duration_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
