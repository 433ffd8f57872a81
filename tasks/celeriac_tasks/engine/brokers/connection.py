"""Celery's connections to its broker: they look often whether it is back, and hold up no worker that has to stop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import kombu
from celery.app.amqp import AMQP

from celeriac_tasks.compatibility.sentinels import SCHEME
from celeriac_tasks.engine.brokers.transport import NAME, Channel
from celeriac_tasks.engine.calls.messages import relative_times
from celeriac_tasks.engine.calls.payloads import SHOWN
from celeriac_tasks.engine.calls.publishing import producers_of

#: The longest pause between two tries to connect (seconds). Celery's 30 s would make a failover take that long.
_MOST_PAUSE_S: Final = 2.0
#: An option of `send_task`: the `countdown` and `eta` of a call whose message is not to wait in the broker.
WHEN: Final = "celeriac_when"


class StoreConnection(kombu.Connection):
    """A connection of an app, whose waiting for the broker ends when its worker is told to stop.

    It names itself as what it is: tools such as Flower look at the scheme of its address. Who purges a queue through it
    cancels the tasks that wait there: without that, their messages would be sent again.
    """

    #: The app; `connections_of` sets it.
    app: Any = None
    #: The name of the transport, which kombu sets.
    transport_cls: Any

    def as_uri(self, *args: Any, **kwargs: Any) -> str:
        """Return the address, `redis://...` or `sentinel://...` for our transport too."""
        uri: str = super().as_uri(*args, **kwargs)
        scheme = SCHEME if (self.transport_options or {}).get("master_name") else "redis"
        return uri.replace(f"{NAME}://", f"{scheme}://", 1)

    def switch(self, conn_str: str) -> None:
        """Go on with another address of the broker, over the same transport: kombu would take that of the scheme."""
        ours = self.transport_cls if self.transport_cls == NAME else None
        super().switch(conn_str)
        self.transport_cls = ours or self.transport_cls

    def channel(self) -> Any:
        """Return a new channel."""
        channel = super().channel()
        if not isinstance(channel, Channel):
            channel.queue_purge = partial(self._purge, channel.queue_purge)
        return channel

    def _purge(self, purge: Callable[..., Any], queue: str = "", *args: Any, **options: Any) -> int:
        """Cancel what waits in the group of a queue, and delete its messages; returns how many tasks it were."""
        cancelled: int = self.app.records.cancel_waiting(queue, "purged")
        try:
            return max(cancelled, purge(queue, *args, **options) or 0)
        except self.channel_errors:  # the broker does not know the queue yet
            if not cancelled:
                raise
            return cancelled

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = _MOST_PAUSE_S,
        callback: Callable[[], object] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> Any:
        return super()._ensure_connection(
            errback,
            max_retries,
            min(interval_start, _MOST_PAUSE_S),
            min(interval_step, _MOST_PAUSE_S),
            min(interval_max, _MOST_PAUSE_S),
            callback or _end_with_worker,
            reraise_as_library_errors=reraise_as_library_errors,
            timeout=timeout,
        )


class StoreAMQP(AMQP):
    """Celery's factory of connections, queues and messages."""

    _producer_pool: Any = None

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.Connection = connections_of(app)

    @property
    def producer_pool(self) -> Any:
        """The app's producers; those on a broker other than the store submit what they publish."""
        if self._producer_pool is None and self.app.conf.broker_transport != NAME:
            self._producer_pool = producers_of(self.app)
        return super().producer_pool

    publisher_pool = producer_pool

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, countdown: Any = None, eta: Any = None,
        group_id: Any = None, group_index: Any = None, expires: Any = None, *more: Any, **options: Any,
    ) -> Any:  # fmt: skip
        """Return the message of a call; it says too which of its times count from now."""
        countdown, eta = options.pop(WHEN, (countdown, eta))
        message = super().as_task_v2(
            task_id, name, args, kwargs, countdown, eta, group_id, group_index, expires, *more, **options
        )
        if options.get("now") is None:
            message.headers.update(relative_times(countdown, expires))
        if shown := [name for name in ("args", "kwargs") if options.get(f"{name}repr") is not None]:
            message.headers[SHOWN] = shown
        return message

    def as_task_v1(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, countdown: Any = None, eta: Any = None,
        *more: Any, **options: Any,
    ) -> Any:  # fmt: skip
        """Return the message of a call in the protocol of Celery before 4.0."""
        countdown, eta = options.pop(WHEN, (countdown, eta))
        return super().as_task_v1(task_id, name, args, kwargs, countdown, eta, *more, **options)

    def _create_task_sender(self) -> Callable[..., Any]:
        send: Callable[..., Any] = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            options.pop(WHEN, None)
            return send(producer, name, message, **options)

        return send_task_message


def connections_of(app: Any) -> type[StoreConnection]:
    """Return the class of an app's connections: pools make copies of a connection by its class."""
    return type("StoreConnection", (StoreConnection,), {"app": app, "__module__": __name__})


def _end_with_worker() -> None:
    """Raise Celery's `WorkerShutdown` if this is the main thread of a worker that is told to stop."""
    state = sys.modules.get("celery.worker.state")
    if state is not None and threading.current_thread() is threading.main_thread():
        state.maybe_shutdown()
