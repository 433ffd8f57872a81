"""The client itself: what a program does with tasks and groups through the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self, Unpack, overload
from urllib.parse import quote

from celeriac.calling.handle import AsyncTaskHandle
from celeriac.calling.options import NewTask, Payload, TaskOptions, to_json
from celeriac.calling.submittable import P, R, Submittable
from celeriac.client.address import find_address
from celeriac.client.charts import (
    Chart,
    Division,
    TaskCounts,
    TaskHistogram,
    chart_of,
    task_counts_of,
    task_histogram_of,
)
from celeriac.client.errors import ErrorGroup, error_group_of
from celeriac.client.groups import group_call, group_of
from celeriac.client.http.access import HttpAccess
from celeriac.client.http.api import Api
from celeriac.client.http.calls import (
    BULK,
    COUNTS,
    DEAD,
    ERRORS,
    GROUPS,
    HISTOGRAM,
    STATS,
    TASKS,
    WAITS,
    Call,
    idempotent,
    task_path,
)
from celeriac.client.http.retrying import Retrying
from celeriac.client.inputs import FilterOptions, fields_query, filter_document, filter_query, new_task_of
from celeriac.client.limits import AsyncClientLimits
from celeriac.client.outputs import member, step_of, task_of, wait_of, why_of
from celeriac.client.submit_many import Batches
from celeriac.client.workflows import AsyncClientWorkflows
from celeriac.model import GroupStats, Status, Task
from celeriac.signals.records import TaskStep, Wait
from celeriac.tasks.reasons import Why

#: Records of one page of a listing; groups of errors.
_RECORDS: Final = 200
_ERRORS: Final = 100


class AsyncClient:
    """Talks to the HTTP API from one event loop. Close it, or use it in an `async with`.

    `url` defaults to `CELERIAC_URL`, else the `celeriac up` of the data folder (`CELERIAC_DATA_DIR`, else
    `.celeriac` in the current folder), else `http://127.0.0.1:8000`; `token` defaults to `CELERIAC_TOKEN`.
    `timeout` is how long one answer may take, in seconds. A request is sent again, up to `retries` times, if
    the connection was lost or the answer says "not now"; its effect still happens only once.

    Every method may raise `ApiUnavailableError`, `StoreUnavailableError` and `ApiError`.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 15.0, retries: int = 8
    ) -> None:
        # Imported here, so that `import celeriac` does not import httpx: that takes 50 ms, which workers do not need.
        from celeriac.client.http.wire import Wire, connect

        address = find_address(url, token)
        self.url = address.url
        self._use(Api(address.url, Wire(lambda: connect(address, timeout)), Retrying(retries)))

    def _use(self, api: Api) -> None:
        self._api = api
        #: Its tasks, for handles.
        self.access = HttpAccess(api)
        #: Graphs of tasks.
        self.workflows = AsyncClientWorkflows(api)
        #: The rules that limit tasks.
        self.limits = AsyncClientLimits(api)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._api.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @overload
    async def submit(self, type: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(self, type: Submittable[..., R], payload: Payload, /) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(
        self, type: str, /, payload: Payload | None = None, **options: Unpack[TaskOptions]
    ) -> AsyncTaskHandle[Any]: ...

    async def submit(self, type: str | Submittable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncTaskHandle[Any]:
        """Submit a task; it is stored durably when this returns.

        Either `submit("report", {"customer": 7}, delay="10m")`: the name of a type, a payload and options, or
        `submit(report, customer=7)`: a type, or `report.options(delay="10m")`, and the arguments of its function.

        Raises `InvalidSubmissionError`, `PayloadTooLargeError`, `QueueFullError`, and `TypeError` for arguments that
        the function does not take.
        """
        task, read_result = new_task_of(type, args, kwargs)
        return AsyncTaskHandle(self.access, *await self.access.submit(task), read_result)

    @overload
    async def run(self, type: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(self, type: Submittable[..., R], payload: Payload, /) -> R: ...
    @overload
    async def run(self, type: str, /, payload: Payload | None = None, **options: Unpack[TaskOptions]) -> Any: ...

    async def run(self, type: str | Submittable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit a task as `submit` does, wait for it, and return its result; mostly in one request.

        Raises as `submit` and the handle's `result` do.
        """
        task, read_result = new_task_of(type, args, kwargs)
        return read_result(await self.access.run(task))

    async def submit_many(self, tasks: Iterable[NewTask]) -> Sequence[AsyncTaskHandle[Any]]:
        """Submit any number of tasks in few requests; returns a handle for each, in their order.

        Tasks are taken from the iterable as they are sent. Raises `BatchRefusedError` when all were sent and
        some were refused; it says which, and the ids of the others.
        """
        batches = self._batches()
        for batch in batches.of(tasks):
            if not await batches.send(batch):
                break
        return self._handles(batches)

    async def task(self, task_id: str) -> AsyncTaskHandle[Any]:
        """Return the handle of a task of which only the id is known; raises `TaskNotFoundError`."""
        return self._handle((task_id, await self._api.status(task_id)))

    async def get(self, task_id: str) -> Task:
        """Return a task's record; raises `TaskNotFoundError`."""
        return await self.access.get(task_id)

    @overload
    def list(
        self,
        *,
        sort: str = ...,
        limit: int | None = ...,
        fields: None = None,
        **chosen: Unpack[FilterOptions],
    ) -> AsyncGenerator[Task]: ...

    @overload
    def list(
        self, *, sort: str = ..., limit: int | None = ..., fields: Sequence[str], **chosen: Unpack[FilterOptions]
    ) -> AsyncGenerator[Mapping[str, Any]]: ...

    def list(
        self,
        *,
        sort: str = "-created_at",
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        **chosen: Unpack[FilterOptions],
    ) -> AsyncGenerator[Any]:
        """Iterate over the records that match, newest first; reads page by page, at most `limit` records.

        They come from the history, which is behind by less than a second. A payload or result above 64 KiB is
        None here: `get` has it.

        With `fields`, each is the JSON object of the API with these fields and `task_id`. Without `payload`, `result`
        and `metadata` a page is a fraction of the size, and the database does not read them.
        """
        return self._records(TASKS, chosen, sort, limit, fields)

    @overload
    def dead(
        self,
        *,
        sort: str = ...,
        limit: int | None = ...,
        fields: None = None,
        **chosen: Unpack[FilterOptions],
    ) -> AsyncGenerator[Task]: ...

    @overload
    def dead(
        self, *, sort: str = ..., limit: int | None = ..., fields: Sequence[str], **chosen: Unpack[FilterOptions]
    ) -> AsyncGenerator[Mapping[str, Any]]: ...

    def dead(
        self,
        *,
        sort: str = "-finished_at",
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        **chosen: Unpack[FilterOptions],
    ) -> AsyncGenerator[Any]:
        """Iterate over the tasks that failed for good, as `list` does."""
        return self._records(DEAD, chosen, sort, limit, fields)

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
    ) -> AsyncGenerator[ErrorGroup]:
        """Iterate over the failures for good of a time, by default the last day; those that are alike are one group.

        The latest comes first; `sort="-failures"`: the most frequent. `q` are words of the code or the message.
        """
        chosen = {"from": start, "to": end, "type": type, "queue": queue, "user_id": user_id, "key": key}
        query = filter_query({**chosen, "error_group": error_group, "q": q, "sort": sort})
        return self._api.items(ERRORS, query, error_group_of, page_size=_ERRORS, limit=limit)

    async def why(self, task_id: str) -> Why:
        """Return why a task waits: `reasons` with `code`, `text` and `facts`, none if it runs or has ended.

        `warnings` are there if it waits for something else now and no worker takes it, as it is now. Raises
        `TaskNotFoundError`.
        """
        return why_of(await self._api.document(Call("GET", f"{task_path(task_id)}/why")))

    async def run_now(self, task_id: str) -> Status:
        """Run a task now that waits for its time or for its next attempt; returns its status now.

        One that waits for a worker or runs stays as it is. Raises `TaskNotFoundError`, and `IllegalTransitionError`
        for one that has ended or waits for something else.
        """
        _, status = await self._api.act(Call("POST", f"{task_path(task_id)}/run-now"))
        return status

    async def signal(self, task_id: str, name: str, value: Any = None) -> datetime:
        """Send a signal to a task that waits for it, or that will: any JSON value; returns when it was received.

        The first one of a name counts. Raises `SignalReceivedError` for a further one, `TaskEndedError`,
        `InvalidSubmissionError` for a value that does not fit the schema, and `TaskNotFoundError`.
        """
        path = f"{task_path(task_id)}/signals/{quote(name, safe='')}"
        call = Call("POST", path, body=to_json(value), headers=idempotent(self._api.new_key()))
        received = member(await self._api.document(call), "received_at", str)
        return datetime.fromisoformat(received)

    def waits(self, *, limit: int | None = None) -> AsyncGenerator[Wait]:
        """Iterate over the signals that tasks wait for and that the caller may send, the oldest wait first."""
        return self._api.items(WAITS, (), wait_of, page_size=_RECORDS, limit=limit)

    def steps(self, task_id: str) -> AsyncGenerator[TaskStep]:
        """Iterate over the steps whose results a task has stored, in the order in which they ended.

        Raises `TaskNotFoundError`.
        """
        return self._api.items(f"{task_path(task_id)}/steps", (), step_of, page_size=_RECORDS)

    async def stats(
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
        chosen: dict[str, Any] = {"from": start, "to": end, "bucket": bucket, "type": type, "queue": queue, "key": key}
        chosen |= {"by": [by] if isinstance(by, str) else list(by), "slowest": slowest or None}
        return chart_of(await self._api.document(Call("GET", STATS, query=filter_query(chosen))))

    async def task_counts(self, **chosen: Unpack[FilterOptions]) -> TaskCounts:
        """Return how many tasks match, by status; of those in `more` there are more than the server counts."""
        return task_counts_of(await self._api.document(Call("GET", COUNTS, query=filter_query(chosen))))

    async def task_histogram(self, *, buckets: int = 60, **chosen: Unpack[FilterOptions]) -> TaskHistogram:
        """Return when the tasks that match were created, in up to `buckets` buckets, by their status now."""
        query = (*filter_query(chosen), ("buckets", str(buckets)))
        return task_histogram_of(await self._api.document(Call("GET", HISTOGRAM, query=query)))

    async def bulk(self, action: str, **chosen: Unpack[FilterOptions]) -> AsyncTaskHandle[Any]:
        """Start to `"cancel"` or `"retry"` all tasks that match; returns the task that does it.

        That task reports progress, and its result is `{matched, done, skipped, failed}`. Raises
        `InvalidSubmissionError` if no condition is given.
        """
        body = to_json({"action": action, "filter": filter_document(chosen), "dry_run": False})
        call = Call("POST", BULK, body=body, headers=idempotent(self._api.new_key()))
        return self._handle(await self._api.act(call))

    async def bulk_count(self, action: str, **chosen: Unpack[FilterOptions]) -> int:
        """Return how many tasks `bulk` would change, without changing them."""
        body = to_json({"action": action, "filter": filter_document(chosen), "dry_run": True})
        return int(member(await self._api.document(Call("POST", BULK, body=body)), "matched", int))

    async def groups(self) -> Sequence[GroupStats]:
        """Return all groups, by name: how many tasks wait and run, how many workers, and any pause and limits."""
        document = await self._api.document(Call("GET", GROUPS))
        return [group_of(record) for record in member(document, "groups", list)]

    async def group(self, name: str) -> GroupStats:
        """Return one group; raises `GroupNotFoundError`."""
        return group_of(await self._api.document(group_call("GET", name)))

    async def pause_group(self, name: str, note: str = "") -> GroupStats:
        """Pause a group: its tasks are accepted and wait, and those that run go on. Needs the scope `admin`.

        This and the following methods return the group as it is then, and raise `GroupNotFoundError`.
        """
        return group_of(await self._api.document(group_call("POST", name, "/pause", {"note": note})))

    async def resume_group(self, name: str) -> GroupStats:
        """Let a paused group go on. Needs the scope `admin`."""
        return group_of(await self._api.document(group_call("POST", name, "/resume")))

    async def limit_group(
        self, name: str, *, max_running: int | None = None, rate: str | None = None, note: str = ""
    ) -> GroupStats:
        """Limit a group across all its workers: tasks that run at once, and starts per time (`"100/m"`).

        Replaces the limits that the group had. Needs the scope `admin`. Raises `InvalidSubmissionError` too.
        """
        wanted = {"max_running": max_running, "rate": rate, "note": note}
        return group_of(await self._api.document(group_call("PUT", name, "/limits", wanted)))

    async def unlimit_group(self, name: str) -> GroupStats:
        """Remove the limits of a group. Needs the scope `admin`."""
        return group_of(await self._api.document(group_call("DELETE", name, "/limits")))

    def _records(
        self, path: str, chosen: Mapping[str, Any], sort: str, limit: int | None, fields: Sequence[str] | None
    ) -> AsyncGenerator[Any]:
        if fields is not None and (isinstance(fields, str) or not fields):
            raise TypeError(f"fields must be a list of names, not {fields!r}")
        query = (*filter_query(chosen), ("sort", sort), *fields_query(fields or ()))
        read: Callable[[Mapping[str, Any]], Any] = task_of if fields is None else dict
        return self._api.items(path, query, read, page_size=_RECORDS, limit=limit)

    def _batches(self) -> Batches:
        return Batches(self._api)

    def _handles(self, batches: Batches) -> Sequence[AsyncTaskHandle[Any]]:
        return [self._handle(answer) for answer in batches.answers()]

    def _handle(self, answer: tuple[str, Status]) -> AsyncTaskHandle[Any]:
        return AsyncTaskHandle(self.access, *answer)
