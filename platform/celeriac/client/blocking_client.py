"""The client for blocking code: an `AsyncClient` on the thread on which the process's blocking calls are done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack, overload

from celeriac.calling.blocking import block_on, block_on_each
from celeriac.calling.handle import TaskHandle
from celeriac.calling.options import NewTask, Payload, TaskOptions
from celeriac.calling.submittable import P, R, Submittable
from celeriac.client.async_client import AsyncClient
from celeriac.client.blocking_limits import ClientLimits
from celeriac.client.blocking_workflows import ClientWorkflows
from celeriac.client.charts import Chart
from celeriac.client.inputs import FilterOptions
from celeriac.model import GroupStats, Task
from celeriac.signals.records import TaskStep, Wait
from celeriac.tasks.reasons import Why

T = TypeVar("T")


class Client:
    """Talks to the HTTP API from any number of threads. Close it, or use it in a `with`. A forked child may use it too.

    On a running event loop, its methods raise `BlockingCallError`: use `AsyncClient` there. In Jupyter they work.

    `url` defaults to `CELERIAC_URL`, else the `celeriac up` of the data folder (`CELERIAC_DATA_DIR`, else
    `.celeriac` in the current folder), else `http://127.0.0.1:8000`; `token` defaults to `CELERIAC_TOKEN`.
    `timeout` is how long one answer may take, in seconds. A request is sent again, up to `retries` times, if
    the connection was lost or the answer says "not now"; its effect still happens only once.

    Every method may raise `ApiUnavailableError`, `StoreUnavailableError` and `ApiError`.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 15.0, retries: int = 8
    ) -> None:
        self._client = AsyncClient(url, token=token, timeout=timeout, retries=retries)
        self.url = self._client.url
        #: Graphs of tasks.
        self.workflows = ClientWorkflows(self._client.workflows)
        #: The rules that limit tasks.
        self.limits = ClientLimits(self._client.limits)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        block_on(self._client.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def submit(self, type: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    def submit(self, type: Submittable[..., R], payload: Payload, /) -> TaskHandle[R]: ...
    @overload
    def submit(
        self, type: str, /, payload: Payload | None = None, **options: Unpack[TaskOptions]
    ) -> TaskHandle[Any]: ...

    def submit(self, type: str | Submittable[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submit a task; it is stored durably when this returns.

        Either `submit("report", {"customer": 7}, delay="10m")`: the name of a type, a payload and options, or
        `submit(report, customer=7)`: a type, or `report.options(delay="10m")`, and the arguments of its function.

        Raises `InvalidSubmissionError`, `PayloadTooLargeError`, `QueueFullError`, and `TypeError` for arguments that
        the function does not take.
        """
        return TaskHandle(self._block(self._client.submit(type, *args, **kwargs), "submit"))

    def submit_many(self, tasks: Iterable[NewTask]) -> Sequence[TaskHandle[Any]]:
        """Submit any number of tasks in few requests; returns a handle for each, in their order.

        Tasks are taken from the iterable as they are sent. Raises `BatchRefusedError` when all were sent and
        some were refused; it says which, and the ids of the others.
        """
        batches = self._client._batches()
        # The caller's iterable may block or use this client, so it is read in the caller's thread.
        for batch in batches.of(tasks):
            if not self._block(batches.send(batch), "submit_many"):
                break
        return [TaskHandle(task) for task in self._client._handles(batches)]

    def task(self, task_id: str) -> TaskHandle[Any]:
        """Return the handle of a task of which only the id is known; raises `TaskNotFoundError`."""
        return TaskHandle(self._block(self._client.task(task_id), "task"))

    def get(self, task_id: str) -> Task:
        """Return a task's record; raises `TaskNotFoundError`."""
        return self._block(self._client.get(task_id), "get")

    def list(
        self, *, sort: str = "-created_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> Iterator[Task]:
        """Iterate over the records that match, newest first; reads page by page, at most `limit` records.

        They come from the history, which is behind by less than a second. A payload or result above 64 KiB is
        None here: `get` has it.
        """
        return self._each(self._client.list(sort=sort, limit=limit, **chosen), "list")

    def dead(
        self, *, sort: str = "-finished_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> Iterator[Task]:
        """Iterate over the tasks that failed for good, as `list` does."""
        return self._each(self._client.dead(sort=sort, limit=limit, **chosen), "dead")

    def why(self, task_id: str) -> Why:
        """Return why a task waits: `reasons` with `code`, `text` and `facts`, none if it runs or has ended.

        `warnings` are there if it waits for something else now and no worker takes it, as it is now. Raises
        `TaskNotFoundError`.
        """
        return self._block(self._client.why(task_id), "why")

    def signal(self, task_id: str, name: str, value: Any = None) -> datetime:
        """Send a signal to a task that waits for it, or that will: any JSON value; returns when it was received.

        The first one of a name counts. Raises `SignalReceivedError` for a further one, `TaskEndedError`,
        `InvalidSubmissionError` for a value that does not fit the schema, and `TaskNotFoundError`.
        """
        return self._block(self._client.signal(task_id, name, value), "signal")

    def waits(self, *, limit: int | None = None) -> Iterator[Wait]:
        """Iterate over the signals that tasks wait for and that the caller may send, the oldest wait first."""
        return self._each(self._client.waits(limit=limit), "waits")

    def steps(self, task_id: str) -> Iterator[TaskStep]:
        """Iterate over the steps whose results a task has stored, in the order in which they ended.

        Raises `TaskNotFoundError`.
        """
        return self._each(self._client.steps(task_id), "steps")

    def stats(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        bucket: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        key: str | None = None,
    ) -> Chart:
        """Return counts and durations over time, by default of the last hour, in buckets of `1m`, `5m`, …, `1d`."""
        chosen = self._client.stats(start=start, end=end, bucket=bucket, type=type, queue=queue, key=key)
        return self._block(chosen, "stats")

    def bulk(self, action: str, **chosen: Unpack[FilterOptions]) -> TaskHandle[Any]:
        """Start to `"cancel"` or `"retry"` all tasks that match; returns the task that does it.

        That task reports progress, and its result is `{matched, done, skipped, failed}`. Raises
        `InvalidSubmissionError` if no condition is given.
        """
        return TaskHandle(self._block(self._client.bulk(action, **chosen), "bulk"))

    def bulk_count(self, action: str, **chosen: Unpack[FilterOptions]) -> int:
        """Return how many tasks `bulk` would change, without changing them."""
        return self._block(self._client.bulk_count(action, **chosen), "bulk_count")

    def groups(self) -> Sequence[GroupStats]:
        """Return all groups, by name: how many tasks wait and run, how many workers, and any pause and limits."""
        return self._block(self._client.groups(), "groups")

    def group(self, name: str) -> GroupStats:
        """Return one group; raises `GroupNotFoundError`."""
        return self._block(self._client.group(name), "group")

    def pause_group(self, name: str, note: str = "") -> GroupStats:
        """Pause a group: its tasks are accepted and wait, and those that run go on. Needs the scope `admin`.

        This and the following methods return the group as it is then, and raise `GroupNotFoundError`.
        """
        return self._block(self._client.pause_group(name, note), "pause_group")

    def resume_group(self, name: str) -> GroupStats:
        """Let a paused group go on. Needs the scope `admin`."""
        return self._block(self._client.resume_group(name), "resume_group")

    def limit_group(
        self, name: str, *, max_running: int | None = None, rate: str | None = None, note: str = ""
    ) -> GroupStats:
        """Limit a group across all its workers: tasks that run at once, and starts per time (`"100/m"`).

        Replaces the limits that the group had. Needs the scope `admin`. Raises `InvalidSubmissionError` too.
        """
        return self._block(self._client.limit_group(name, max_running=max_running, rate=rate, note=note), "limit_group")

    def unlimit_group(self, name: str) -> GroupStats:
        """Remove the limits of a group. Needs the scope `admin`."""
        return self._block(self._client.unlimit_group(name), "unlimit_group")

    def _block(self, work: Coroutine[Any, Any, T], name: str) -> T:
        return block_on(work, call=f"Client.{name}()", instead=f"await AsyncClient.{name}()")

    def _each(self, items: AsyncGenerator[T], name: str) -> Iterator[T]:
        return block_on_each(items, call=f"Client.{name}()", instead=f"async for … in AsyncClient.{name}()")
