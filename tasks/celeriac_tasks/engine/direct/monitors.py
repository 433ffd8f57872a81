"""The events of a worker's tasks: built and sent ten times a second, and only if a monitor listens.

Celery builds and publishes an event at each step of a task, whether anybody listens or not. On the direct path a job
only notes that it has news. The first event of a batch goes alone: the server says how many clients it reached, and if
it reached none, the rest of the batch is dropped. So a monitor that begins to listen misses nothing.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from celeriac_tasks.engine.direct.job import DirectJob

#: Jobs with news that may wait; beyond them the oldest are left out.
_MOST: Final = 20_000
#: The group of the events, as Celery's dispatcher buffers them.
_GROUP: Final = "task"
_INTERVAL_S: Final = 0.1
#: Most events in one message.
_BATCH: Final = 500


class Monitors:
    """What a worker's monitors are to be told. Jobs may be noted by any thread; all else is for Celery's thread."""

    def __init__(self, *, soon: Callable[[Callable[[], object]], object]) -> None:
        """`soon` calls a function on Celery's thread."""
        self._soon = soon
        self._news: deque[DirectJob] = deque(maxlen=_MOST)
        self._consumer: Any = None
        self._is_due = False

    def attach(self, consumer: Any) -> None:
        """Tell the monitors of this consumer, whose connection is new."""
        self._consumer = consumer
        self._is_due = False
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_limit = _BATCH
        dispatcher.on_send_buffered = self.due

    def note(self, job: DirectJob) -> None:
        """Have the monitors told what has become of a job."""
        if not job.is_noted:
            job.is_noted = True
            self._news.append(job)
            if not self._is_due:
                self._soon(self.due)

    def tell(self, job: DirectJob) -> None:
        """Hand the events so far of one job to the dispatcher, before Celery adds one."""
        consumer = self._consumer
        dispatcher = None if consumer is None else consumer.event_dispatcher
        if dispatcher is not None and dispatcher.enabled:
            _send(dispatcher, consumer.task_consumer.channel, [job], None)

    def due(self) -> None:
        """Have the next batch sent soon."""
        if not self._is_due and self._consumer is not None:
            self._is_due = True
            self._consumer.hub.call_later(_INTERVAL_S, self._flush)

    def _flush(self) -> None:
        self._is_due = False
        dispatcher = self._consumer.event_dispatcher
        jobs = [*self._taken()]
        if dispatcher is None or not dispatcher.enabled or (dispatcher.groups and _GROUP not in dispatcher.groups):
            return
        if dispatcher.producer is None:
            return
        channel = dispatcher.producer.channel
        buffered: list[Any] = dispatcher._group_buffer[_GROUP]
        # What Celery itself has noted, of tasks with requests.
        first = None if buffered else self._first(jobs)
        rest: list[Any] = []
        if buffered:
            rest, buffered[:] = buffered[1:], buffered[:1]
        elif first is not None:
            _send(dispatcher, channel, [first], 1)
        else:
            return
        channel.reached = 1
        dispatcher.flush(errors=False, groups=[_GROUP])
        if channel.reached == 0:
            for job in jobs:
                job.told = _news_of(job)
            return
        # Before what has come meanwhile.
        buffered[:0] = rest
        dispatcher.flush(errors=False, groups=[_GROUP])
        for start in range(0, len(jobs), _BATCH // 2):
            _send(dispatcher, channel, jobs[start : start + _BATCH // 2], None)
            dispatcher.flush(errors=False, groups=[_GROUP])

    def _taken(self) -> Iterator[DirectJob]:
        with contextlib.suppress(IndexError):
            for _ in range(_MOST):
                job = self._news.popleft()
                # Before it is looked at: what happens from now on notes it again.
                job.is_noted = False
                yield job

    @staticmethod
    def _first(jobs: Sequence[DirectJob]) -> DirectJob | None:
        return next((job for job in jobs if job.told < _news_of(job)), None)


def _news_of(job: DirectJob) -> int:
    """Return how many events have come of a job."""
    if not job.accepted_at:
        return 1
    return 2 if job.end is None else 3


def _send(dispatcher: Any, channel: Any, jobs: Sequence[DirectJob], most: int | None) -> None:
    """Hand the next events of jobs to the dispatcher, at most so many of each."""
    unseen = [job.task_id for job in jobs if not job.told and job.call is None]
    shown = channel.shown_of(unseen) if unseen else {}
    for job in jobs:
        news = _news_of(job)
        for number in range(job.told, news if most is None else min(news, job.told + most)):
            if number == 0:
                _send_received(dispatcher, job, shown.get(job.task_id, ""))
            elif number == 1:
                dispatcher.send("task-started", uuid=job.task_id, timestamp=job.accepted_at)
            elif job.end is not None:
                kind, fields = job.end
                dispatcher.send(kind, uuid=job.task_id, timestamp=job.ended_at, **fields)
            job.told = number + 1


def _send_received(dispatcher: Any, job: DirectJob, payload: str) -> None:
    says = {} if job.call is None else job.call.headers
    dispatcher.send(
        "task-received",
        uuid=job.task_id,
        name=says.get("shadow") or job.name,
        args=says.get("argsrepr", "()"),
        kwargs=says.get("kwargsrepr", payload),
        root_id=says.get("root_id", job.task_id),
        parent_id=says.get("parent_id"),
        retries=job.retries,
        eta=None,
        expires=None,
        timestamp=job.taken_at,
    )
