"""The bare limit: a WebSocket per user on uvicorn, fed directly from pub/sub, without storage or recovery."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as redis
import uvicorn

Message = dict[str, Any]

sends: dict[str, Callable[[Message], Awaitable[None]]] = {}


async def forward() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    async with client.pubsub() as pubsub:
        await pubsub.psubscribe("bare:*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage" and (send := sends.get(message["channel"][5:])) is not None:
                await send({"type": "websocket.send", "text": message["data"]})


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
    user = scope["path"].rpartition("/")[2]
    await receive()
    await send({"type": "websocket.accept"})
    sends[user] = send
    await send({"type": "websocket.send", "text": '{"type": "connected", "id": null}'})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    del sends[user]


async def main() -> None:
    config = uvicorn.Config(
        app, port=int(os.environ["PORT"]), ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off",
        log_level="warning",
    )  # fmt: skip
    await asyncio.gather(forward(), uvicorn.Server(config).serve())


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
