"""One connection to the store for many commands at a time, with as little work per command as it takes.

redis-py's pipeline spends more on packing a batch and checking a connection out than the server spends
on running it. Here the connection is redis-py's (address, TLS, login, decoding), and stays checked out;
packing is hiredis's. One exchange at a time: whoever uses it waits for the answers before the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: Longest time until all answers of an exchange are there, where nobody says another one (seconds).
TIMEOUT_S: Final = 10.0

#: A command's words.
Command = tuple[str | int | float | bytes | memoryview, ...]


class Line:
    """A connection of the kind that `pool` makes, opened when it is first needed and after each failure.

    `timeout_s`: the longest time until all answers of an exchange are there.
    """

    def __init__(self, pool: Any, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # The time limit is the exchange's: one timer, not one for each read.
        self._connection = pool.connection_class(**{**pool.connection_kwargs, "socket_timeout": None})

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` at once and return their answers in order, an error of the server as a value.

        Raises redis-py's connection errors and `RedisTimeoutError`; how far the commands got is unknown then.
        """
        connection = self._connection
        complete = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_packed_command([self._pack(command) for command in commands], check_health=False)
                answers = [await self._answer() for _ in commands]
                complete = True
                return answers
        except TimeoutError as exc:
            raise RedisTimeoutError("the store did not answer in time") from exc
        finally:
            if not complete:
                # Answers may be on their way that nobody waits for.
                await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Disconnect. Idempotent; a later exchange connects again."""
        await self._connection.disconnect()

    def _pack(self, command: Command) -> bytes:
        try:
            packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows one word only
            return packed
        except UnicodeEncodeError:
            # Half a surrogate pair: redis-py replaces what hiredis refuses.
            return b"".join(self._connection.pack_command(*command))

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as exc:
            return exc
