"""Bootsteps of Celery's consumer (docs.celeryq.dev, "Extensions and Bootsteps")."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: How long an event may wait for others (seconds), and how many events are sent together.
_EVENT_INTERVAL_S = 0.1
_EVENT_BATCH = 500


class FollowGroups(bootsteps.StartStopStep):
    """Makes the worker serve every group, including groups that appear later (`--groups '*'`).

    Looks for new groups at an interval, and tells the runtime which groups the worker serves.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        # `celery worker -Q a,b` names its queues, so it does not follow.
        queues = consumer.app.amqp.queues
        chosen = set(queues.consume_from) == {consumer.app.conf.task_default_queue}
        self._follows = chosen and consumer.app.celeriac_settings.worker.groups == "*"

    def start(self, consumer: Any) -> None:
        """Start looking for groups; Celery calls this after each (re)connection."""
        # With a pool other than ours, this process does not have a runtime yet.
        slots = consumer.pool.num_processes or 1
        runtime = current_runtime(consumer.app, worker_id=consumer.hostname, concurrency=slots, serves=True)
        self._publish(consumer, runtime)
        if self._follows:
            self._timer = consumer.timer.call_repeatedly(
                consumer.app.celeriac_settings.worker.follow_interval, self._look, (consumer, runtime), priority=10
            )

    def stop(self, consumer: Any) -> None:
        """Stop looking for groups."""
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
    """Sends task events in timed batches instead of one message per turn of the loop.

    Publishing an event costs as much as running a no-op task. Monitors such as Flower see the event a tenth
    of a second later, with its original timestamp.
    """

    requires = ("celery.worker.consumer:Events",)

    def start(self, consumer: Any) -> None:
        """Take over the flushing of the dispatcher's buffer; Celery calls this after each (re)connection."""
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
