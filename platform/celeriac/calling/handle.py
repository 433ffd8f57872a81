"""A task that was submitted, as the program that submitted it sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from celeriac.calling.access import Ended, TaskAccess
from celeriac.calling.blocking import awaited, awaited_each, block_on, block_on_each, on_running_loop
from celeriac.calling.options import Payload
from celeriac.errors import TaskCancelledError, TaskFailedError
from celeriac.model import LogLine, Outcome, Progress, Status, Task

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

#: Makes a value of the type that a task returns of the JSON in its outcome.
ReadResult = Callable[[Outcome], R]


def result_of(outcome: Outcome) -> Any:
    """Return the result of an ended task; raises `TaskFailedError` or `TaskCancelledError`."""
    error = outcome.error
    message = "" if error is None else error.message
    if outcome.status is Status.CANCELLED:
        raise TaskCancelledError(outcome.task_id, message)
    if outcome.status is Status.FAILED:
        raise TaskFailedError(outcome.task_id, "unknown" if error is None else error.code, message)
    return outcome.result


class AsyncTaskHandle(Generic[R_co]):
    """A task that was submitted, for the event loop of its client. `status` is what the last answer about it said."""

    def __init__(
        self, access: TaskAccess, task_id: str, status: Status, read_result: ReadResult[R_co] = result_of
    ) -> None:
        self._access = access
        self._read_result = read_result
        self.id: str = task_id
        self.status = status

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status.wire}>"

    async def record(self) -> Task:
        """Return the record as it is now; raises `TaskNotFoundError`."""
        return self._seen(await self._access.get(self.id))

    async def wait(self, timeout: float | None = None) -> Task:
        """Return the record once the task has ended, however it ended.

        Raises `WaitTimeoutError` after `timeout` seconds. A server that is not available is waited for until then only.
        """
        return self._seen(await self._access.ended(self.id, timeout))

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait, and return what the task returned, as the type that the function of a typed submission names.

        Raises `TaskFailedError`, `TaskCancelledError`, `WaitTimeoutError` after `timeout` seconds, and
        `InvalidResultError` if the result does not have that type.
        """
        outcome = await self._access.outcome(self.id, timeout)
        self.status = outcome.status
        return self._read_result(outcome)

    async def cancel(self) -> Status:
        """Cancel the task; returns its status now: a task that runs is still processing, and ends shortly after.

        Cancelling twice has the effect of cancelling once. Raises `IllegalTransitionError` if the task has
        completed or failed.
        """
        self.status = await self._access.cancel(self.id)
        return self.status

    async def retry(self, payload: Payload | None = None) -> Status:
        """Run the failed or cancelled task again, with another payload if one is given; returns its status now.

        Raises `IllegalTransitionError`, `InvalidSubmissionError`, `QueueFullError`.
        """
        self.status = await self._access.retry(self.id, payload)
        return self.status

    async def progress(self) -> AsyncGenerator[Progress]:
        """Iterate over the task's reports from the first on, live, until it has ended.

        A connection that breaks is made again; no report is lost or repeated.
        """
        async with aclosing(self._access.follow(self.id)) as items:
            async for item in items:
                if isinstance(item, Ended):
                    self.status = item.status
                else:
                    yield item

    def log(self, level: str = "debug") -> AsyncGenerator[LogLine]:
        """Iterate over the lines that the task has logged by now, from `level` on (`debug` is all); pages are read as
        they are needed. The reason why an attempt failed is a line too, with the traceback in `data["traceback"]`.

        Raises `TaskNotFoundError`.
        """
        return self._access.log(self.id, level)

    def _seen(self, task: Task) -> Task:
        self.status = task.status
        return task


class TaskHandle(Generic[R_co]):
    """A task that was submitted, for any thread and any event loop.

    Each method has a twin to be awaited, whose name begins with `a` (`await_done` for `wait`). The methods block. On a
    running event loop they raise `BlockingCallError`, which names the twin; in Jupyter and IPython they work.
    """

    def __init__(self, task: AsyncTaskHandle[R_co]) -> None:
        self._task = task

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._task.status.wire}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def status(self) -> Status:
        """The status now. On a running event loop it is what the last answer said; `astatus` asks anew."""
        if not self._task.status.final and not on_running_loop():
            self.record()
        return self._task.status

    async def astatus(self) -> Status:
        """Return the status now."""
        if not self._task.status.final:
            await self.arecord()
        return self._task.status

    def record(self) -> Task:
        """Return the record as it is now; raises `TaskNotFoundError`."""
        return self._block(self._task.record(), "record", "arecord")

    async def arecord(self) -> Task:
        """Do the same as `record`, for asyncio."""
        return await awaited(self._task.record())

    def wait(self, timeout: float | None = None) -> Task:
        """Return the record once the task has ended, however it ended.

        Raises `WaitTimeoutError` after `timeout` seconds. A server that is not available is waited for until then only.
        """
        return self._block(self._task.wait(timeout), "wait", "await_done")

    async def await_done(self, timeout: float | None = None) -> Task:
        """Do the same as `wait`, for asyncio."""
        return await awaited(self._task.wait(timeout))

    def result(self, timeout: float | None = None) -> R_co:
        """Wait, and return what the task returned, as the type that the function of a typed submission names.

        Raises `TaskFailedError`, `TaskCancelledError`, `WaitTimeoutError` after `timeout` seconds, and
        `InvalidResultError` if the result does not have that type.
        """
        return self._block(self._task.result(timeout), "result", "aresult")

    async def aresult(self, timeout: float | None = None) -> R_co:
        """Do the same as `result`, for asyncio."""
        return await awaited(self._task.result(timeout))

    def cancel(self) -> Status:
        """Cancel the task; returns its status now: a task that runs is still processing, and ends shortly after.

        Cancelling twice has the effect of cancelling once. Raises `IllegalTransitionError` if the task has
        completed or failed.
        """
        return self._block(self._task.cancel(), "cancel", "acancel")

    async def acancel(self) -> Status:
        """Do the same as `cancel`, for asyncio."""
        return await awaited(self._task.cancel())

    def retry(self, payload: Payload | None = None) -> Status:
        """Run the failed or cancelled task again, with another payload if one is given; returns its status now.

        Raises `IllegalTransitionError`, `InvalidSubmissionError`, `QueueFullError`.
        """
        return self._block(self._task.retry(payload), "retry", "aretry")

    async def aretry(self, payload: Payload | None = None) -> Status:
        """Do the same as `retry`, for asyncio."""
        return await awaited(self._task.retry(payload))

    def progress(self) -> Iterator[Progress]:
        """Iterate over the task's reports from the first on, live, until it has ended.

        A connection that breaks is made again; no report is lost or repeated.
        """
        return block_on_each(self._task.progress(), call="progress()", instead="async for … in aprogress()")

    def aprogress(self) -> AsyncIterator[Progress]:
        """Do the same as `progress`, for asyncio."""
        return awaited_each(self._task.progress())

    def log(self, level: str = "debug") -> Iterator[LogLine]:
        """Iterate over the lines that the task has logged by now, from `level` on (`debug` is all); pages are read as
        they are needed. The reason why an attempt failed is a line too, with the traceback in `data["traceback"]`.

        Raises `TaskNotFoundError`.
        """
        return block_on_each(self._task.log(level), call="log()", instead="async for … in alog()")

    def alog(self, level: str = "debug") -> AsyncIterator[LogLine]:
        """Do the same as `log`, for asyncio."""
        return awaited_each(self._task.log(level))

    def _block(self, work: Coroutine[Any, Any, T], call: str, twin: str) -> T:
        return block_on(work, call=f"{call}()", instead=f"await {twin}()")
