"""Bootsteps of Celery's consumer (docs.celeryq.dev, "Extensions and Bootsteps")."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celeriac.store import keys
from celeriac_tasks.engine.runtime import Runtime, current_runtime
from celeriac_tasks.engine.transport import ServedGroups

log = logging.getLogger(__name__)

#: How long an event may wait for others (seconds), and how many events are sent together.
_EVENT_INTERVAL_S = 0.1
_EVENT_BATCH = 500
#: A worker of all groups serves about this many guests at a time, and shows this many of them to operators.
MOST_GUESTS = 1000
_SHOWN_GUESTS = 200


class FollowGroups(bootsteps.StartStopStep):
    """Makes the worker serve every group that is awake, also those that appear later (`--groups '*'`).

    The worker always consumes from the queues of the configured groups and of its types' groups. Other groups are its
    guests while they are awake: it hears of a new one at once, and looks at an interval for what it missed. Through a
    broker other than Redis, each guest has a queue of its own meanwhile. The runtime shows the groups to operators.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None
        self._cursor = 0
        #: Groups that woke up since the last look began.
        self._woken: set[str] = set()
        # `celery worker -Q a,b` names its queues, so it does not follow.
        queues = consumer.app.amqp.queues
        chosen = set(queues.consume_from) == {consumer.app.conf.task_default_queue}
        self._follows = chosen and consumer.app.celeriac_settings.worker.groups == "*"

    def start(self, consumer: Any) -> None:
        """Start looking for groups; Celery calls this after each (re)connection."""
        # With a pool other than ours, this process does not have a runtime yet.
        slots = consumer.pool.num_processes or 1
        runtime = current_runtime(consumer.app, worker_id=consumer.hostname, concurrency=slots, serves=True)
        runtime.follows = self._follows
        if self._follows:
            for group in sorted(_own_groups(consumer.app)):
                _consume(consumer, group)
            served = _served(consumer)
            if served is not None:
                served.nudge = keys.nudge(runtime.worker_id)
            runtime.on_awake = lambda group: self._awake(consumer, group)
            self._timer = consumer.timer.call_repeatedly(
                consumer.app.celeriac_settings.worker.follow_interval, self._look, (consumer, runtime), priority=10
            )
        self._publish(consumer, runtime)

    def stop(self, consumer: Any) -> None:
        """Stop looking for groups."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _awake(self, consumer: Any, group: str) -> None:
        """Serve a group that woke up; the runtime's thread calls this, and wakes the channel."""
        self._woken.add(group)
        served = _served(consumer)
        if served is not None and group not in served.own:
            served.invite(group)

    def _look(self, consumer: Any, runtime: Runtime) -> None:
        self._woken = set()
        found = runtime.spawn(runtime.store.awake_groups(self._cursor, MOST_GUESTS))
        found.add_done_callback(lambda done: consumer.hub.call_soon(self._keep, consumer, runtime, done))

    def _keep(self, consumer: Any, runtime: Runtime, found: Any) -> None:
        """Serve the groups that are awake and no others, or the next part of them if there are very many."""
        if found.cancelled() or found.exception() is not None or consumer.task_consumer is None:
            return
        self._cursor, names = found.result()
        awake = dict.fromkeys([*names, *self._woken])
        served = _served(consumer)
        if served is not None:
            served.keep([group for group in awake if group not in served.own])
        else:
            own = _own_groups(consumer.app)
            for queue in list(consumer.task_consumer.queues):
                if queue.name not in awake and queue.name not in own:
                    consumer.cancel_task_queue(queue.name)
                    consumer.app.amqp.queues.pop(queue.name, None)
            for group in awake:
                _consume(consumer, group)
        self._publish(consumer, runtime)

    def _publish(self, consumer: Any, runtime: Runtime) -> None:
        served = _served(consumer)
        guests = served.guests[:_SHOWN_GUESTS] if served is not None else []
        runtime.groups = tuple(sorted({*guests, *(queue.name for queue in consumer.task_consumer.queues)}))


def _own_groups(app: Any) -> set[str]:
    """Return the groups that a worker of all groups always serves: the configured ones, and those of its types."""
    queues = app.celeriac_settings.queues
    configured = {group for group in queues.groups if not queues.is_external(group)}
    return {app.conf.task_default_queue, *configured, *(task_type.group for task_type in app.celeriac_registry)}


def _consume(consumer: Any, group: str) -> None:
    if not consumer.task_consumer.consuming_from(group):
        consumer.add_task_queue(group, exchange="", routing_key=group)


def _served(consumer: Any) -> ServedGroups | None:
    """Return what the worker's channel asks for, None with a broker other than Redis."""
    channel = getattr(consumer.task_consumer, "channel", None)
    return getattr(channel, "served", None)


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
