"""Celery's pool for the platform: one event loop for thousands of async tasks, threads for the rest.

A `BasePool` as Celery documents it for custom pools (`worker_pool = "celeriac_tasks.engine.pool:TaskPool"`).
Tasks of registered types skip Celery's tracer: the runner claims, runs and ends them. Every other
Celery task keeps the tracer and its full semantics, in a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Retry

from celeriac.execution.daemon_threads import DaemonThreads
from celeriac.execution.runner import Outcome
from celeriac.model import Status
from celeriac_tasks.engine import messages
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

_MAX_REPR = 200


class _Job:
    """One message that Celery handed over: `accepted` and `done` tell it how that goes on."""

    __slots__ = ("accepted", "args", "done", "registered", "target")

    def __init__(
        self,
        target: Callable[..., Any],
        args: Any,
        accepted: Callable[..., Any],
        done: Callable[..., Any],
        *,
        registered: bool,
    ) -> None:
        self.target = target  # Celery's tracer
        self.args = args
        self.accepted = accepted
        self.done = done
        self.registered = registered  # the runner does it all; else Celery's tracer does


class _Lane:
    """Jobs of one kind: those that wait for a slot, and how many run."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: deque[_Job] = deque()


class _HeavyLane(_Lane):
    """The jobs of a type that limits itself. They may wait for minutes, and their messages are sent again meanwhile.

    Those stay here (unclaimed: whoever is free first may have the task), each once, so that a worker
    whose heavy slots are taken goes on with everything else.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.waiting_ids: set[str] = set()


class TaskPool(BasePool):
    """Runs up to `limit` tasks at once, those that need a thread up to `worker.threads`.

    Lives on Celery's thread; hands work to the runtime's loop and back.
    """

    signal_safe = False
    task_join_will_block = False
    limit: int

    def on_start(self) -> None:
        """Start the runtime of this process."""
        hostname = self.options["initargs"][1]
        self._runtime: Runtime = current_runtime(self.app, worker_id=hostname, concurrency=self.limit, serves=True)
        self._pid = self._runtime.pid
        #: Apart from those of the handlers: a tracer may wait for a handler of a registered type.
        self._tracers = DaemonThreads(self._runtime.settings.worker.threads, name="tracer")
        self._hub: Any = None
        #: Async handlers, and whatever needs a thread.
        self._async_lane = _Lane(self.limit)
        self._thread_lane = _Lane(min(self._runtime.settings.worker.threads, self.limit))
        #: One for each type that says how many of it may run at once.
        self._heavy_lanes: dict[str, _HeavyLane] = {
            task_type.name: _HeavyLane(task_type.concurrency)
            for task_type in self._runtime.registry
            if task_type.concurrency is not None and task_type.handler is not None
        }
        # Jobs for the loop, calls for Celery: each filled by one side, emptied by the other in batches.
        self._jobs: deque[tuple[_Lane, _Job]] = deque()
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._jobs_announced = False
        self._calls_announced = False
        self._lock = threading.Lock()
        self._stopping = False

    def on_stop(self) -> None:
        """Warm shutdown: what runs may finish within the grace, what is left is given back."""
        self._stopping = True
        self._runtime.stop(self._runtime.settings.worker.shutdown_grace)
        self._deliver()

    def on_terminate(self) -> None:
        """Cold shutdown: give everything back now."""
        self._stopping = True
        self._runtime.stop(0)

    def register_with_event_loop(self, hub: Any) -> None:
        """Called by Celery at each (re)connection with the loop its consumer runs on."""
        self._hub = hub
        self._calls_announced = False
        hub.call_soon(self._deliver)

    def on_apply(  # the timeouts of plain tasks are in their records
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> None:
        """Take one task. Celery calls this on its loop, so nothing here waits."""
        name, _, request, *_ = args
        # A registered type in a canvas needs the tracer for what follows it, as a plain task does.
        task_type = self._runtime.registry.get(name) if messages.built_here(request) else None
        registered = task_type is not None and task_type.handler is not None
        lane = self._thread_lane
        if registered and task_type is not None:
            lane = self._heavy_lanes.get(name) or (self._async_lane if task_type.is_async else self._thread_lane)
        self._jobs.append((lane, _Job(target, args, accept_callback, callback, registered=registered)))
        if not self._jobs_announced:
            self._jobs_announced = True
            self._runtime.loop.call_soon_threadsafe(self._take_jobs)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Do nothing to a process: `task_revoked` becomes a cancellation, which reaches the attempt (signals.py)."""

    def grow(self, n: int = 1) -> None:
        """Run `n` more tasks at once."""
        self.limit += n
        self._async_lane.limit = self.limit

    def shrink(self, n: int = 1) -> None:
        """Run `n` fewer tasks at once, as they finish."""
        self.grow(max(-n, 1 - self.limit))

    @property
    def num_processes(self) -> int:
        """How many messages Celery may hold before it takes no more.

        When functions queue for a thread it is the least there is: what this process cannot start
        soon is better left to others.
        """
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
                if job.args[1] in lane.waiting_ids:
                    self._call(job.accepted, self._pid, time.monotonic())
                    self._call(job.done, _celery_result(Outcome(None, note="waits here already")))
                    continue
                lane.waiting_ids.add(job.args[1])
            lane.waiting.append(job)
        for lane in (self._async_lane, self._thread_lane, *self._heavy_lanes.values()):
            self._fill(lane)

    def _fill(self, lane: _Lane) -> None:
        # What finds no slot waits unclaimed: whoever is free first may have it.
        while lane.waiting and lane.running < lane.limit and not self._stopping:
            lane.running += 1
            job = lane.waiting.popleft()
            if isinstance(lane, _HeavyLane):
                lane.waiting_ids.discard(job.args[1])
            self._runtime.loop.create_task(self._run(lane, job))

    async def _run(self, lane: _Lane, job: _Job) -> None:
        try:
            self._call(job.accepted, self._pid, time.monotonic())
            self._call(job.done, await (self._run_registered(job) if job.registered else self._run_plain(job)))
        except Exception as exc:
            log.exception("task %s: the pool failed", job.args[1])
            self._call(job.done, (1, _exception_info(exc), 0.0))
        finally:
            lane.running -= 1
            self._fill(lane)

    async def _run_registered(self, job: _Job) -> tuple[int, Any, float]:
        return _celery_result(await self._runtime.runner.run(job.args[1]))

    async def _run_plain(self, job: _Job) -> Any:
        return await self._runtime.loop.run_in_executor(self._tracers, job.target, *job.args)

    # --- back to Celery

    def _call(self, function: Callable[..., Any] | None, *args: Any) -> None:
        """Have Celery's loop call `function`, in order; from any thread."""
        if function is None:
            return
        self._calls.append((function, args))
        with self._lock:
            announce = not self._calls_announced and self._hub is not None
            self._calls_announced = self._calls_announced or announce
        if announce:
            self._hub.call_soon(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            self._calls_announced = False
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                # Events and acknowledgements are for lookers-on; the record has been written.
                log.debug("Celery could not be told", exc_info=True)


def _celery_result(outcome: Outcome) -> tuple[int, Any, float]:
    """Return what Celery's request takes: (failed, representation or ExceptionInfo, seconds)."""
    if outcome.status is Status.COMPLETED:
        return 0, repr(outcome.value)[:_MAX_REPR], outcome.runtime_s
    if outcome.status is Status.RETRYING:
        return 1, _exception_info(Retry(exc=outcome.error)), outcome.runtime_s
    if outcome.status is Status.FAILED and outcome.error is not None:
        return 1, _exception_info(outcome.error), outcome.runtime_s
    # Cancelled, given back, refused: Celery has nothing to report of it.
    return 1, _exception_info(Ignore(outcome.note)), outcome.runtime_s


def _exception_info(exc: Exception) -> Any:
    if exc.__traceback__ is None:
        try:
            raise exc
        except Exception:
            return ExceptionInfo()
    return ExceptionInfo((type(exc), exc, exc.__traceback__))
