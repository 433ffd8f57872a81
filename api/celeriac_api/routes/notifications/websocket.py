"""`/api/task/ws/task/{user_id}`: the WebSocket that notifies a user (docs/notifications.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

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
from celeriac_api.access.rights import Access
from celeriac_api.http.problems import RequestError, problem_of
from celeriac_api.parts import Parts, parts_in
from celeriac_api.routes.notifications.user import SUBPROTOCOL, a_user, user_of
from celeriac_api.routes.notifications.user_connection import REFUSED, TRY_LATER, UserConnection, close, read
from celeriac_api.routing import Router

router = Router()

#: How long a client may take for the message with its token (seconds).
_FIRST_MESSAGE_S: Final = 10.0


@router.websocket("/api/task/ws/task/{user_id}", access=Access(stream=True, first_message=True))
async def notify(websocket: WebSocket, user_id: str) -> None:
    """Serve one connection until one side closes it."""
    parts = parts_in(websocket.scope)
    query = websocket.query_params
    # In place, and before any answer, because the server logs from the same scope.
    websocket.scope["query_string"] = urlencode([pair for pair in query.multi_items() if pair[0] != "token"]).encode()
    last_id = query.get("last_event_id") or None
    path = websocket.url.path
    try:
        if not user_id.isascii() or not user_id.isdecimal():
            raise RequestError("invalid_request", "the user's id in the path must be an integer")
        shown = websocket.scope.get(PRINCIPAL)
        known = shown is not None and shown.kind is not PrincipalKind.LOCAL
        waits = not known and "token" not in query and _announces_first_message(websocket)
        principal = None if waits else _checked(await user_of(websocket), user_id)
        parts.connections.enter(user_id)
    except CeleriacError as exc:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await websocket.send_denial_response(problem_of(exc, path))
        return
    try:
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
        if principal is None:
            principal, last_id = await _by_first_message(websocket, parts, user_id, last_id)
        await UserConnection(websocket, parts, principal, user_id, last_id).serve()
    except (AuthenticationError, ForbiddenError) as exc:
        await close(websocket, REFUSED, str(exc))
    except (RateLimitedError, StoreUnavailableError) as exc:
        await close(websocket, TRY_LATER, str(exc))
    except (WebSocketDisconnect, TimeoutError):
        await close(websocket, REFUSED, "no token came")
    finally:
        parts.connections.leave(user_id)


def _announces_first_message(websocket: WebSocket) -> bool:
    """Return whether the client says that its first message will have its token."""
    offered: Sequence[str] = websocket.scope.get("subprotocols", ())
    return offered == [SUBPROTOCOL] or websocket.query_params.get("auth") == "message"


def _checked(principal: Principal, user_id: str) -> Principal:
    if principal.user_id != user_id:
        raise ForbiddenError("the credential belongs to another user than the one in the path")
    return principal


async def _by_first_message(
    websocket: WebSocket, parts: Parts, user_id: str, last_id: str | None
) -> tuple[Principal, str | None]:
    async with asyncio.timeout(_FIRST_MESSAGE_S):
        text = await websocket.receive_text()
    message = read(text) if len(text) <= 16_384 else {}
    token = message.get("token")
    if message.get("type") != "auth" or not isinstance(token, str):
        raise AuthenticationError('the first message must be {"type": "auth", "token": TOKEN}')
    known = await parts.credentials.principal(token, address_of(websocket.scope))
    principal = _checked(a_user(known), user_id)
    shown = message.get("last_event_id")
    return principal, shown if isinstance(shown, str) else last_id
