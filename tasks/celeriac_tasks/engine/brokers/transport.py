"""kombu's Redis transport with seven changes.

1. One client per channel. kombu builds a new client object for each message, which costs more than the message.
2. Record and message in one step. kombu would publish a task that exists only as a message. Here the channel
   submits the task, so a plain `.delay()` is as safe as a submission over HTTP.
3. Batches. BRPOP brings one message per round trip. If there is a backlog, one more call takes messages for all
   free slots. The sweep sends a message again if a dying worker took it without a claim, as with BRPOP.
4. Guests. A worker of all groups serves groups that appear by themselves without a kombu queue for each: a channel asks
   for a bounded number of them at once, each in its turn.
5. A message that cannot be read is logged and dropped, and a server that refuses for now is a lost connection. kombu
   would end the worker.
6. Exchanges of the app's configuration are known in each process. kombu loses what a program publishes to an exchange
   that it has not declared, or to which no worker has bound a queue yet.
7. A short message of the platform is written out before Celery sees it (`hints.py`).

`_put`, `_create_client` and `_brpop_read` are the methods that kombu's virtual transports leave to their
implementations (pinned to one minor version of kombu).
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from queue import Empty
from time import monotonic
from typing import Any, Final, Protocol

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps

from celeriac.settings.store_address import StoreAddress
from celeriac.store import keys
from celeriac.store.server.answers import patient
from celeriac.store.server.channel import beginnings, pop_messages
from celeriac.store.server.connecting import use_address
from celeriac_tasks.engine.calls.hints import SHOWN_BYTES, is_short, written_out
from celeriac_tasks.engine.calls.unreadable import log_dropped, read_envelope

log = logging.getLogger(__name__)

#: The transport's name in `broker_transport`.
NAME: Final = "celeriac_tasks.engine.brokers.transport:Transport"
#: Where the delivery address of a message that came through an exchange says which queue that was.
QUEUE: Final = "celeriac-queue"
#: If BRPOP answers faster than this, its message was already waiting (seconds).
_BACKLOG_S = 0.005
#: At most this many messages are taken at once; it bounds what a dying worker can have taken without a claim.
_MOST_AT_ONCE = 64
#: At most so many messages come one by one without a look for more.
_MOST_WITHOUT_LOOK = 8
#: A key that nobody uses.
_NO_KEY = "celeriac:nothing"

#: A channel asks for at most this many groups at once besides those that it consumes from.
GUESTS_AT_ONCE = 60
#: The keys of lists that only wake a channel begin with this.
_NUDGE = keys.nudge("")


class Submit(Protocol):
    """What becomes of the messages of a queue."""

    def __call__(self, queue: str, message: dict[str, Any]) -> bool:
        """Submit a message to the store; returns True if it did."""
        ...

    def purge(self, queue: str) -> int:
        """Cancel what waits in a queue; returns how many tasks."""
        ...

    def type_of(self, exchange: str) -> str | None:
        """Return the type of an exchange that the app's configuration names, else None."""
        ...

    def queues_of(self, exchange: str, routing_key: str) -> list[str]:
        """Return the queues to which a message of an exchange goes, by the app's configuration."""
        ...


class Direct(Protocol):
    """Tasks that go past Celery's requests; see `engine/direct/`."""

    #: Whether the worker asks for no more messages until something has ended there.
    is_full: bool

    @property
    def held(self) -> int:
        """How many messages are in hand there."""
        ...

    def has_room(self) -> bool:
        """Whether the worker may take one more message."""
        ...

    def take(self, messages: Sequence[bytes], queue: str) -> Sequence[bytes]:
        """Take the messages that may go there; returns the others."""
        ...


class QoS(virtual.QoS):
    """The messages that a channel has delivered and the worker has not acknowledged yet."""

    def can_consume(self) -> bool:
        """Whether the worker may hold one more message."""
        direct = self.channel.direct
        if direct is None:
            return bool(super().can_consume())
        # First: what ends while this is reckoned out wakes the worker.
        direct.is_full = True
        has_room = direct.has_room() and (not self.prefetch_count or self._free() > 0)
        if has_room:
            direct.is_full = False
        return has_room

    def can_consume_max_estimate(self) -> int | None:
        """Return how many more messages the worker may hold, None for any number."""
        return max(self._free(), 0) if self.prefetch_count else None

    def _free(self) -> int:
        held = 0 if self.channel.direct is None else self.channel.direct.held
        return int(self.prefetch_count) - (len(self._delivered) - len(self._dirty)) - held

    def restore_unacked(self) -> list[Any]:
        """Put the messages back into their queues at an orderly shutdown; returns an empty list.

        This fails if the connection is broken, but nothing is lost: the records are in the store, and the sweep
        sends their messages again. kombu would report a panic and dump the messages into a file.
        """
        unrestored = super().restore_unacked()
        if unrestored:
            log.info("%d messages were in flight when the connection broke; they will be sent again", len(unrestored))
        return []


class ServedGroups:
    """The queues of a channel in the order in which it asks for messages; takes the place of kombu's round robin.

    A channel always asks for the queues that it consumes from, and for a bounded number of `guests`: groups that
    appeared by themselves. The one that a message came from is the last one next time, and so are the guests ahead of
    it, which had nothing. Own queues and guests are the first ones in turn. So each group gets its turn, whatever the
    number of groups. Other threads may call `invite`.
    """

    def __init__(self, *, guests_at_once: int = GUESTS_AT_ONCE) -> None:
        self._own: list[str] = []
        #: In order; a dict, because many may come and go.
        self._guests: OrderedDict[str, None] = OrderedDict()
        self._invited: deque[str] = deque()
        self._at_once = guests_at_once
        #: Neither of both waits for all of the other.
        self._guests_first = False
        #: The list that only wakes the channel; "" for none.
        self.nudge = ""
        #: Queues that it does not ask for at present, though it consumes from them: with none it would not ask at all.
        self.left: frozenset[str] = frozenset()
        #: Whether it asks for none of them, because an operator drains the worker.
        self.drained = False

    # --- for kombu

    def update(self, queues: Iterable[str]) -> None:
        """Take over the queues that the channel consumes from."""
        self._own[:] = queues

    def consume(self, count: int) -> list[str]:
        """Return the names to ask for now."""
        if self.drained:
            # kombu waits for something in any case.
            return [self.nudge or _NO_KEY]
        while self._invited:
            guest = self._invited.popleft()
            # First, since a message has just come there.
            self._guests[guest] = None
            self._guests.move_to_end(guest, last=False)
        guests = [*islice(self._guests, self._at_once)]
        own = [name for name in self._own if name not in guests]
        names = [*guests, *own] if self._guests_first else [*own, *guests]
        names = [name for name in names if name not in self.left] if self.left else names
        return [self.nudge, *names] if self.nudge else names

    def rotate(self, last: str) -> str:
        """Note which queue the last message came from."""
        if last in self._own:
            self._own.remove(last)
            self._own.append(last)
            if self._guests_first:
                # Those that were asked had nothing.
                self.nothing_came()
            self._guests_first = True
        elif last in self._guests:
            for guest in [*islice(self._guests, self._at_once)]:
                self._guests.move_to_end(guest)
                if guest == last:
                    break
            self._guests_first = False
        return last

    def nothing_came(self) -> None:
        """Note that none of the queues had a message: other guests are asked next time."""
        if len(self._guests) > self._at_once:
            for guest in [*islice(self._guests, self._at_once)]:
                self._guests.move_to_end(guest)

    # --- for the worker

    @property
    def own(self) -> list[str]:
        """The queues that the channel consumes from."""
        return self._own

    @property
    def guests(self) -> list[str]:
        """The guests, the next one first."""
        return [*self._guests]

    def invite(self, group: str) -> None:
        """Serve one more group from the next time on; may be called from any thread."""
        self._invited.append(group)

    def keep(self, groups: Iterable[str]) -> None:
        """Serve these guests and no others; those that are served already keep their place."""
        wanted = dict.fromkeys(groups)
        kept = [guest for guest in self._guests if guest in wanted]
        self._guests = OrderedDict.fromkeys([*kept, *wanted])


class Channel(kombu_redis.Channel):
    """A channel with the changes that the module describes.

    `submit` and `store`, the address of the server, come from the app's transport options.
    """

    submit: Submit | None = None
    store: StoreAddress | None = None
    #: What takes messages before Celery sees them, if this is the channel of a worker that has it.
    direct: Direct | None = None
    #: How many clients the last message to all of them reached.
    reached = 1
    #: Whether the last look for more messages found as many as there was room for.
    _has_backlog = False
    #: How many looks in a row found nothing, and how many messages come before the next look.
    _vain_looks = 0
    _before_look = 0
    from_transport_options: tuple[str, ...] = (*kombu_redis.Channel.from_transport_options, "submit", "store")
    _publishing_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.served = self._queue_cycle = ServedGroups()
        if not self.ack_emulation:
            self.QoS = QoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # A server that refuses for now (a failover, a full memory) must not end the worker.
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        if self.store is None:  # a project that has replaced the options
            return {**parameters, "connection_class": patient(parameters["connection_class"])}
        return use_address(parameters, self.store)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._publishing_client is None:
            self._publishing_client = super()._create_client()
        return self._publishing_client

    def _update_queue_cycle(self) -> None:
        super()._update_queue_cycle()
        for queue in self.active_queues:
            self.connection.stand_in = queue

    def _disconnect_pools(self) -> None:
        self._publishing_client = None
        super()._disconnect_pools()

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Return the type of an exchange; the app knows it, even if this process has not declared the exchange."""
        known = self.submit.type_of(exchange) if self.submit is not None else None
        return super().typeof(exchange, known or default)

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        found: list[str] = super()._lookup(exchange, routing_key, default)
        if not found and self.submit is not None:
            # No worker has bound a queue yet, so the message would be lost.
            return self.submit.queues_of(exchange, routing_key)
        return found

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if self.submit is not None and self.submit(queue, message):
            return
        super()._put(queue, message, **kwargs)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        if kwargs.get("_publish_batch") is not None:
            super()._put_fanout(exchange, message, routing_key, **kwargs)
            return
        payload = dumps(message)
        with self.conn_or_acquire() as client:
            topics = self._get_publish_topics(exchange, routing_key)
            self.reached = sum(client.publish(topic, payload) for topic in topics)

    def _purge(self, queue: str) -> int:
        # Without its record, a message would only be sent again.
        cancelled = self.submit.purge(queue) if self.submit is not None else 0
        dropped: int = super()._purge(queue)
        return max(cancelled, dropped)

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """Put a message back into its queue as it is, at an orderly shutdown for example."""
        submit, self.submit = self.submit, None
        try:
            super()._restore(message, leftmost)
        except Exception as exc:
            if self.connection.is_lost(exc):
                raise
            log_dropped(message.body, "?", exc)
        finally:
            self.submit = submit

    def _brpop_read(self, **options: Any) -> bool:
        # As kombu's, but a message that cannot be read does not end the worker.
        waited_s = monotonic() - (self._brpop_sent_at or 0)
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                self.served.nothing_came()
                raise Empty
            queue = bytes_to_str(reply[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            if queue.startswith(_NUDGE):
                return True
            self._hand_over([reply[1]], queue)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        # An immediate answer means that more messages wait, and so does a full batch before it. A caller who
        # waits for each result sends no second one, so looks that find nothing become rarer.
        if waited_s < _BACKLOG_S or self._has_backlog:
            if self._before_look > 0 and not self._has_backlog:
                self._before_look -= 1
            else:
                self._take_backlog(queue)
        return True

    def _receive_one(self, c: Any) -> Any:
        # Messages of a channel: remote control and, for monitors, events.
        try:
            return super()._receive_one(c)
        except Empty:
            raise
        except Exception as exc:
            if self.connection.is_lost(exc):
                raise
            log_dropped(b"", "of remote control", exc)
            raise Empty from exc

    def _take_backlog(self, queue: str) -> None:
        room = min(self.qos.can_consume_max_estimate() or 0, _MOST_AT_ONCE)
        if room > 0:
            lists = [self._q_for_pri(queue, step) for step in self.priority_steps]
            with self.conn_or_acquire() as client:
                messages = pop_messages(client, lists, room)
            self._has_backlog = len(messages) == room
            self._vain_looks = 0 if messages else self._vain_looks + 1
            self._before_look = min(self._vain_looks, _MOST_WITHOUT_LOOK)
            self._hand_over(messages, queue)

    def _hand_over(self, messages: Sequence[bytes], queue: str) -> None:
        if self.direct is not None:
            messages = self.direct.take(messages, queue)
        read: list[tuple[bytes, Any]] = []
        for message in messages:
            try:
                read.append((message, read_envelope(message)))
            except Exception as exc:
                log_dropped(message, queue, exc)
        shown = self.shown_of([envelope["headers"].get("id") for _, envelope in read if is_short(envelope)])
        for message, envelope in read:
            try:
                if is_short(envelope):
                    envelope = written_out(envelope, shown.get(envelope["headers"]["id"], ""))
            except (LookupError, TypeError, ValueError) as exc:
                log_dropped(message, queue, exc)
            else:
                self.connection._deliver(envelope, queue)

    def shown_of(self, task_ids: Sequence[Any]) -> dict[str, str]:
        """Return what people see of the payloads of tasks; nothing if the store does not answer."""
        wanted = [task_id for task_id in task_ids if isinstance(task_id, str)]
        errors = (*self.connection_errors, *self.connection.channel_errors)
        with contextlib.suppress(*errors), self.conn_or_acquire() as client:
            return beginnings(client, wanted, SHOWN_BYTES) if wanted else {}
        return {}


class Transport(kombu_redis.Transport):
    """The transport; `broker_transport` selects it by its `NAME`."""

    Channel = Channel
    #: A queue with the worker's consumer, for messages of guests.
    stand_in = ""

    def establish_connection(self) -> Any:
        """Connect; raises redis-py's `ConnectionError` also if the server takes no writes now."""
        connection = super().establish_connection()
        try:
            with self._avail_channels[-1].conn_or_acquire() as client, contextlib.suppress(*self.channel_errors):
                # A replica answers pings. Without this, a worker would begin and fail again and again until it is back.
                client.delete(_NO_KEY)
        except Exception:
            self.close_connection(connection)
            raise
        return connection

    def _deliver(self, message: Any, queue: str) -> None:
        """Deliver a message; one that cannot be read is dropped, whatever is wrong with it."""
        try:
            address = message["properties"]["delivery_info"]
            if address.get("exchange"):
                address[QUEUE] = queue
            # A guest has no consumer of its own: the worker's consumer takes the messages of all its queues alike.
            super()._deliver(message, queue if queue in self._callbacks else self.stand_in or queue)
        except Exception as exc:
            if self.is_lost(exc):
                raise
            log_dropped(message, queue, exc)
            with contextlib.suppress(Exception):
                tag = message["properties"]["delivery_tag"]
                for channel in self.channels:
                    if tag in channel.qos._delivered:
                        channel.basic_reject(tag, requeue=False)

    def is_lost(self, error: Exception) -> bool:
        """Return whether an error means a lost connection. To kombu a KeyError does; here a message lacks a field."""
        return isinstance(error, self.connection_errors) and not isinstance(error, KeyError)
