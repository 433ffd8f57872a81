"""The real application on a real server, in the test's own loop; and a reader of its event streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter

from celeriac.model import Claim
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import registry
from celeriac.tasks.task_type import TaskType
from celeriac_api.app import create_app
from celeriac_api.routing import RouteTable
from celeriac_api.server import ApiServer, bind
from tests.kit.waiting import eventually


class Thumbnail(BaseModel):
    path: str
    width: int = 100


#: Task types without handlers: the tests are the worker.
registry.add(TaskType("http_test.echo", TypeAdapter(dict[str, Any])))
registry.add(TaskType("http_test.thumbnail", TypeAdapter(Thumbnail), group="media"))


#: What each route of the application needs, by `METHOD path`.
ROUTES = RouteTable(create_app(Settings(redis_url="redis://127.0.0.1:1/0")).routes).access()


@asynccontextmanager
async def serving(settings: Settings, *, port: int = 0) -> AsyncIterator[str]:
    """Serve the application on a port (0: a free one); yields its URL."""
    server = ApiServer(create_app(settings), settings)
    with bind("127.0.0.1", port) as listener:
        port = listener.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started or running.done(), because="the server starts")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await running


async def submit(client: httpx.AsyncClient, /, **fields: Any) -> str:
    """Submit a task of a type that takes anything; returns its id."""
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def claim(store: TaskStore, task_id: str) -> Claim:
    """Claim a task as a worker does."""
    claimed = await store.claim(task_id, worker="tester")
    assert isinstance(claimed, Claim), claimed
    return claimed


@dataclass
class SentEvent:
    """One server-sent event as a client understands it."""

    name: str
    id: str | None
    data: dict[str, Any]


async def read_events(response: httpx.Response, *, comments: list[str] | None = None) -> AsyncIterator[SentEvent]:
    """Parse an event stream; `comments` and the retry field are collected where a list is given."""
    name, event_id = "", None
    data: list[str] = []
    async for line in _lines(response):
        if line == "":
            if data:
                yield SentEvent(name, event_id, json.loads("\n".join(data)))
            name, event_id, data = "", None, []
        elif line.startswith((":", "retry:")):
            if comments is not None:
                comments.append(line)
        else:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "data":
                data.append(value)
            else:
                raise AssertionError(f"not a field of an event stream: {line!r}")


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Yield complete lines. Ours end with LF; `aiter_lines` ends one at U+2028 too, which JSON may hold."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


async def watch(
    client: httpx.AsyncClient, task_id: str, last_event_id: str | None = None, query: str = ""
) -> list[SentEvent]:
    """Read a stream to its end."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream{query}", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in read_events(response)]
