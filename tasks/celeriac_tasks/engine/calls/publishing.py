"""What becomes of a message that Celery publishes: the call of one of our tasks gets its record first.

On Redis our transport asks `PublishedCalls`. With another broker the app's producers are `RecordingProducer`s: they
submit a call where its queue is known, and its message follows through the outbox. All else is published as Celery does
it, and the worker that receives it makes the record (`arrivals.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool, connections

from celeriac.errors import InvalidSubmissionError, StoreUnavailableError, Violation
from celeriac.model import Submitted
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.calls.publications import publication_of
from celeriac_tasks.engine.calls.published_call import PublishedCall
from celeriac_tasks.engine.calls.routes import FANOUT, queues_of, type_of

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp

log = logging.getLogger(__name__)


class PublishedCalls:
    """Submits a published message if it calls one of our tasks."""

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app

    def __call__(self, queue: str, message: dict[str, Any]) -> bool:
        """Submit the message; returns False for messages without a record: replies, events, other apps' tasks."""
        if not is_new_call(self._app, message.get("headers") or {}):
            return False
        self._app.short_way.note(queue)
        return submitted(self._app, messages.call_of_envelope(message), queue)

    def purge(self, queue: str) -> int:
        """Cancel what waits in the group of a queue (`celery purge`, `worker --purge`); returns how many tasks."""
        return self._app.records.cancel_waiting(queue, "purged")

    def type_of(self, exchange: str) -> str | None:
        """Return the type of an exchange of `task_queues`, None for any other one."""
        return type_of(self._app.amqp.queues.values(), exchange)

    def queues_of(self, exchange: str, routing_key: str) -> list[str]:
        """Return the queues in `task_queues` to which a message with this address goes."""
        return queues_of(self._app.amqp.queues.values(), exchange, routing_key)

    def __json__(self) -> str:
        """Return a name, because workers show their transport options to operators as JSON."""
        return "celeriac"


class RecordingProducer(Producer):
    """A producer on a broker other than the store. It connects only for what it does not submit."""

    def __init__(self, channel: Any, *args: Any, app: CeleriacApp, **options: Any) -> None:
        self._app = app
        super().__init__(channel, *args, **options)

    def _publish(self, *published: Any, **options: Any) -> Any:
        message = _Published(*published[:10])
        if is_new_call(self._app, message.headers):
            queues = self._app.amqp.queues.values()
            found = queues_of(queues, message.exchange, message.routing_key)
            certain = len(found) == 1 and type_of(queues, message.exchange) != FANOUT
            if certain and submitted(self._app, message.call(), found[0]):
                return None
        return super()._publish(*published, **options)


class CollectingProducer(Producer):
    """Keeps a call that it is to publish, and does not send it."""

    def __init__(self, app: CeleriacApp) -> None:
        super().__init__(None)
        self._app = app
        self.__connection__ = Connection("memory://")
        self._kept: tuple[PublishedCall, str] | None = None

    def _publish(self, *published: Any, **options: Any) -> Any:
        message = _Published(*published[:10])
        if not message.headers.get("id"):
            # The event that tells of the publication.
            with self._app.producer_pool.acquire(block=True) as producer:
                return producer._publish(*published, **options)
        found = queues_of(self._app.amqp.queues.values(), message.exchange, message.routing_key)
        if len(found) != 1:
            where = f"the exchange {message.exchange!r} with the routing key {message.routing_key!r}"
            reason = (
                f"leads to {len(found)} of the queues in `task_queues`, but a record is in one: choose it with `queue`"
            )
            raise InvalidSubmissionError([Violation(where, reason)])
        self._kept = message.call(), found[0]
        return None

    def take(self) -> tuple[PublishedCall, str]:
        """Return the call that was published last, and its queue."""
        assert self._kept is not None
        return self._kept


class _Published(NamedTuple):
    """What kombu's `Producer._publish` gets, in this order."""

    body: str | bytes
    priority: int | None
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    routing_key: str
    mandatory: bool
    immediate: bool
    exchange: str

    def call(self) -> PublishedCall:
        """Return the call of a task that it is."""
        properties = {**self.properties, "priority": self.priority}
        return messages.call_of_published(self.headers, self.body, self.content_type, self.content_encoding, properties)


def producers_of(app: CeleriacApp) -> ProducerPool:
    """Return the producers of an app whose broker is not the store."""

    def recording(channel: Any) -> RecordingProducer:
        return RecordingProducer(channel, app=app)

    return ProducerPool(connections[app.connection_for_write()], limit=app.pool.limit, Producer=recording)


def is_new_call(app: CeleriacApp, headers: Mapping[str, Any]) -> bool:
    """Whether the message with these headers calls one of our tasks and has no record yet."""
    if not headers.get("id") or messages.has_record(headers):
        return False
    return isinstance(app.tasks.get(headers.get("task")), CeleriacTask)


def submitted(app: CeleriacApp, call: PublishedCall, queue: str) -> bool:
    """Submit a call; returns False if it is a copy (see `is_copy`), which is to be published as Celery does it."""
    publication = publication_of(app, call.headers)
    answer = app.record(call, queue=queue, publication=publication)
    if answer.created:
        return True
    if is_copy(app, call, answer, queue):
        return False
    submitted_again(app, call, answer, queue, publication)
    return True


def submitted_again(
    app: CeleriacApp, call: PublishedCall, answer: Submitted, queue: str, publication: str | None
) -> None:
    """Submit a call whose id has a record: it runs once more, unless the task still waits (`answer`)."""
    if not call.headers.get("replaced_task_nesting"):
        answer = app.record_again(call, queue=queue, publication=publication)
    if not answer.created and not call.headers.get("parent_id"):
        # What a task calls may come again: an attempt after a crash publishes the same ids.
        log.warning(
            "%s[%s] is not run again: its id has a record already (%s). Call it without task_id, or with a new one",
            call.headers["task"], call.headers["id"], answer.status,
        )  # fmt: skip


def is_copy(app: CeleriacApp, call: PublishedCall, answer: Submitted, queue: str) -> bool:
    """Whether a submitted call is a copy of one that another queue got before: an exchange may lead to several queues.

    Celery runs each copy. A second message of the same queue is not a copy: nothing runs again for it.
    """
    if answer.created or call.headers.get("replaced_task_nesting"):
        return False
    try:
        first = app.records.find(call.headers["id"])
    except StoreUnavailableError as exc:
        raise OperationalError(str(exc)) from exc
    return first is not None and first.type == call.headers["task"] and first.group != queue
