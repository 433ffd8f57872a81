"""The runtime of a worker process: an event loop in a thread, the store, the runner and the background roles.

Each process has one. Celery's own loop stays as it is; platform code runs beside it, on the runtime's loop.
A forked child gets its own runtime when it first needs one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from celeriac.connection.place import Place
from celeriac.connection.process import process_connection
from celeriac.errors import StoreUnavailableError
from celeriac.execution.attempt import STOP_GRACE_S, Attempt
from celeriac.execution.attempt_state import StopReason
from celeriac.execution.attempt_work import WorkSettings
from celeriac.execution.end_rate import EndRate
from celeriac.execution.lease_thread import LeaseThread
from celeriac.execution.loop_watch import Culprit, LoopWatch
from celeriac.execution.runner import Runner
from celeriac.model import Refusal
from celeriac.outbox.source import has_sources
from celeriac.settings import Settings
from celeriac.signals.links import SignalLinks
from celeriac.store import keys
from celeriac.store.link_secret import link_secret
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.titles import Titles
from celeriac.terminal.task_lines import TaskLines
from celeriac.threads.forking import keep_inherited
from celeriac.threads.loop_thread import LoopThread, usual_loop
from celeriac.threads.os_threads import greenlets_are_threads, wait_for
from celeriac_tasks.engine.announcing import CodeAnnouncer
from celeriac_tasks.engine.background import background_roles
from celeriac_tasks.engine.brokers.broker import Broker
from celeriac_tasks.engine.draining import DrainWatch
from celeriac_tasks.engine.ends.teller import Teller, no_monitors
from celeriac_tasks.engine.ownership import app_name
from celeriac_tasks.engine.resident_memory import resident_bytes

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long a worker waits for an unavailable store before it abandons an attempt (seconds).
_PATIENCE_S = 60.0
#: How long a process that ends may take to disconnect and deregister (seconds).
_GOODBYE_S = 3.0
#: How much longer than its parts the end of a process may take (seconds).
_SLACK_S = 1.5
#: How often somebody who waits for the end looks whether it has come (seconds).
_LOOK_S = 0.02


class Runtime:
    """The platform's part of a worker process. `serves` is false in a pool's child, which only runs attempts."""

    def __init__(self, app: Any, *, worker_id: str, concurrency: int, serves: bool) -> None:
        self._app = app
        self.settings: Settings = app.celeriac_settings
        self.registry: Registry = app.celeriac_registry
        #: Shows the ends of attempts on the terminal.
        self.lines: TaskLines | None = app.celeriac_lines
        self.worker_id = worker_id
        self.concurrency = concurrency
        self.pid = os.getpid()
        #: The groups that this worker serves now, for display. The step that adds a queue updates them.
        self.groups: tuple[str, ...] = ()
        #: Whether it serves all groups, and what to call with the name of a group that wakes up.
        self.follows = False
        self.on_awake: Callable[[str], object] | None = None
        #: Sends an event (its type, its fields) to Celery's monitors; the consumer sets it.
        self.tell_monitors: Callable[[str, Mapping[str, Any]], object] = no_monitors
        #: Called when the worker is drained or resumed; and how many attempts ended and run in all its processes.
        #: The consumer sets both.
        self.on_drained: Callable[[], object] = _nothing
        self.counts: Callable[[], tuple[int, int]] | None = None
        #: Whether the worker can stop taking tasks; that depends on its broker.
        self.drains = False
        self._drain: DrainWatch | None = None
        self._end_rate = EndRate()
        self._serves = serves
        self._stopping = False
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._started_ms = time.time_ns() // 1_000_000
        self._roles: list[Role] = []
        self._announcer: CodeAnnouncer | None = None
        self._beside = AsyncExitStack()
        self._thread = LoopThread("celeriac-runtime", new_loop=_new_event_loop)
        #: Attempts run here. The loop outlives `stop`, because threads may still call it then, without effect.
        self.loop: asyncio.AbstractEventLoop
        self.store: TaskStore
        self.tasks: Tasks
        self.runner: Runner
        self._hub: LiveHub
        self._watch: LoopWatch
        self._leases: LeaseThread[Attempt]
        self._nudging: asyncio.Future[None] | None = None
        self._woken: set[str] = set()
        self._leave: Callable[[], None] = lambda: None

    # --- life

    def start(self) -> None:
        """Start the loop, connect to the store, and start to renew leases; raises the error if one of these fails."""
        self._thread.start()
        self.loop = self._thread.loop
        self.wait(self._start())
        # Handlers that submit tasks submit them here, whatever the environment says.
        self._leave = process_connection.use(Place(settings=self.settings))

    def stop(self, grace_s: float) -> None:
        """Let running attempts continue for `grace_s`, give back the rest, and disconnect. Idempotent.

        A second caller waits for the first one.
        """
        if not self._thread.running:
            return
        with self._stop_lock:
            first, self._stopping = not self._stopping, True
        if not first:
            give_up_at = time.monotonic() + grace_s + STOP_GRACE_S + _GOODBYE_S + _SLACK_S
            while not self._stopped and time.monotonic() < give_up_at:
                time.sleep(_LOOK_S)
            return
        try:
            self._thread.wait(self._stop(grace_s), grace_s + STOP_GRACE_S + _GOODBYE_S + _SLACK_S)
        except TimeoutError:
            self._leases.give_back_all(_GOODBYE_S)
        finally:
            self._leave()
            self._thread.stop(_SLACK_S, abandon=True)
            if self.lines is not None:
                self.lines.close()
            self._stopped = True

    def hurry(self) -> None:
        """Have a `stop` that waits for running attempts give them back now."""
        self.runner.hurried = True

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread.running

    @property
    def blocked(self) -> bool:
        """Whether a coroutine blocks the loop, so that no attempt can begin."""
        return self._watch.blocked

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result; may be called from any other thread."""
        return self._thread.wait(work)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop without waiting for it."""
        return self._thread.submit(work)

    def announce(self) -> None:
        """Tell operators at once what this worker serves now, rather than when its leases are renewed."""
        self._leases.renew_soon()

    def begin(self, task_id: str, *, edition: int | None = None) -> Attempt | Refusal:
        """Claim a task, from any other thread, see `Runner.begin`. If the wait is interrupted, the claim is undone."""
        beginning = self.spawn(self.runner.begin(task_id, edition=edition))
        try:
            wait_for(beginning)
        except BaseException:
            # A signal or the end of a greenlet: nobody would ever end the attempt, whose lease is renewed.
            beginning.add_done_callback(self._undo)
            raise
        return beginning.result()

    def _undo(self, beginning: Future[Attempt | Refusal]) -> None:
        if beginning.cancelled() or beginning.exception() is not None:
            return
        begun = beginning.result()
        if isinstance(begun, Attempt):
            self.spawn(self.runner.undo(begun))

    async def _start(self) -> None:
        assert self.settings.redis_url is not None
        self.store = TaskStore(self.settings.redis_url, self.settings.store, patience_s=_PATIENCE_S)
        # A pool's child says nothing that its worker has said.
        await self.store.start(warn=self._serves)
        self.tasks = Tasks(store=self.store, types=TypeCatalog(self.registry, self.store), settings=self.settings)
        self._watch = LoopWatch(
            self.loop, self.settings.blocked_loop, find=Runner.running_in, on_culprit=self._end_if_overdue
        )
        self.runner = Runner(
            store=self.store,
            registry=self.registry,
            policy_of=lambda task_type, payload: task_type.retry_policy(payload, self.settings),
            worker_id=self.worker_id,
            threads=self.settings.worker.threads,
            progress_buffer=self.settings.worker.progress_buffer,
            max_result_bytes=self.settings.max_result_bytes,
            task_log=self.settings.task_log,
            work=WorkSettings(self.settings.steps, self.settings.worker.suspend_after, self.tasks.spawn),
            lines=self.lines,
            watch=self._watch,
            links=SignalLinks(await link_secret(self.store), self.settings.api_address),
        )
        self._hub = LiveHub(store=self.store)
        await self._hub.start()
        await self._hub.listen(keys.CANCELS, self._on_cancel)
        if self._serves:
            await self._hub.listen(keys.AWAKE, self._on_awake)
            self._drain = DrainWatch(
                store=self.store, worker_id=self.worker_id, turn=lambda: self.on_drained(), tell=self.announce
            )
            await self._hub.listen(keys.DRAINS, self._drain.heard)
            self._roles.append(self._drain)
        self._leases = LeaseThread(
            store=self.store,
            leases=self.runner.leases,
            worker=self.worker_id,
            loop=self.loop,
            watch=self._watch,
            facts=self._facts,
        )
        self._leases.start()
        if self._serves:
            # Any number may run. Every worker has them, so no task waits for a beat that is down.
            self._roles += background_roles(self.store, Broker(self._app) if self.settings.other_broker else None)
            self._roles.append(
                Teller(
                    store=self.store, app=self._app, tell_monitors=lambda kind, fields: self.tell_monitors(kind, fields)
                )
            )
            await self.store.name_in_counts(
                groups={task_type.group for task_type in self.registry},
                types={*self.settings.types, *(task_type.name for task_type in self.registry)},
            )
            self._announcer = CodeAnnouncer(store=self.store, app=self._app, noted=self.announce)
            # Before the first task: callers may name the types of a worker that is ready.
            await self._announcer.step()
            self._roles.append(self._announcer)
        for role in self._roles:
            await role.start()
        if self._serves and self.settings.ledger.in_workers:
            # Imported here because most workers do not use a database.
            from celeriac.history.roles import keeping

            titles = Titles(TypeCatalog(self.registry, self.store))
            await self._beside.enter_async_context(keeping(self.store, self.settings, titles, pruning=False))
        if self._serves and (self.settings.outbox.databases or has_sources()):
            # Imported here for the same reason.
            from celeriac.outbox.relay import relaying

            await self._beside.enter_async_context(relaying(self.store, self.settings))

    async def _stop(self, grace_s: float) -> None:
        await self.runner.drain(grace_s)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._disconnect()
        except (TimeoutError, StoreUnavailableError) as exc:
            log.warning("stopped without deregistering, because the store is unavailable: %s", exc)

    async def _disconnect(self) -> None:
        await self._beside.aclose()
        for role in reversed(self._roles):
            await role.stop()
        await self._leases.stop()
        for task_type in self.registry:
            if task_type.close is not None:
                await task_type.close()
        await self._hub.stop()
        if self._serves:
            await self.store.retire(self.worker_id)
        await self.store.stop()

    def _facts(self) -> dict[str, str] | None:
        if not self._serves:
            return None
        return {
            "kind": "celery",
            "host": socket.gethostname(),
            "pid": str(self.pid),
            "groups": ",".join(self.groups),
            "concurrency": str(self.concurrency),
            "started_ms": str(self._started_ms),
            "follows": "1" if self.follows else "0",
            "app": app_name(self._app),
            "drains": "1" if self.drains else "0",
            **self._figures(),
            **({} if self._announcer is None else self._announcer.facts),
        }

    def _figures(self) -> dict[str, str]:
        """Return how much the worker does and takes."""
        figures: dict[str, Any] = {"memory_bytes": resident_bytes()}
        if self.counts is not None:
            ended, running = self.counts()
            figures["ended_per_minute"] = self._end_rate.note(time.monotonic(), ended)
            # The leases of children are theirs.
            figures["running"] = max(running, len(list(self.runner.leases)))
        return {name: str(value) for name, value in figures.items() if value is not None}

    @property
    def drained(self) -> bool:
        """Whether the worker is to take no more tasks."""
        return self._drain is not None and self._drain.drained

    def _end_if_overdue(self, attempt: Culprit) -> None:
        """Record that an attempt has timed out whose handler blocks the loop, which therefore cannot record it."""
        if isinstance(attempt, Attempt) and not attempt.ended_early and attempt.overdue_s > STOP_GRACE_S:
            attempt.ended_early = True
            failure, delay_ms = self.runner.timed_out(attempt)
            log.warning("%s blocks the event loop past its time limit: it has timed out", attempt.title)

            async def fail(store: TaskStore) -> None:
                status = await store.fail(attempt.claim, failure, delay_ms, untold=attempt.untold)
                self.runner.show(attempt, status, failure, delay_ms)

            self._leases.spawn(fail)

    async def own_groups(self, groups: Iterable[str]) -> None:
        """Note that these groups are of this app, so that workers of all groups of other apps leave them alone."""
        with contextlib.suppress(StoreUnavailableError):
            await self.store.own_groups(app_name(self._app), groups)

    async def nudge(self) -> None:
        """Have this worker ask for messages anew."""
        with contextlib.suppress(StoreUnavailableError):
            await self.store.nudge(self.worker_id)

    def _on_awake(self, group: str | None) -> None:
        if group is None or self.on_awake is None:
            return
        self._woken.add(group)
        if self._nudging is None or self._nudging.done():
            self._nudging = asyncio.ensure_future(self._nudge())

    async def _nudge(self) -> None:
        # Many groups may wake up at once: one nudge tells of all of them, the next one of those that did so meanwhile.
        with contextlib.suppress(StoreUnavailableError):
            while self._woken:
                woken, self._woken = self._woken, set()
                owners = await self.store.owners()
                for group in woken:
                    if self.on_awake is not None and not owners.are_others(group, app_name(self._app)):
                        self.on_awake(group)
                await self.store.nudge(self.worker_id)

    def _on_cancel(self, task_id: str | None) -> None:
        if task_id is not None:
            for attempt in self.runner.leases.of_task(task_id):
                attempt.stop(StopReason.CANCEL)


def _nothing() -> None:
    """Do nothing: no consumer has come yet."""


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if greenlets_are_threads():
        return usual_loop()
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_current: Runtime | None = None
_lock = threading.Lock()


def current_runtime(app: Any, *, worker_id: str, concurrency: int = 1, serves: bool = False) -> Runtime:
    """Return the running runtime of this process; the first call (and the first after a fork) starts it."""
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            if _current is not None:
                keep_inherited(_current)
            runtime = Runtime(app, worker_id=worker_id, concurrency=concurrency, serves=serves)
            runtime.start()
            _current = runtime
        return _current


def running_runtime() -> Runtime | None:
    """Return the runtime of this process, if it has one."""
    return _current if _current is not None and _current.pid == os.getpid() else None


def stop_runtime() -> None:
    """Stop the runtime of this process, if it has one, and give back the tasks that still run."""
    if (runtime := running_runtime()) is not None:
        runtime.stop(0)
