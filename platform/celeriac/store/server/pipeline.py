"""One connection to the store for many commands at a time, with as little work per command as possible.

redis-py's pipeline spends more on packing a batch and on checking out a connection than the server spends on running
the batch. Here, redis-py opens the connection (address, TLS, login, decoding), which stays checked out. Then its socket
is ours: hiredis packs the commands and reads the answers. The caller waits for all answers before it sends the next
batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.store.server.answers import lost, passes

#: By default, the longest time until all answers of an exchange have arrived (seconds).
TIMEOUT_S: Final = 10.0

#: A command's words.
Command = tuple[str | int | float | bytes | memoryview, ...]


#: What hiredis returns while an answer is not complete.
_INCOMPLETE: Final = object()


class _Socket(asyncio.Protocol):
    """An open connection of redis-py's, whose socket it takes over."""

    def __init__(self, connection: Any) -> None:
        self.is_open = True
        self._transport: Any = connection._writer.transport
        #: redis-py's own protocol, which it waits for when it closes the connection.
        self._former: Any = self._transport.get_protocol()
        encoder = connection.encoder
        decoding = {"encoding": encoder.encoding, "errors": encoder.encoding_errors} if encoder.decode_responses else {}
        self._reader: Any = hiredis.Reader(
            replyError=connection._parser.parse_error, notEnoughData=_INCOMPLETE, **decoding
        )
        self._answers: list[Any] = []
        self._missing = 0
        self._all_there: asyncio.Future[list[Any]] | None = None
        self._transport.set_protocol(self)

    def ask(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Send commands; the future gets their `count` answers, errors among them as values."""
        self._answers, self._missing = [], count
        self._all_there = all_there = asyncio.get_running_loop().create_future()
        if self.is_open:
            self._transport.write(packed)
        else:
            self.connection_lost(None)
        return all_there

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        reader = self._reader
        reader.feed(data)
        while self._missing:
            answer = reader.gets()
            if answer is _INCOMPLETE:
                return
            # What the server says unasked is not an answer.
            if not isinstance(answer, hiredis.PushNotification):
                self._answers.append(answer)
                self._missing -= 1
        if self._all_there is not None and not self._all_there.done():
            self._all_there.set_result(self._answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits that no answer will come."""
        if self.is_open:
            self.is_open = False
            self._former.connection_lost(exc)
        if self._all_there is not None and not self._all_there.done():
            self._all_there.set_exception(RedisConnectionError(f"the connection was closed ({exc or 'by the server'})"))

    def pause_writing(self) -> None:
        """Do nothing: a batch is bounded, and the next one is sent after its answers."""

    def resume_writing(self) -> None:
        """Do nothing, as `pause_writing`."""


class BatchConnection:
    """A connection with the settings of `pool`, opened when it is first needed and after each failure.

    `timeout_s`: the longest time until all answers of an exchange have arrived.
    """

    def __init__(self, pool: Any, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # One timer for the whole exchange instead of one for each read.
        self._connection = pool.connection_class(**{**pool.connection_kwargs, "socket_timeout": None})
        self._socket: _Socket | None = None
        #: Puts the keys of a command under the prefix of the installation, if it has one.
        self._prefixed = getattr(self._connection, "prefixed", None)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` at once and return their answers in order; an error of the server is returned as an answer.

        Raises redis-py's connection errors and `RedisTimeoutError`; then it is unknown which commands ran.
        """
        complete = False
        try:
            socket = self._socket
            if socket is None or not socket.is_open:
                socket = await self._open()
            answering = socket.ask(b"".join(map(self._pack, commands)), len(commands))
            timer = asyncio.get_running_loop().call_later(self._timeout_s, _give_up, answering)
            try:
                answers = await answering
            finally:
                timer.cancel()
            for answer in answers:
                if isinstance(answer, Exception):
                    _check(answer)
            complete = True
            return answers
        finally:
            if not complete:
                # Answers may still arrive, and the next exchange must not read them.
                self._socket = None
                await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Disconnect. Idempotent; a later exchange connects again."""
        self._socket = None
        await self._connection.disconnect()

    async def _open(self) -> _Socket:
        self._socket = None
        # What the server has closed looks open to redis-py, which no longer reads from it.
        await self._connection.disconnect(nowait=True)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connection.connect_check_health(check_health=False)
        except TimeoutError as exc:
            raise _too_late() from exc
        self._socket = socket = _Socket(self._connection)
        return socket

    def _pack(self, command: Command) -> bytes:
        if self._prefixed is not None:
            command = tuple(self._prefixed(command))
        try:
            packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows one word only
        except UnicodeEncodeError:
            # Half a surrogate pair: redis-py's encoder replaces what hiredis refuses.
            packed = hiredis.pack_command(tuple(map(self._connection.encoder.encode, command)))
        return packed


def _too_late() -> RedisTimeoutError:
    return RedisTimeoutError("the store did not answer in time")


def _give_up(answering: asyncio.Future[list[Any]]) -> None:
    if not answering.done():
        answering.set_exception(_too_late())


def _check(answer: Exception) -> None:
    """Raise what the server says of the whole connection, or what passes by itself."""
    if isinstance(answer, ResponseError):
        if passes(answer):
            raise lost(answer) from answer
    elif isinstance(answer, RedisError):
        raise answer
