"""What an operator should know about the Sentinels of the store, and about the servers that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from celeriac.settings.store_address import StoreAddress
from celeriac.store.server.answers import passes
from celeriac.store.server.sentinels import problem_of, sentinel_client
from celeriac.store.server.siblings import Place

_ANSWER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class NamedServer:
    """A server or Sentinel as a Sentinel names it."""

    place: Place
    #: 'primary', 'replica' or 'sentinel'.
    role: str
    #: Whether the Sentinel takes it for dead.
    down: bool


@dataclass(frozen=True, slots=True)
class SentinelFacts:
    """What one Sentinel of the address says."""

    place: Place
    #: Why it cannot be asked; "" if it answers.
    problem: str
    #: Its answer to CKQUORUM: "OK …", or its error.
    quorum: str = ""
    named: list[NamedServer] = field(default_factory=list)


def ask_sentinels(address: StoreAddress) -> list[SentinelFacts]:
    """Ask each Sentinel of the address. Blocks for at most a few seconds."""
    return [_ask(address, place) for place in address.sentinels]


def reach(address: StoreAddress, named: NamedServer) -> str:
    """Return why a server or Sentinel cannot be used from here; "" if it can, perhaps after a while."""
    if named.role == "sentinel":
        client = sentinel_client(address, named.place)
    else:
        client = redis.Redis.from_url(
            address.server_url, socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S, retry=Retry(NoBackoff(), 0)
        )
        client.connection_pool.connection_kwargs.update(host=named.place[0], port=named.place[1])
    try:
        client.ping()
    except AuthenticationError:
        return "it refuses the user or the password"
    except (RedisConnectionError, RedisTimeoutError, OSError) as exc:
        return "" if passes(exc) else str(exc) or type(exc).__name__
    except RedisError:
        pass  # it answers
    finally:
        client.close()
    return ""


def _ask(address: StoreAddress, place: Place) -> SentinelFacts:
    client = sentinel_client(address, place)
    try:
        primary = client.sentinel_master(address.service)
        named = [NamedServer(_place(primary), "primary", _is_down(primary))]
        named += [NamedServer(_place(one), "replica", _is_down(one)) for one in client.sentinel_slaves(address.service)]
        named += [
            NamedServer(_place(one), "sentinel", _is_down(one)) for one in client.sentinel_sentinels(address.service)
        ]
        try:
            answer = client.execute_command("SENTINEL", "CKQUORUM", address.service)
            quorum = answer.decode() if isinstance(answer, bytes) else str(answer)
        except ResponseError as exc:
            quorum = str(exc)
    except (RedisError, OSError) as exc:
        return SentinelFacts(place, problem_of(exc, address.service))
    finally:
        client.close()
    return SentinelFacts(place, "", quorum, named)


def _place(state: dict[str, Any]) -> Place:
    return (str(state["ip"]), int(state["port"]))


def _is_down(state: dict[str, Any]) -> bool:
    return bool(state.get("is_sdown") or state.get("is_odown") or state.get("is_disconnected"))
