"""Reads request bodies, never more than the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from celeriac.errors import CeleriacError, PayloadTooLargeError
from celeriac.store.roles.role import end

T = TypeVar("T")

#: A body that is refused before it is read is not worth a new connection if it has no more than this.
_SMALL_BYTES: Final = 64 * 1024
#: A client may still send this much of a refused body, so that it gets to read the refusal.
_DRAIN_BYTES: Final = 64 * 1024**2
_DRAIN_S: Final = 5.0
#: The key in a request's scope for the server's function behind `discard_rest`.
DISCARD: Final = "celeriac.discard_rest"
#: A refused client may still send for this long (seconds), and this much (bytes). Closing at once would reset the
#: connection while the client sends, and it might not get to read the answer.
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 16 * 1024**2


class ClientGoneError(Exception):
    """The client disconnected before its body was complete, so an answer would not reach it."""


class SlowBodyError(CeleriacError):
    """The body was not complete in the time that it may take."""

    code = "request_timeout"

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"the whole body may take {limit_s:g} s: send it faster")


class EncodedBodyError(CeleriacError):
    """The body is compressed. No route accepts that, because a limit of bytes would not bound what they expand to."""

    code = "unsupported_media_type"

    def __init__(self, encoding: str, *, file: bool) -> None:
        self.encoding = encoding
        super().__init__(
            f"the body is compressed (Content-Encoding: {encoding}): send it uncompressed, without that header"
            + ("; if the file itself is compressed, leave the header out too" if file else "")
        )


def check_encoding(scope: Mapping[str, Any]) -> None:
    """Raise `EncodedBodyError` if a body has a `Content-Encoding` (RFC 9110, section 8.4) that changes it."""
    said: list[str] = []
    content_type: bytes | None = None
    has_body = False
    for name, value in scope["headers"]:
        if name == b"content-encoding":
            said += [part.strip().lower() for part in value.decode("latin-1").split(",")]
        elif name == b"content-type":
            content_type = value
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            has_body = True
    changing = [part for part in said if part not in ("", "identity")]
    # Without a body the header means nothing: some clients send it with every request.
    if has_body and changing:
        raise EncodedBodyError(", ".join(changing)[:100], file=content_type is not None and not is_json(content_type))


def check_declared_size(scope: Mapping[str, Any], limit: int) -> None:
    """Raise `PayloadTooLargeError` if `Content-Length` is above `limit`."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            # The HTTP parser has refused everything that is not a number.
            if value.isdigit() and int(value) > limit:
                raise PayloadTooLargeError("the body", int(value), limit)
            return


def is_json(content_type: bytes) -> bool:
    """Return whether this `Content-Type` is JSON, or a type that is written in JSON (`+json`)."""
    essence = content_type.split(b";", 1)[0].strip().lower()
    return essence == b"application/json" or (essence.startswith(b"application/") and essence.endswith(b"+json"))


async def hung_up(receive: Receive) -> None:
    """Return when the client has disconnected. What it still sends is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. If the client disconnects before, cancel it and raise `ClientGoneError`."""
    working = asyncio.get_running_loop().create_task(work)
    gone = asyncio.get_running_loop().create_task(hung_up(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return await working
    finally:
        gone.cancel()
        if not working.done():
            await end(working)


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole body; raises `PayloadTooLargeError` as soon as it exceeds `limit`, and `ClientGoneError`."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise PayloadTooLargeError("the body", len(body), limit)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise PayloadTooLargeError("the body", size, limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises `PayloadTooLargeError` after more than `limit` bytes."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limit:
                raise PayloadTooLargeError("the body", size, limit)
        return message

    return receive_limited


def within(receive: Receive, limit_s: float) -> Receive:
    """Return a `receive` that raises `SlowBodyError` once `limit_s` seconds have passed since its first call."""
    until: float | None = None

    async def receive_in_time() -> Message:
        nonlocal until
        if until is None:
            until = asyncio.get_running_loop().time() + limit_s
        try:
            async with asyncio.timeout_at(until):
                return await receive()
        except TimeoutError:
            raise SlowBodyError(limit_s) from None

    return receive_in_time


def has_large_body(scope: Mapping[str, Any]) -> bool:
    """Return whether a request declares a body that is large, or that may be."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return True
        if name == b"content-length" and value.isdigit() and int(value) > _SMALL_BYTES:
            return True
    return False


class StreamedBody:
    """Passes a body on as it arrives, and remembers whether it has ended."""

    #: Where a request's scope holds the body.
    KEY: Final = "celeriac.body"

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        """Receive the next message."""
        message = await self._receive()
        self.ended = self.ended or message["type"] != "http.request" or not message.get("more_body", False)
        return message


class RefusedBody(Response):
    """Sends the refusal of a body at once, then receives what the client is still writing, then ends."""

    def __init__(self, refusal: Response) -> None:
        super().__init__(refusal.body, refusal.status_code)
        self.raw_headers = refusal.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        body: StreamedBody | None = scope.get(StreamedBody.KEY)
        unread = body is None or not body.ended
        headers = self.raw_headers
        large = unread and has_large_body(scope)
        if large:
            # Not all of the body will be received, so the connection cannot be used again.
            headers = [*(header for header in headers if header[0] != b"connection"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        if unread and not (large and await discard_rest(scope)):
            await drain(receive)
        await send({"type": "http.response.body", "body": b""})


async def discard_rest(scope: Mapping[str, Any]) -> bool:
    """Drop what the client of an answered request still sends, until it has had time to read the answer.

    Returns False if the server cannot do that. The server does not even parse it, so this costs less than `drain`.
    """
    discard: Callable[[], Awaitable[None]] | None = scope.get(DISCARD)
    if discard is None:
        return False
    await discard()
    return True


async def drain(receive: Receive) -> None:
    """Receive the rest of a refused body, within bounds: many clients write all of it before they read."""
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return
