"""A stock WebSocket client for notifications (docs/notifications.md), and tokens for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from tests.kit.tokens import token_of
from tests.kit.waiting import PATIENCE_S


def token(settings: Settings, user_id: int | str, *scopes: Scope, ttl_s: float | None = None) -> str:
    """Return a token of this user."""
    return token_of(settings, user_id=str(user_id), scopes=scopes, ttl_s=ttl_s)


class Listener:
    """One connection; `messages` keeps all that came."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        """Return the next message, or the next one of this type."""
        while True:
            async with asyncio.timeout(PATIENCE_S):
                message: dict[str, Any] = json.loads(await self.connection.recv())
            self.messages.append(message)
            if kind is None or message["type"] == kind:
                return message

    async def until(self, task_id: str, status: str, *, having: str | None = None) -> dict[str, Any]:
        """Return the next message that says so of a task, and has the field `having`."""
        while True:
            message = await self.next("task_status")
            if (message["task_id"], message["status"]) == (task_id, status) and (having is None or having in message):
                return message

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.connection.send(json.dumps(message))

    async def closed(self) -> int | None:
        """Read until the server closes; returns its code, None where the connection just ended."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code

    @property
    def last_id(self) -> str:
        """The id to come back with."""
        return str(self.messages[-1]["id"])


@asynccontextmanager
async def listening(url: str, user_id: int | str, query: str = "", **options: Any) -> AsyncIterator[Listener]:
    """Connect; `query` begins with `?`."""
    address = f"{url.replace('http', 'ws')}/api/task/ws/task/{user_id}{query}"
    async with connect(address, max_queue=None, **options) as connection:
        yield Listener(connection)
