"""Sends Celery events under any hostname. It blocks, so call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery.events import Event
from celery.events.event import get_exchange
from celery.utils.time import utcoffset

from celeriac_tasks.mirror.translation import CeleryEvent


class EventSender:
    """A sender for the `celeryev` exchange. It connects when first used, and only one thread may use it at a time."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None

    def send(self, events: Sequence[CeleryEvent]) -> None:
        """Publish the events in order; raises kombu's errors, and the next call connects again."""
        try:
            self._send(events)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect. Idempotent."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                connection.release()

    def _send(self, events: Sequence[CeleryEvent]) -> None:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, timeout=5)
            self._producer = self._connection.Producer(auto_declare=False, serializer=self._app.conf.event_serializer)
        exchange = get_exchange(self._connection, name=self._app.conf.event_exchange)
        for event in events:
            moment = {} if event.timestamp is None else {"timestamp": event.timestamp}
            self._producer.publish(
                Event(
                    event.type,
                    hostname=event.hostname,
                    utcoffset=utcoffset(),
                    pid=os.getpid(),
                    clock=self._app.clock.forward(),
                    **moment,
                    **event.fields,
                ),
                routing_key=event.type.replace("-", "."),
                exchange=exchange.name,
                declare=[exchange],
                headers={"hostname": event.hostname},
                delivery_mode=1,
                retry=False,
            )
