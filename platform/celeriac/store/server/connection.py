"""The wire to the store: commands and scripts, and patience while the store is away for a moment.

Everything that is sent may be repeated safely, because the first reply may have been lost: reading commands change
nothing, and each script call carries a number or nonce by which the script recognises a repetition. So a call repeats
itself while the store is away, and raises `StoreUnavailableError` only when its patience is over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.errors import SettingsError, StoreRefusedError, StoreUnavailableError
from celeriac.settings import StoreSettings
from celeriac.store.server.answers import described, is_wrong, patient, refuses_login
from celeriac.store.server.closed_transport import tell_closed_transports
from celeriac.store.server.coalescer import Coalescer
from celeriac.store.server.pipeline import TIMEOUT_S, BatchConnection, Command
from celeriac.store.server.scripts import Script, batch_arguments, every_transition, limit_arguments, script

T = TypeVar("T")

#: Sends commands at once and returns their answers, an error of the server as a value.
Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]

log = logging.getLogger(__name__)

#: The oldest version of the server that has all commands that are used here.
MIN_VERSION: Final = (6, 2)

#: What is repeated. Refusals that pass by themselves are connection errors too (`answers.py`).
_TRANSIENT = (RedisConnectionError, RedisTimeoutError, OSError)


class StoreConnection:
    """A process's connection to the store; belongs to one event loop.

    `patience_s` is how long a call waits for a store that is away (default: `settings.store_timeout`).
    """

    def __init__(self, url: str, settings: StoreSettings, *, patience_s: float | None = None) -> None:
        self.settings = settings
        self._url = url
        self._patience_s = settings.store_timeout if patience_s is None else patience_s
        # Untyped: redis-py's annotations do not know that replies are decoded here.
        # Retries are ours: they know what may be repeated and for how long.
        self.redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=2,
            socket_timeout=10,
            socket_keepalive=True,
            health_check_interval=0,
            max_connections=64,
            # Half a surrogate pair in one text (a file name, for example) must not fail the whole batch.
            encoding_errors="replace",
        )
        pool = self.redis.connection_pool
        pool.connection_class = patient(pool.connection_class)
        tell_closed_transports(pool)
        self._limits = limit_arguments(settings)
        self._before_items = batch_arguments(settings)
        # A connection may go silent without being closed. A call that waits for it must notice that and use another
        # connection while the leases still hold. (With fsync, an answer may take 5 s without any fault.)
        timeout_s = TIMEOUT_S if settings.durability == "fsync" else min(max(settings.lease / 3, 1.0), TIMEOUT_S)
        #: The connection of the batches. One batch is sent at a time, so one connection is enough.
        self._batch_connection = BatchConnection(pool, timeout_s=timeout_s)
        #: The connection of the lease renewals, so that no other call delays them. A renewal that gets no answer in
        #: half the time to the next one is sent again over a new connection.
        self._lease_connection = BatchConnection(pool, timeout_s=min(max(settings.lease / 6, 1.0), TIMEOUT_S))
        self._renewing = asyncio.Lock()
        self._coalescer = Coalescer(run=self._run_batches, common=self._leading)
        self._fsync = settings.durability == "fsync"
        self._nonce = secrets.token_hex(8)
        self._calls = 0
        #: Whether the server has the scripts, as far as this process knows.
        self._loaded = False

    async def start(self, *, warn: bool = True) -> None:
        """Check that the server answers and will not evict tasks; raises `SettingsError` if it may.

        `warn`: log what else an operator should change.
        """
        info: dict[str, Any] = await self._patiently(lambda: self.redis.info())
        version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
        if version < MIN_VERSION:
            raise SettingsError(f"redis_url: the server is version {info.get('redis_version')}; 6.2 or later is needed")
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise SettingsError(
                f"redis_url: the server's maxmemory-policy is {policy!r}, so it may evict accepted tasks;"
                " set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
            )
        if warn and not info.get("aof_enabled"):
            log.warning(
                "the store does not write an append-only file, so accepted tasks are lost if it dies;"
                " set appendonly yes"
            )

    def for_another_loop(self, *, patience_s: float | None = None) -> Self:
        """Return a connection to the same server for another event loop of this process. It is not started."""
        return type(self)(self._url, self.settings, patience_s=patience_s)

    async def stop(self) -> None:
        """Wait until all calls have been answered, then disconnect. Calls no longer wait for a store that is away.

        Idempotent.
        """
        self._patience_s = 0.0
        await self._coalescer.drain()
        await self._batch_connection.close()
        await self._lease_connection.close()
        await self.redis.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def ping(self) -> None:
        """Raise `StoreUnavailableError` unless the server answers at once."""
        try:
            await self.redis.ping()
        except (RedisError, OSError) as exc:
            raise StoreUnavailableError(described(exc)) from exc

    async def read(self, *commands: tuple[Any, ...], atomic: bool = False, errors: bool = False) -> list[Any]:
        """Run commands in one round trip and return their replies. All of them must be safe to repeat.

        `atomic`: no other client's command runs between them. `errors`: a command's error is returned as its reply.
        """

        async def attempt() -> list[Any]:
            async with self.redis.pipeline(transaction=atomic) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=not errors)
                return replies

        return await self._patiently(attempt) if commands else []

    async def read_records(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run lookups of tasks' hashes (HGETALL, HMGET, HGET) in one round trip.

        A key that holds something other than a hash counts as a missing record; the other lookups succeed.
        """
        return await self._records_over(self._through_pool, commands)

    async def read_over(self, connection: BatchConnection, commands: Sequence[Command]) -> list[Any]:
        """Run lookups over a connection of the caller's; for many of them it costs half of what `read` costs.

        Lookups of tasks' hashes are answered as in `read_records`.
        """
        return await self._records_over(connection.exchange, commands)

    async def _records_over(self, exchange: Exchange, commands: Sequence[Command]) -> list[Any]:
        async def attempt() -> list[Any]:
            replies = await exchange(commands)
            return [_record(command, reply) for command, reply in zip(commands, replies, strict=True)]

        return await self._patiently(attempt) if commands else []

    def call(self, name: str, *values: Any) -> asyncio.Future[Any]:
        """Call a batching script with one item; the items run in the order of the calls."""
        return self._coalescer.call(script(name), *values)

    def unique(self) -> str:
        """Return a text that no other process and no other call gets."""
        self._calls += 1
        return f"{self._nonce}-{self._calls}"

    def _leading(self, called: Script) -> list[Any]:
        return [*self._limits, *self._before_items.get(called.name, ())]

    async def run_one(self, name: str, *arguments: Any) -> Any:
        """Run a script that handles one thing, outside the batches."""
        return await self._one(name, *arguments)

    async def _one(self, name: str, *arguments: Any) -> Any:
        """Run a script that handles one thing, outside the batches."""
        return await self._one_over(self._through_pool, name, lambda: arguments)

    async def _one_of_leases(self, name: str, *arguments: Any) -> Any:
        """Run a script as `_one` does, over the connection of the leases."""
        async with self._renewing:
            return await self._one_over(self._lease_connection.exchange, name, lambda: arguments)

    async def _one_afresh(self, name: str, arguments: Callable[[], Sequence[Any]]) -> Any:
        """Run a script as `_one` does; each repetition asks for its arguments."""
        return await self._one_over(self._through_pool, name, arguments)

    async def _one_over(self, exchange: Exchange, name: str, arguments: Callable[[], Sequence[Any]]) -> Any:
        called = script(name)
        replies = await self._patiently(lambda: self._run([(called, [*self._limits, *arguments()])], exchange))
        if isinstance(replies[0], BaseException):
            raise replies[0]
        return replies[0]

    async def _run_batches(self, calls: Sequence[tuple[Script, list[Any]]]) -> list[Any]:
        return await self._patiently(lambda: self._run(calls, self._batch_connection.exchange))

    async def _through_pool(self, commands: Sequence[Command]) -> list[Any]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    async def _run(self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange) -> list[Any]:
        replies = await self._pipelined(calls, exchange)
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            # The scripts were flushed, or the server restarted and this is a new connection.
            self._loaded = False
            for i, reply in zip(missing, await self._pipelined([calls[i] for i in missing], exchange), strict=True):
                replies[i] = reply
        for i, (called, _) in enumerate(calls):
            if isinstance(replies[i], _TRANSIENT):
                raise replies[i]
            if isinstance(replies[i], ResponseError):
                replies[i] = StoreUnavailableError(f"the store refused {called.name}: {replies[i]}")
        return replies

    async def _pipelined(self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange) -> list[Any]:
        """Run scripts in one round trip, in their order; errors of single ones are values.

        If the server may lack scripts, all of them are loaded first, in the same pipeline. So no call runs after its
        place in the order, and everything is written before the wait for the disk.
        """
        lacking = () if self._loaded else every_transition()
        durable = self._fsync and any(called.name == "submit" for called, _ in calls)
        try:
            commands: list[Command] = [("SCRIPT", "LOAD", called.source) for called in lacking]
            commands += [("EVALSHA", called.sha, 0, *arguments) for called, arguments in calls]
            if durable:
                commands.append(("WAITAOF", 1, 0, 5000))
            replies = await exchange(commands)
        except _TRANSIENT:
            # The server may come back as a new process, without the scripts.
            self._loaded = False
            raise
        self._loaded = not any(isinstance(reply, Exception) for reply in replies[: len(lacking)])
        if durable:
            _check_fsync(replies.pop())
        return replies[len(lacking) :]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, and repeat it while the store is away, for at most `patience_s`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause_s = 0.02
        while True:
            try:
                return await attempt()
            except _TRANSIENT as exc:
                if refuses_login(exc) or loop.time() + pause_s >= began + self._patience_s:
                    raise StoreUnavailableError(described(exc)) from exc
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.5)
            except RedisError as exc:
                failure = StoreRefusedError if is_wrong(exc) else StoreUnavailableError
                raise failure(described(exc)) from exc


def is_wrong_kind(error: BaseException | None) -> bool:
    """Return whether the server refused a command because the key holds something of another kind."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _record(command: Sequence[Any], reply: Any) -> Any:
    """Return the reply to a lookup; raises an error, unless the key holds something other than a hash."""
    if not isinstance(reply, Exception):
        return reply
    if is_wrong_kind(reply) and command[0] in _OF_NOTHING:
        return _OF_NOTHING[command[0]](len(command) - 2)
    raise reply


#: What lookups of a hash are answered where there is none, by the number of its fields.
_OF_NOTHING: Final[dict[str, Callable[[int], Any]]] = {
    "HGETALL": lambda _: {},
    "HMGET": lambda fields: [None] * fields,
    "HGET": lambda _: None,
}


def _check_fsync(reply: Any) -> None:
    if isinstance(reply, _TRANSIENT):
        raise reply
    if isinstance(reply, BaseException):
        raise StoreUnavailableError(
            f"durability is fsync, but the server has no WAITAOF command; use Redis or Valkey 7.2 or later: {reply}"
        )
    if reply[0] < 1:
        raise StoreUnavailableError(
            "durability is fsync, but the server's append-only file did not reach the disk in time; if its"
            " appendfsync is `no`, set it to everysec or always (for the store of `celeriac up`: start `up` with this"
            " durability too)"
        )
