"""Sends requests over httpx. On this side the only file that imports it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import httpx

from celeriac.client.address import Address
from celeriac.client.http.calls import Answer, Call, LostConnectionError
from celeriac.threads.forking import call_after_fork, keep_inherited

#: Longest silence of an event stream. The server writes at least every 15 s, so that a quiet stream shows it is alive.
_STREAM_READ_S: Final = 60.0
#: The server closes a connection that was idle for 75 s (setting `keep_alive`). The client closes it earlier, so that a
#: request rarely meets a connection that the server is just closing.
_LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=20, keepalive_expiry=60.0)
#: These errors mean that the request itself is not valid HTTP. Sending it again would not help.
_INVALID_REQUESTS: Final = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


def connect(address: Address, timeout_s: float) -> httpx.AsyncClient:
    """Return a pool of connections to the API. It connects when it is used."""
    headers = {"user-agent": "celeriac-python", "accept": "application/json"}
    if address.token is not None:
        headers["authorization"] = f"Bearer {address.token}"
    return httpx.AsyncClient(
        base_url=address.url,
        headers=headers,
        timeout=timeout_s,
        limits=_LIMITS,
        # A proxy of the environment leads to the outside world, not to this machine.
        trust_env=not address.loopback,
        # This context trusts what the environment trusts (SSL_CERT_FILE), whatever `trust_env` says.
        verify=httpx.create_ssl_context() if address.url.startswith("https:") else True,
    )


class Wire:
    """Sends requests on a pool of connections, which is opened at its first use; a forked child opens its own."""

    def __init__(self, connect: Callable[[], httpx.AsyncClient]) -> None:
        self._connect = connect
        self._pool: httpx.AsyncClient | None = None
        self._closed = False
        call_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        keep_inherited(self._pool)
        self._pool = None

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._closed = True
        if self._pool is not None:
            await self._pool.aclose()

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._closed:
            raise RuntimeError("this client is closed: make another one")
        if self._pool is None:
            self._pool = self._connect()
        return self._pool

    async def send(self, call: Call) -> Answer:
        """Send a request and return the answer; raises `LostConnectionError`."""
        with _lost_connections():
            request = self._request(call)
            if call.waits_s:
                request.extensions["timeout"]["read"] += call.waits_s
            return _answer(await self._http.send(request))

    @asynccontextmanager
    async def opened(self, call: Call) -> AsyncGenerator[Stream]:
        """Send a request. An answer of 200 is left to be read bit by bit; any other answer is read at once.

        Raises `LostConnectionError`. The block's end closes the response.
        """
        request = self._request(call)
        request.extensions["timeout"]["read"] = _STREAM_READ_S
        with _lost_connections():
            response = await self._http.send(request, stream=True)
        try:
            if response.status_code == 200:
                yield Stream(response, Answer(200, {}, b""))
            else:
                with _lost_connections():
                    await response.aread()
                yield Stream(response, _answer(response))
        finally:
            await response.aclose()

    def _request(self, call: Call) -> httpx.Request:
        headers = dict(call.headers)
        if call.body is not None:
            headers["content-type"] = "application/json"
        return self._http.build_request(
            call.method, call.path, params=list(call.query) or None, content=call.body, headers=headers
        )


class Stream:
    """An answer whose body is read bit by bit."""

    def __init__(self, response: httpx.Response, answer: Answer) -> None:
        self.answer = answer
        self._chunks = response.aiter_bytes()

    async def read(self) -> bytes:
        """Return the next bytes of the body, `b""` at its end; raises `LostConnectionError`."""
        with _lost_connections():
            return await anext(self._chunks, b"")


@contextmanager
def _lost_connections() -> Iterator[None]:
    """Raise `LostConnectionError` when the connection fails inside the block."""
    try:
        yield
    except _INVALID_REQUESTS:
        raise
    except httpx.TransportError as exc:
        reason = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        raise LostConnectionError(reason) from exc


def _answer(response: httpx.Response) -> Answer:
    # The names of httpx's headers are lower case already.
    return Answer(response.status_code, dict(response.headers), response.content)
