"""Keys and channels under the prefix of an installation (setting `key_prefix`).

All code names keys as `keys.py` does. Connections to the store write each key of a command under the prefix, by the
table below, and take it from the names in replies and in what they hear. Scripts build their keys under it themselves
(`scripts.py`). A command that is not in the table is refused: its keys would lie outside the prefix.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

#: The words of a command.
Words = Sequence[Any]
#: Returns a reply with the names of this installation in it, given what takes the prefix from a name.
Rename = Callable[[Callable[[Any], Any], Any], Any]
#: Returns the places of keys and channels among a command's words; the name of the command is word 0.
_Places = Callable[[Words], Iterable[int]]


def _none(_: Words) -> Iterable[int]:
    return ()


def _first(_: Words) -> Iterable[int]:
    return (1,)


def _all(words: Words) -> Iterable[int]:
    return range(1, len(words))


def _first_two(_: Words) -> Iterable[int]:
    return (1, 2)


def _all_but_last(words: Words) -> Iterable[int]:
    return range(1, len(words) - 1)


def _of_subcommand(words: Words) -> Iterable[int]:
    return (2,) if len(words) > 2 else ()


def _counted(place: int) -> _Places:
    """Return the places after a word that says how many keys follow it."""
    return lambda words: range(place + 1, place + 1 + int(words[place]))


def _streams(words: Words) -> Iterable[int]:
    start = next(i for i, word in enumerate(words) if _name(word) == "STREAMS") + 1
    return range(start, start + (len(words) - start) // 2)


#: Commands, by the places of their keys. Only what this package, Celery and kombu send.
_COMMANDS: Final[dict[_Places, str]] = {
    _none: (
        "ACL AUTH CLIENT COMMAND CONFIG DBSIZE DISCARD ECHO EXEC FUNCTION HELLO INFO LATENCY MULTI PING QUIT ROLE"
        " SCRIPT SELECT SLOWLOG TIME UNWATCH WAIT WAITAOF BGREWRITEAOF BGSAVE LASTSAVE SHUTDOWN"
    ),
    _first: (
        "APPEND DECR DECRBY DUMP EXPIRE EXPIREAT GET GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HGET HGETALL"
        " HINCRBY HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET HSETNX HSTRLEN HVALS INCR INCRBY LINDEX LINSERT"
        " LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM PERSIST PEXPIRE PEXPIREAT PSETEX PTTL PUBLISH RESTORE"
        " RPOP RPUSH RPUSHX SADD SCARD SET SETEX SETNX SISMEMBER SMEMBERS SMISMEMBER SPOP SRANDMEMBER SREM SSCAN"
        " STRLEN TTL TYPE XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE XREVRANGE XTRIM ZADD ZCARD ZCOUNT"
        " ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREM"
        " ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE"
    ),
    _all: ("DEL EXISTS MGET PSUBSCRIBE PUNSUBSCRIBE SDIFF SINTER SUBSCRIBE SUNION TOUCH UNLINK UNSUBSCRIBE WATCH"),
    _first_two: "COPY LMOVE RENAME RENAMENX RPOPLPUSH SMOVE",
    _all_but_last: "BLPOP BRPOP BZPOPMAX BZPOPMIN",
    _of_subcommand: "MEMORY OBJECT PUBSUB XGROUP XINFO",
    _counted(1): "SINTERCARD ZDIFF ZINTER ZUNION",
    _counted(2): "EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO",
    _streams: "XREAD XREADGROUP",
}
_PLACES: Final = {name: places for places, names in _COMMANDS.items() for name in names.split()}
_SUBSCRIBING: Final = frozenset({"SUBSCRIBE", "PSUBSCRIBE"})
#: How many names follow the kind of a message that a subscription brings.
_NAMES: Final = {
    **dict.fromkeys(("message", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"), 1),
    "pmessage": 2,
}


class UnknownCommandError(NotImplementedError):
    """A command whose keys are not known, so that they would lie outside the prefix."""

    def __init__(self, name: str) -> None:
        super().__init__(f"with a key_prefix, {name} cannot be sent: add it to store/server/prefix.py")


def prefixed(prefix: str, words: Words) -> list[Any]:
    """Return a command with its keys and channels under the prefix; raises `UnknownCommandError`."""
    name, *further = str(_text(words[0])).split()
    command = [name, *further, *words[1:]]
    name = name.upper()
    if name == "SCAN":
        return _scan(prefix, command)
    places = places_of(command)
    if places is None:
        raise UnknownCommandError(name)
    for place in places:
        command[place] = _under(prefix, command[place])
    return command


def places_of(words: Words) -> Iterable[int] | None:
    """Return the places of keys and channels among a command's words, SCAN apart; None if they are not known."""
    places = _PLACES.get(_name(words[0]))
    return None if places is None else places(words)


def use_prefix(client: Any, prefix: str) -> Any:
    """Return a redis-py client, blocking or not, all of whose keys lie under the prefix, also those in its replies."""
    if not prefix:
        return client
    pool = client.connection_pool
    pool.connection_class = with_prefix(pool.connection_class, prefix)
    for name, rename in _REPLIES.items():
        plain = client.response_callbacks.get(name)
        client.set_response_callback(name, partial(_renamed, prefix, plain, rename))
    return client


def _renamed(prefix: str, plain: Callable[..., Any] | None, rename: Rename, reply: Any, **options: Any) -> Any:
    found = reply if plain is None else plain(reply, **options)
    return rename(partial(_without, prefix), found) if found else found


def _renamed_scan(own: Callable[[Any], Any], reply: Any) -> Any:
    return [reply[0], [own(key) for key in reply[1]]]


def _renamed_streams(own: Callable[[Any], Any], reply: Any) -> Any:
    if isinstance(reply, dict):
        return {own(key): entries for key, entries in reply.items()}
    return [[own(key), entries] for key, entries in reply]


def _renamed_pop(own: Callable[[Any], Any], reply: Any) -> Any:
    return [own(reply[0]), *reply[1:]]


def with_prefix(connection_class: type, prefix: str) -> type:
    """Return redis-py's class of connections, blocking or not, with the prefix; the same class if there is none."""
    if not prefix:
        return connection_class
    is_async = inspect.iscoroutinefunction(connection_class.read_response)  # type: ignore[attr-defined]
    mixin = _PrefixingAsync if is_async else _Prefixing
    return type(connection_class.__name__, (mixin, connection_class), {"key_prefix": prefix})


#: Commands whose replies have keys in them.
_REPLIES: Final[dict[str, Rename]] = {
    "SCAN": _renamed_scan,
    **dict.fromkeys(("XREAD", "XREADGROUP"), _renamed_streams),
    **dict.fromkeys(("BLPOP", "BRPOP", "BZPOPMAX", "BZPOPMIN"), _renamed_pop),
}


class _Named:
    """What both kinds of connections have in common."""

    key_prefix: str
    #: Whether the connection has subscribed to channels, so that its replies may be messages.
    _hears = False

    def prefixed(self, words: Words) -> list[Any]:
        """Return a command with its keys under the prefix."""
        if not self._hears and _name(words[0]) in _SUBSCRIBING:
            self._hears = True
        return prefixed(self.key_prefix, words)

    def _heard(self, reply: Any) -> Any:
        if not isinstance(reply, list | tuple) or not reply:
            return reply
        names = _NAMES.get(str(_text(reply[0])), 0)
        return [
            reply[0],
            *(name if name is None else _without(self.key_prefix, name) for name in reply[1 : 1 + names]),
            *reply[1 + names :],
        ]


class _Packer:
    """Packs the commands of a blocking connection; takes the place of the driver's packer."""

    def __init__(self, plain: Any, connection: _Named) -> None:
        self._plain = plain
        self._connection = connection

    def pack(self, *words: Any) -> Any:
        """Return the bytes of a command."""
        return self._plain.pack(*self._connection.prefixed(words))


class _Prefixing(_Named):
    """A blocking connection with the prefix."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._command_packer = _Packer(self._command_packer, self)  # type: ignore[has-type]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        reply = super().read_response(*arguments, **options)  # type: ignore[misc]
        return self._heard(reply) if self._hears else reply


class _PrefixingAsync(_Named):
    """A connection of an event loop with the prefix."""

    def pack_command(self, *words: Any) -> Any:
        return super().pack_command(*self.prefixed(words))  # type: ignore[misc]

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        reply = await super().read_response(*arguments, **options)  # type: ignore[misc]
        return self._heard(reply) if self._hears else reply


def _scan(prefix: str, command: list[Any]) -> list[Any]:
    for place, word in enumerate(command[:-1]):
        if _name(word) == "MATCH":
            command[place + 1] = _under(prefix, command[place + 1])
            return command
    return [*command, "MATCH", f"{prefix}*"]


def _under(prefix: str, name: Any) -> Any:
    return prefix.encode() + bytes(name) if isinstance(name, bytes | bytearray | memoryview) else f"{prefix}{name}"


def _without(prefix: str, name: Any) -> Any:
    return name.removeprefix(prefix.encode() if isinstance(name, bytes) else prefix)


def _text(word: Any) -> Any:
    return word.decode("ascii", "replace") if isinstance(word, bytes) else word


def _name(word: Any) -> str:
    return str(_text(word)).upper()
