"""A broker other than the store: messages that follow their records, and how many wait there."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

from kombu import Producer

from celeriac.execution.daemon_threads import DaemonThreads
from celeriac.store.task_store import OutgoingMessage

log = logging.getLogger(__name__)


class Broker:
    """The broker of a Celery app, asked from an event loop.

    kombu blocks, and its connections belong to one thread each: so all happens on a thread of this object's.
    `publish` raises what kombu raises; the next call connects anew.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = DaemonThreads(1, name="broker")
        self._producer: Any = None
        # Apart from those the worker consumes from, and with the same arguments.
        self._queues: Any = app.amqp.Queues(app.conf.task_queues)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        """Publish; returns when the broker has taken them all, by confirmation where it knows that."""
        await self._on_thread(self._publish, messages)

    async def is_empty(self, group: str) -> bool:
        """Whether no message waits in the group's queue, for sure; a queue that nobody has made yet is empty."""
        try:
            return bool(await self._on_thread(self._is_empty, group))
        except Exception as exc:
            log.debug("group %s: the broker does not say what waits there: %s", group, exc)
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

    def _publish(self, messages: Sequence[OutgoingMessage]) -> None:
        producer = self._connected()
        for group in {message.group for message in messages}:
            # Each time: a message for a queue that is gone would vanish without a word.
            self._queue(group)(producer.channel).declare()
        for message in messages:
            envelope = json.loads(message.envelope)
            properties = envelope["properties"]
            producer.publish(
                base64.b64decode(envelope["body"]),
                routing_key=message.group,
                content_type=envelope["content-type"],
                content_encoding=envelope["content-encoding"],
                headers=envelope["headers"],
                correlation_id=properties["correlation_id"],
                reply_to=properties["reply_to"] or None,
                # Here the higher one is served first, as with our own; it needs a queue with x-max-priority.
                priority=message.priority,
                delivery_mode=2,
            )

    def _is_empty(self, group: str) -> bool:
        producer = self._connected()
        try:
            found = self._queue(group)(producer.channel).queue_declare(passive=True)
        except producer.connection.channel_errors:  # there is none of this name; the channel is closed by that
            self._disconnect()
            return True
        return int(found.message_count) == 0

    def _queue(self, group: str) -> Any:
        return self._queues.get(group) or self._queues.add(group, exchange="", routing_key=group)
