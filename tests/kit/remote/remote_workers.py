"""Remote workers as a stock WebSocket library makes them, a few lines each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.kit.waiting import PATIENCE_S


class Worker:
    """A connection to `/ws` that the test holds the other end of."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """Return the next message; the server's pings are answered and passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while (message := dict(json.loads(await self.connection.recv()))) == {"type": "ping"}:
                await self.say(type="pong")
            return message

    async def hear_nothing(self) -> None:
        """Everything that was sent to the worker has been heard: the answer to a ping is the next message."""
        await self.say(type="ping")
        assert await self.hear() == {"type": "pong"}

    async def hear_the_end(self) -> int:
        """Return the close code."""
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def take(self) -> dict[str, Any]:
        """Hear a task."""
        message = await self.hear()
        assert message["type"] == "task", message
        return message

    async def work(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        """Answer every task, and every ping, until the connection ends."""
        async for text in self.connection:
            message = json.loads(text)
            if message["type"] == "ping":
                await self.say(type="pong")
            elif message["type"] == "task":
                result = answer(message["payload"])
                await self.say(type="task_complete", taskId=message["taskId"], result=result, duration=1)


@asynccontextmanager
async def worker(url: str, group: str | None = None, *, ready: bool = True, **facts: Any) -> AsyncIterator[Worker]:
    """Connect a worker to a server's URL; with `ready` it takes tasks when this yields."""
    address = url.replace("http://", "ws://") + "/ws" + ("" if group is None else f"?group={group}")
    async with connect(address, ping_interval=None, max_size=None, close_timeout=1) as connection:
        one = Worker(connection)
        greeting = await one.hear()
        assert greeting["type"] == "connected", greeting
        one.worker_id = greeting["workerId"]  # type: ignore[attr-defined]
        if ready:
            await one.say(type="ready", **facts)
            await one.hear_nothing()
        yield one
