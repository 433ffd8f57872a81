"""uvicorn's WebSocket protocol, with what it leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

#: Where a connection's scope holds what hears the pongs of the WebSocket protocol itself.
PONGS: Final = "celeriac.pongs"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Tells the endpoint of pongs, which say that somebody is alive, and ends with it, whatever the client does."""

    async def run_asgi(self) -> None:
        """Serve the connection, and have it gone some seconds later even where the client takes nothing any more."""
        self._pongs: dict[str, Callable[[], None]] = {}
        self.scope[PONGS] = self._pongs  # type: ignore[typeddict-unknown-key]  # a scope may hold more
        await super().run_asgi()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """Send; once a refusal is sent as a whole, nothing more is owed to the client."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_pong(self, event: Frame) -> None:
        """Take a pong."""
        heard = self._pongs.get("heard")
        if heard is not None:
            heard()
        super().handle_pong(event)
