"""Server-sent events on the wire (WHATWG HTML, section 9.2): events, their ids, and the response that sends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from celeriac import json_text
from celeriac.errors import Violation
from celeriac.model import stream_position
from celeriac.store.roles.role import end
from celeriac.tasks.stream import StreamEvents
from celeriac_api.http.bodies import hung_up
from celeriac_api.http.problems import RequestError

log = logging.getLogger(__name__)

#: What a stream sends: an event, or None for a comment that keeps a quiet stream open.
Events = AsyncGenerator[bytes | None, None]

LastEventId = Annotated[
    str | None,
    Header(description="The id of the last event that the client received; browsers send it automatically."),
]
LastEventIdQuery = Annotated[
    str | None,
    Query(alias="last_event_id", description="The same, for clients that cannot set headers; the header wins."),
]

#: How long a browser waits before it connects again.
_RETRY: Final = b"retry: 1000\n\n"
#: A comment, so that proxies keep a quiet stream open.
_KEEPALIVE: Final = b": keep-alive\n\n"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def last_event_seen(header: str | None, query: str | None) -> str | None:
    """Return the id of the last event that a client received, or None if it received none; the header wins.

    Raises `RequestError` for anything else.
    """
    # A browser that has received no event yet sends an empty id.
    seen = header or query or None
    if seen is not None and stream_position(seen) is None:
        raise RequestError(
            "invalid_header",
            "Last-Event-ID must be the id of an event of this stream, e.g. 1896076800000-0",
            [Violation("Last-Event-ID", "is not the id of an event")],
        )
    return seen


def place_of(cursor: str | None) -> tuple[int, int]:
    """Return the stream id in a list's cursor; without a cursor, one that is before all others.

    Raises `RequestError` for anything else, and for an id that the history cannot hold.
    """
    if cursor is None:
        return (-1, 0)
    place = stream_position(cursor)
    if place is None or max(place) >= 2**63:
        message = "is not a cursor; use the `next_cursor` of a page unchanged"
        raise RequestError("invalid_request", f"cursor: {message}", [Violation("cursor", message)])
    return place


def frame(kind: str, data: dict[str, Any], event_id: str | None) -> bytes:
    """Return one event as bytes. Its data is one line, because JSON escapes line breaks."""
    head = f"event: {kind}\n" if event_id is None else f"event: {kind}\nid: {event_id}\n"
    return head.encode() + b"data: " + json_text.encode(data) + b"\n\n"


async def framed(events: StreamEvents) -> Events:
    """Yield the events of a task's stream as bytes, and a quiet moment as None."""
    async with contextlib.aclosing(events):
        async for event in events:
            yield None if event is None else frame(*event)


class EventStreamResponse(Response):
    """Sends a stream until it ends or the client disconnects.

    Each write waits until the client has taken the ones before it, because the server's buffer is bounded. Only then
    the next events are read, so a slow client costs no memory.
    """

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        writer = asyncio.create_task(self._write(send), name="event-stream")
        gone = asyncio.create_task(hung_up(receive))
        try:
            await asyncio.wait({writer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            client_left = gone.done()
            for task in (writer, gone):
                await end(task)
        if not writer.cancelled() and (failure := writer.exception()) is not None:
            # The status has been sent, so the stream can only end. The client comes back with its last id.
            log.error("an event stream broke off", exc_info=failure)
        if not client_left:
            await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
        async with contextlib.aclosing(self._events) as events:
            async for chunk in events:
                await send({"type": "http.response.body", "body": chunk or _KEEPALIVE, "more_body": True})
