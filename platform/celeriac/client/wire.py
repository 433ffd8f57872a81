"""Performs the steps of operations over httpx, blocking or on asyncio. The only file that imports httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Final, Self, TypeVar

import httpx

from celeriac.client.address import Address
from celeriac.client.steps import (
    Answer,
    Call,
    Conversation,
    Emit,
    LostConnectionError,
    Open,
    Pause,
    Read,
    Send,
    Step,
    Steps,
    Stream,
)

T = TypeVar("T")
E = TypeVar("E")

#: A quiet event stream says every 15 s that it is alive.
_STREAM_READ_S: Final = 60.0
#: The server closes idle connections after 5 s: ours are given up first, so that few requests meet a closing one.
_LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=20, keepalive_expiry=4.0)
#: Failures of the connection that no repetition cures: the request itself is not HTTP.
_OURS: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


class BlockingWire:
    """A pool of connections for any number of threads."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._http = httpx.Client(**_options(address, timeout_s))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Perform an operation and return its outcome."""
        with _BlockingExchange(self._http) as exchange:
            conversation = Conversation(steps)
            for step in conversation:
                conversation.came = exchange.perform(step)
            return conversation.outcome

    def iterate(self, stream: Stream[E]) -> Generator[E, None, None]:
        """Perform an operation as its items are asked for."""
        with _BlockingExchange(self._http) as exchange:
            conversation = Conversation(stream)
            for step in conversation:
                if isinstance(step, Emit):
                    yield step.item
                else:
                    conversation.came = exchange.perform(step)


class AsyncWire:
    """A pool of connections for one event loop."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._http = httpx.AsyncClient(**_options(address, timeout_s))

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Perform an operation and return its outcome."""
        async with _AsyncExchange(self._http) as exchange:
            conversation = Conversation(steps)
            for step in conversation:
                conversation.came = await exchange.perform(step)
            return conversation.outcome

    async def iterate(self, stream: Stream[E]) -> AsyncGenerator[E, None]:
        """Perform an operation as its items are asked for."""
        async with _AsyncExchange(self._http) as exchange:
            conversation = Conversation(stream)
            for step in conversation:
                if isinstance(step, Emit):
                    yield step.item
                else:
                    conversation.came = await exchange.perform(step)


class _BlockingExchange:
    """What one operation does on the pool. At most one stream of it is open."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._opened: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def perform(self, step: Step) -> Answer | bytes | LostConnectionError | None:
        """Do it, and return what came of it."""
        try:
            match step:
                case Send(call):
                    return _answer(self._http.send(_request(self._http, call)))
                case Open(call):
                    self.__exit__()
                    self._opened = self._http.send(_request(self._http, call, _STREAM_READ_S), stream=True)
                    if self._opened.status_code == 200:
                        self._chunks = self._opened.iter_bytes()
                        return Answer(200, {}, b"")
                    self._opened.read()
                    return _answer(self._opened)
                case Read():
                    return next(self._chunks, b"")
                case Pause(seconds):
                    time.sleep(seconds)
                    return None
        except _OURS:
            raise
        except httpx.TransportError as exc:
            return _lost(exc)


class _AsyncExchange:
    """What one operation does on the pool. At most one stream of it is open."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._opened: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    async def perform(self, step: Step) -> Answer | bytes | LostConnectionError | None:
        """Do it, and return what came of it."""
        try:
            match step:
                case Send(call):
                    return _answer(await self._http.send(_request(self._http, call)))
                case Open(call):
                    await self.__aexit__()
                    self._opened = await self._http.send(_request(self._http, call, _STREAM_READ_S), stream=True)
                    if self._opened.status_code == 200:
                        self._chunks = self._opened.aiter_bytes()
                        return Answer(200, {}, b"")
                    await self._opened.aread()
                    return _answer(self._opened)
                case Read():
                    return await anext(self._chunks, b"")
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                    return None
        except _OURS:
            raise
        except httpx.TransportError as exc:
            return _lost(exc)


def _options(address: Address, timeout_s: float) -> dict[str, Any]:
    headers = {"user-agent": "celeriac-python", "accept": "application/json"}
    if address.token is not None:
        headers["authorization"] = f"Bearer {address.token}"
    return {
        "base_url": address.url,
        "headers": headers,
        "timeout": timeout_s,
        "limits": _LIMITS,
        # The proxy of the environment is for the outside world. Whom the environment trusts (SSL_CERT_FILE) is trusted.
        "trust_env": not address.loopback,
        "verify": httpx.create_ssl_context() if address.url.startswith("https:") else True,
    }


def _request(http: httpx.Client | httpx.AsyncClient, call: Call, read_s: float | None = None) -> httpx.Request:
    headers = dict(call.headers)
    if call.body is not None:
        headers["content-type"] = "application/json"
    request = http.build_request(
        call.method, call.path, params=list(call.query) or None, content=call.body, headers=headers
    )
    if read_s is not None:
        request.extensions["timeout"]["read"] = read_s
    return request


def _answer(response: httpx.Response) -> Answer:
    # Names of httpx's headers are lower case already.
    return Answer(response.status_code, dict(response.headers), response.content)


def _lost(exc: httpx.TransportError) -> LostConnectionError:
    lost = LostConnectionError(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)
    lost.__cause__ = exc
    return lost
