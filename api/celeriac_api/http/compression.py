"""JSON answers, compressed for callers that accept gzip. Decision 44 says what is compressed, and what is not."""

from __future__ import annotations

import asyncio
import functools
import gzip
from typing import Final

from starlette.types import Message, Scope, Send

#: Higher levels take twice the time for a few percent.
_LEVEL: Final = 4
#: A larger body is compressed on another thread: the event loop must not wait for it (bytes).
_ELSEWHERE: Final = 32 * 1024
#: So many bodies are compressed at once; further answers wait for their turn.
_AT_ONCE: Final = 2


class Compression:
    """Compresses whole JSON answers of at least `least_bytes` (0: none), of one event loop."""

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def sending(self, send: Send, scope: Scope) -> Send:
        """Return a `send` that compresses the answer to the request `scope`, if that is worth it."""
        if not self._least_bytes:
            return send
        held: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                if self._may_be_compressed(message):
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                # One that comes in pieces is sent as it is.
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    start, message = await self._compressed(start, message, scope)
                await send(start)
            await send(message)

        return send_compressed

    def _may_be_compressed(self, start: Message) -> bool:
        if start["status"] != 200:
            return False
        # What has a validator or an encoding of its own is another representation than this body would be.
        found = {name: value for name, value in start.get("headers", ()) if name in _TELLING}
        return (
            found.get(b"content-type", b"").startswith(b"application/json")
            and int(found.get(b"content-length", 0)) >= self._least_bytes
            and not found.keys() & _OWN
        )

    async def _compressed(self, start: Message, body: Message, scope: Scope) -> tuple[Message, Message]:
        headers = [*start["headers"], (b"vary", b"Accept-Encoding")]
        whole = body.get("body", b"")
        # A HEAD that a route answers without a body has the length of what GET sends uncompressed.
        if len(whole) >= self._least_bytes and accepts_gzip(scope):
            whole = await self._packed(whole)
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            headers += [(b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(whole))]
        return {**start, "headers": headers}, {**body, "body": whole}

    async def _packed(self, body: bytes) -> bytes:
        if len(body) <= _ELSEWHERE:
            return packed(body)
        async with self._turns:
            return await asyncio.to_thread(packed, body)


def packed(body: bytes) -> bytes:
    """Return `body` as gzip. Without a time in its header it is the same in every process."""
    return gzip.compress(body, _LEVEL, mtime=0)


def accepts_gzip(scope: Scope) -> bool:
    """Return whether the caller accepts gzip (RFC 9110, section 12.5.3)."""
    found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-encoding"]
    return _accepts_gzip(",".join(found)) if found else False


@functools.lru_cache(maxsize=256)
def _accepts_gzip(text: str) -> bool:
    weights: dict[str, bool] = {}
    for part in text.lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _positive(parameters)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _positive(parameters: str) -> bool:
    name, _, value = parameters.replace(" ", "").partition("=")
    try:
        return name != "q" or float(value) > 0
    except ValueError:
        return False


_TELLING: Final = {b"content-type", b"content-length", b"content-encoding", b"etag", b"content-range"}
_OWN: Final = {b"content-encoding", b"etag", b"content-range"}
