"""kombu's Redis transport with three changes.

1. One client per channel. kombu builds a new client object for each message, which costs more than the message.
2. Record and message in one step. kombu would publish a task that exists only as a message. Here the channel
   submits the task, so a plain `.delay()` is as safe as a submission over HTTP.
3. Batches. BRPOP brings one message per round trip. If there is a backlog, one more call takes messages for all
   free slots. The sweep sends a message again if a dying worker took it without a claim, as with BRPOP.

`_put`, `_create_client` and `_brpop_read` are the methods that kombu's virtual transports leave to their
implementations (pinned to one minor version of kombu).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.store.server.channel import pop_messages

log = logging.getLogger(__name__)

#: If BRPOP answers faster than this, its message was already waiting (seconds).
_BACKLOG_S = 0.005
#: At most this many messages are taken at once; it bounds what a dying worker can have taken without a claim.
_MOST_AT_ONCE = 32

#: Submits a message to the store; returns True if it did.
Submit = Callable[[str, dict[str, Any]], bool]


class QoS(virtual.QoS):
    """The messages that a channel has delivered and the worker has not acknowledged yet."""

    def restore_unacked(self) -> list[Any]:
        """Put the messages back into their queues at an orderly shutdown; returns an empty list.

        This fails if the connection is broken, but nothing is lost: the records are in the store, and the sweep
        sends their messages again. kombu would report a panic and dump the messages into a file.
        """
        unrestored = super().restore_unacked()
        if unrestored:
            log.info("%d messages were in flight when the connection broke; they will be sent again", len(unrestored))
        return []


class Channel(kombu_redis.Channel):
    """A channel with the changes that the module describes. `submit` comes from the app's transport options."""

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
        # An immediate answer means that more messages wait.
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
    """Return a message as kombu would read it; kombu's slower reader takes what is not plain JSON."""
    if b'"__type__"' not in message:
        with contextlib.suppress(JsonError):
            return json_text.read(message)
    return loads(bytes_to_str(message))


class Transport(kombu_redis.Transport):
    """The transport; select it with `broker_transport = "celeriac_tasks.engine.transport:Transport"`."""

    Channel = Channel
    #: The queue of the most recently delivered message.
    last_delivered = ""

    def _deliver(self, message: Any, queue: str) -> None:
        self.last_delivered = queue
        super()._deliver(message, queue)
