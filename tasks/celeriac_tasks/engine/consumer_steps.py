"""Bootsteps of Celery's consumer (docs.celeryq.dev, "Extensions and Bootsteps")."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery import bootsteps
from celery.worker import state as worker_state
from celery.worker.consumer.control import Control

from celeriac.errors import StoreUnavailableError
from celeriac.store import keys
from celeriac.store.owners import Owners
from celeriac.threads.os_threads import wait_for
from celeriac_tasks.engine.brokers.transport import Channel, ServedGroups
from celeriac_tasks.engine.direct.monitors import Monitors
from celeriac_tasks.engine.ownership import app_name
from celeriac_tasks.engine.pools.freed_slots import FreedSlots
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: A worker of all groups serves about this many guests at a time, and shows this many of them to operators.
MOST_GUESTS = 1000
_SHOWN_GUESTS = 200
#: Celery's pools in which tasks end beside the worker's loop.
_BESIDE_THE_LOOP = ("celery.concurrency.thread", "celery.concurrency.gevent")
#: How often a worker of named groups notes that they are of its app (seconds).
_OWN_AGAIN_S = 60.0


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
        self._owning: Any = None
        self._cursor = 0
        #: Groups that woke up since the last look began.
        self._woken: set[str] = set()
        #: Groups that an operator told the worker to leave, and those that it was told to serve.
        self._left: set[str] = set()
        self._joined: set[str] = set()
        consumer.celeriac_groups = self
        # `celery worker -Q a,b` names its queues, so it does not follow.
        queues = consumer.app.amqp.queues
        chosen = set(queues.consume_from) == {consumer.app.conf.task_default_queue}
        groups = consumer.app.celeriac_settings.worker
        asked = consumer.app.celeriac_source.follows or "groups" in groups.model_fields_set
        self._follows = chosen and asked and groups.groups == "*"

    def start(self, consumer: Any) -> None:
        """Start looking for groups; Celery calls this after each (re)connection."""
        # With a pool other than ours, this process does not have a runtime yet.
        slots = consumer.pool.num_processes or 1
        runtime = current_runtime(consumer.app, worker_id=consumer.hostname, concurrency=slots, serves=True)
        runtime.follows = self._follows
        if self._follows:
            served = _served(consumer)
            own = self._own_groups(consumer.app, _owners_now(runtime))
            for group in sorted(own if served is not None else own - self._left):
                _consume(consumer, group)
            if served is not None:
                served.left = frozenset(self._left)
            runtime.on_awake = lambda group: self._awake(consumer, group)
            self._timer = consumer.timer.call_repeatedly(
                consumer.app.celeriac_settings.worker.follow_interval, self._look, (consumer, runtime), priority=10
            )
        self._own(consumer, runtime)
        again_s = min(consumer.app.celeriac_settings.group_ownership / 3, _OWN_AGAIN_S)
        self._owning = consumer.timer.call_repeatedly(again_s, self._own, (consumer, runtime), priority=10)
        self._publish(consumer, runtime)
        self._obey(consumer, runtime)
        runtime.tell_monitors = partial(_tell_monitors, consumer)
        runtime.announce()

    def _obey(self, consumer: Any, runtime: Runtime) -> None:
        """Let operators drain the worker, and tell them how many tasks run and have ended here."""
        served = _served(consumer)
        runtime.drains = served is not None
        runtime.counts = partial(_counts, consumer)
        if served is None:
            return

        def turn() -> None:
            served.drained = runtime.drained
            # It asks for other queues from now on.
            runtime.spawn(runtime.nudge())
            runtime.announce()

        served.drained = runtime.drained
        served.nudge = keys.nudge(runtime.worker_id)
        runtime.on_drained = turn

    def stop(self, consumer: Any) -> None:
        """Stop looking for groups."""
        for timer in (self._timer, self._owning):
            if timer is not None:
                timer.cancel()
        self._timer = self._owning = None

    def join(self, consumer: Any, group: str) -> None:
        """Serve a group because an operator says so (`add_consumer`), after Celery has added its queue."""
        self._left.discard(group)
        self._joined.add(group)
        self._rearrange(consumer)

    def leave(self, consumer: Any, group: str) -> None:
        """Serve a group no more because an operator says so (`cancel_consumer`)."""
        self._left.add(group)
        self._joined.discard(group)
        served = _served(consumer)
        if not self._follows or served is None:
            consumer.cancel_task_queue(group)
        self._rearrange(consumer)

    def queues(self, consumer: Any) -> list[Any]:
        """Return the queues that the worker serves now."""
        return [queue for queue in consumer.task_consumer.queues if queue.name not in self._left]

    def _rearrange(self, consumer: Any) -> None:
        runtime = current_runtime(consumer.app, worker_id=consumer.hostname)
        served = _served(consumer)
        if self._follows and served is not None:
            served.left = frozenset(self._left)
            # It asks for other queues from now on.
            runtime.spawn(runtime.nudge())
        self._publish(consumer, runtime)

    def _own(self, consumer: Any, runtime: Runtime) -> None:
        """Note which groups are of the worker's app: those that it serves by name, not its guests."""
        if self._follows:
            runtime.spawn(runtime.own_groups(_groups_of_app(consumer.app) | self._joined))
        elif consumer.task_consumer is not None:
            runtime.spawn(runtime.own_groups([queue.name for queue in consumer.task_consumer.queues]))

    def _own_groups(self, app: Any, owners: Owners) -> set[str]:
        """Return the groups that a worker of all groups always serves, whether they are awake or not."""
        queues = app.celeriac_settings.queues
        configured = {
            group
            for group in queues.groups
            if not queues.is_external(group) and not owners.are_others(group, app_name(app))
        }
        return _groups_of_app(app) | configured | self._joined

    def _awake(self, consumer: Any, group: str) -> None:
        """Serve a group that woke up; the runtime's thread calls this, and wakes the channel."""
        if group in self._left:
            return
        self._woken.add(group)
        served = _served(consumer)
        if served is not None and group not in served.own:
            served.invite(group)

    def _look(self, consumer: Any, runtime: Runtime) -> None:
        if not runtime.running:
            return
        self._woken = set()
        found = runtime.spawn(self._seen(runtime))
        if consumer.hub is None:
            # With gevent Celery has no loop, and its timer runs each of its calls in a greenlet, which may wait.
            wait_for(found)
            self._keep(consumer, runtime, found)
        else:
            found.add_done_callback(lambda done: consumer.hub.call_soon(self._keep, consumer, runtime, done))

    async def _seen(self, runtime: Runtime) -> tuple[int, list[str], Owners]:
        cursor, names = await runtime.store.awake_groups(self._cursor, MOST_GUESTS)
        return cursor, names, await runtime.store.owners()

    def _keep(self, consumer: Any, runtime: Runtime, found: Any) -> None:
        """Serve the groups that are awake and no others, or the next part of them if there are very many."""
        if found.cancelled() or found.exception() is not None or consumer.task_consumer is None:
            return
        self._cursor, names, owners = found.result()
        own = self._own_groups(consumer.app, owners)
        awake = [
            group
            for group in dict.fromkeys([*names, *self._woken])
            if group not in self._left and not owners.are_others(group, app_name(consumer.app))
        ]
        served = _served(consumer)
        for queue in list(consumer.task_consumer.queues):
            if queue.name not in own and (served is not None or queue.name not in awake):
                consumer.cancel_task_queue(queue.name)
                consumer.app.amqp.queues.pop(queue.name, None)
        for group in sorted(own) if served is not None else sorted({*own, *awake} - self._left):
            _consume(consumer, group)
        if served is not None:
            served.keep([group for group in awake if group not in served.own])
        self._publish(consumer, runtime)

    def _publish(self, consumer: Any, runtime: Runtime) -> None:
        guests = shown_guests(consumer)
        runtime.groups = tuple(sorted({*guests, *(queue.name for queue in self.queues(consumer))} - self._left))


def shown_guests(consumer: Any) -> list[str]:
    """Return the first guests of a worker, for operators."""
    served = _served(consumer)
    return served.guests[:_SHOWN_GUESTS] if served is not None else []


def _groups_of_app(app: Any) -> set[str]:
    """Return the groups that an app serves whatever the settings say: its default queue, and those of its types."""
    return {app.conf.task_default_queue, *(task_type.group for task_type in app.celeriac_registry)}


def _owners_now(runtime: Runtime) -> Owners:
    try:
        return runtime.wait(runtime.store.owners())
    except StoreUnavailableError:
        return Owners({})


def _consume(consumer: Any, group: str) -> None:
    if not consumer.task_consumer.consuming_from(group):
        # The configuration says of which type new queues are.
        arguments = consumer.app.amqp.queues.new_missing(group).queue_arguments
        consumer.add_task_queue(group, exchange="", routing_key=group, queue_arguments=arguments)


def _counts(consumer: Any) -> tuple[int, int]:
    """Return how many attempts have ended in this worker, and how many run; any thread may ask."""
    direct = getattr(consumer.pool, "direct", None)
    begun, more = (0, 0) if direct is None else direct.uncounted()
    running = len(worker_state.active_requests) + more
    return int(worker_state.all_total_count[0]) + begun - running, running


def _served(consumer: Any) -> ServedGroups | None:
    """Return what the worker's channel asks for, None with a broker other than Redis."""
    channel = getattr(consumer.task_consumer, "channel", None)
    return getattr(channel, "served", None)


def _tell_monitors(consumer: Any, kind: str, fields: Mapping[str, Any]) -> None:
    """Send an event to Celery's monitors, if there are any; may be called from any thread."""

    def send() -> None:
        dispatcher = consumer.event_dispatcher
        if dispatcher is not None and dispatcher.enabled:
            dispatcher.send(kind, **fields)

    if consumer.hub is not None:
        consumer.hub.call_soon(send)
    else:
        consumer.timer.call_after(0, send)


class BatchEvents(bootsteps.StartStopStep):
    """Sends task events in timed batches, and only if somebody listens; see `direct/monitors.py`.

    Publishing an event costs as much as running a no-op task. Monitors such as Flower see the event a tenth
    of a second later, with its original timestamp.
    """

    requires = ("celery.worker.consumer:Events",)

    def start(self, consumer: Any) -> None:
        """Take over the flushing of the dispatcher's buffer; Celery calls this after each (re)connection."""
        if consumer.event_dispatcher is None or consumer.hub is None:
            return
        direct = getattr(consumer.pool, "direct", None)
        monitors = direct.monitors if direct is not None else Monitors(soon=consumer.hub.call_soon)
        monitors.attach(consumer)


class WakeWhenFree(bootsteps.StartStopStep):
    """Has a worker of the pool `threads` or `gevent` ask for messages as soon as it has room; see `FreedSlots`."""

    requires = ("celery.worker.consumer:Tasks",)

    def start(self, consumer: Any) -> None:
        """Watch the pool for this connection; Celery calls this after each (re)connection."""
        pool, channel = consumer.pool, consumer.task_consumer.channel
        if not isinstance(channel, Channel) or type(pool).__module__ not in _BESIDE_THE_LOOP:
            return
        slots = getattr(pool, "celeriac_slots", None) or FreedSlots(pool)
        pool.celeriac_slots = slots
        slots.watch(consumer, channel)


class DirectPath(bootsteps.StartStopStep):
    """Lets tasks of registered types go past Celery's requests, and operators see them all the same."""

    requires = ("celery.worker.consumer:Tasks", "celery.worker.consumer:Control", "celery.worker.consumer:Events")

    def start(self, consumer: Any) -> None:
        """Take the messages of the consumer's channel; Celery calls this after each (re)connection."""
        direct = getattr(consumer.pool, "direct", None)
        if direct is None or consumer.hub is None or not isinstance(consumer.task_consumer.channel, Channel):
            return
        direct.attach(consumer)
        boxes = [step.box for step in consumer.blueprint.order if isinstance(step, Control)]
        for node in (box.node for box in boxes):
            node.dispatch = partial(_shown, direct, type(node).dispatch.__get__(node))
        dispatcher = consumer.event_dispatcher
        if dispatcher is not None:
            dispatcher.send = partial(_counted, direct, type(dispatcher).send.__get__(dispatcher))


def _shown(direct: Any, dispatch: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Answer a command of an operator, who sees each task in hand."""
    direct.show()
    return dispatch(*args, **options)


def _counted(direct: Any, send: Callable[..., Any], kind: str, *args: Any, **fields: Any) -> Any:
    """Send an event; the heartbeats say how many tasks run and have begun."""
    if "active" in fields:
        fields["active"] += direct.count()
        fields["processed"] = worker_state.all_total_count[0]
    return send(kind, *args, **fields)
