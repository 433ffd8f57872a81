"""A WebSocket server that a test speaks for, message by message: for what the real gateway does rarely."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from celeriac import RemoteWorker
from tests.kit.waiting import PATIENCE_S


class Visit:
    """One connection of a worker."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self.socket = socket
        self.number = number

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send(json.dumps(message))

    async def give(self, task_id: str, **payload: Any) -> None:
        """Give a task."""
        await self.say(type="task", taskId=task_id, payload={"model": "default", **payload})

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """Return the next message (of this type)."""
        while True:
            message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))
            if kind is None or message["type"] == kind:
                return message

    async def gone(self) -> int | None:
        """Wait until the worker has left; returns its close code."""
        await asyncio.wait_for(self.socket.wait_closed(), PATIENCE_S)
        return self.socket.close_code


class ScriptedGateway:
    """Hands each connection to the test."""

    def __init__(self) -> None:
        self.url = ""
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._count = 0

    async def visit(self, *, ready: bool = True) -> Visit:
        """Wait for the next connection, greet it, and wait for its `ready`."""
        visit = await asyncio.wait_for(self._visits.get(), PATIENCE_S)
        await visit.say(type="connected", workerId=f"W{visit.number}-00000000", message="Connected to Task Dispatcher")
        if ready:
            assert (await visit.hear())["type"] == "ready"
        return visit

    async def serve(self, socket: ServerConnection) -> None:
        """Hold a connection until it ends."""
        self._count += 1
        self._visits.put_nowait(Visit(socket, self._count))
        try:
            await socket.wait_closed()
        except ConnectionClosed:
            return


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """Serve on a free port."""
    gateway = ScriptedGateway()
    async with serve(gateway.serve, "127.0.0.1", 0) as server:
        gateway.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield gateway


@asynccontextmanager
async def working(worker: RemoteWorker) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker beside the test; it has stopped afterwards."""
    running = asyncio.create_task(worker.run_async())
    try:
        yield running
    finally:
        running.cancel()  # and not `stop`: it would wait for answers, and nobody answers any more
        await asyncio.wait([running], timeout=PATIENCE_S)
        assert running.done()
