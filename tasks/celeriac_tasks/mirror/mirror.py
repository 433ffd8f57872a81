"""Shows remote workers and their tasks to Celery's monitors: Flower, `celery inspect`, `celery events`."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from kombu.exceptions import KombuError, OperationalError

from celeriac.errors import CeleriacError
from celeriac.model import Status, WorkerInfo, ms_from_utc
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.remote_watch import REMOTE_ID, RemoteStatusChange, RemoteTaskPreview, RemoteWatch
from celeriac.store.watching.wakeups import read_pages
from celeriac_tasks.mirror.mailbox import ControlMailbox
from celeriac_tasks.mirror.sender import EventSender
from celeriac_tasks.mirror.translation import (
    HEARTBEAT_S,
    CeleryEvent,
    RemoteRun,
    answer,
    began,
    ended,
    heartbeat,
    hostname,
    run_of,
)

log = logging.getLogger(__name__)

#: How long this process holds the role unless it renews it (seconds).
_HELD_S: Final = 9.0
#: The pause between two steps: while a monitor watches, and otherwise (seconds).
_STEP_S, _IDLE_S = 0.25, 2.0
#: How often the list of workers is read: one second apart for this many workers, more for more. While no monitor
#: watches, at least `_UNWATCHED_S` seconds apart.
_WORKERS_PER_S: Final = 100
_UNWATCHED_S: Final = 5.0
#: How long after its last command a monitor counts as watching (seconds). Flower sends one every five seconds.
_WATCHED_S: Final = 300.0
#: How many stream entries are one page, and how many pages one step reads; the rest is skipped.
_PAGE, _PAGES = 1000, 4
#: How long, after entries were skipped, the workers' own lists of tasks are read (seconds); they lag a little.
_CATCH_UP_S: Final = 15.0
#: At most this many runs are followed; beyond that, the end of the oldest runs is not shown.
_MOST_RUNS: Final = 10_000
#: Commands that only tell that a monitor watches.
_GREETINGS: Final = frozenset({"enable_events", "disable_events", "heartbeat"})


class RemoteMirror(Role):
    """Publishes Celery events for remote workers. Any number may run; one at a time holds the role.

    It is idle until a monitor sends a command. Its events are not a complete record: if the stream is faster than
    it can publish, it skips entries and learns from the records which runs have ended.
    """

    def __init__(self, *, store: TaskStore, app: Any, most_workers: int) -> None:
        super().__init__()
        self._most_workers = most_workers
        self._broker = app.connection_for_read().hostname or ""
        self._watch = RemoteWatch(store, holder=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
        self._sender = EventSender(app)
        self._mailbox = ControlMailbox(app, answer=self._answer)
        self._loop_: asyncio.AbstractEventLoop | None = None
        self._held_until = 0.0
        self._workers: dict[str, WorkerInfo] = {}
        self._workers_due = 0.0
        self._told_of_many = False
        #: When the last heartbeat of each worker was sent (monotonic seconds).
        self._beat_at: dict[str, float] = {}
        self._processed: Counter[str] = Counter()
        self._runs: OrderedDict[str, RemoteRun] = OrderedDict()
        #: Until when unknown runs are possible because their start was skipped (monotonic seconds).
        #: `_to_catch_up` says whether to look for them now.
        self._catching_up_until = float("-inf")
        self._to_catch_up = False
        #: The position in the stream; None while no monitor watches.
        self._position: str | None = None

    async def stop(self) -> None:
        """End the loop and release the role to another process. Idempotent."""
        await super().stop()
        await asyncio.to_thread(self._mailbox.stop)
        await asyncio.to_thread(self._sender.close)
        if self._held_until:
            self._held_until = 0.0
            try:
                await self._watch.let_go()
            except CeleriacError as exc:
                log.debug("cannot release the role of the mirror, so it expires: %s", exc)

    async def step(self) -> float:
        """Publish events for what is new."""
        now = time.monotonic()
        if now > self._held_until - _HELD_S * 2 / 3 and not await self._hold(now):
            return _HELD_S / 3
        if now >= self._workers_due:
            await self._look_at_workers(now)
        watched = now - self._mailbox.heard_at <= _WATCHED_S
        # One more step after the last worker has left, to send its offline event.
        if not watched or not (self._workers or self._beat_at):
            self._position = None
            self._runs.clear()
            self._beat_at.clear()
            return _STEP_S if watched else _IDLE_S
        events = self._heartbeats(now)
        events += await self._task_events()
        if events:
            try:
                await asyncio.to_thread(self._sender.send, events)
            except (KombuError, OperationalError, OSError) as exc:
                log.debug("cannot send events to monitors: %s", exc)
        return _STEP_S

    async def _hold(self, now: float) -> bool:
        if not await self._watch.hold(_HELD_S):
            if self._held_until:
                log.info("another process now shows the remote workers to Celery's monitors")
            self._held_until, self._workers, self._workers_due = 0.0, {}, 0.0
            await asyncio.to_thread(self._mailbox.stop)
            return False
        self._held_until = now + _HELD_S
        self._loop_ = asyncio.get_running_loop()
        self._mailbox.start()
        return True

    async def _look_at_workers(self, now: float) -> None:
        workers, total = await self._watch.workers(self._most_workers)
        watched = now - self._mailbox.heard_at <= _WATCHED_S
        self._workers_due = now + max(1.0 if watched else _UNWATCHED_S, total / _WORKERS_PER_S)
        if total > len(workers) and total > self._most_workers and not self._told_of_many:
            self._told_of_many = True
            log.warning(
                "Celery's monitors see only %d of %d remote workers (dispatch.mirror_workers)", len(workers), total
            )
        self._workers = {worker.worker_id: worker for worker in workers}
        self._to_catch_up = now < self._catching_up_until
        self._mailbox.hostnames = tuple(hostname(worker_id) for worker_id in self._workers)

    def _heartbeats(self, now: float) -> list[CeleryEvent]:
        events = []
        active = Counter(run.worker_id for run in self._runs.values())
        for worker_id, worker in self._workers.items():
            last = self._beat_at.get(worker_id)
            if last is None or now - last >= HEARTBEAT_S:
                self._beat_at[worker_id] = now
                kind = "worker-online" if last is None else "worker-heartbeat"
                counts = {"active": active[worker_id], "processed": self._processed[worker_id]}
                events.append(heartbeat(worker, kind, **counts))
                if last is None:
                    # Monitors recognise a live worker only by its heartbeats.
                    events.append(heartbeat(worker, "worker-heartbeat", **counts))
        for worker_id in [known for known in self._beat_at if known not in self._workers]:
            processed = self._processed.pop(worker_id, 0)
            del self._beat_at[worker_id]
            events.append(
                CeleryEvent("worker-offline", hostname(worker_id), None, {"active": 0, "processed": processed})
            )
        return events

    async def _task_events(self) -> list[CeleryEvent]:
        if self._position is None:
            self._position = await self._watch.newest()
            return await self._begin([task_id for worker in self._workers.values() for task_id in worker.tasks], {})
        read = partial(self._watch.changes, limit=_PAGE)
        page = await read_pages(read, self._position, most=_PAGES)
        events = await self._translated(page.items)
        self._position = page.position
        if page.more:
            # The stream is faster than the mirror, so it skips to the newest entry.
            self._position = await self._watch.newest()
            self._catching_up_until = time.monotonic() + _CATCH_UP_S
            self._to_catch_up = True
        if self._to_catch_up:
            self._to_catch_up = False
            events += await self._catch_up()
        return events

    async def _translated(self, changes: Iterable[RemoteStatusChange]) -> list[CeleryEvent]:
        ours: list[RemoteStatusChange] = []
        starting: set[str] = set()
        for change in changes:
            if change.status is Status.PROCESSING and REMOTE_ID.match(change.worker):
                starting.add(change.task_id)
            if change.task_id in starting or change.task_id in self._runs:
                ours.append(change)
        if not ours:
            return []
        previews = await self._watch.previews(list(dict.fromkeys(change.task_id for change in ours)))
        events: list[CeleryEvent] = []
        for change in ours:
            preview = previews.get(change.task_id)
            run = self._runs.get(change.task_id)
            begins = change.status is Status.PROCESSING
            if run is not None and (run.attempt >= change.attempt if begins else run.attempt > change.attempt > 0):
                continue  # the mirror already learned this from the record
            if run is not None:
                del self._runs[change.task_id]
                events += self._end(run, change, preview)
            if begins and preview is not None:
                payload, group = preview.payload, preview.group
                # Built from the event, because the record may already be at a later state.
                events += self._follow(
                    RemoteRun(change.task_id, change.worker, group, change.attempt, change.at_ms, payload)
                )
        return events

    async def _begin(self, task_ids: list[str], known: Mapping[str, RemoteTaskPreview]) -> list[CeleryEvent]:
        """Publish the start of the runs that are already under way."""
        previews = known or await self._watch.previews(task_ids)
        events: list[CeleryEvent] = []
        for preview in previews.values():
            if (
                preview.status is Status.PROCESSING
                and REMOTE_ID.match(preview.owner)
                and preview.started_at is not None
            ):
                events += self._follow(run_of(preview, ms_from_utc(preview.started_at)))
        return events

    async def _catch_up(self) -> list[CeleryEvent]:
        """Publish the end of runs whose end was skipped, and the start of runs whose start was skipped."""
        events: list[CeleryEvent] = []
        previews = await self._watch.previews(list(self._runs))
        now_ms = round(time.time() * 1000)
        for task_id, run in list(self._runs.items()):
            found = previews.get(task_id)
            if found is None or found.status is not Status.PROCESSING or found.attempt != run.attempt:
                status = Status.COMPLETED if found is None else found.status
                code, message = ("", "") if found is None else (found.code, found.message)
                del self._runs[task_id]
                events += self._end(
                    run, RemoteStatusChange(task_id, now_ms, status, run.attempt, "", code, message), found
                )
        listed = [task_id for worker in self._workers.values() for task_id in worker.tasks if task_id not in self._runs]
        return events + await self._begin(listed, {})

    def _follow(self, run: RemoteRun) -> list[CeleryEvent]:
        self._runs[run.task_id] = run
        while len(self._runs) > _MOST_RUNS:
            self._runs.popitem(last=False)
        return began(run)

    def _end(self, run: RemoteRun, change: RemoteStatusChange, preview: RemoteTaskPreview | None) -> list[CeleryEvent]:
        self._processed[run.worker_id] += 1
        return [ended(run, change, "" if preview is None else preview.result)]

    # --- commands, in the mailbox's thread

    def _answer(self, host: str, method: str, arguments: Mapping[str, Any]) -> Any:
        worker = self._workers.get(host.partition("@")[2])
        if worker is None:
            raise KeyError(method)
        if method in _GREETINGS:
            return {"ok": f"the events of {host} are shown"}
        if method == "revoke":
            return self._revoke(worker.worker_id, arguments)
        runs = [run for run in list(self._runs.values()) if run.worker_id == worker.worker_id]
        return answer(method, worker, runs, processed=self._processed[worker.worker_id], broker=self._broker)

    def _revoke(self, worker_id: str, arguments: Mapping[str, Any]) -> Any:
        """Cancel the tasks that this worker runs; the first worker also cancels those that no worker runs."""
        named = arguments.get("task_id") or ()
        task_ids = [named] if isinstance(named, str) else [str(task_id) for task_id in named]
        first = next(iter(self._workers), None) == worker_id
        runs = [(task_id, self._runs.get(task_id)) for task_id in task_ids]
        ours = [task_id for task_id, run in runs if (first if run is None else run.worker_id == worker_id)]
        if self._loop_ is not None and ours:
            asyncio.run_coroutine_threadsafe(self._cancel(ours), self._loop_)
        return {"ok": f"tasks {', '.join(task_ids)} are being cancelled"}

    async def _cancel(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            try:
                await self._watch.cancel(task_id, "revoked in Celery")
            except CeleriacError as exc:
                log.info("task %s was revoked, but its record cannot be cancelled: %s", task_id, exc)
