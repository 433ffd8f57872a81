"""One connection to the gateway: sends messages, and hands on those that it receives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from celeriac.remote_worker import messages
from celeriac.remote_worker.outbox import Outbox, Result

log = logging.getLogger("celeriac.remote_worker")

#: Close code if the worker closes the connection.
_NORMAL = 1000


class Listener(Protocol):
    """Receives what comes over a connection."""

    def connected(self, connection: Connection) -> None:
        """The server has greeted this worker."""
        ...

    def given(self, connection: Connection, message: dict[str, Any]) -> None:
        """The server gave a task to this worker."""
        ...

    def asked_to_stop(self, task_id: str, reason: str) -> None:
        """The server asks to stop a task."""
        ...

    def drain(self, connection: Connection) -> None:
        """The server gives no more tasks over this connection."""
        ...

    def refused(self, task_id: str, message: str) -> None:
        """The server refused a message about a task."""
        ...


class Connection:
    """An open connection. `serve` runs until it ends."""

    def __init__(self, socket: ClientConnection, listener: Listener) -> None:
        self.outbox = Outbox()
        self.worker_id = ""
        #: The server gives no more tasks over this connection, because the server stops or this worker does.
        self.draining = False
        self._socket = socket
        self._listener = listener
        self._answered = asyncio.Event()

    async def serve(self) -> list[Result]:
        """Send and receive until the connection ends; return the answers that were not sent."""
        sender = asyncio.create_task(self._send(), name="remote-worker-sender")
        try:
            async for text in self._socket:
                self._heard(text)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            await asyncio.wait([sender])
        return self.outbox.close()

    @property
    def closed_with(self) -> tuple[int | None, str]:
        """The server's close code and reason. The code is None if the connection broke."""
        received = self._socket.protocol.close_rcvd
        return (None, "") if received is None else (received.code, received.reason)

    async def answered(self) -> None:
        """Wait until the server has received all messages sent so far, and its own earlier messages have arrived."""
        self._answered.clear()
        self.outbox.put(messages.ping())
        await self._answered.wait()

    async def leave(self) -> None:
        """Close the connection when everything is sent."""
        await self.outbox.join()
        await self._socket.close(_NORMAL)

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self.outbox.take()
                await self._socket.send(message.text if isinstance(message, Result) else message)
                self.outbox.sent()

    def _heard(self, text: str | bytes) -> None:
        message = messages.read(text)
        kind = None if message is None else message.get("type")
        if message is None or not isinstance(kind, str):
            log.warning("the server sent something that is not a message: %.200r", text)
        elif kind == "task" and isinstance(message.get("taskId"), str):
            self._listener.given(self, message)
        elif kind == "cancel":
            self._listener.asked_to_stop(str(message.get("taskId")), str(message.get("reason") or "cancel"))
        elif kind == "ping":
            self.outbox.put(messages.pong())
        elif kind == "pong":
            self._answered.set()
        elif kind == "connected":
            self.worker_id = str(message.get("workerId") or "")
            self._listener.connected(self)
        elif kind == "drain":
            log.info("the server stops; running tasks finish, then this worker connects again")
            self.draining = True
            self._listener.drain(self)
        elif kind == "error":
            self._complained(message)

    def _complained(self, message: dict[str, Any]) -> None:
        said = str(message.get("message") or "")
        if message.get("taskId"):
            self._listener.refused(str(message["taskId"]), said)
        else:
            log.warning("the server reports an error: %s", said)
