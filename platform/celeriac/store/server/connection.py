"""The wire to the store: commands and scripts, and patience while the store is away for a moment.

Everything that is sent may be repeated safely, because the first reply may have been lost: reading commands change
nothing, and each script call carries a number or nonce by which the script recognises a repetition. So a call repeats
itself while the store is away, and raises `StoreUnavailableError` only when its patience is over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Self, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.errors import SettingsError, StoreRefusedError, StoreUnavailableError
from celeriac.settings import StoreSettings
from celeriac.settings.store_address import read_store_address
from celeriac.store.server.answers import described, is_wrong, refuses_login
from celeriac.store.server.caller import LISTING, MOST_REPETITIONS, Caller
from celeriac.store.server.coalescer import Coalescer
from celeriac.store.server.connecting import async_client, run_id_in
from celeriac.store.server.durability import Durability, ReplicasMissingError
from celeriac.store.server.pipeline import TIMEOUT_S, BatchConnection, Command
from celeriac.store.server.scripts import Script, batch_arguments, limit_arguments, script

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
        self.address = read_store_address(url)
        self._patience_s = settings.store_timeout if patience_s is None else patience_s
        # Untyped: redis-py's annotations do not know that replies are decoded here.
        # Retries are ours: they know what may be repeated and for how long.
        self.redis: Any = async_client(
            url,
            prefix=settings.key_prefix,
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
        self._limits = limit_arguments(settings)
        self._before_items = batch_arguments(settings)
        # A connection may go silent without being closed. A call that waits for it must notice that and use another
        # connection while the leases still hold. What the settings promise may take its time without any fault.
        self._durability = Durability(settings)
        timeout_s = min(max(settings.lease / 3, 1.0), TIMEOUT_S) + self._durability.may_take_s
        #: The connection of the batches. One batch is sent at a time, so one connection is enough.
        self._batch_connection = BatchConnection(pool, timeout_s=timeout_s)
        #: The connection of the lease renewals, so that no other call delays them. A renewal that gets no answer in
        #: half the time to the next one is sent again over a new connection.
        self._lease_connection = BatchConnection(pool, timeout_s=min(max(settings.lease / 6, 1.0), TIMEOUT_S))
        self._renewing = asyncio.Lock()
        self._coalescer = Coalescer(run=self._run_batches, common=self._leading)
        self._nonce = secrets.token_hex(8)
        self._calls = 0
        self._caller = Caller(settings.key_prefix)

    async def start(self, *, warn: bool = True) -> None:
        """Check that the server answers and will not evict tasks; raises `SettingsError` if it may.

        `warn`: log what else an operator should change.
        """
        info: dict[str, Any] = await self._patiently(lambda: self.redis.info())
        version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
        if version < MIN_VERSION:
            raise SettingsError(f"redis_url: the server is version {info.get('redis_version')}; 6.2 or later is needed")
        (listed,) = await self.read(LISTING, errors=True)
        await self.read(*self._caller.outdated(listed), errors=True)
        if info.get("cluster_enabled") and "{" not in self.settings.key_prefix:
            raise SettingsError(
                "redis_url: the server is in cluster mode, where all keys must lie in one slot; set key_prefix to a"
                ' text with braces, such as "{celeriac}:" (one shard only, see docs/high-availability.md)'
            )
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
        if warn:
            self._durability.warn_of(info)

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

    async def run_id(self) -> str:
        """Return the id of the server's process, "" if it does not tell; raises `StoreUnavailableError` at once."""
        try:
            return run_id_in(await self.redis.execute_command("INFO", "server"))
        except ResponseError:
            return ""
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

    def call_with(self, name: str, values: Iterable[Any]) -> asyncio.Future[Any]:
        """Call a batching script as `call` does. `values` is gone through when the item is sent, or is repeated."""
        return self._coalescer.call_with(script(name), values)

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
        try:
            replies = await self._patiently(lambda: self._run([(called, [*self._limits, *arguments()])], exchange))
        except ReplicasMissingError as exc:
            raise exc.about(exc.answer[0]) from exc
        if isinstance(replies[0], BaseException):
            raise replies[0]
        return replies[0]

    async def _run_batches(self, calls: Sequence[tuple[Script, list[Any]]]) -> list[Any]:
        try:
            return await self._patiently(lambda: self._run(calls, self._batch_connection.exchange))
        except ReplicasMissingError as exc:
            return self._durability.told(exc, [called.name for called, _ in calls])

    async def _through_pool(self, commands: Sequence[Command]) -> list[Any]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies

    async def _run(self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange) -> list[Any]:
        waits = self._durability.waits_for(called.name for called, _ in calls)
        replies, waited = await self._pipelined(calls, exchange, waits)
        for _ in range(MOST_REPETITIONS):
            # The scripts were flushed, the server restarted and this is a new connection, or it has no functions.
            missing = [i for i, reply in enumerate(replies) if self._caller.is_missing(reply)]
            if not missing:
                break
            again, waited = await self._pipelined([calls[i] for i in missing], exchange, waits)
            for i, reply in zip(missing, again, strict=True):
                replies[i] = reply
        for i, (called, _) in enumerate(calls):
            if isinstance(replies[i], _TRANSIENT):
                raise replies[i]
            if isinstance(replies[i], ResponseError):
                replies[i] = StoreUnavailableError(f"the store refused {called.name}: {replies[i]}")
        await self._kept(waited, replies, exchange)
        return replies

    async def _kept(self, waited: Sequence[Any], replies: list[Any], exchange: Exchange) -> None:
        """Raise an error unless what has these replies is kept as `durability` says; see `Durability.check`."""
        try:
            self._durability.check(waited, replies)
        except ReplicasMissingError:
            # The server may have been replaced without knowing it: the next try asks anew which one it is.
            connection = getattr(exchange, "__self__", None)
            if isinstance(connection, BatchConnection):
                await connection.close()
            await self.redis.connection_pool.disconnect(inuse_connections=False)
            raise

    async def _pipelined(
        self, calls: Sequence[tuple[Script, list[Any]]], exchange: Exchange, waits: Sequence[Command]
    ) -> tuple[list[Any], list[Any]]:
        """Run scripts in one round trip, in their order, and then `waits`; errors of single ones are values.

        If the server may lack scripts, all of them are loaded first, in the same pipeline. So no call runs after its
        place in the order, and everything is written before the wait for the disk or for replicas.
        """
        loading = self._caller.loading()
        try:
            commands = loading + [self._caller.command(called, arguments) for called, arguments in calls]
            replies = await exchange([*commands, *waits])
        except _TRANSIENT:
            # The server may come back as a new process, without the scripts.
            self._caller.loaded = False
            raise
        if loading:
            self._caller.note_loaded(replies[: len(loading)])
        first, last = len(loading), len(replies) - len(waits)
        return replies[first:last], replies[last:]

    async def confirm(self, task_id: str) -> None:
        """Wait until the replicas have a task that the caller has found in the store, if `durability` is `replicated`.

        For answers to submissions that come from reading. Raises `NotReplicatedError` with `task_id`.
        """

        async def attempt() -> None:
            await self._kept(await self._through_pool(self._durability.confirming), [], self._through_pool)

        if self._durability.confirming:
            try:
                await self._patiently(attempt)
            except ReplicasMissingError as exc:
                raise exc.of(task_id=task_id) from exc

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, and repeat it while the store is away, for at most `patience_s`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause_s = 0.02
        while True:
            try:
                return await attempt()
            except ReplicasMissingError:
                if loop.time() + pause_s >= began + self._patience_s:
                    raise
                await asyncio.sleep(pause_s)
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
    "HSTRLEN": lambda _: 0,
}
