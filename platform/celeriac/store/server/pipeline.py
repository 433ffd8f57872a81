"""One connection to the store for many commands at a time, with as little work per command as possible.

redis-py's pipeline spends more on packing a batch and on checking out a connection than the server spends on running
the batch. Here, redis-py provides the connection (address, TLS, login, decoding), which stays checked out, and hiredis
packs the commands. The caller waits for all answers before it sends the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: By default, the longest time until all answers of an exchange have arrived (seconds).
TIMEOUT_S: Final = 10.0

#: A command's words.
Command = tuple[str | int | float | bytes | memoryview, ...]


class BatchConnection:
    """A connection with the settings of `pool`, opened when it is first needed and after each failure.

    `timeout_s`: the longest time until all answers of an exchange have arrived.
    """

    def __init__(self, pool: Any, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # One timer for the whole exchange instead of one for each read.
        self._connection = pool.connection_class(**{**pool.connection_kwargs, "socket_timeout": None})

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` at once and return their answers in order; an error of the server is returned as an answer.

        Raises redis-py's connection errors and `RedisTimeoutError`; then it is unknown which commands ran.
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
                # Answers may still arrive, and the next exchange must not read them.
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
