"""Gives a record to each message that arrives without one, from producers that use plain Celery.

A plain Celery worker would hold such a message in memory until it is due or a slot is free. Here the message
becomes a submission as soon as it arrives, and its task is delivered again like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError, OperationalError

from celeriac_tasks.engine import messages

log = logging.getLogger(__name__)

#: Pause before a message that could not be recorded is recorded again (seconds).
_AGAIN_S: Final = 1.0


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the function that handles a received message of `task` (see `Strategy` in Celery's `Task`)."""
    deliver = default(task, app, consumer, **options)

    def on_message(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        if messages.has_record(message.headers):
            return deliver(message, body, ack, reject, callbacks, **more)
        try:
            # The queue has accepted the message, so no limit may refuse it now. A second message with the same id
            # changes nothing.
            app.record(messages.call_of_message(message, body), queue=_queue_of(app, message), within_limits=False)
        except OperationalError as exc:
            # Its queue is in the store, too: the message stays here until the store takes it.
            log.error("a message of task %s waits, because it cannot be recorded: %s", task.name, exc)
            again = partial(on_message, message, body, ack, reject, callbacks, **more)
            consumer.timer.call_after(_AGAIN_S, again)
        except (ContentDisallowed, DecodeError):
            raise
        except Exception as exc:
            # Celery logs and drops a message that it calls invalid; any other error would end the worker.
            raise InvalidTaskError(f"the message cannot be recorded: {exc}") from exc
        else:
            ack(log, consumer.connection_errors)
        return None

    return on_message


def _queue_of(app: Any, message: Any) -> str:
    """Return the queue that the message came from, judged by its delivery address."""
    address = message.delivery_info or {}
    exchange, routing_key = address.get("exchange") or "", address.get("routing_key")
    for queue in app.amqp.queues.consume_from.values():
        if exchange and queue.exchange.name == exchange and queue.routing_key == routing_key:
            return str(queue.name)
    return str(routing_key or app.conf.task_default_queue)
