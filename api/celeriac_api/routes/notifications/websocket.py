"""`/api/task/ws/task/{user_id}`: the WebSocket that notifies a user (docs/notifications.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from celeriac.access.principal import Principal, PrincipalKind
from celeriac.errors import (
    AuthenticationError,
    CeleriacError,
    ForbiddenError,
    RateLimitedError,
    StoreUnavailableError,
)
from celeriac_api.access.caller import PRINCIPAL, address_of
from celeriac_api.access.credentials import SUBPROTOCOL
from celeriac_api.access.rights import Access
from celeriac_api.http.problems import RequestError, problem_of
from celeriac_api.http.websocket_protocol import allow_messages
from celeriac_api.parts import Parts, parts_in
from celeriac_api.routes.notifications.user import a_user, user_of
from celeriac_api.routes.notifications.user_connection import REFUSED, TRY_LATER, UserConnection, close, read
from celeriac_api.routing import Router

router = Router()


@router.websocket("/api/task/ws/task/{user_id}", access=Access(own=True, stream=True, first_message=True))
async def notify(websocket: WebSocket, user_id: str) -> None:
    """Serve one connection until one side closes it."""
    parts = parts_in(websocket.scope)
    last_id = websocket.query_params.get("last_event_id") or None
    with contextlib.ExitStack() as places, contextlib.ExitStack() as unproven:
        try:
            if not user_id.isascii() or not user_id.isdecimal():
                raise RequestError("invalid_request", "the user's id in the path must be an integer")
            principal = None
            if _announces_first_message(websocket):
                unproven.enter_context(parts.connections.unproven(address_of(websocket.scope)))
            else:
                principal = _checked(await user_of(websocket), user_id)
                places.enter_context(parts.connections.of_user(user_id))
        except CeleriacError as exc:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await websocket.send_denial_response(problem_of(exc, websocket.url.path))
            return
        try:
            await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
            if principal is None:
                principal, last_id = await _by_first_message(websocket, parts, user_id, last_id)
                # Only now: a stranger takes no place of a user.
                unproven.close()
                places.enter_context(parts.connections.of_user(user_id))
            allow_messages(websocket.scope, parts.settings.notifications.max_client_bytes)
            await UserConnection(websocket, parts, principal, user_id, last_id).serve()
        except (AuthenticationError, ForbiddenError) as exc:
            await close(websocket, REFUSED, str(exc))
        except (RateLimitedError, RequestError, StoreUnavailableError) as exc:
            await close(websocket, TRY_LATER, str(exc))
        except (WebSocketDisconnect, TimeoutError):
            await close(websocket, REFUSED, "no token came")


def _announces_first_message(websocket: WebSocket) -> bool:
    """Return whether the client has shown no credential, and says that its first message will have its token."""
    known: Principal | None = websocket.scope.get(PRINCIPAL)
    if known is not None and known.kind is not PrincipalKind.LOCAL:
        return False
    offered: Sequence[str] = websocket.scope.get("subprotocols", ())
    return offered == [SUBPROTOCOL] or websocket.query_params.get("auth") == "message"


def _checked(principal: Principal, user_id: str) -> Principal:
    if principal.user_id != user_id:
        raise ForbiddenError("the credential belongs to another user than the one in the path")
    return principal


async def _by_first_message(
    websocket: WebSocket, parts: Parts, user_id: str, last_id: str | None
) -> tuple[Principal, str | None]:
    async with asyncio.timeout(parts.settings.server.unproven_timeout):
        received = await websocket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received["code"])
    message = read(received.get("text"))
    token = message.get("token")
    if message.get("type") != "auth" or not isinstance(token, str):
        raise AuthenticationError('the first message must be {"type": "auth", "token": TOKEN}')
    known = await parts.credentials.principal(token, address_of(websocket.scope))
    principal = _checked(a_user(known), user_id)
    shown = message.get("last_event_id")
    return principal, shown if isinstance(shown, str) else last_id
