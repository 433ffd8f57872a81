"""Celery's connections to its broker: they look often whether it is back, and hold up no worker that has to stop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import kombu
from celery.app.amqp import AMQP

from celeriac_tasks.engine.messages import relative_times
from celeriac_tasks.engine.transport import NAME

#: The longest pause between two tries to connect (seconds). Celery's 30 s would make a failover take that long.
_MOST_PAUSE_S: Final = 2.0


class StoreConnection(kombu.Connection):
    """A connection whose waiting for the broker ends when its worker is told to stop.

    It names itself as what it is: tools such as Flower look at the scheme of its address.
    """

    def as_uri(self, *args: Any, **kwargs: Any) -> str:
        """Return the address, `redis://...` for our transport too."""
        uri: str = super().as_uri(*args, **kwargs)
        return uri.replace(f"{NAME}://", "redis://", 1)

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

    Connection = StoreConnection

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, countdown: Any = None, eta: Any = None,
        group_id: Any = None, group_index: Any = None, expires: Any = None, *more: Any, **options: Any,
    ) -> Any:  # fmt: skip
        """Return the message of a call; it says too which of its times count from now."""
        message = super().as_task_v2(
            task_id, name, args, kwargs, countdown, eta, group_id, group_index, expires, *more, **options
        )
        if options.get("now") is None:
            message.headers.update(relative_times(countdown, expires))
        return message


def _end_with_worker() -> None:
    """Raise Celery's `WorkerShutdown` if this is the main thread of a worker that is told to stop."""
    state = sys.modules.get("celery.worker.state")
    if state is not None and threading.current_thread() is threading.main_thread():
        state.maybe_shutdown()
