"""`/ws`: accepts the connections of remote workers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import WebSocket
from starlette.types import Receive, Scope, Send

from celeriac.access.principal import Scope as Scopes
from celeriac.errors import StoreUnavailableError
from celeriac.settings import GROUP_NAME
from celeriac.store import keys
from celeriac.up.ports import with_port
from celeriac_api.access.rights import Access
from celeriac_api.gateway import messages
from celeriac_api.gateway.connection import WorkerConnection
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.gateway.session import WorkerSession
from celeriac_api.http.websocket_protocol import FULL, PONGS, allow_messages, direct_in
from celeriac_api.parts import parts_in
from celeriac_api.routing import Router

log = logging.getLogger(__name__)

PATH: Final = "/ws"


async def serve_worker(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one worker until it is gone."""
    parts = parts_in(scope)
    await receive()  # websocket.connect
    # The guard has checked the credential.
    allow_messages(scope, parts.settings.dispatch.max_frame_bytes)
    await send({"type": "websocket.accept"})
    gateway = parts.gateway
    group = (parse_qs(scope["query_string"].decode("latin-1")).get("group") or ["default"])[-1] or "default"
    if (refusal := _refusal(gateway, group)) is not None:
        code, reason = refusal
        await send({"type": "websocket.send", "text": messages.error(reason)})
        await send({"type": "websocket.close", "code": code, "reason": reason})
        return
    direct = direct_in(scope)
    connection = WorkerConnection(
        worker_id=gateway.next_worker_id(),
        group=group,
        address=_address(scope.get("client")),
        started_ms=time.time_ns() // 1_000_000,
        send=send,
        write=None if direct is None else direct.write,
        buffer=gateway.settings.send_buffer,
        heard_at=asyncio.get_running_loop().time(),
        ready=gateway.settings.ready_on_connect,
    )
    session = WorkerSession(gateway, connection, max_result_bytes=parts.settings.max_result_bytes)
    try:
        await _converse(session, gateway, connection, scope, receive)
    finally:
        gateway.disconnected(connection)


async def _converse(
    session: WorkerSession, gateway: Gateway, connection: WorkerConnection, scope: Scope, receive: Receive
) -> None:
    try:
        await gateway.connect(connection)
    except StoreUnavailableError:
        connection.close(messages.TRY_LATER, "the store is away")
        await connection.flushed()
        return
    _hear_pongs(scope, connection)
    connection.post(messages.connected(connection.worker_id))
    gateway.changed(connection)
    if (direct := direct_in(scope)) is not None:
        direct.hear = session.heard_directly
    while (event := await receive())["type"] in ("websocket.receive", FULL):
        if event["type"] != FULL:
            session.heard(event.get("text"))
        # A worker that does not read has to wait, and so does one that sends faster than the store can follow.
        await connection.room()
        await session.room()


def _refusal(gateway: Gateway, group: str) -> tuple[int, str] | None:
    if gateway.draining:
        return messages.GOING_AWAY, "the server restarts"
    if GROUP_NAME.fullmatch(group) is None or keys.reserved(group):
        return (
            messages.POLICY,
            "group must be a name: 1 to 128 letters, digits and _ . : - after a letter or digit",
        )
    if len(gateway.connections) >= gateway.settings.max_workers:
        return (
            messages.TRY_LATER,
            "this process has dispatch.max_workers workers already: connect again later",
        )
    return None


def _hear_pongs(scope: Scope, connection: WorkerConnection) -> None:
    pongs: dict[str, Any] | None = scope.get(PONGS)
    if pongs is not None:
        loop = asyncio.get_running_loop()

        def heard() -> None:
            connection.heard_at = loop.time()

        pongs["heard"] = heard


def _address(client: tuple[str, int] | None) -> str:
    # Some proxies do not tell the port.
    return "" if client is None else with_port(*client) if client[1] else client[0]


router = Router()


@router.websocket(PATH, access=Access(Scopes.WORKER, stream=True), served_by=serve_worker)
async def connect_worker(websocket: WebSocket) -> None:
    """Declare what `serve_worker` answers ahead of FastAPI."""
