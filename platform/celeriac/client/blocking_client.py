"""The client for blocking code: an `AsyncClient` on the thread on which the process's blocking calls are done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack, overload

from celeriac.calling.blocking import block_on, block_on_each
from celeriac.calling.handle import TaskHandle
from celeriac.calling.options import NewTask, Payload, TaskOptions
from celeriac.calling.submittable import P, R, Submittable
from celeriac.client.async_client import AsyncClient
from celeriac.client.blocking_limits import ClientLimits
from celeriac.client.blocking_workflows import ClientWorkflows
from celeriac.client.charts import Chart, Division, TaskCounts, TaskHistogram
from celeriac.client.errors import ErrorGroup
from celeriac.client.inputs import FilterOptions
from celeriac.model import GroupStats, Status, Task
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

    @overload
    def run(self, type: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, type: Submittable[..., R], payload: Payload, /) -> R: ...
    @overload
    def run(self, type: str, /, payload: Payload | None = None, **options: Unpack[TaskOptions]) -> Any: ...

    def run(self, type: str | Submittable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit a task as `submit` does, wait for it, and return its result; mostly in one request.

        Raises as `submit` and the handle's `result` do.
        """
        return self._block(self._client.run(type, *args, **kwargs), "run")

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

    @overload
    def list(
        self,
        *,
        sort: str = ...,
        limit: int | None = ...,
        fields: None = None,
        **chosen: Unpack[FilterOptions],
    ) -> Iterator[Task]: ...

    @overload
    def list(
        self, *, sort: str = ..., limit: int | None = ..., fields: Sequence[str], **chosen: Unpack[FilterOptions]
    ) -> Iterator[Mapping[str, Any]]: ...

    def list(
        self,
        *,
        sort: str = "-created_at",
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        **chosen: Unpack[FilterOptions],
    ) -> Iterator[Any]:
        """Iterate over the records that match, newest first; reads page by page, at most `limit` records.

        They come from the history, which is behind by less than a second. A payload or result above 64 KiB is
        None here: `get` has it.

        With `fields`, each is the JSON object of the API with these fields and `task_id`. Without `payload`, `result`
        and `metadata` a page is a fraction of the size, and the database does not read them.
        """
        if fields is None:
            return self._each(self._client.list(sort=sort, limit=limit, **chosen), "list")
        return self._each(self._client.list(sort=sort, limit=limit, fields=fields, **chosen), "list")

    @overload
    def dead(
        self,
        *,
        sort: str = ...,
        limit: int | None = ...,
        fields: None = None,
        **chosen: Unpack[FilterOptions],
    ) -> Iterator[Task]: ...

    @overload
    def dead(
        self, *, sort: str = ..., limit: int | None = ..., fields: Sequence[str], **chosen: Unpack[FilterOptions]
    ) -> Iterator[Mapping[str, Any]]: ...

    def dead(
        self,
        *,
        sort: str = "-finished_at",
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        **chosen: Unpack[FilterOptions],
    ) -> Iterator[Any]:
        """Iterate over the tasks that failed for good, as `list` does."""
        if fields is None:
            return self._each(self._client.dead(sort=sort, limit=limit, **chosen), "dead")
        return self._each(self._client.dead(sort=sort, limit=limit, fields=fields, **chosen), "dead")

    def errors(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        type: str | None = None,
        queue: str | None = None,
        user_id: str | None = None,
        key: str | None = None,
        error_group: str | None = None,
        q: str | None = None,
        sort: str = "-last_seen",
        limit: int | None = None,
    ) -> Iterator[ErrorGroup]:
        """Iterate over the failures for good of a time, by default the last day; those that are alike are one group.

        The latest comes first; `sort="-failures"`: the most frequent. `q` are words of the code or the message.
        """
        found = self._client.errors(
            start=start,
            end=end,
            type=type,
            queue=queue,
            user_id=user_id,
            key=key,
            error_group=error_group,
            q=q,
            sort=sort,
            limit=limit,
        )
        return self._each(found, "errors")

    def why(self, task_id: str) -> Why:
        """Return why a task waits: `reasons` with `code`, `text` and `facts`, none if it runs or has ended.

        `warnings` are there if it waits for something else now and no worker takes it, as it is now. Raises
        `TaskNotFoundError`.
        """
        return self._block(self._client.why(task_id), "why")

    def run_now(self, task_id: str) -> Status:
        """Run a task now that waits for its time or for its next attempt; returns its status now.

        One that waits for a worker or runs stays as it is. Raises `TaskNotFoundError`, and `IllegalTransitionError`
        for one that has ended or waits for something else.
        """
        return self._block(self._client.run_now(task_id), "run_now")

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
        by: Division | Sequence[Division] = (),
        slowest: int = 0,
    ) -> Chart:
        """Return counts and durations over time, by default of the last hour, in buckets of `1m`, `5m`, …, `1d`.

        `by` divides what ended by `"type"`, by `"queue"` (the group), or by both. `slowest` is how many of the tasks
        that ran longest are named.
        """
        chart = self._client.stats(
            start=start, end=end, bucket=bucket, type=type, queue=queue, key=key, by=by, slowest=slowest
        )
        return self._block(chart, "stats")

    def task_counts(self, **chosen: Unpack[FilterOptions]) -> TaskCounts:
        """Return how many tasks match, by status; of those in `more` there are more than the server counts."""
        return self._block(self._client.task_counts(**chosen), "task_counts")

    def task_histogram(self, *, buckets: int = 60, **chosen: Unpack[FilterOptions]) -> TaskHistogram:
        """Return when the tasks that match were created, in up to `buckets` buckets, by their status now."""
        return self._block(self._client.task_histogram(buckets=buckets, **chosen), "task_histogram")

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
