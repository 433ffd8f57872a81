"""What arrives without a record gets one: messages of producers that know only Celery.

A worker of Celery's own would hold such a message in memory until its time has come, or its slot. Here it
becomes a submission as soon as it arrives, and its task comes back like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError, OperationalError

from celeriac_tasks.engine import messages

log = logging.getLogger(__name__)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what handles a received message of `task` (see `Strategy` of Celery's tasks)."""
    deliver = default(task, app, consumer, **options)

    def on_message(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        if messages.has_record(message.headers):
            return deliver(message, body, ack, reject, callbacks, **more)
        try:
            # Its queue has accepted it, so no limit refuses it now. A second one of the same id changes nothing.
            app.record(messages.call_of_message(message, body), queue=_queue_of(app, message), within_limits=False)
        except OperationalError as exc:
            log.error("a message of %s goes back to its queue: %s", task.name, exc)
            reject(log, consumer.connection_errors, True)
        except (ContentDisallowed, DecodeError):
            raise
        except Exception as exc:
            # Celery drops what it calls invalid, with a line in its log; any other error would end the worker.
            raise InvalidTaskError(f"no record can be made of it: {exc}") from exc
        else:
            ack(log, consumer.connection_errors)
        return None

    return on_message


def _queue_of(app: Any, message: Any) -> str:
    """Return the queue that the message came from, as far as its address tells."""
    address = message.delivery_info or {}
    exchange, routing_key = address.get("exchange") or "", address.get("routing_key")
    for queue in app.amqp.queues.consume_from.values():
        if exchange and queue.exchange.name == exchange and queue.routing_key == routing_key:
            return str(queue.name)
    return str(routing_key or app.conf.task_default_queue)
