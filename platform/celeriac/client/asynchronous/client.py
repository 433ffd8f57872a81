"""The client itself: what a program does with tasks and groups through the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, Self, Unpack

from celeriac.client.address import find_address
from celeriac.client.asynchronous.api import AsyncApi
from celeriac.client.asynchronous.following import follow
from celeriac.client.asynchronous.submit_many import submit_many
from celeriac.client.calls import BULK, DEAD, GROUPS, STATS, TASKS, Call, idempotent, task_path
from celeriac.client.charts import Chart, chart_of
from celeriac.client.groups import group_call, group_of
from celeriac.client.inputs import (
    FilterOptions,
    NewTask,
    Payload,
    TaskOptions,
    filter_document,
    filter_query,
    submission_document,
    to_json,
)
from celeriac.client.outputs import log_line_of, member, result_of, task_of
from celeriac.client.reports import Ended
from celeriac.client.retrying import Retrying
from celeriac.errors import WaitTimeoutError
from celeriac.model import GroupStats, LogLine, Progress, Status, Task
from celeriac.tasks.request import check_idempotency_key

#: Records of one page of a listing, and lines of one page of a log.
_RECORDS: Final = 200
_LINES: Final = 1000

#: `wait` asks for the status at intervals of an eighth of the time waited so far, within these bounds. So the wait
#: is at most an eighth longer than necessary, costs few requests, and keeps no connection busy.
_FIRST_INTERVAL_S: Final = 0.02
_LAST_INTERVAL_S: Final = 1.0


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
        from celeriac.client.asynchronous.wire import AsyncWire, connect

        address = find_address(url, token)
        self.url = address.url
        self._api = AsyncApi(address.url, AsyncWire(connect(address, timeout)), Retrying(retries))

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._api.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def submit(
        self, type: str, payload: Payload | None = None, **options: Unpack[TaskOptions]
    ) -> AsyncTaskHandle:
        """Submit a task; it is stored durably when this returns.

        Raises `InvalidSubmissionError`, `PayloadTooLargeError`, `QueueFullError`.
        """
        # Every try has the same key, so that they make one task.
        key = options.get("idempotency_key") or self._api.new_key()
        check_idempotency_key(key)
        body = to_json(submission_document({"type": type, "payload": payload, **options}))
        return self._handle(await self._api.act(Call("POST", TASKS, body=body, headers=idempotent(key))))

    async def submit_many(self, tasks: Iterable[NewTask]) -> Sequence[AsyncTaskHandle]:
        """Submit any number of tasks in few requests; returns a handle for each, in their order.

        Tasks are taken from the iterable as they are sent. Raises `BatchRefusedError` when all were sent and
        some were refused; it says which, and the ids of the others.
        """
        return [self._handle(answer) for answer in await submit_many(self._api, tasks)]

    async def task(self, task_id: str) -> AsyncTaskHandle:
        """Return the handle of a task of which only the id is known; raises `TaskNotFoundError`."""
        return AsyncTaskHandle(self, task_id, await self._api.status(task_id))

    async def get(self, task_id: str) -> Task:
        """Return a task's record; raises `TaskNotFoundError`."""
        return task_of(await self._api.document(Call("GET", task_path(task_id))))

    def list(
        self, *, sort: str = "-created_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> AsyncIterator[Task]:
        """Iterate over the records that match, newest first; reads page by page, at most `limit` records.

        They come from the history, which is behind by less than a second. A payload or result above 64 KiB is
        None here: `get` has it.
        """
        return self._records(TASKS, chosen, sort, limit)

    def dead(
        self, *, sort: str = "-finished_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> AsyncIterator[Task]:
        """Iterate over the tasks that failed for good, as `list` does."""
        return self._records(DEAD, chosen, sort, limit)

    async def stats(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        bucket: str | None = None,
        type: str | None = None,
        queue: str | None = None,
    ) -> Chart:
        """Return counts and durations over time, by default of the last hour, in buckets of `1m`, `5m`, …, `1d`."""
        query = filter_query({"from": start, "to": end, "bucket": bucket, "type": type, "queue": queue})
        return chart_of(await self._api.document(Call("GET", STATS, query=query)))

    async def bulk(self, action: str, **chosen: Unpack[FilterOptions]) -> AsyncTaskHandle:
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

    def _records(self, path: str, chosen: Mapping[str, Any], sort: str, limit: int | None) -> AsyncIterator[Task]:
        query = (*filter_query(chosen), ("sort", sort))
        return self._api.items(path, query, task_of, page_size=_RECORDS, limit=limit)

    def _handle(self, answer: tuple[str, Status]) -> AsyncTaskHandle:
        return AsyncTaskHandle(self, *answer)


class AsyncTaskHandle:
    """A task that was submitted. `status` is what the last answer about it said."""

    def __init__(self, client: AsyncClient, task_id: str, status: Status) -> None:
        self._client = client
        self._api = client._api
        self.id = task_id
        self.status = status

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status.wire}>"

    async def record(self) -> Task:
        """Return the record as it is now; raises `TaskNotFoundError`."""
        task = await self._client.get(self.id)
        self.status = task.status
        return task

    async def wait(self, timeout: float | None = None) -> Task:
        """Return the record once the task has ended, however it ended.

        Raises `WaitTimeoutError` after `timeout` seconds. An API that is not available is waited for until then only.
        """
        clock = self._api.clock
        began = clock.now()
        give_up_at = None if timeout is None else began + timeout
        while not (status := await self._api.status(self.id, give_up_at)).final:
            now = clock.now()
            pause_s = min(max((now - began) / 8, _FIRST_INTERVAL_S), _LAST_INTERVAL_S)
            if give_up_at is not None:
                if now >= give_up_at:
                    raise WaitTimeoutError(self.id, status, give_up_at - began)
                pause_s = min(pause_s, give_up_at - now)
            await clock.sleep(pause_s)
        return await self.record()

    async def result(self, timeout: float | None = None) -> Any:
        """Wait, and return what the task returned.

        Raises `TaskFailedError`, `TaskCancelledError`, and `WaitTimeoutError` after `timeout` seconds.
        """
        return result_of(await self.wait(timeout))

    async def cancel(self) -> Status:
        """Cancel the task; returns its status now: a task that runs is still processing, and ends shortly after.

        Cancelling twice has the effect of cancelling once. Raises `IllegalTransitionError` if the task has
        completed or failed.
        """
        _, self.status = await self._api.act(Call("POST", f"{task_path(self.id)}/cancel"))
        return self.status

    async def retry(self, payload: Payload | None = None) -> Status:
        """Run the failed or cancelled task again, with another payload if one is given; returns its status now.

        Raises `IllegalTransitionError`, `InvalidSubmissionError`, `QueueFullError`.
        """
        body = None if payload is None else to_json({"payload": payload})
        headers = idempotent(self._api.new_key())
        _, self.status = await self._api.act(Call("POST", f"{task_path(self.id)}/retry", body=body, headers=headers))
        return self.status

    async def progress(self) -> AsyncIterator[Progress]:
        """Iterate over the task's reports from the first on, live, until it has ended.

        A connection that breaks is made again; no report is lost or repeated.
        """
        async with aclosing(follow(self._api, self.id)) as items:
            async for item in items:
                if isinstance(item, Ended):
                    self.status = item.status
                else:
                    yield item

    def log(self, level: str = "debug") -> AsyncIterator[LogLine]:
        """Iterate over the lines that the task has logged by now, from `level` on (`debug` is all); pages are read as
        they are needed. The reason why an attempt failed is a line too, with the traceback in `data["traceback"]`.

        Raises `TaskNotFoundError`.
        """
        return self._api.items(f"{task_path(self.id)}/log", (("level", level),), log_line_of, page_size=_LINES)
