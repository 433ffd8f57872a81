"""Event streams and WebSockets: counted while they are open, and ended with the credential that opened them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celeriac.access.authenticator import Authenticator
from celeriac.access.principal import Principal, PrincipalKind
from celeriac.errors import CeleriacError
from celeriac_api.access.caller import PRINCIPAL

#: How often the credential of an open stream is checked again (seconds).
LOOK_S: Final = 15.0
#: WebSocket close code: the credential has expired; the client should connect with another one.
EXPIRED_CLOSE: Final = 1008


async def serve_while_valid(
    app: ASGIApp, authenticator: Authenticator, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve a stream until it ends, or until its credential expires: then close it cleanly."""
    state = ""

    async def send_watched(message: Message) -> None:
        nonlocal state
        state = message["type"]
        if state == "http.response.body" and not message.get("more_body", False):
            state = "ended"
        await send(message)

    serving = asyncio.ensure_future(app(scope, receive, send_watched))
    watching = asyncio.create_task(_until_invalid(authenticator, scope), name="watch-credential")
    try:
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            return
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        if state in ("http.response.start", "http.response.body"):
            await send({"type": "http.response.body", "body": b""})
        elif state in ("websocket.accept", "websocket.send"):
            await send({"type": "websocket.close", "code": EXPIRED_CLOSE, "reason": "the credential has expired"})
    finally:
        serving.cancel()
        watching.cancel()


async def _until_invalid(authenticator: Authenticator, scope: Scope) -> None:
    while True:
        principal: Principal | None = scope.get(PRINCIPAL)
        pause_s = LOOK_S
        if principal is not None and principal.expires_at is not None:
            pause_s = min(pause_s, principal.expires_at - time.time())
            if pause_s <= 0:
                return
        await asyncio.sleep(pause_s)
        if principal is not None and principal.kind is PrincipalKind.KEY:
            # While the store is unavailable nobody can tell, so the stream goes on.
            with contextlib.suppress(CeleriacError):
                if not await authenticator.key_exists(principal.credential):
                    return
