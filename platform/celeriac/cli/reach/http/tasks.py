"""Tasks, through the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from celeriac.calling.options import to_json
from celeriac.chart_buckets import MAX_PARTS
from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import BulkAction, Record
from celeriac.client.inputs import fields_query, filter_query
from celeriac.client.outputs import member
from celeriac.error_filter import MAX_ERRORS, ErrorSort
from celeriac.errors import ApiError
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.request import check_idempotency_key

#: Items of one page: tasks are large.
_TASKS: Final = 200
_ITEMS: Final = 1000
#: All types that the statistics can have.
_MOST: Final = ("most", str(MAX_PARTS))


class HttpTasks:
    """See `TaskCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def submit(self, document: Mapping[str, Any], *, idempotency_key: str | None) -> Record:
        """See `TaskCalls.submit`."""
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        status, answer = await self._server.send_for_status("POST", "/tasks", dict(document), key=idempotency_key)
        # A try that was repeated finds the task of the first one, which is new all the same.
        known = {name: True for name in ("deduplicated", "debounced") if answer.get(name)}
        created = not known and (idempotency_key is None or status == 202)
        warnings = {"warnings": answer["warnings"]} if "warnings" in answer else {}
        return {"task_id": answer["task_id"], "status": answer["status"], "created": created, **known, **warnings}

    async def find(self, task_id: str) -> Record:
        """See `TaskCalls.find`."""
        return await self._server.get("/tasks" + within(task_id))

    async def why(self, task_id: str) -> Record:
        """See `TaskCalls.why`."""
        return await self._server.get(f"/tasks{within(task_id)}/why")

    async def ids(self, prefix: str, limit: int) -> list[str]:
        """See `TaskCalls.ids`."""
        try:
            return await self._server.listing("/task-ids", "task_ids", {"prefix": prefix, "limit": limit})
        except ApiError as exc:
            if exc.code != "not_found":
                raise
            return [prefix]  # a server of an earlier version takes whole ids only

    async def recent_ids(self, prefix: str, limit: int) -> list[str]:
        """See `TaskCalls.recent_ids`."""
        chosen = {"recent": "true", "prefix": prefix, "limit": limit}
        return await self._server.listing("/task-ids", "task_ids", chosen)

    async def cancel(self, task_id: str) -> Record:
        """See `TaskCalls.cancel`."""
        return await self._server.send("POST", f"/tasks{within(task_id)}/cancel")

    async def run_now(self, task_id: str) -> Record:
        """See `TaskCalls.run_now`."""
        return await self._server.send("POST", f"/tasks{within(task_id)}/run-now")

    async def retry(self, task_id: str, payload: Any | None, from_step: str | None = None) -> Record:
        """See `TaskCalls.retry`."""
        given = {"payload": payload, "from_step": from_step}
        body = {name: value for name, value in given.items() if value is not None} or None
        return await self._server.send("POST", f"/tasks{within(task_id)}/retry", body)

    async def signal(self, task_id: str, name: str, value: Any) -> Record:
        """See `TaskCalls.signal`."""
        path = f"/tasks{within(task_id)}/signals{within(name)}"
        return await self._server.send("POST", path, content=to_json(value))

    def waits(self, limit: int) -> AsyncGenerator[Record]:
        """See `TaskCalls.waits`."""
        return self._server.items("/waits", (), page_size=_TASKS, limit=limit or None)

    async def bulk(self, action: BulkAction, chosen: Mapping[str, Any]) -> Record:
        """See `TaskCalls.bulk`."""
        return await self._server.send("POST", "/bulk", {"action": action, "filter": chosen})

    async def count(self, action: BulkAction, chosen: Mapping[str, Any]) -> int:
        """See `TaskCalls.count`."""
        wanted = {"action": action, "filter": chosen, "dry_run": True}
        return int(member(await self._server.send("POST", "/bulk", wanted), "matched", int))

    def listed(self, chosen: TaskFilter, sort: Sort, limit: int, fields: Sequence[str] = ()) -> AsyncGenerator[Record]:
        """See `TaskCalls.listed`."""
        query = (
            *filter_query(chosen.model_dump(mode="json", exclude_defaults=True)),
            ("sort", sort.value),
            *fields_query(fields),
        )
        return self._server.items("/tasks", query, page_size=_TASKS, limit=limit or None)

    def errors(
        self, start: datetime, end: datetime, chosen: Mapping[str, Any], *, sort: ErrorSort, limit: int
    ) -> AsyncGenerator[Record]:
        """See `TaskCalls.errors`."""
        query = filter_query({"from": start, "to": end, **chosen, "sort": sort.value})
        return self._server.items("/errors", query, page_size=MAX_ERRORS, limit=limit or None)

    async def events(self, task_id: str, limit: int) -> list[Record]:
        """See `TaskCalls.events`."""
        path = f"/tasks{within(task_id)}/events"
        async with aclosing(self._server.items(path, (), page_size=_ITEMS, limit=limit)) as items:
            return [item async for item in items]

    async def watch(self, task_id: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.watch`."""
        async with aclosing(self._server.events(task_id, "/progress/stream", (("include", "status"),))) as events:
            async for event in events:
                if event["event"] == "done" and "result" not in event:
                    # The stream did not tell the end: the events were gone.
                    event |= {name: (await self.find(task_id))[name] for name in ("result", "error")}
                yield event

    def log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.log`."""
        return self._server.items(f"/tasks{within(task_id)}/log", (("level", level),), page_size=_ITEMS)

    async def follow_log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """See `TaskCalls.follow_log`."""
        async with aclosing(self._server.events(task_id, "/log/stream", (("level", level),))) as events:
            async for event in events:
                if event["event"] == "line":
                    yield {name: value for name, value in event.items() if name not in ("event", "task_id")}

    async def stats(
        self, start: datetime, end: datetime, bucket: str, *, task_type: str | None, queue: str | None, key: str | None
    ) -> Record:
        """See `TaskCalls.stats`."""
        chosen = {"from": start, "to": end, "bucket": bucket, "type": task_type, "queue": queue, "key": key}
        return await self._server.get("/stats", filter_query(chosen))

    async def types_of(self, start: datetime, end: datetime) -> list[Record]:
        """See `TaskCalls.types_of`."""
        document = await self._server.get("/stats", (*filter_query({"from": start, "to": end}), ("by", "type"), _MOST))
        return member(member(document, "by", dict), "type", list)
