"""A broker other than the store: publishes messages after their records, and tells whether a queue is empty."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from kombu import Producer

from celeriac.threads.daemon_threads import threads_for_functions

log = logging.getLogger(__name__)

#: The broker remembers at most this many queues.
_MOST_QUEUES = 1000
#: Properties of AMQP messages that belong to a call.
_PROPERTIES: Final = (
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


class Outgoing(NamedTuple):
    """A message on its way to the broker: the group that it goes to, its priority there, and its whole envelope."""

    group: str
    priority: int
    envelope: Mapping[str, Any]


class Broker:
    """The broker of a Celery app, for use from an event loop.

    kombu blocks, and each of its connections belongs to one thread, so this object does all its work on its own
    thread. `publish` raises kombu's errors; after an error the next call connects again.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = threads_for_functions(1, name="broker")
        self._producer: Any = None
        # Kept apart from the queues that the worker consumes from, but with the same arguments.
        self._queues: Any = app.amqp.Queues(app.conf.task_queues)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish the messages; returns when the broker has taken (and, if it can, confirmed) all of them."""
        await self._on_thread(self._publish, messages)

    async def is_empty(self, group: str) -> bool:
        """Whether the group's queue is certainly empty; a queue that does not exist yet is empty."""
        try:
            return bool(await self._on_thread(self._is_empty, group))
        except Exception as exc:
            log.debug("group %s: cannot ask the broker how many messages wait: %s", group, exc)
            return False

    async def close(self) -> None:
        """Disconnect."""
        await self._on_thread(self._disconnect)
        self._thread.shutdown()

    async def _on_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, function, *arguments)

    # --- on the thread

    def _guarded(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception:
            self._disconnect()
            raise

    def _connected(self) -> Any:
        if self._producer is None:
            connection = self._app.connection_for_write()
            connection.ensure_connection(max_retries=1, timeout=5)
            self._producer = Producer(connection.default_channel, auto_declare=False)
        return self._producer

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.connection.release()

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        for group in {message.group for message in messages}:
            self._declare(group)
        for message in messages:
            self._send(message)

    def _declare(self, group: str) -> None:
        """Declare the queue of a group each time, because a message for a missing queue would be lost silently."""
        producer = self._connected()
        try:
            self._queue(group)(producer.channel).declare()
        except producer.connection.channel_errors as exc:
            # It is there, with other arguments than ours.
            log.warning("the queue %s is used as it is, not as the configuration has it: %s", group, exc)
            self._disconnect()

    def _send(self, message: Outgoing) -> None:
        envelope = message.envelope
        connection = self._connected().connection
        own = _own_properties(envelope["properties"], connection.userid)
        try:
            self._send_with(own, message, envelope)
        except connection.connection_errors:
            raise
        except Exception as exc:
            # Another message must not wait for one that the broker will never take.
            log.warning("the message of task %s goes without its own properties: %s", envelope["headers"]["id"], exc)
            self._disconnect()
            try:
                self._send_with({}, message, envelope)
            except connection.connection_errors:
                raise
            except Exception as again:
                log.error("the message of task %s cannot be sent: %s", envelope["headers"]["id"], again)
                self._disconnect()

    def _send_with(self, own: Mapping[str, Any], message: Outgoing, envelope: Mapping[str, Any]) -> None:
        self._connected().publish(
            base64.b64decode(envelope["body"]),
            routing_key=message.group,
            content_type=envelope["content-type"],
            content_encoding=envelope["content-encoding"],
            headers=envelope["headers"],
            # The higher number is served first, as in our own priorities; the queue needs x-max-priority.
            priority=message.priority,
            delivery_mode=2,
            **{"correlation_id": envelope["properties"]["correlation_id"], **own},
        )

    def _is_empty(self, group: str) -> bool:
        producer = self._connected()
        try:
            found = self._queue(group)(producer.channel).queue_declare(passive=True)
        except producer.connection.channel_errors:  # the queue does not exist, and the error closed the channel
            self._disconnect()
            return True
        return int(found.message_count) == 0

    def _queue(self, group: str) -> Any:
        if len(self._queues) > _MOST_QUEUES:
            # Callers make up names of groups.
            self._queues = self._app.amqp.Queues(self._app.conf.task_queues)
        return self._queues.get(group) or self._queues.add(
            group, exchange="", routing_key=group, queue_arguments=self._queues.new_missing(group).queue_arguments
        )


def _own_properties(properties: Mapping[str, Any], userid: str) -> dict[str, Any]:
    """Return the properties of AMQP that the caller of a task gave; RabbitMQ takes only our own user's `user_id`."""
    own = {name: properties[name] for name in _PROPERTIES if properties.get(name)}
    if own.get("user_id", userid) != userid:
        del own["user_id"]
    return own
