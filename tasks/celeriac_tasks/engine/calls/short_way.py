"""A short way for plain calls: from `send_task` to the record, past kombu's producers and transport.

`delay()`, and `apply_async` with options that only say what is in the message, do nothing on the long way but build a
message, which then becomes a submission. Here the same functions of Celery build it: router, message, serializer. All
other calls go the long way, and so does each call as long as something listens to publications or replaces a part of
that way.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from celery.app.routes import MapRoute
from kombu import Producer, Queue, messaging, serialization, uuid

from celeriac_tasks.engine.brokers import connection
from celeriac_tasks.engine.brokers.connection import StoreAMQP
from celeriac_tasks.engine.brokers.transport import NAME
from celeriac_tasks.engine.calls.publications import announced_end
from celeriac_tasks.engine.calls.published_call import PublishedCall
from celeriac_tasks.engine.calls.publishing import submitted
from celeriac_tasks.engine.results import RecordBackend

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp

#: Options of `send_task` that only say what is in the message, and those that say how the record is made.
_OF_MESSAGE: Final = frozenset({"shadow", "time_limit", "soft_time_limit", "ignore_result"})
_USUAL: Final = _OF_MESSAGE | {"task_id", "task_type", "result_cls", "queue", "priority", "serializer"}
#: What a router may say of a call.
_ROUTED: Final = frozenset({"queue", "priority", "serializer"})
_SERIALIZER: Final = "json"
#: In Celery's messages, what is kept on the disk of a broker.
_PERSISTENT: Final = 2
_HEARD: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


class ShortWay:
    """Publishes plain calls of one app. May be used by several threads."""

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app
        #: Queues that a producer has declared: the first call of each one goes the long way.
        self._declared: set[str] = set()

    def publish(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Publish the call that `send_task(name, args, kwargs, **options)` asks for, and return its result.

        Returns None if it has to go the long way; then nothing has happened but that `options` has the id. Raises what
        `send_task` raises.
        """
        if not self._declared:
            # The app may not have read its configuration; threads that do it at the same time see half of it.
            return None
        app = self._app
        given = {option for option, value in options.items() if value is not None}
        task_type = options.get("task_type")
        if not given <= _USUAL or task_type is None or not self._is_open():
            return None
        how = {option: value for option, value in options.items() if option not in _USUAL or option in _ROUTED}
        routed = app.amqp.router.route(how, name, args, kwargs, task_type)
        queue = routed.get("queue")
        if (
            not {option for option, value in routed.items() if value is not None} <= _ROUTED
            or type(queue) is not Queue
            or queue.name not in self._declared
            or queue.exchange.type != "direct"
            or (routed.get("serializer") or app.conf.task_serializer) != _SERIALIZER
        ):
            return None
        task_id = options["task_id"] = options.get("task_id") or uuid()
        message = app.amqp.create_task_message(
            task_id, name, args, kwargs, reply_to=app.thread_oid, shadow=options.get("shadow"),
            time_limit=options.get("time_limit"), soft_time_limit=options.get("soft_time_limit"),
            ignore_result=options.get("ignore_result"),
        )  # fmt: skip
        if not message.headers:  # protocol 1
            return None
        content_type, encoding, body = serialization.dumps(message.body, _SERIALIZER)
        raw = body if isinstance(body, bytes) else body.encode()
        # In the order in which kombu adds them; the record has a tag of its own.
        properties = {
            **message.properties,
            "delivery_mode": _PERSISTENT,
            "priority": routed.get("priority") or 0,
            "delivery_tag": "",
        }
        encoded = base64.b64encode(raw).decode()
        call = PublishedCall(message.headers, raw, content_type, encoding, properties, encoded)
        if not submitted(app, call, queue.name):
            return None
        result = (options.get("result_cls") or app.AsyncResult)(task_id)
        # As in `send_task`: the caller can still read the record.
        result.ignored = False
        return result

    def note(self, queue: str) -> None:
        """Note that a call of this queue went the long way, where producers declare it."""
        self._declared.add(queue)

    def _is_open(self) -> bool:
        """Whether nobody hears of publications, or has replaced a part of the long way."""
        app, conf = self._app, self._app.conf
        return (
            type(app.amqp) is StoreAMQP
            and type(app.backend) is RecordBackend
            and not any(signal.receivers for signal in _HEARD)
            and app.current_worker_task is None
            and announced_end() is None
            and all(type(route) is MapRoute for route in app.amqp.router.routes)
            and conf.broker_transport == NAME
            and not conf.task_send_sent_event
            and not conf.task_compression
            # Libraries that watch publications put something around these.
            and _file_of(app.amqp.send_task_message) == connection.__file__
            and _file_of(Producer.publish) == messaging.__file__
        )


def _file_of(function: Any) -> str | None:
    return getattr(getattr(function, "__code__", None), "co_filename", None)
