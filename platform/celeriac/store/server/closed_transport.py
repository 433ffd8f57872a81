"""A driver's connection whose socket was closed meanwhile raises its connection error, on every event loop."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError


def tell_closed_transports(pool: Any) -> None:
    """Let the connections of a driver's pool raise the driver's `ConnectionError` for a socket that was closed.

    asyncio's own event loop raises that one by itself. uvloop raises a bare `RuntimeError` when a coroutine writes to a
    connection after the server has reset it. On each loop, the driver raises an `AttributeError` if another coroutine
    disconnects between its check and its write. Nobody who waits for a store that is away would recognise these two.
    """
    plain: Any = pool.connection_class

    class Telling(plain):  # type: ignore[misc]
        async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*arguments, **options)
            except (RuntimeError, AttributeError) as exc:
                if isinstance(exc, AttributeError) and self.is_connected:
                    raise
                raise RedisConnectionError(f"the connection was closed ({exc})") from exc

    Telling.__name__ = Telling.__qualname__ = plain.__name__
    pool.connection_class = Telling
