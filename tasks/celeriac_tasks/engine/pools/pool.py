"""A Celery pool: one event loop for thousands of async tasks, and threads for all others.

A `BasePool`, as Celery documents custom pools (`worker_pool = "celeriac_tasks.engine.pools.pool:TaskPool"`).
Tasks of registered types skip Celery's tracer: the runner claims, runs and ends them. All other Celery tasks
run under the tracer, with its full semantics: functions in a thread, coroutines on the loop (`coroutines.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.app.trace import fast_trace_task, trace_task_ret
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Retry

from celeriac.execution.runner import AttemptEnd
from celeriac.model import Status
from celeriac.tasks.task_type import TaskType
from celeriac.threads.daemon_threads import DaemonThreads
from celeriac_tasks.engine.attempts.coroutines import is_coroutine_task
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.direct.job import DirectJob
from celeriac_tasks.engine.direct.plain import PlainCall, run_plain
from celeriac_tasks.engine.direct.tasks import DirectTasks
from celeriac_tasks.engine.pools.tracers import TracerThreads
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

_MAX_REPR = 200
#: How many threads call signals, handlers and the result backend for the tasks that are coroutines.
_WAITING_TRACERS = 4


class _Job:
    """One message that Celery handed over; `accepted` and `done` report its progress to Celery."""

    __slots__ = ("accepted", "args", "done", "registered", "target", "tracers")

    def __init__(
        self,
        target: Callable[..., Any],
        args: Any,
        accepted: Callable[..., Any],
        done: Callable[..., Any],
        *,
        tracers: Executor | None,
    ) -> None:
        self.target = target  # Celery's tracer
        self.args = args
        self.accepted = accepted
        self.done = done
        self.tracers = tracers  # where Celery's tracer runs it; None: the runner runs it

    @property
    def task_id(self) -> str:
        """The task that the message is of."""
        return str(self.args[1])


class _Lane:
    """Jobs of one kind: the jobs that wait for a slot, and the number of running jobs."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: deque[_Job | DirectJob] = deque()


class _HeavyLane(_Lane):
    """The jobs of a type with its own concurrency limit.

    A job may wait here for minutes, and the sweep sends its message again meanwhile, so each task is kept only
    once. It stays unclaimed: the first worker with a free slot may claim it. A worker whose heavy slots are all
    taken can still run everything else.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.waiting_ids: set[str] = set()


class _Slot:
    """The place of one running job in its lane."""

    __slots__ = ("_is_free", "_lane", "_pool")

    def __init__(self, pool: TaskPool, lane: _Lane) -> None:
        self._pool = pool
        self._lane = lane
        self._is_free = False

    def free(self) -> None:
        """Give it to the next job. Idempotent."""
        if not self._is_free:
            self._is_free = True
            self._lane.running -= 1
            self._pool._fill(self._lane)


class TaskPool(BasePool):
    """Runs up to `limit` tasks at once; at most `worker.threads` of them in threads.

    Celery's thread calls it; it hands jobs to the runtime's loop and results back to Celery's loop.
    """

    signal_safe = False
    task_join_will_block = False
    limit: int

    def on_start(self) -> None:
        """Start the runtime of this process."""
        hostname = self.options["initargs"][1]
        self._runtime: Runtime = current_runtime(self.app, worker_id=hostname, concurrency=self.limit, serves=True)
        self._pid = self._runtime.pid
        #: Separate from the handlers' threads, because a tracer may wait for a handler of a registered type.
        self._tracers = DaemonThreads(self._runtime.settings.worker.threads, name="tracer")
        #: Those of coroutines wait for the loop, however many these are.
        self._waiting_tracers = TracerThreads(_WAITING_TRACERS, name="waiting-tracer")
        self._coroutine_tasks = {name for name, task in self.app.tasks.items() if is_coroutine_task(task)}
        self._hub: Any = None
        # A byte in this pipe wakes Celery's loop. What it is woken for then runs before the loop asks for messages:
        # with `hub.call_soon` the acknowledgement would wait for the next turn, and a full pool would idle until then.
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        #: Async handlers have one lane; all work that needs a thread has the other.
        self._async_lane = _Lane(self.limit)
        self._thread_lane = _Lane(min(self._runtime.settings.worker.threads, self.limit))
        #: One lane for each type that limits its own concurrency.
        self._heavy_lanes: dict[str, _HeavyLane] = {
            task_type.name: _HeavyLane(task_type.concurrency)
            for task_type in self._runtime.registry
            if task_type.concurrency is not None and task_type.handler is not None
        }
        # Jobs go to the runtime's loop, calls go to Celery. One side fills a queue, the other empties it in batches.
        self._jobs: deque[tuple[_Lane, _Job | DirectJob]] = deque()
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._jobs_announced = False
        self._calls_announced = False
        self._lock = threading.Lock()
        self._stopping = False
        #: The tasks that no request of Celery's stands for.
        self.direct = DirectTasks(self.app, begin=self._begin, soon=self._call)

    def on_stop(self) -> None:
        """Warm shutdown: let running tasks finish within the grace period, then give back the rest."""
        self._stopping = True
        self._runtime.stop(self._runtime.settings.worker.shutdown_grace)
        self._deliver()
        self.direct.put_back()

    def on_terminate(self) -> None:
        """Cold shutdown: give back all tasks now."""
        self._stopping = True
        self._runtime.stop(0)
        self.direct.put_back()

    def register_with_event_loop(self, hub: Any) -> None:
        """Take the loop of Celery's consumer; Celery calls this at each (re)connection."""
        self._hub = hub
        hub.add_reader(self._wake_reader, self._on_wake)
        with self._lock:
            self._calls_announced = True
        self._wake()

    def on_apply(  # it ignores Celery's timeouts: the records have them
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> None:
        """Take one task. Celery calls this on its loop, so it must not block."""
        name, _, request, *_ = args
        # A registered type in a canvas needs the tracer for its follow-up, as a plain task does.
        # Tasks that receive messages in their own way (celery-batches) have no request.
        built_here = isinstance(request, Mapping) and messages.built_here(request)
        task_type = self._runtime.registry.get(name) if built_here else None
        lane: _Lane = self._thread_lane
        tracers: Executor | None = self._tracers
        if task_type is not None and task_type.handler is not None:
            lane, tracers = self._lane_of(task_type), None
        elif name in self._coroutine_tasks:
            lane, tracers = self._async_lane, self._waiting_tracers
        self._jobs.append((lane, _Job(target, args, accept_callback, callback, tracers=tracers)))
        self._announce_jobs()

    def _begin(self, jobs: Sequence[DirectJob]) -> None:
        """Take tasks that no request stands for; on Celery's loop too."""
        for job in jobs:
            task_type = self._runtime.registry.get(job.name) if job.call is None else None
            self._jobs.append((self._thread_lane if task_type is None else self._lane_of(task_type), job))
        self._announce_jobs()

    def _lane_of(self, task_type: TaskType) -> _Lane:
        heavy = self._heavy_lanes.get(task_type.name)
        return heavy or (self._async_lane if task_type.is_async else self._thread_lane)

    def _announce_jobs(self) -> None:
        if not self._jobs_announced:
            self._jobs_announced = True
            self._runtime.loop.call_soon_threadsafe(self._take_jobs)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Do nothing: who revokes a task cancels its record, which stops the attempt."""

    def grow(self, n: int = 1) -> None:
        """Allow `n` more tasks at once."""
        self.limit += n
        self._async_lane.limit = self.limit
        self._thread_lane.limit = min(self._runtime.settings.worker.threads, self.limit)
        self._runtime.loop.call_soon_threadsafe(self._take_jobs)

    def shrink(self, n: int = 1) -> None:
        """Allow `n` fewer tasks at once; running tasks finish first."""
        self.grow(max(-n, 1 - self.limit))

    @property
    def num_processes(self) -> int:
        """The number of messages that Celery may hold before it stops taking more.

        It falls to 1 while functions queue for a thread, and to 0 while the runtime's loop is blocked: other workers
        can start those messages sooner.
        """
        if self._runtime.blocked:
            return 0
        return 1 if len(self._thread_lane.waiting) > self._thread_lane.limit // 4 else self.limit

    def _get_info(self) -> dict[str, Any]:
        lanes: dict[str, _Lane] = {"async": self._async_lane, "threads": self._thread_lane, **self._heavy_lanes}
        return {
            **super()._get_info(),
            "processes": [self._pid],
            **{name: {"running": lane.running, "limit": lane.limit} for name, lane in lanes.items()},
        }

    # --- on the runtime's loop

    def _take_jobs(self) -> None:
        self._jobs_announced = False
        while self._jobs:
            lane, job = self._jobs.popleft()
            if isinstance(lane, _HeavyLane):
                if job.task_id in lane.waiting_ids:
                    self._end(job, AttemptEnd(None, note="waits here already"))
                    continue
                lane.waiting_ids.add(job.task_id)
            lane.waiting.append(job)
        for lane in (self._async_lane, self._thread_lane, *self._heavy_lanes.values()):
            self._fill(lane)

    def _fill(self, lane: _Lane) -> None:
        # A job without a slot stays unclaimed, so that the first worker with a free slot can claim it.
        while lane.waiting and lane.running < lane.limit and not self._stopping:
            lane.running += 1
            job = lane.waiting.popleft()
            if isinstance(lane, _HeavyLane):
                lane.waiting_ids.discard(job.task_id)
            running = self._run_direct(lane, job) if isinstance(job, DirectJob) else self._run(lane, job)
            self._runtime.loop.create_task(running)

    def _end(self, job: _Job | DirectJob, end: AttemptEnd) -> None:
        """Report the end of a job that never began."""
        if isinstance(job, DirectJob):
            self.direct.ended(job, end)
        else:
            self._call(job.accepted, self._pid, time.monotonic())
            self._call(job.done, _celery_result(end))

    async def _run_direct(self, lane: _Lane, job: DirectJob) -> None:
        self.direct.accepted(job)
        slot = _Slot(self, lane)
        try:
            # A thread is free as soon as the function has returned: the next task is claimed with this one's end.
            if job.call is not None:
                end = await self._run_call(job, job.call, slot)
            else:
                on_return = slot.free if lane is self._thread_lane else None
                end = await self._runtime.runner.run(job.task_id, on_return=on_return)
        finally:
            slot.free()
        if end is None:
            self.direct.left(job)
        else:
            self.direct.ended(job, end)
        if self.direct.is_full and self.direct.has_room():
            # Celery's loop asks for more messages when it has been woken.
            self.direct.is_full = False
            self._runtime.loop.call_soon(self._call, _nothing)

    async def _run_call(self, job: DirectJob, call: PlainCall, slot: _Slot) -> AttemptEnd | None:
        """Run a plain Celery task; returns None if Celery's tracer has ended the attempt, and told of it."""
        runtime = self._runtime
        end = await run_plain(runtime.runner, self._tracers, call, runtime.worker_id, on_return=slot.free)
        if isinstance(end, AttemptEnd):
            return end
        try:
            request = self.direct.traced(job)
            says = request.request_dict
            says[messages.RAN] = end
            trace = fast_trace_task if self.app.use_fast_trace_task else trace_task_ret
            arguments = (request.type, job.task_id, says, request.body, request.content_type, request.content_encoding)
            self._call(request.on_success, await runtime.loop.run_in_executor(self._tracers, trace, *arguments))
        except Exception:
            log.exception("task %s: error in the pool", job.task_id)
            # Its lease runs out.
            runtime.runner.forget(end.attempt)
        return None

    async def _run(self, lane: _Lane, job: _Job) -> None:
        try:
            self._call(job.accepted, self._pid, time.monotonic())
            self._call(job.done, await (self._run_registered(job) if job.tracers is None else self._run_plain(job)))
        except Exception as exc:
            log.exception("task %s: error in the pool", job.args[1])
            self._call(job.done, (1, _exception_info(exc), 0.0))
        finally:
            lane.running -= 1
            self._fill(lane)

    async def _run_registered(self, job: _Job) -> tuple[int, Any, float]:
        return _celery_result(await self._runtime.runner.run(job.args[1]))

    async def _run_plain(self, job: _Job) -> Any:
        return await self._runtime.loop.run_in_executor(job.tracers, job.target, *job.args)

    # --- back to Celery

    def _call(self, function: Callable[..., Any] | None, *args: Any) -> None:
        """Make Celery's loop call `function`, in order; may be called from any thread."""
        if function is None:
            return
        self._calls.append((function, args))
        with self._lock:
            announce = not self._calls_announced and self._hub is not None
            self._calls_announced = self._calls_announced or announce
        if announce:
            self._wake()

    def _wake(self) -> None:
        # The pipe is never full: a byte is written only after the one before it was read.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 64)
        self._deliver()

    def _deliver(self) -> None:
        with self._lock:
            self._calls_announced = False
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                # Only monitors need these events and acknowledgements; the record has been written.
                log.debug("cannot report the end of a task to Celery", exc_info=True)


def _nothing() -> None:
    """Do nothing; to be called is enough."""


def _celery_result(outcome: AttemptEnd) -> tuple[int, Any, float]:
    """Return an outcome as Celery's request expects it: (failed, representation or ExceptionInfo, seconds)."""
    if outcome.status is Status.COMPLETED:
        return 0, repr(outcome.value)[:_MAX_REPR], outcome.runtime_s
    if outcome.status is Status.RETRYING:
        return 1, _exception_info(Retry(exc=outcome.error)), outcome.runtime_s
    if outcome.status is Status.FAILED and outcome.error is not None:
        return 1, _exception_info(outcome.error), outcome.runtime_s
    # Cancelled, given back or refused: Celery has nothing to report.
    return 1, _exception_info(Ignore(outcome.note)), outcome.runtime_s


def _exception_info(exc: Exception) -> Any:
    if exc.__traceback__ is None:
        try:
            raise exc
        except Exception:
            return ExceptionInfo()
    return ExceptionInfo((type(exc), exc, exc.__traceback__))
