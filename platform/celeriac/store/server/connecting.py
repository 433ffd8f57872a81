"""How connections to the store are made: for all clients alike, blocking or not, and for Celery's own.

A connection leads to the primary. Where Sentinels watch it, they are asked first. The server must say that it is the
primary: one that has become a replica answers too, from old data. Refusals that pass by themselves, and sockets that
somebody else has closed, are lost connections (`answers.py`, `closed_transport.py`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import socket
from time import monotonic
from typing import Any, Final

import redis
import redis.asyncio
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.settings.store_address import StoreAddress, read_store_address
from celeriac.store.server.answers import DEMOTED, PassingRefusalError, passes, patient
from celeriac.store.server.closed_transport import tell_closed_transports
from celeriac.store.server.prefix import use_prefix, with_prefix
from celeriac.store.server.sentinels import WAIT_S, PrimaryUnknownError, PrimaryWatch, watch_of
from celeriac.store.server.siblings import Place, siblings_of

#: A connection of a pool asks again after this time whether its server is the primary (seconds).
_ROLE_S: Final = 5.0


def async_client(url: str, *, prefix: str = "", **options: Any) -> Any:
    """Return redis-py's client for one event loop; raises `ValueError` for a wrong URL.

    `prefix`: what each key and channel begins with on the server (`prefix.py`).
    """
    address = read_store_address(url)
    pool = _AsyncPool.from_url(address.server_url, **options)
    pool.connection_class = store_connection(pool.connection_class, address)
    tell_closed_transports(pool)
    return use_prefix(redis.asyncio.Redis.from_pool(pool), prefix)


def blocking_client(url: str, *, prefix: str = "", **options: Any) -> Any:
    """Return redis-py's client for threads; raises `ValueError` for a wrong URL. `prefix`: see `async_client`."""
    address = read_store_address(url)
    pool = StorePool.from_url(address.server_url, **options)
    pool.connection_class = store_connection(pool.connection_class, address)
    return use_prefix(redis.Redis.from_pool(pool), prefix)


def use_address(parameters: dict[str, Any], address: StoreAddress, prefix: str = "") -> dict[str, Any]:
    """Return the parameters of Celery's blocking connections, with those of the address: place, login, database, TLS.

    `connection_class` among them is redis-py's class for the kind of address, or for TCP, or one made of these.
    """
    plain = parameters.get("connection_class", redis.Connection)
    there = _parsed(address.server_url)
    if "path" not in there:  # kombu spells sockets in a way of its own
        wanted = there.pop("connection_class", redis.Connection)
        parameters = {**parameters, "username": None, "password": None, "db": 0, **there}
        if not issubclass(plain, wanted):
            plain = type(plain.__name__, (plain, wanted), {}) if plain is not redis.Connection else wanted
    return {**parameters, "connection_class": with_prefix(store_connection(plain, address), prefix)}


def store_connection(plain: type, address: StoreAddress) -> type:
    """Return a class of connections of redis-py that lead to the primary at `address`."""
    is_async = inspect.iscoroutinefunction(plain.read_response)  # type: ignore[attr-defined]
    mixin = _ToPrimaryAsync if is_async else _ToPrimary
    return type(plain.__name__, (mixin, patient(plain)), {"store_address": address})


async def run_id_over(connection: Any) -> str:
    """Return the id of the server's process over one idle connection; "" if it does not tell."""
    await connection.send_command("INFO", "server", check_health=False)
    try:
        return run_id_in(await connection.read_response())
    except ResponseError:
        return ""


def run_id_in(info: Any) -> str:
    """Return the id of the server's process from its INFO, as a text or as the driver reads it."""
    if isinstance(info, dict):
        return str(info.get("run_id", ""))
    if not isinstance(info, str | bytes):
        return ""
    text = info.decode() if isinstance(info, bytes) else info
    return next((line[7:].strip() for line in text.splitlines() if line.startswith("run_id:")), "")


class _Following:
    """What both kinds of connections have in common."""

    store_address: StoreAddress
    host: str
    port: int
    #: When the server said last that it is the primary.
    _primary_at_s = float("-inf")

    @property
    def _watch(self) -> PrimaryWatch | None:
        if not self.store_address.sentinels:
            return None
        return watch_of(self.store_address)

    def _where(self) -> Place:
        return (getattr(self, "host", ""), getattr(self, "port", 0))

    @property
    def _role_is_old(self) -> bool:
        return monotonic() - self._primary_at_s > _ROLE_S

    def _check_role(self, reply: Any) -> None:
        """Raise the error of a lost connection if the server is not the primary."""
        if isinstance(reply, ResponseError):
            if passes(reply):
                raise PassingRefusalError(str(reply)) from reply
            reply = None  # it may not be asked
        role = reply[0] if isinstance(reply, list | tuple) and reply else "master"
        if role not in (b"master", "master"):
            self._demoted()
            where = self._host_error()  # type: ignore[attr-defined]
            raise PassingRefusalError(f"READONLY {where} is a replica", status_code="READONLY")
        self._primary_at_s = monotonic()

    def _demoted(self) -> None:
        """Note that the server is not the primary, for all connections of the process."""
        if (watch := self._watch) is not None:
            watch.doubt()
        siblings_of(self.store_address.url).cut_others(self, self._where())  # type: ignore[arg-type]

    def _note(self, error: PassingRefusalError) -> None:
        if error.status_code in DEMOTED:
            self._demoted()


class _ToPrimary(_Following):
    """A blocking connection to the primary."""

    _sock: Any

    @property
    def place(self) -> Place | None:
        """Return where it leads; None while it is not connected."""
        return self._where() if self._sock is not None else None

    def cut(self) -> None:
        """End the connection; the thread that waits for an answer gets an error."""
        found = self._sock
        if found is not None:
            # The method of a TLS socket would let its reader see what is encrypted.
            socket.socket.shutdown(found, socket.SHUT_RDWR)

    def ensure_primary(self) -> None:
        """Connect anew if the server says that it is not the primary any more. Nothing may be on its way."""
        if self._role_is_old:
            try:
                self._ask_role()
            except (RedisConnectionError, RedisTimeoutError):
                self.disconnect()  # type: ignore[attr-defined]
                self.connect()  # type: ignore[attr-defined]

    def _connect(self) -> Any:
        watch = self._watch
        if watch is not None:
            try:
                self.host, self.port = watch.primary().result(WAIT_S)
            except concurrent.futures.TimeoutError as exc:
                raise PrimaryUnknownError("the Sentinels do not answer in time") from exc
        siblings_of(self.store_address.url).add(self)
        return super()._connect()  # type: ignore[misc]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        self._ask_role()

    def _ask_role(self) -> None:
        self.send_command("ROLE", check_health=False)  # type: ignore[attr-defined]
        try:
            reply = self.read_response()
        except ResponseError as exc:
            reply = exc
        self._check_role(reply)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except PassingRefusalError as exc:
            self._note(exc)
            raise


class _ToPrimaryAsync(_Following):
    """A connection of an event loop to the primary."""

    _writer: Any
    _loop: asyncio.AbstractEventLoop

    @property
    def place(self) -> Place | None:
        """Return where it leads; None while it is not connected."""
        return self._where() if self._writer is not None else None

    def cut(self) -> None:
        """End the connection, from any thread; the coroutine that waits for an answer gets an error."""
        self._loop.call_soon_threadsafe(self._abort, self._writer)

    @staticmethod
    def _abort(writer: Any) -> None:
        if writer is not None:
            writer.transport.abort()

    async def ensure_primary(self) -> None:
        """Connect anew if the server says that it is not the primary any more. Nothing may be on its way."""
        if self._role_is_old:
            try:
                await self._ask_role()
            except (RedisConnectionError, RedisTimeoutError):
                await self.disconnect(nowait=True)  # type: ignore[attr-defined]
                await self.connect()  # type: ignore[attr-defined]

    async def _connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        watch = self._watch
        if watch is not None:
            try:
                async with asyncio.timeout(WAIT_S):
                    self.host, self.port = await asyncio.wrap_future(watch.primary())
            except TimeoutError as exc:
                raise PrimaryUnknownError("the Sentinels do not answer in time") from exc
        siblings_of(self.store_address.url).add(self)
        await super()._connect()  # type: ignore[misc]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        await self._ask_role()

    async def _ask_role(self) -> None:
        await self.send_command("ROLE", check_health=False)  # type: ignore[attr-defined]
        try:
            reply = await self.read_response()
        except ResponseError as exc:
            reply = exc
        self._check_role(reply)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except PassingRefusalError as exc:
            self._note(exc)
            raise


class StorePool(redis.ConnectionPool):
    """A pool of connections to the primary, for threads."""

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """Return a connection that led to the primary a few seconds ago at most."""
        connection: Any = super().get_connection(*arguments, **options)
        try:
            connection.ensure_primary()
        except BaseException:
            self.release(connection)
            raise
        return connection


class _AsyncPool(redis.asyncio.ConnectionPool):
    """The same for an event loop."""

    async def ensure_connection(self, connection: Any) -> None:
        await super().ensure_connection(connection)
        await connection.ensure_primary()


def _parsed(server_url: str) -> dict[str, Any]:
    found: dict[str, Any] = {**parse_url(server_url)}  # type: ignore[no-untyped-call]
    return found
