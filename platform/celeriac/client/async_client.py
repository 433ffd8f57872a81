"""The client for asyncio: the same operations as `blocking_client.py`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Self, Unpack

from celeriac.client import groups
from celeriac.client.address import find_address
from celeriac.client.charts import Chart
from celeriac.client.following import Ended, follow
from celeriac.client.inputs import FilterOptions, NewTask, Payload, TaskOptions
from celeriac.client.operations import TASKS, Operations
from celeriac.client.outputs import result_of
from celeriac.client.retrying import Retrying
from celeriac.model import GroupStats, LogLine, Progress, Status, Task


class AsyncClient:
    """Talks to the HTTP API from one event loop. Close it, or use it in an `async with`.

    `url` left out is `CELERIAC_URL`, else the `celeriac up` of the data folder (`CELERIAC_DATA_DIR`, else
    `.celeriac` here), else `http://127.0.0.1:8000`; `token` left out is `CELERIAC_TOKEN`. `timeout` is for one
    answer, in seconds. A request that met a lost connection, or an answer that says "not now", is sent
    again up to `retries` times; what it asks for is still done once only.

    Every method may raise `ApiUnavailableError`, `StoreUnavailableError` and `ApiError`.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout: float = 15.0, retries: int = 8
    ) -> None:
        # Here, so that importing `celeriac` does not import httpx (some 50 ms, for workers in vain).
        from celeriac.client.wire import AsyncWire

        address = find_address(url, token)
        self.url = address.url
        self._api = Operations(address.url, Retrying(retries))
        self._wire = AsyncWire(address, timeout)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._wire.close()

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
        return AsyncTaskHandle(
            self, *await self._wire.run(self._api.submit({"type": type, "payload": payload, **options}))
        )

    async def submit_many(self, tasks: Iterable[NewTask]) -> Sequence[AsyncTaskHandle]:
        """Submit any number of tasks in few requests; returns a handle for each, in their order.

        Tasks are taken from the iterable as they are sent. Raises `BatchRefusedError` when all were sent and
        some were refused; it says which, and the ids of the others.
        """
        return [AsyncTaskHandle(self, *answer) for answer in await self._wire.run(self._api.submit_many(tasks))]

    async def task(self, task_id: str) -> AsyncTaskHandle:
        """Return the handle of a task of which only the id is known; raises `TaskNotFoundError`."""
        return AsyncTaskHandle(self, task_id, await self._wire.run(self._api.status(task_id)))

    async def get(self, task_id: str) -> Task:
        """Return a task's record; raises `TaskNotFoundError`."""
        return await self._wire.run(self._api.get(task_id))

    def list(
        self, *, sort: str = "-created_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> AsyncIterator[Task]:
        """Iterate over the records that match, newest first; reads page by page, at most `limit` records.

        They come from the history, which is behind by less than a second. A payload or result above 64 KiB is
        None here: `get` has it.
        """
        return self._wire.iterate(self._api.tasks(TASKS, chosen, sort=sort, limit=limit))

    def dead(
        self, *, sort: str = "-finished_at", limit: int | None = None, **chosen: Unpack[FilterOptions]
    ) -> AsyncIterator[Task]:
        """Iterate over the tasks that failed for good, as `list` does."""
        return self._wire.iterate(self._api.tasks("/api/v1/dead", chosen, sort=sort, limit=limit))

    async def stats(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        bucket: str | None = None,
        type: str | None = None,
        queue: str | None = None,
    ) -> Chart:
        """Return counts and durations over time (by default of the last hour), in buckets of `1m`, `5m`, …, `1d`."""
        chosen = {"from": start, "to": end, "bucket": bucket, "type": type, "queue": queue}
        return await self._wire.run(self._api.stats(**chosen))

    async def bulk(self, action: str, **chosen: Unpack[FilterOptions]) -> AsyncTaskHandle:
        """Start to `"cancel"` or `"retry"` all tasks that match; returns the task that does it.

        It has progress, and its result is `{matched, done, skipped, failed}`. Raises `InvalidSubmissionError`
        without any condition.
        """
        return AsyncTaskHandle(self, *await self._wire.run(self._api.bulk(action, chosen)))

    async def bulk_count(self, action: str, **chosen: Unpack[FilterOptions]) -> int:
        """Return how many tasks `bulk` would take: its dry run."""
        return await self._wire.run(self._api.bulk_count(action, chosen))

    async def groups(self) -> Sequence[GroupStats]:
        """Return all groups, by name: what waits and runs, the workers, what holds them back."""
        return await self._wire.run(groups.read_groups(self._api))

    async def group(self, name: str) -> GroupStats:
        """Return one group; raises `GroupNotFoundError`."""
        return await self._wire.run(groups.read_group(self._api, name))

    async def pause_group(self, name: str, note: str = "") -> GroupStats:
        """Hold a group back: its tasks are accepted and wait, what runs goes on. Needs the scope `admin`.

        Raises `GroupNotFoundError`, as all that follows.
        """
        return await self._wire.run(groups.pause(self._api, name, note))

    async def resume_group(self, name: str) -> GroupStats:
        """Let a paused group go on. Needs the scope `admin`."""
        return await self._wire.run(groups.resume(self._api, name))

    async def limit_group(
        self, name: str, *, max_running: int | None = None, rate: str | None = None, note: str = ""
    ) -> GroupStats:
        """Limit a group across all its workers: so many tasks at once, so many starts per time (`"100/m"`).

        Replaces what it was limited to. Needs the scope `admin`. Raises `InvalidSubmissionError` too.
        """
        return await self._wire.run(groups.limit(self._api, name, max_running, rate, note))

    async def unlimit_group(self, name: str) -> GroupStats:
        """Limit a group no longer. Needs the scope `admin`."""
        return await self._wire.run(groups.unlimit(self._api, name))


class AsyncTaskHandle:
    """A task that was submitted. `status` is what the last answer about it said."""

    def __init__(self, client: AsyncClient, task_id: str, status: Status) -> None:
        self._wire, self._api = client._wire, client._api
        self.id = task_id
        self.status = status

    def __repr__(self) -> str:
        return f"<AsyncTaskHandle {self.id} {self.status.wire}>"

    async def record(self) -> Task:
        """Return the record as it is now; raises `TaskNotFoundError`."""
        return self._seen(await self._wire.run(self._api.get(self.id)))

    async def wait(self, timeout: float | None = None) -> Task:
        """Return the record once the task has ended, well or not; raises `WaitTimeoutError` after `timeout` seconds."""
        return self._seen(await self._wire.run(self._api.wait(self.id, timeout)))

    async def result(self, timeout: float | None = None) -> Any:
        """Wait, and return what the task returned.

        Raises `TaskFailedError`, `TaskCancelledError`, and `WaitTimeoutError` after `timeout` seconds.
        """
        return result_of(await self.wait(timeout))

    async def cancel(self) -> Status:
        """Cancel the task; returns its status now: one that runs is still processing, and ends shortly after.

        Raises `IllegalTransitionError` where it has completed or failed.
        """
        _, self.status = await self._wire.run(self._api.cancel(self.id))
        return self.status

    async def retry(self, payload: Payload | None = None) -> Status:
        """Run the failed or cancelled task again, with another payload if one is given; returns its status now.

        Raises `IllegalTransitionError`, `InvalidSubmissionError`, `QueueFullError`.
        """
        _, self.status = await self._wire.run(self._api.retry(self.id, payload))
        return self.status

    async def progress(self) -> AsyncIterator[Progress]:
        """Iterate over the task's reports from the first on, live, until it has ended.

        A connection that breaks is made again; no report is lost or doubled.
        """
        async with aclosing(self._wire.iterate(follow(self._api, self.id))) as items:
            async for item in items:
                if isinstance(item, Ended):
                    self.status = item.status
                else:
                    yield item

    def log(self, level: str = "debug") -> AsyncIterator[LogLine]:
        """Iterate over the lines that the task has logged by now, from `level` on (`debug` is all); pages are read as
        they are needed. Why an attempt failed is a line too; `data["traceback"]` is where.

        Raises `TaskNotFoundError`.
        """
        return self._wire.iterate(self._api.log(self.id, level))

    def _seen(self, task: Task) -> Task:
        self.status = task.status
        return task
