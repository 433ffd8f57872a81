"""uvicorn's HTTP protocol with bounds: of a request's head, of requests sent at once, and of a client's time."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from celeriac.settings import ServerSettings
from celeriac_api.http.bodies import DISCARD, LINGER_BYTES, LINGER_S
from celeriac_api.http.hangups import HANGUP
from celeriac_api.http.problems import TABLE, problem

log = logging.getLogger(__name__)

#: What the parser of WebSocket handshakes takes: headers, and bytes in one line.
_HANDSHAKE_FIELDS: Final = 128
_HANDSHAKE_LINE: Final = 8192


class HttpProtocol(HttpToolsProtocol):
    """Answers requests that are malformed or too large with a problem, and remembers when bytes arrived."""

    #: When bytes arrived last, and when the request began whose head is not complete (loop time; None without one).
    heard_at = 0.0
    head_since: float | None = None
    #: When an answer was sent before the body of its request was complete.
    answered_at = 0.0
    #: Whether the last check found it slow.
    looked_slow = False
    #: The size of the chunk that is parsed, and the most that the head of this request can have (bytes).
    _chunk = _head_at_most = 0
    #: What arrived since a head, a body or a piece of one began (bytes).
    _without_progress = 0
    #: The answer to a request that no application sees.
    _refusal: bytes | None = None
    #: How much was dropped without a look at it (bytes); None while what arrives is parsed.
    _dropped: int | None = None

    def __init__(self, *, limits: ServerSettings, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        #: What is called when the client hangs up.
        self._at_hangup: dict[Callable[[], object], None] = {}
        #: A head of this size is within every limit, and so is this number of fields.
        self._surely_small = min(limits.max_field_bytes, limits.max_url_bytes, limits.max_head_bytes, _HANDSHAKE_LINE)
        self._surely_few = min(limits.max_head_fields, _HANDSHAKE_FIELDS)

    def connection_made(self, transport: Any) -> None:
        """Wait for the head of a request."""
        super().connection_made(transport)
        self.heard_at = self.head_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait that the client has hung up."""
        super().connection_lost(exc)
        self._hang_up()

    def _hang_up(self) -> None:
        calls, self._at_hangup = self._at_hangup, {}
        for call in calls:
            call()

    def _when_hung_up(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call `call` when the client hangs up; returns what calls that off. Its request has been read as a whole."""
        self._at_hangup[call] = None
        # Only what is read shows that a client is gone.
        self.flow.resume_reading()
        if self.transport.is_closing() or self.cycle.disconnected:
            self.loop.call_soon(self._hang_up)
        return lambda: self._at_hangup.pop(call, None)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; refuse it if it is malformed, or if it is more than a request may have."""
        self.heard_at = self.loop.time()
        if self._dropped is not None:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.transport.pause_reading()
            return
        self._chunk = len(data)
        self._head_at_most += self._chunk
        self._without_progress += self._chunk
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Any other protocol is not offered: the request is answered as HTTP.
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError as exc:
            # on_headers_complete may have said why.
            if self._refusal is None:
                log.debug("%s sent a malformed request: %s", self.client, exc)
                self._refuse("bad_request", "Invalid HTTP request received.")
        else:
            self._check_progress()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """Remember when a request begins."""
        self.head_since = self.heard_at
        self._head_at_most = self._chunk
        self._without_progress = 0
        super().on_message_begin()
        self.scope[DISCARD] = self.discard_rest  # type: ignore[typeddict-unknown-key]  # a scope may hold more
        self.scope[HANGUP] = self._when_hung_up  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """Remember that the head is complete; refuse one that is too large."""
        self._without_progress = 0
        if len(self.headers) > self._surely_few or self._head_at_most > self._surely_small:
            self._check_head()
        if len(self.pipeline) >= self._limits.max_pipelined:
            most = self._limits.max_pipelined
            self._refuse("rate_limited", f"more than {most} requests wait on this connection: read the answers first")
        if self._refusal is not None:
            raise ValueError("the request is refused")
        self.head_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of a body."""
        self._without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass on the end of a body."""
        self._without_progress = 0
        super().on_message_complete()

    # --- what is too much

    def _check_head(self) -> None:
        """Refuse a complete head that is above a limit."""
        limits, sizes = self._limits, [len(name) + len(value) + 4 for name, value in self.headers]
        most_fields, most_field, most_url = limits.max_head_fields, limits.max_field_bytes, limits.max_url_bytes
        if self.parser.should_upgrade() and self._should_upgrade():
            most_fields = min(most_fields, _HANDSHAKE_FIELDS)
            most_field = min(most_field, _HANDSHAKE_LINE)
            most_url = min(most_url, _HANDSHAKE_LINE - len("GET  HTTP/1.1\r\n"))
        if len(self.url) > most_url:
            self._refuse_url(most_url)
        elif len(sizes) > most_fields:
            self._refuse_head(f"the request has {len(sizes)} headers, and may have {most_fields}")
        elif max(sizes, default=0) > most_field:
            name = self.headers[sizes.index(max(sizes))][0][:50].decode("latin-1")
            self._refuse_head(f"the header {name} has {max(sizes)} bytes, and may have {most_field}")
        elif len(self.url) + sum(sizes) > limits.max_head_bytes:
            self._refuse_too_large_head()

    def _check_progress(self) -> None:
        """Refuse what is not complete and too large already: a head, the end of a body, or what belongs to neither."""
        cycle = self.cycle
        if self.head_since is None and cycle is not None and cycle.response_complete and not cycle.more_body:
            # Bytes between two requests, such as empty lines: the next request has begun.
            self.head_since = self.heard_at
        if self._without_progress > self._limits.max_head_bytes:
            if self.head_since is not None and self.headers == [] and len(self.url) > self._limits.max_url_bytes:
                self._refuse_url(self._limits.max_url_bytes)
            else:
                self._refuse_too_large_head()
        elif self.headers and len(self.headers) > self._limits.max_head_fields:
            # Trailers count too.
            self._refuse_head(
                f"the request has more than {self._limits.max_head_fields} headers", again=self.head_since is None
            )

    def _refuse_url(self, most: int) -> None:
        self._refuse("uri_too_long", f"the URL may have {most} bytes: send long values in the body of a request")

    def _refuse_too_large_head(self) -> None:
        self._refuse_head(f"the headers are larger than {self._limits.max_head_bytes} bytes")

    def _refuse_head(self, detail: str, *, again: bool = False) -> None:
        self._refuse("head_too_large", f"{detail}: send fewer or shorter headers", again=again)

    def _refuse(self, code: str, detail: str, *, again: bool = False) -> None:
        """Answer with a problem, after the answers that are still due, and close the connection.

        `again`: the application already serves the request, and its end is refused.
        """
        self._refusal = refusal(code, detail)
        self._dropped = 0
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._send_refusal()
        elif again or (self.head_since is None and cycle.more_body):
            cycle.disconnected = True
            cycle.message_event.set()
            self._hang_up()
            if cycle.response_started or self.pipeline:
                self.transport.abort()
            else:
                self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        self.transport.write(self._refusal)
        self.loop.call_later(LINGER_S, self.transport.abort)

    async def discard_rest(self) -> None:
        """Drop what still arrives on this connection, without parsing it, until the client hangs up or time is over."""
        self._dropped = 0
        self.flow.resume_reading()
        cycle = self.cycle
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not cycle.disconnected:
                    await cycle.message_event.wait()
                    cycle.message_event.clear()

    # --- time

    def on_response_complete(self) -> None:
        """Go on with the next request; the last one may be refused."""
        super().on_response_complete()
        self.answered_at = self.loop.time()
        if self._refusal is not None and not self.pipeline and self.cycle.response_complete:
            self._send_refusal()

    def is_slow(self, now: float, *, head_s: float, body_s: float) -> bool:
        """Return whether the client takes too long: for a head, between pieces of a body, or after the answer."""
        if self.head_since is not None:
            return now - self.head_since > head_s
        cycle = self.cycle
        if cycle is None or not cycle.more_body:
            return False
        if cycle.response_complete:
            return now - self.answered_at > head_s
        # If the server has paused the body, the client is not to blame.
        return not self.flow.read_paused and now - self.heard_at > body_s


def refusal(code: str, detail: str) -> bytes:
    """Return a whole HTTP response with a problem, for a request that no application sees."""
    row = TABLE[code]
    response = problem(code, row, detail, "")
    lines = [b"HTTP/1.1 %d %s\r\n" % (row.http, http.HTTPStatus(row.http).phrase.encode())]
    lines += [b"%s: %s\r\n" % header for header in response.raw_headers if header[0] != b"connection"]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])
