"""kombu's Redis transport with three changes: one client per channel, record and message in one step, batches.

kombu builds a new client object for each message it publishes, which costs more than the message.
And it would publish a task that nothing but the message knows of; here a task of ours is submitted,
so that a plain `.delay()` is as safe as a submission over HTTP. And where BRPOP brings one message
per round trip, a backlog is taken in one more call for all free slots; what a dying worker had taken
and not claimed is sent again by the sweep, as with BRPOP. `_put`, `_create_client` and `_brpop_read`
are what kombu's virtual transports leave to their implementations (pinned to one minor of kombu).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import orjson
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from celeriac.store.server.channel import pop_messages

log = logging.getLogger(__name__)

#: A BRPOP answered faster than this found its message waiting (seconds).
_BACKLOG_S = 0.005
#: Messages taken at once; bounds what a dying worker can have taken in vain.
_MOST_AT_ONCE = 32

#: Submits a message to the store; returns whether it did.
Submit = Callable[[str, dict[str, Any]], bool]


class QoS(virtual.QoS):
    """What a channel has delivered and nobody acknowledged yet."""

    def restore_unacked(self) -> list[Any]:
        """Put it back into its queues, as at every orderly end; returns nothing that an operator had to see to.

        Over a connection that is gone that is impossible, and no loss: the records are in the store, and the sweep
        sends their messages again. kombu would call it a panic and dump the messages into a file.
        """
        unrestored = super().restore_unacked()
        if unrestored:
            log.info("%d messages were under way when the connection broke: they are sent again", len(unrestored))
        return []


class Channel(kombu_redis.Channel):
    """See the module. `submit` comes from the transport options of the app."""

    submit: Submit | None = None
    from_transport_options: tuple[str, ...] = (*kombu_redis.Channel.from_transport_options, "submit")
    _publishing_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.ack_emulation:
            self.QoS = QoS

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._publishing_client is None:
            self._publishing_client = super()._create_client()
        return self._publishing_client

    def _disconnect_pools(self) -> None:
        self._publishing_client = None
        super()._disconnect_pools()

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if self.submit is not None and self.submit(queue, message):
            return
        super()._put(queue, message, **kwargs)

    def _brpop_read(self, **options: Any) -> Any:
        waited_s = monotonic() - (self._brpop_sent_at or 0)
        delivered = super()._brpop_read(**options)
        # An answer that came at once means that more is waiting.
        if delivered and waited_s < _BACKLOG_S:
            self._take_backlog(self.connection.last_delivered)
        return delivered

    def _take_backlog(self, queue: str) -> None:
        room = min(self.qos.can_consume_max_estimate() or 0, _MOST_AT_ONCE)
        if room > 0:
            lists = [self._q_for_pri(queue, step) for step in self.priority_steps]
            with self.conn_or_acquire() as client:
                for message in pop_messages(client, lists, room):
                    self.connection._deliver(_envelope(message), queue)


def _envelope(message: bytes) -> Any:
    """Return a message as kombu would read it; only what holds values of Python's own takes kombu's reader."""
    return loads(bytes_to_str(message)) if b'"__type__"' in message else orjson.loads(message)


class Transport(kombu_redis.Transport):
    """Select it with `broker_transport = "celeriac_tasks.engine.transport:Transport"`."""

    Channel = Channel
    #: The queue of the message that was delivered last.
    last_delivered = ""

    def _deliver(self, message: Any, queue: str) -> None:
        self.last_delivered = queue
        super()._deliver(message, queue)
