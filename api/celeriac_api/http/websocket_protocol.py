"""uvicorn's WebSocket protocol, with two additions: endpoints hear pongs, and connections end in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

#: The key in a connection's scope for the function that is called at each pong of the WebSocket protocol.
PONGS: Final = "celeriac.pongs"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Reports pongs to the endpoint, because they show that a client is alive, and ends when the endpoint does."""

    async def run_asgi(self) -> None:
        """Serve the connection, and cut it some seconds after its end, even if the client does not read any more."""
        self._pongs: dict[str, Callable[[], None]] = {}
        self.scope[PONGS] = self._pongs  # type: ignore[typeddict-unknown-key]  # a scope may hold more
        await super().run_asgi()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a complete refusal ends the handshake."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_pong(self, event: Frame) -> None:
        """Report a pong."""
        heard = self._pongs.get("heard")
        if heard is not None:
            heard()
        super().handle_pong(event)
