"""Which server is the primary, as its Sentinels say, and which connections of this process still lead elsewhere.

One thread of a process asks the Sentinels of a service: when a connection is to be made, and every second while there
are connections. So a failover ends each connection to the old primary within seconds, also one that is silent, or one
that would go on to answer from old data. The next use of it connects to the new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from time import monotonic
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from celeriac.settings.store_address import StoreAddress
from celeriac.store.server.siblings import Place, siblings_of

log = logging.getLogger(__name__)

#: The longest time for one Sentinel to answer (seconds).
_ANSWER_S: Final = 1.0
#: Pause between two looks, and how old an answer may be that a new connection uses (seconds).
_LOOK_S: Final = 1.0
#: The longest wait of somebody who wants to connect (seconds).
WAIT_S: Final = 10.0
#: Within this time, Sentinels have told each other of a failover (seconds).
_GOSSIP_S: Final = 10.0
#: A thread without connections ends after this time (seconds).
_IDLE_S: Final = 30.0


class PrimaryUnknownError(RedisConnectionError):
    """The Sentinels do not say which server is the primary, so it cannot be reached for now."""


class SentinelAnswer(NamedTuple):
    """What one Sentinel says; the newer one is greater."""

    #: The version of its configuration.
    epoch: int
    #: It leads a failover, and names the server that it has promoted.
    leads: bool
    place: Place


def newest(
    before: SentinelAnswer | None, answers: Sequence[SentinelAnswer], *, asked: int, age_s: float
) -> SentinelAnswer:
    """Return which answer to believe.

    `before` is what was believed so far, `age_s` how long ago a Sentinel said so last, and `asked` how many Sentinels
    there are. Older answers do not count while some may not have heard of the failover yet, nor if only a few say so:
    they may be cut off from the others. All may have been set up anew.
    """
    best = max(answers)
    if before is None or best >= before or best.place == before.place:
        return best
    few = len(answers) * 2 <= asked
    return before if few or age_s < _GOSSIP_S else best


class PrimaryWatch:
    """Knows the primary of a service; one of a process for each address (`watch_of`)."""

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        #: In the order in which they are asked: who answered last time comes first.
        self._sentinels = [sentinel_client(address, place) for place in address.sentinels]
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._waiting: list[Future[Place]] = []
        self._siblings = siblings_of(address.url)
        self._thread: threading.Thread | None = None
        #: What is believed, and when a Sentinel said so last.
        self._answer: SentinelAnswer | None = None
        self._newest_at_s = float("-inf")
        self._looked_at_s = float("-inf")

    def primary(self) -> Future[Place]:
        """Return where the primary is; the future's error is a `PrimaryUnknownError`."""
        wanted: Future[Place] = Future()
        with self._lock:
            if self._answer is not None and monotonic() - self._looked_at_s < _LOOK_S:
                wanted.set_result(self._answer.place)
                return wanted
            self._waiting.append(wanted)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="celeriac-sentinels", daemon=True)
                self._thread.start()
        self._asked.set()
        return wanted

    def doubt(self) -> None:
        """Ask the Sentinels before the next connection: the server of the last answer is not the primary."""
        self._looked_at_s = float("-inf")

    def _run(self) -> None:
        used_at_s = monotonic()
        while True:
            self._asked.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
            try:
                place = self._look()
            except PrimaryUnknownError as exc:
                _answer(waiting, PrimaryUnknownError(str(exc)))
            except BaseException as exc:  # all who wait must hear of it
                log.exception("the Sentinels could not be asked")
                _answer(waiting, PrimaryUnknownError(f"the Sentinels could not be asked ({exc!r})"))
            else:
                self._looked_at_s = monotonic()
                _answer(waiting, place)
                self._siblings.cut_all_but(place)
            with self._lock:
                if waiting or self._siblings.any_open:
                    used_at_s = monotonic()
                if not self._waiting and monotonic() - used_at_s > _IDLE_S:
                    self._thread = None
                    break
            self._asked.wait(_LOOK_S)
        for client in self._sentinels:
            with contextlib.suppress(RedisError, OSError):
                client.close()

    def _look(self) -> Place:
        """Ask until most Sentinels have answered, and believe the one with the newest configuration."""
        answers: list[SentinelAnswer] = []
        problems: list[str] = []
        answered: list[Any] = []
        for client in list(self._sentinels):
            try:
                answers.append(self._ask(client))
                answered.append(client)
            except (RedisError, OSError) as exc:
                problems.append(f"{_shown(client)}: {problem_of(exc, self._address.service)}")
            if len(answers) * 2 > len(self._sentinels):
                break
        self._sentinels.sort(key=lambda client: client not in answered)
        if not answers:
            raise PrimaryUnknownError(f"no Sentinel says where the primary is ({'; '.join(problems)})")
        age_s = monotonic() - self._newest_at_s
        chosen = newest(self._answer, answers, asked=len(self._sentinels), age_s=age_s)
        if chosen in answers:
            self._newest_at_s = monotonic()
        if self._answer is not None and chosen.place != self._answer.place:
            log.warning("the store's primary is %s:%d now", *chosen.place)
        self._answer = chosen
        return chosen.place

    def _ask(self, client: Any) -> SentinelAnswer:
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._address.service)
            pipe.execute_command("SENTINEL MASTER", self._address.service)
            found, state = pipe.execute()
        if not found:
            raise ResponseError("No such master with that name")
        place = (_text(found[0]), int(found[1]))
        # The Sentinel that leads a failover names the new primary before it counts the epoch.
        return SentinelAnswer(int(state["config-epoch"]), place != (_text(state["ip"]), int(state["port"])), place)


_watches: dict[str, PrimaryWatch] = {}
_watches_lock = threading.Lock()


def _forget() -> None:
    """Begin anew in a forked child: the thread and the sockets belong to the parent."""
    global _watches, _watches_lock
    _watches, _watches_lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def watch_of(address: StoreAddress) -> PrimaryWatch:
    """Return the watch of an address in this process."""
    with _watches_lock:
        found = _watches.get(address.url)
        if found is None:
            found = _watches[address.url] = PrimaryWatch(address)
        return found


def _answer(waiting: list[Future[Place]], answer: Place | PrimaryUnknownError) -> None:
    for one in waiting:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            if isinstance(answer, PrimaryUnknownError):
                one.set_exception(answer)
            else:
                one.set_result(answer)


def tls_options(address: StoreAddress) -> dict[str, Any]:
    """Return redis-py's options of TLS that the URL has."""
    found: dict[str, Any] = {**parse_url(address.server_url)}  # type: ignore[no-untyped-call]
    return {name: value for name, value in found.items() if name.startswith("ssl_")}


def sentinel_client(address: StoreAddress, place: Place) -> Any:
    """Return redis-py's client of one Sentinel; it is not connected yet, and tries once."""
    return redis.Redis(
        host=place[0],
        port=place[1],
        username=address.sentinel_username,
        password=address.sentinel_password,
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        ssl=address.sentinel_tls,
        **(tls_options(address) if address.sentinel_tls else {}),
    )


def _shown(client: Any) -> str:
    where = client.connection_pool.connection_kwargs
    return f"{where['host']}:{where['port']}"


def problem_of(error: BaseException, service: str) -> str:
    """Return why a Sentinel did not say where the primary is, and what to do."""
    text = str(error)
    if "No such master" in text:
        return f"it watches no service {service!r}"
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return "it wants another password: set sentinel_password in redis_url"
    return f"{type(error).__name__}: {text}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
