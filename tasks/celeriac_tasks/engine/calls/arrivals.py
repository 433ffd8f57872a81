"""Gives a record to each message that arrives without one, from producers that use plain Celery.

A plain Celery worker would hold such a message in memory until it is due or a slot is free. Here the message
becomes a submission as soon as it arrives, and its task is delivered again like any other. What an exchange sends to
several queues at once has no single record: each copy runs as in stock Celery.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default
from kombu import serialization
from kombu.exceptions import ContentDisallowed, DecodeError, OperationalError

from celeriac.model import Refusal
from celeriac_tasks.engine.brokers.transport import QUEUE
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.calls.published_call import EMPTY_BODY, JSON, PublishedCall
from celeriac_tasks.engine.calls.publishing import is_copy, submitted_again
from celeriac_tasks.engine.calls.routes import FANOUT, queues_of, type_of
from celeriac_tasks.engine.runtime import current_runtime

log = logging.getLogger(__name__)

#: Pause before a message that could not be recorded is recorded again (seconds).
_AGAIN_S: Final = 1.0
#: The exchanges of which the log has said that their calls have no records.
_said: set[str] = set()


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the function that handles a received message of `task` (see `Strategy` in Celery's `Task`)."""
    deliver = default(task, app, consumer, **options)

    def on_message(
        message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, queue: str | None = None, **more: Any
    ) -> Any:
        if messages.has_record(message.headers):
            _make_acceptable(app, message)
            messages.leave_unread(message)
            try:
                return deliver(message, body, ack, reject, callbacks, **more)
            except (ContentDisallowed, DecodeError) as exc:
                _fail(app, consumer, message, exc)
                raise
        try:
            queue, unrecorded = (queue, False) if queue is not None else _source_of(consumer, message)
            if not unrecorded:
                call = messages.call_of_message(message, body)
                unrecorded = not _recorded(app, call, message, queue)
        except OperationalError as exc:
            # Its queue is in the store, too: the message stays here until the store takes it.
            log.error("a message of task %s waits, because it cannot be recorded: %s", task.name, exc)
            again = partial(on_message, message, body, ack, reject, callbacks, queue, **more)
            consumer.timer.call_after(_AGAIN_S, again)
        except (ContentDisallowed, DecodeError):
            raise
        except Exception as exc:
            # Celery logs and drops a message that it calls invalid; any other error would end the worker.
            raise InvalidTaskError(f"the message cannot be recorded: {exc}") from exc
        else:
            if unrecorded:
                return deliver(_unrecorded(message, body), body, ack, reject, callbacks, **more)
            ack(log, consumer.connection_errors)
        return None

    return on_message


def _recorded(app: Any, call: PublishedCall, message: Any, queue: str) -> bool:
    """Submit the call in a message; returns False if it is a copy, which has no record.

    The queue has accepted the message, so no limit may refuse it now. If the same message is delivered again, that
    changes nothing; another one with its id runs when the task has ended.
    """
    # Redis: made by the publisher. Another broker counts deliveries, and says which are not the first.
    tag = message.delivery_tag if isinstance(message.delivery_tag, str) else None
    answer = app.record(call, queue=queue, within_limits=False, publication=tag)
    if is_copy(app, call, answer, queue):
        return False
    if not answer.created and (tag is not None or not (message.delivery_info or {}).get("redelivered")):
        submitted_again(app, call, answer, queue, tag)
    return True


def _make_acceptable(app: Any, message: Any) -> None:
    """Write the empty body of a message that the platform built in the app's serializer, if the app takes no JSON."""
    if messages.built_here(message.headers) and message.accept is not None and JSON not in message.accept:
        message.content_type, message.content_encoding, message.body = serialization.dumps(
            EMPTY_BODY, app.conf.task_serializer
        )


def _fail(app: Any, consumer: Any, message: Any, error: Exception) -> None:
    """Fail a task whose message this worker will never read; otherwise it would be sent again and again."""
    runtime = current_runtime(app, worker_id=consumer.hostname)

    async def fail() -> None:
        attempt = await runtime.runner.begin(message.headers["id"])
        if not isinstance(attempt, Refusal):
            try:
                await runtime.runner.fail_for_good(attempt, error)
            finally:
                runtime.runner.forget(attempt)

    runtime.wait(fail())


def _source_of(consumer: Any, message: Any) -> tuple[str, bool]:
    """Return the queue that the message came from, and whether its exchange copies each message to all its queues."""
    address = message.delivery_info or {}
    # Only inside: tasks see the address as Celery made it.
    name = address.pop(QUEUE, None)
    exchange, routing_key = address.get("exchange") or "", address.get("routing_key") or ""
    known = consumer.app.amqp.queues
    if name is None and (tag := address.get("consumer_tag")):
        name = next((queue for queue, other in consumer.task_consumer._active_tags.items() if other == tag), None)
    if name is None:
        found = queues_of(known.consume_from.values(), exchange, routing_key) if exchange else []
        name = found[0] if found else routing_key or consumer.app.conf.task_default_queue
    everybodys = name in known and type_of([known[name]], exchange) == FANOUT
    if everybodys and exchange not in _said:
        _said.add(exchange)
        log.warning("calls through the exchange %s have no records: each worker that listens to it runs them", exchange)
    return str(name), everybodys


def _unrecorded(message: Any, body: Any) -> Any:
    """Mark a message whose task runs as in stock Celery, without a claim; returns it."""
    # With protocol 1 the body says what the headers say otherwise.
    for part in (message.headers, message.payload if body is None else body):
        if isinstance(part, dict):
            part[messages.HEADER] = messages.UNRECORDED
    return message
