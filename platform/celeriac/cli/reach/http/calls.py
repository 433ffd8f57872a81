"""Requests of commands to a server's API, and how long they are tried."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from celeriac.calling.options import to_json
from celeriac.cli.reach.platform import Record
from celeriac.client.address import Address
from celeriac.client.http.api import Api
from celeriac.client.http.calls import Call, idempotent
from celeriac.client.http.event_stream import ServerEvent
from celeriac.client.http.following import task_events, workflow_events
from celeriac.client.http.retrying import Retrying
from celeriac.client.http.wire import Wire, connect
from celeriac.client.inputs import filter_query
from celeriac.client.outputs import document_of, error_of, member
from celeriac.client.reports import data_of

V1: Final = "/api/v1"
#: A person waits at the prompt, so a server that is away is asked few times: about half a second.
_IMPATIENT: Final = Retrying(3)
#: Watching goes on through a restart of the server.
_PATIENT: Final = Retrying(12)
#: How long one answer may take (seconds).
_TIMEOUT_S: Final = 60.0

#: Parameters of a request, each with its text.
Query: TypeAlias = tuple[tuple[str, str], ...]


class Server:
    """The API of one server. Close it."""

    def __init__(self, address: Address) -> None:
        self._wire = Wire(lambda: connect(address, _TIMEOUT_S))
        self._api = Api(address.url, self._wire, _IMPATIENT)
        self._patient_api = Api(address.url, self._wire, _PATIENT)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._wire.close()

    async def get(self, path: str, query: Query = ()) -> Record:
        """Return the JSON object at `path` below `/api/v1`."""
        return await self._api.document(Call("GET", V1 + path, query=query))

    async def send(
        self, method: str, path: str, body: Any | None = None, *, content: bytes | None = None, key: str | None = None
    ) -> Record:
        """Send a request that changes something, and return the JSON object of its answer.

        `content` is a body that is JSON already, which may be `null`. If the answer is lost, the request is sent again
        with the same idempotency key `key` (default: one of its own).
        """
        return (await self.send_for_status(method, path, body, content=content, key=key))[1]

    async def send_for_status(
        self, method: str, path: str, body: Any | None = None, *, content: bytes | None = None, key: str | None = None
    ) -> tuple[int, Record]:
        """Send as `send` does; returns the HTTP status too."""
        content = content if body is None else to_json(body)
        call = Call(method, V1 + path, body=content, headers=idempotent(key or self._api.new_key()))
        answer = await self._api.exchange(call)
        return answer.status, document_of(answer)

    async def delete(self, path: str) -> None:
        """Send a request that deletes, and whose answer has no body."""
        answer = await self._api.exchange(Call("DELETE", V1 + path))
        if answer.status != 204:
            raise error_of(answer)

    async def items(self, path: str, query: Query, *, page_size: int, limit: int | None = None) -> AsyncGenerator[Any]:
        """Yield the items of a listing, at most `limit`, page by page."""
        items = self._api.items(V1 + path, query, dict, page_size=page_size, limit=limit)
        async with aclosing(items):
            async for item in items:
                yield item

    async def listing(self, path: str, name: str, query: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the list `name` of the JSON object at `path`."""
        return member(await self.get(path, filter_query(query or {})), name, list)

    async def events(self, task_id: str, stream: str, query: Query) -> AsyncGenerator[Record]:
        """Yield the events of a task's stream, `done` last; a connection that breaks is made again."""
        async with aclosing(_records(task_events(self._patient_api, task_id, stream, query))) as records:
            async for record in records:
                yield record

    async def workflow_events(self, workflow_id: str) -> AsyncGenerator[Record]:
        """Yield the events of a workflow in the same way."""
        async with aclosing(_records(workflow_events(self._patient_api, workflow_id))) as records:
            async for record in records:
                yield record


async def _records(events: AsyncGenerator[ServerEvent]) -> AsyncGenerator[Record]:
    async with aclosing(events):
        async for event in events:
            yield {"event": event.name, "id": event.last_id, **data_of(event)}


def within(*parts: str) -> str:
    """Return a path of which each part is quoted."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)
