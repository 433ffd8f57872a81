"""What a worker has in hand on the direct path: which messages may go it, and what Celery and operators see of them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from time import time
from traceback import format_exception
from typing import Any, Final

from celery.signals import task_received
from celery.utils.saferepr import saferepr
from celery.worker import state
from celery.worker.request import create_request_cls
from kombu.utils.imports import symbol_by_name

from celeriac import json_text
from celeriac.errors import JsonError, StoreUnavailableError
from celeriac.execution.runner import AttemptEnd
from celeriac.model import Status
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.engine.calls.hints import written_out
from celeriac_tasks.engine.direct.job import DirectJob
from celeriac_tasks.engine.direct.monitors import Monitors
from celeriac_tasks.engine.direct.plain import is_heard, is_plain, plain_call

log = logging.getLogger(__name__)

#: How a short message begins.
_SHORT: Final = b'{"headers":{"celeriac":1,'
#: Where Celery says of each task that it was received.
_RECEIVED: Final = logging.getLogger("celery.worker.strategy")
_MOST_REPR: Final = 200


class DirectTasks:
    """The tasks of one worker on the direct path.

    `begin` hands jobs to the pool. `soon` calls a function on Celery's thread, where all of this happens unless a
    method says otherwise.
    """

    def __init__(
        self,
        app: Any,
        *,
        begin: Callable[[Sequence[DirectJob]], object],
        soon: Callable[..., object],
    ) -> None:
        self._app = app
        self._begin = begin
        self._soon = soon
        self._consumer: Any = None
        self._pid = os.getpid()
        self._held: set[DirectJob] = set()
        #: Those in `_held` that Celery has a request of.
        self._shown = 0
        #: How many tasks of each type have begun, and of how many Celery knows.
        self._begun: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._requests: dict[str, Callable[..., Any]] = {}
        #: By the name of a type, whether its tasks may go this way.
        self._open: dict[str, bool] = {}
        #: The same of plain Celery tasks.
        self._open_plain: dict[str, bool] = {}
        self._channel: Any = None
        self.monitors = Monitors(soon=soon)
        #: Whether Celery asks for no more messages until there is room.
        self.is_full = False

    def attach(self, consumer: Any) -> None:
        """Take the messages of this consumer, whose connection is new."""
        self._consumer = consumer
        self._requests.clear()
        self._open.clear()
        self._open_plain.clear()
        self._channel = consumer.task_consumer.channel
        self._channel.direct = self

    # --- messages

    def take(self, messages: Sequence[bytes], queue: str) -> Sequence[bytes]:
        """Take those messages that may go this way; returns the others, in their order."""
        if task_received.receivers or self._consumer.on_task_message or _RECEIVED.isEnabledFor(logging.INFO):
            return messages
        jobs, others = [], []
        heard = is_heard() or bool(state.revoked_stamps)
        for message in messages:
            if message.startswith(_SHORT):
                job = self._job_of(message, queue)
            else:
                job = None if heard else self._plain_job_of(message, queue)
            if job is None:
                others.append(message)
            else:
                jobs.append(job)
        if jobs:
            self._held.update(jobs)
            self.monitors.due()
            for job in jobs:
                self.monitors.note(job)
            self._begin(jobs)
        return others

    def _job_of(self, message: bytes, queue: str) -> DirectJob | None:
        try:
            headers = json_text.read(message)["headers"]
            name, task_id = headers["task"], headers["id"]
        except (JsonError, LookupError, TypeError):
            return None
        if type(name) is not str or type(task_id) is not str or not self._may_go(name) or task_id in state.revoked:
            return None
        return DirectJob(task_id, name, queue, message, headers.get("retries", 0))

    def _plain_job_of(self, message: bytes, queue: str) -> DirectJob | None:
        try:
            envelope = json_text.read(message)
            name, task_id = envelope["headers"]["task"], envelope["headers"]["id"]
            if type(name) is not str or type(task_id) is not str:
                return None
            is_open = self._open_plain.get(name)
            if is_open is None:
                task = self._app.tasks.get(name)
                is_open = task is not None and is_plain(self._app, task) and self._needs_no_request(name)
                self._open_plain[name] = is_open
            if not is_open or not self._has_no_rate(name) or task_id in state.revoked:
                return None
            call = plain_call(self._app.tasks[name], envelope)
        except Exception:
            # Whatever is wrong with it: Celery's own way says it.
            return None
        return call and DirectJob(task_id, name, queue, message, call.headers.get("retries", 0), call)

    def _may_go(self, name: str) -> bool:
        is_open = self._open.get(name)
        if is_open is None:
            is_open = self._open[name] = self._is_type(name) and self._needs_no_request(name)
        return is_open and self._has_no_rate(name)

    def _has_no_rate(self, name: str) -> bool:
        return bool(self._consumer.disable_rate_limits or self._consumer.task_buckets[name] is None)

    def _is_type(self, name: str) -> bool:
        task_type = self._app.registered_type(name)
        return task_type is not None and task_type.handler is not None

    def _needs_no_request(self, name: str) -> bool:
        """Whether nothing of a task asks for a request from the start."""
        task = self._app.tasks[name]
        if self._app.conf.worker_cancel_long_running_tasks_on_connection_loss:
            return False
        return (
            (task.Strategy, task.Request) == (CeleriacTask.Strategy, CeleriacTask.Request)
            and name in self._consumer.strategies
            and bool(task.send_events)
        )

    # --- how many

    @property
    def held(self) -> int:
        """How many messages are in hand that Celery has no request of."""
        return len(self._held) - self._shown

    def has_room(self) -> bool:
        """Whether the worker may take one more message, apart from Celery's prefetch count. Any thread may ask."""
        if not self._app.conf.worker_disable_prefetch:
            return True
        # As in Celery: an autoscaler's maximum counts before the size of the pool.
        most = getattr(self._consumer.controller, "max_concurrency", None) or self._consumer.pool.num_processes
        return len(state.reserved_requests) + self.held < int(most)

    # --- on the runtime's loop

    def accepted(self, job: DirectJob) -> None:
        """Note that a job has a slot."""
        job.accepted_at = time()
        self._begun[job.name] += 1
        self.monitors.note(job)

    def ended(self, job: DirectJob, outcome: AttemptEnd) -> None:
        """Note that a job has ended."""
        job.ended_at = time()
        job.end = _event_of(outcome, job)
        self._held.discard(job)
        if job.request is not None:
            self._soon(self._unshow, job)
        self.monitors.note(job)

    # --- for operators

    def count(self) -> int:
        """Tell Celery how many tasks have begun; returns how many run that it has no request of."""
        for name, begun in list(self._begun.items()):
            new = begun - self._counted[name]
            self._counted[name] = begun
            state.total_count[name] += new
            state.all_total_count[0] += new
        return sum(job.accepted_at > 0 and job.request is None for job in list(self._held))

    def uncounted(self) -> tuple[int, int]:
        """Return how many tasks have begun and how many run that Celery does not know of; any thread may ask."""
        begun = self._begun.total() - self._counted.total()
        return begun, sum(job.accepted_at > 0 and job.request is None for job in list(self._held))

    def show(self) -> None:
        """Make a request of each task in hand, as Celery has it of all its tasks."""
        self.count()
        jobs = [job for job in list(self._held) if job.request is None]
        if not jobs:
            return
        payloads = self._consumer.task_consumer.channel.shown_of([job.task_id for job in jobs if job.call is None])
        for job in jobs:
            self._show(job, self._request_of(job, payloads.get(job.task_id, "")))
            if job not in self._held:
                # It has ended meanwhile, and nobody saw the request.
                self._unshow(job)

    def _show(self, job: DirectJob, request: Any) -> None:
        job.request = request
        self._shown += 1
        state.task_reserved(request)
        if job.accepted_at:
            request.time_start, request.worker_pid = job.accepted_at, self._pid
            state.active_requests.add(request)

    def _unshow(self, job: DirectJob) -> None:
        request, job.request = job.request, None
        if request is not None:
            self._shown -= 1
            state.task_ready(request)

    # --- for the tracer

    def traced(self, job: DirectJob) -> Any:
        """Return a request for the tracer, which is to end a job; any thread may ask."""
        request = self._request_of(job, "")
        self._soon(self._trace, job, request)
        return request

    def _trace(self, job: DirectJob, request: Any) -> None:
        """Have Celery take a job for one of its own, before it hears of the end."""
        self._unshow(job)
        self._show(job, request)
        self.monitors.tell(job)

    def left(self, job: DirectJob) -> None:
        """Note that a job has ended whose end Celery has told of; on the runtime's loop."""
        self._held.discard(job)
        self._soon(self._unshow, job)

    # --- parts

    def _request_of(self, job: DirectJob, payload: str) -> Any:
        consumer, task = self._consumer, self._app.tasks[job.name]
        make = self._requests.get(job.name)
        if make is None:
            made = create_request_cls(
                symbol_by_name(task.Request), task, consumer.pool, consumer.hostname, None, app=self._app
            )
            make = self._requests[job.name] = partial(
                made, app=self._app, hostname=consumer.hostname, eventer=consumer.event_dispatcher, task=task,
                connection_errors=consumer.connection_errors, decoded=False, utc=True, on_ack=_nothing,
                on_reject=_nothing,
            )  # fmt: skip
        envelope = json_text.read(job.message)
        if job.call is None:
            envelope = written_out(envelope, payload)
        message = self._channel.Message(envelope, channel=self._channel)
        return make(message, body=message.body, headers=message.headers)

    # --- the end

    def put_back(self) -> None:
        """Put back the messages in hand at an orderly shutdown; a claim refuses one that is spent."""
        waiting = list(self._held)
        if not waiting:
            return
        try:
            self._app.records.put_back([(_list_of(job), job.message) for job in waiting])
        except StoreUnavailableError as exc:
            log.info("%d messages were not put back; they will be sent again: %s", len(waiting), exc)
        self._held.difference_update(waiting)


def _list_of(job: DirectJob) -> str:
    """Return the list that a message was taken from, as `celery_list` in `lua/shared/messages.lua` names it."""
    properties = json_text.read(job.message)["properties"]
    step = properties.get("priority", 9) // 3 * 3
    return f"{job.queue}\x06\x16{step}" if step else job.queue


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _event_of(outcome: AttemptEnd, job: DirectJob) -> tuple[str, dict[str, Any]] | None:
    """Return the event of an end, and what it says besides; None if Celery has none for it."""
    error = outcome.error
    if outcome.status is Status.COMPLETED:
        if outcome.value is None:
            shown = "None"
        elif job.call is None:
            shown = repr(outcome.value)[:_MOST_REPR]
        else:
            shown = saferepr(outcome.value, job.call.task.resultrepr_maxsize)
        return "task-succeeded", {"result": shown, "runtime": outcome.runtime_s}
    if outcome.status is Status.RETRYING:
        return "task-retried", {"exception": saferepr(error), "traceback": _trace_of(error)}
    if outcome.status is Status.FAILED and error is not None:
        return "task-failed", {"exception": saferepr(error), "traceback": _trace_of(error)}
    return None


def _trace_of(error: Exception | None) -> str:
    return "" if error is None else "".join(format_exception(error))
