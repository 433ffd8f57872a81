"""Steps of Celery's consumer (docs.celeryq.dev, "Extensions and Bootsteps")."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: How long an event may wait for others (seconds), and how many go out together.
_EVENT_INTERVAL_S = 0.1
_EVENT_BATCH = 500


class FollowGroups(bootsteps.StartStopStep):
    """Serves every group, also those that appear later (`--groups '*'`).

    Looks for new groups on an interval, and tells the runtime which ones the worker serves.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        # `celery worker -Q a,b` chose its queues itself.
        queues = consumer.app.amqp.queues
        chosen = set(queues.consume_from) == {consumer.app.conf.task_default_queue}
        self._follows = chosen and consumer.app.celeriac_settings.worker.groups == "*"

    def start(self, consumer: Any) -> None:
        """Begin; Celery calls this after each (re)connection."""
        # Other pools than ours have no runtime in this process yet.
        slots = consumer.pool.num_processes or 1
        runtime = current_runtime(consumer.app, worker_id=consumer.hostname, concurrency=slots, serves=True)
        self._publish(consumer, runtime)
        if self._follows:
            self._timer = consumer.timer.call_repeatedly(
                consumer.app.celeriac_settings.worker.follow_interval, self._look, (consumer, runtime), priority=10
            )

    def stop(self, consumer: Any) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, consumer: Any, runtime: Runtime) -> None:
        found = runtime.spawn(runtime.store.group_names())
        found.add_done_callback(lambda done: consumer.hub.call_soon(self._add, consumer, runtime, done))

    def _add(self, consumer: Any, runtime: Runtime, found: Any) -> None:
        if found.cancelled() or found.exception() is not None or consumer.task_consumer is None:
            return
        for name in found.result():
            if not consumer.task_consumer.consuming_from(name):
                consumer.add_task_queue(name, exchange="", routing_key=name)
        self._publish(consumer, runtime)

    def _publish(self, consumer: Any, runtime: Runtime) -> None:
        runtime.groups = tuple(sorted(queue.name for queue in consumer.task_consumer.queues))


class BatchEvents(bootsteps.StartStopStep):
    """Sends task events in batches by time, not one message per turn of the loop.

    An event costs as much to publish as a no-op task to run; those who look (Flower) see it a tenth
    of a second later, with its own timestamp.
    """

    requires = ("celery.worker.consumer:Events",)

    def start(self, consumer: Any) -> None:
        """Take over when the dispatcher's buffer is flushed; Celery calls this after each (re)connection."""
        dispatcher = consumer.event_dispatcher
        if dispatcher is None or consumer.hub is None:
            return
        pending = False

        def flush() -> None:
            nonlocal pending
            pending = False
            dispatcher.flush(errors=False, groups=["task"])

        def buffered() -> None:
            nonlocal pending
            if not pending:
                pending = True
                consumer.hub.call_later(_EVENT_INTERVAL_S, flush)

        dispatcher.buffer_limit = _EVENT_BATCH
        dispatcher.on_send_buffered = buffered
