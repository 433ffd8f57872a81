"""A lean load generator: HTTP/1.1 over keep-alive connections, closed loop, one fixed request.

It costs about 15 µs per request, so the server on the other core is the bottleneck. An answer other than 2xx or a
connection that ends fails the whole run, because a figure that includes errors is worthless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar, cast

Mark = TypeVar("Mark")


class BadAnswerError(RuntimeError):
    """The server's answer was not a success."""


@dataclass(frozen=True, slots=True)
class Load(Generic[Mark]):
    """The results of a run. `answered` counts only the measured span; `sent` also counts warm-up and end.

    `before` and `after` are the values that `mark` returned at the start and the end of the measured span.
    """

    answered: int
    sent: int
    seconds: float
    latencies_s: list[float]
    before: Mark
    after: Mark


def post(path: str, body: bytes, *, host: str) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def generate(
    port: int,
    request: bytes,
    *,
    connections: int,
    warm_up_s: float,
    measure_s: float,
    mark: Callable[[], Mark],
    host: str = "127.0.0.1",
) -> Load[Mark]:
    """Send `request` on each connection, again after every answer; raises `BadAnswerError`."""
    loop = asyncio.get_running_loop()
    run = _Run(request, failed=loop.create_future())
    clients = [(await loop.create_connection(lambda: _Client(run), host, port))[1] for _ in range(connections)]
    try:
        for client in clients:
            client.send()
        await run.for_seconds(warm_up_s)
        before, started, answered_before = mark(), perf_counter(), run.answered
        run.latencies_s.clear()
        await run.for_seconds(measure_s)
        after, seconds, answered = mark(), perf_counter() - started, run.answered - answered_before
        latencies_s = list(run.latencies_s)
        run.ending = True
        while run.answered < run.sent:
            await run.for_seconds(0.01)
    finally:
        run.ending = True
        for client in clients:
            client.close()
    return Load(answered, run.sent, seconds, latencies_s, before, after)


class _Run:
    """The state that all connections of a run share."""

    def __init__(self, request: bytes, failed: asyncio.Future[None]) -> None:
        self.request = request
        self.sent = 0
        self.answered = 0
        self.latencies_s: list[float] = []
        self.ending = False
        self._failed = failed

    def fail(self, error: BadAnswerError) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def for_seconds(self, seconds: float) -> None:
        """Let the load continue for a while; raises as soon as the run has failed."""
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()


class _Client(asyncio.Protocol):
    """One connection, which sends the next request after each answer."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from `asyncio.Transport`.
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Send one request."""
        self._run.sent += 1
        self._sent_at = perf_counter()
        self._transport.write(self._run.request)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; send again once the answer is complete."""
        data = self._buffer + data if self._buffer else data
        run = self._run
        end = data.find(b"\r\n\r\n")
        try:
            complete = end >= 0 and len(data) >= end + 4 + _body_length(data[:end])
        except BadAnswerError as exc:
            run.fail(exc)
            return
        if not complete:
            self._buffer = data
            return
        self._buffer = b""
        if not data.startswith(b"HTTP/1.1 2"):
            run.fail(BadAnswerError(data[:2000].decode("latin-1")))
            return
        run.answered += 1
        run.latencies_s.append(perf_counter() - self._sent_at)
        if not run.ending:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run, unless it is over."""
        if not self._run.ending:
            self._run.fail(BadAnswerError(f"the server closed a connection ({exc})"))


def _body_length(head: bytes) -> int:
    head = head.lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise BadAnswerError(f"an answer without Content-Length: {head.decode('latin-1')}")
    return int(head[at + 15 :].split(b"\r\n", 1)[0])
