"""The HTTP protocol of the server: it answers whole requests to a hot route itself, without a task, scope or messages.

Any other request, and any that is not as usual, goes the way of all requests (`HttpProtocol`), on the same connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from celeriac_api.http.hot_heads import AnyHead
from celeriac_api.http.http_protocol import HttpProtocol

#: A body is waited for here if it is not larger; others are passed on as they arrive.
_MOST_WAITED: Final = 64 * 1024
#: Where a connection is: between requests (or in one that goes the usual way), waiting for the rest of a body, waiting
#: for an answer, given up.
_USUAL: Final = 0
_BODY: Final = 1
_ANSWER: Final = 2
_GONE: Final = 3


class HotRoute(Protocol):
    """Answers whole requests."""

    def find(self, data: bytes) -> AnyHead | None:
        """Return the head that a chunk begins with; None if this route does not take the request."""
        ...

    def begin(self, head: AnyHead, body: bytes, state: dict[str, Any], heard: Callable[[Any], None]) -> bool:
        """Begin to answer a request: `heard` gets the outcome later. Returns False if it has to go the usual way."""
        ...

    def answer(self, outcome: Any, common: Sequence[tuple[bytes, bytes]], *, close: bool) -> bytes:
        """Return the whole response to what `heard` got, with these headers first."""
        ...

    def stopping(self) -> Exception:
        """Return the outcome of a request that the stopping server gives up."""
        ...

    def ended(self) -> None:
        """Note that a request that began has ended."""
        ...

    def hung_up(self, heard: Callable[[Any], None]) -> None:
        """Note that the client of a request that began has hung up; `heard` is still called."""
        ...


class HotProtocol(HttpProtocol):
    """Serves one connection; requests to routes other than `hot` go the usual way."""

    def __init__(self, *, hot: Sequence[HotRoute], **options: Any) -> None:
        super().__init__(**options)
        self._routes = hot
        #: The one whose request is served.
        self._hot: HotRoute | None = None
        self._stage = _USUAL
        #: Whether the parser is between two requests.
        self._between = True
        #: The request whose body is waited for.
        self._head: AnyHead | None = None
        #: What has arrived of it, or what arrived while the answer was waited for.
        self._held = bytearray()
        #: When the last answer was sent here (loop time).
        self._rested_at = 0.0
        self._close_after = False

    # --- what arrives

    def data_received(self, data: bytes) -> None:
        """Answer a whole request, or pass on what arrived."""
        if self._stage == _USUAL:
            if self._routes and self._at_rest() and (head := self._find(data)) is not None:
                size = len(data)
                if size == head.ends:
                    if self._begin(head, data[head.begins :]):
                        return
                elif size < head.ends and head.ends - head.begins <= _MOST_WAITED:
                    self._stage, self._head, self._held = _BODY, head, bytearray(data)
                    self.heard_at, self.head_since = self.loop.time(), None
                    return
            super().data_received(data)
        elif self._stage == _BODY:
            self._go_on(data)
        elif self._stage == _ANSWER:
            self._held += data
            self.flow.pause_reading()

    def _go_on(self, data: bytes) -> None:
        self._held += data
        self.heard_at = self.loop.time()
        head = self._head
        assert head is not None
        if len(self._held) < head.ends:
            return
        whole, self._held, self._head = bytes(self._held), bytearray(), None
        if len(whole) == head.ends and self._begin(head, whole[head.begins :]):
            return
        self._stage = _USUAL
        super().data_received(whole)

    def _find(self, data: bytes) -> AnyHead | None:
        for route in self._routes:
            if (head := route.find(data)) is not None:
                self._hot = route
                return head
        return None

    def _at_rest(self) -> bool:
        cycle = self.cycle
        return (
            self._between
            and (cycle is None or cycle.response_complete)
            and self._dropped is None
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def on_message_begin(self) -> None:
        """Note that the parser is inside of a request."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that the parser is between two requests again."""
        self._between = not self.parser.should_upgrade()
        super().on_message_complete()

    # --- answers

    def _begin(self, head: AnyHead, body: bytes) -> bool:
        assert self._hot is not None
        if not self._hot.begin(head, body, self.app_state, self._heard):
            return False
        self._stage, self.head_since = _ANSWER, None
        return True

    def _heard(self, outcome: Any) -> None:
        assert self._hot is not None
        self._hot.ended()
        self.server_state.total_requests += 1
        if self._stage == _GONE:
            return
        self._stage = _USUAL
        if self.transport.is_closing():
            return
        self._rested_at = self.answered_at = self.loop.time()
        self.transport.write(self._hot.answer(outcome, self.server_state.default_headers, close=self._close_after))
        if self._close_after:
            self.transport.close()
            return
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self.flow.resume_reading()
            self.data_received(held)

    def give_up(self) -> None:
        """Answer a request that the stopping server does not wait for any longer."""
        if self._stage in (_BODY, _ANSWER):
            assert self._hot is not None
            self._stage = _GONE
            if not self.transport.is_closing():
                outcome = self._hot.stopping()
                self.transport.write(self._hot.answer(outcome, self.server_state.default_headers, close=True))
                self.transport.close()

    # --- time

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is held."""
        self._held.clear()
        if self._stage == _BODY:
            self._stage = _GONE
        super().connection_lost(exc)
        if self._stage == _ANSWER and self._hot is not None:
            self._stage = _GONE
            self._hot.hung_up(self._heard)

    def shutdown(self) -> None:
        """Close the connection, after the answer if one is due."""
        if self._stage in (_BODY, _ANSWER):
            self._close_after = True
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nothing came for the time; one timer serves many requests."""
        self.timeout_keep_alive_task = None
        left_s = float(self.timeout_keep_alive)
        if self._stage == _USUAL:
            left_s += self._rested_at - self.loop.time()
        if left_s > 0 and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def is_slow(self, now: float, *, head_s: float, body_s: float) -> bool:
        """Return whether the client takes too long (see `HttpProtocol`)."""
        if self._stage == _BODY:
            return now - self.heard_at > body_s
        return self._stage == _USUAL and super().is_slow(now, head_s=head_s, body_s=body_s)
