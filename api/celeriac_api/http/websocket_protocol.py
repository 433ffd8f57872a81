"""uvicorn's WebSocket protocol: it bounds messages, tells endpoints of pongs, and ends connections in time.

Most messages are small and come alone. An endpoint that asks for it (`Direct`) gets these the moment they arrive, and
its own go out at once, without a queue and a task for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from celeriac.settings import ServerSettings
from celeriac_api.http.bodies import LINGER_BYTES, LINGER_S
from celeriac_api.http.frames import lone_text, text_frame
from celeriac_api.http.http_protocol import refusal

#: The key in a connection's scope for the function that is called at each pong of the WebSocket protocol.
PONGS: Final = "celeriac.pongs"
#: The key in a connection's scope for the function that sets the largest message (bytes).
_SET_LARGEST: Final = "celeriac.set_largest_message"
#: The key in a connection's scope for its `Direct`.
_DIRECT: Final = "celeriac.direct"
#: What `receive` returns when a message was handled directly and the client has to wait.
FULL: Final = "celeriac.full"
#: The loop serves others after at most this time of reading (seconds). The clock is read after each slice of this many
#: bytes, which may hold hundreds of tiny frames.
_TURN_S: Final = 0.005
_SLICE_BYTES: Final = 4096
_NOT_A_HANDSHAKE: Final = "this is not a WebSocket handshake (RFC 6455, section 4.1)"


def allow_messages(scope: Mapping[str, Any], most_bytes: int) -> None:
    """Accept messages of this size from now on: the caller is known. Before, they are bounded tightly."""
    set_largest: Callable[[int], None] | None = scope.get(_SET_LARGEST)
    if set_largest is not None:
        set_largest(most_bytes)


@dataclass(slots=True)
class Direct:
    """The short way between a connection and its endpoint, beside `receive` and `send`.

    While the endpoint waits in `receive`, `hear` may get a text there and then. It returns whether the client may go
    on; if not, `receive` returns `FULL`, and nothing more is read until the endpoint calls it again.
    """

    #: Sends a text at once. Returns False if the client does not take it now: then `send` is the way.
    write: Callable[[str], bool]
    hear: Callable[[str], bool] | None = None


def direct_in(scope: Mapping[str, Any]) -> Direct | None:
    """Return the short way to a client; None if this server does not have it."""
    found: Direct | None = scope.get(_DIRECT)
    return found


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Bounds messages, reports pongs to the endpoint because they show life, and ends when the endpoint does."""

    def __init__(self, *, limits: ServerSettings, **options: Any) -> None:
        super().__init__(**options)
        self.conn.max_message_size = limits.max_unproven_bytes
        self._dropped = 0
        #: What the client may still send before the caller is known (bytes); None once it is.
        self._unproven_left: int | None = 2 * limits.max_unproven_bytes
        #: What arrived and is not read yet. Meanwhile nothing more is taken from the socket.
        self._held = bytearray()
        self._next_turn: asyncio.Handle | None = None
        #: The last pong, while the client does not take what it is sent.
        self._late_pong = b""
        self._direct = Direct(write=self._write_text)
        #: Whether the endpoint waits for the next message.
        self._awaited = False

    def data_received(self, data: bytes) -> None:
        """Read what arrived. After an error it is ignored: the client may still have to read why."""
        if self.conn.parser_exc is not None or self.conn.handshake_exc is not None:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.transport.pause_reading()
            return
        if self.handshake_initiated and self._unproven_left is not None:
            self._unproven_left -= len(data)
            if self._unproven_left < 0:
                # Many tiny frames would cost more than one large one.
                self._end_unproven()
                return
        if not self._held and len(data) <= _SLICE_BYTES:
            if not (self._awaited and self._direct.hear is not None and self._hear(data)):
                self._read(data)
            return
        self._held += data
        if self._next_turn is None:
            self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is held: the endpoint hears of the end, and of nothing after it."""
        self._held.clear()
        super().connection_lost(exc)

    def _take_turn(self) -> None:
        """Read what is held, a slice at a time, until a turn is over or the endpoint has a message to handle."""
        self._next_turn = None
        over = time.perf_counter() + _TURN_S
        while self._held and not self.read_paused:
            piece = bytes(memoryview(self._held)[:_SLICE_BYTES])
            del self._held[:_SLICE_BYTES]
            self._read(piece)
            if self.conn.parser_exc is not None or self.conn.handshake_exc is not None or self.transport.is_closing():
                self._held.clear()
            elif time.perf_counter() > over:
                break
        self._go_on()

    def _go_on(self) -> None:
        """Read what is held at the next turn; when all of it is read, go on with what the socket has."""
        if self.transport.is_closing():
            self._held.clear()
        elif self._held:
            self.transport.pause_reading()
            if not self.read_paused and self._next_turn is None:
                self._next_turn = self.loop.call_soon(self._take_turn)
        elif not self.read_paused:
            self.transport.resume_reading()

    def _hear(self, data: bytes) -> bool:
        """Hand over a message that came alone; returns False if it is to be read in the usual way."""
        conn, hear = self.conn, self._direct.hear
        if conn.state is not State.OPEN or self.close_sent or self.read_paused or not self.queue.empty():
            return False
        # Nothing may wait for its rest: neither a frame nor a message of several.
        if conn.reader.buffer or conn.current_size is not None or conn.max_message_size is None or hear is None:
            return False
        text = lone_text(data, conn.max_message_size)
        if text is None:
            return False
        if not hear(text) and not self.read_paused:
            full: Any = {"type": FULL}  # it is for our own endpoints
            self.queue.put_nowait(full)
            self.read_paused = True
            self.transport.pause_reading()
        return True

    def _write_text(self, text: str) -> bool:
        """Send a text if the client takes it now."""
        if not self.writable.is_set() or self.close_sent or self.disconnected or not self.handshake_complete:
            return False
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return False
        self.transport.write(text_frame(text))
        return True

    def _read(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # Not even a request: the library does not say so by itself.
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()) or refusal("bad_request", _NOT_A_HANDSHAKE))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Serve the connection. A client may not send anything before the answer, so nothing is read until then."""
        super().handle_connect(event)
        if not self.close_sent:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_cont(self, event: Frame) -> None:
        """Gather the pieces of a message as bytes: a list of them would cost many times what they hold."""
        frames: list[Any] = self.frames
        if isinstance(frames[0], bytes):
            frames[0] = bytearray(frames[0])
        frames[0] += event.data
        if event.fin:
            frames[0] = bytes(frames[0])
            self.send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why the connection ends, and close it once the client has had time to read that."""
        assert self.conn.close_sent is not None
        closed = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # Closing at once would reset the connection while the client sends.
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        """Serve the connection, and cut it some seconds after its end, even if the client does not read any more."""
        self._pongs: dict[str, Callable[[], None]] = {}
        self.scope[PONGS] = self._pongs  # type: ignore[typeddict-unknown-key]  # a scope may hold more
        self.scope[_SET_LARGEST] = self._set_largest  # type: ignore[typeddict-unknown-key]
        self.scope[_DIRECT] = self._direct  # type: ignore[typeddict-unknown-key]
        await super().run_asgi()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    async def receive(self) -> ASGIReceiveEvent:
        """Return what arrived next. What is held is read after the endpoint has handled it."""
        self._awaited = True
        try:
            message = await super().receive()
        finally:
            self._awaited = False
        if self._held:
            self._go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a complete refusal ends the handshake."""
        await super().send(message)
        if self._held:
            self._go_on()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer a ping. For a client that does not read, only the last one is answered (RFC 6455, 5.5.3)."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)
        else:
            self._late_pong = pong

    def resume_writing(self) -> None:
        """Send what waited for the client."""
        super().resume_writing()
        pong, self._late_pong = self._late_pong, b""
        if pong and not self.close_sent:
            self.transport.write(pong)

    def handle_pong(self, event: Frame) -> None:
        """Report a pong."""
        heard = self._pongs.get("heard")
        if heard is not None:
            heard()
        super().handle_pong(event)

    def _set_largest(self, most_bytes: int) -> None:
        self.conn.max_message_size = most_bytes
        self._unproven_left = None

    def _end_unproven(self) -> None:
        """End a connection whose client sends more than an unknown caller may."""
        self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "show a token first")
        self.conn.parser_exc = self.conn.parser_exc or PayloadTooBig(0, 0)
        if self.conn.close_sent is None:
            self.transport.abort()
        else:
            self.handle_parser_exception()
