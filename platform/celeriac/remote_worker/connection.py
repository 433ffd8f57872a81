"""One connection to the gateway: what is said over it, and what it is told."""

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

#: Close code of a worker that leaves by itself.
_NORMAL = 1000


class Listener(Protocol):
    """Who is told what comes over a connection: the worker."""

    def connected(self, connection: Connection) -> None:
        """The server has greeted us."""
        ...

    def given(self, connection: Connection, message: dict[str, Any]) -> None:
        """A task came."""
        ...

    def asked_to_stop(self, task_id: str, reason: str) -> None:
        """A task is to stop."""
        ...

    def drain(self, connection: Connection) -> None:
        """No more tasks come over this connection."""
        ...

    def refused(self, task_id: str, message: str) -> None:
        """The server did not take what was said about a task."""
        ...


class Connection:
    """A standing connection; `serve` runs until it ends."""

    def __init__(self, socket: ClientConnection, listener: Listener) -> None:
        self.outbox = Outbox()
        self.worker_id = ""
        #: No more tasks come over this one: the server stops, or this worker does.
        self.draining = False
        self._socket = socket
        self._listener = listener
        self._answered = asyncio.Event()

    async def serve(self) -> list[Result]:
        """Send and receive until the connection ends; returns the answers that did not go out."""
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
        """The server's close code and reason; None where it just vanished."""
        received = self._socket.protocol.close_rcvd
        return (None, "") if received is None else (received.code, received.reason)

    async def answered(self) -> None:
        """Wait until the server has heard all that was said so far; what it sent before that has arrived then."""
        self._answered.clear()
        self.outbox.put(messages.ping())
        await self._answered.wait()

    async def leave(self) -> None:
        """Close once everything is sent."""
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
            log.warning("the server sent something that is no message: %.200r", text)
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
            log.info("the server stops: finishing what runs, then connecting again")
            self.draining = True
            self._listener.drain(self)
        elif kind == "error":
            self._complained(message)

    def _complained(self, message: dict[str, Any]) -> None:
        said = str(message.get("message") or "")
        if message.get("taskId"):
            self._listener.refused(str(message["taskId"]), said)
        else:
            log.warning("the server complains: %s", said)
