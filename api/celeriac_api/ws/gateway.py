"""The remote workers of an API process: who is connected, who has which task, and that both stay so.

Everything that must outlive the process is in the store: the tasks with their leases, the presence of
the workers. What is here is gone with the connections themselves.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from celeriac.errors import CeleriacError, StaleClaimError, StoreUnavailableError
from celeriac.live import keys
from celeriac.live.hub import LiveHub
from celeriac.live.promoter import Promoter
from celeriac.live.reaper import Reaper
from celeriac.live.remote import Grant, RemoteTasks
from celeriac.live.role import Role, end
from celeriac.live.store import TaskStore
from celeriac.model import Failure, LeaseState
from celeriac.retry import RetryPolicy
from celeriac.settings import Settings
from celeriac_api.ws import messages
from celeriac_api.ws.connection import RemoteAttempt, WorkerConnection
from celeriac_api.ws.desk import GroupDesk

log = logging.getLogger(__name__)

#: How often everything that has a time is looked at (seconds).
_TICK_S: Final = 0.5
#: How late a task that failed runs again.
_BACKOFF: Final = RetryPolicy()
#: Pause before the store is told again how a task ended (seconds).
_AGAIN_S: Final = 0.5
#: A task that its worker cannot have yet: how long others are left alone with it, and how often that is looked at
#: (seconds).
_PASS_S: Final = 0.1
_LOOK_S: Final = 0.02


class Gateway:
    """Holds connected workers, gives them tasks, and sees to it that every task ends."""

    def __init__(self, *, store: TaskStore, hub: LiveHub, settings: Settings) -> None:
        self.settings = settings.dispatch
        self.store = store
        self.remote = RemoteTasks(store, secrets.token_hex(6))
        self.draining = False
        self.connections: set[WorkerConnection] = set()
        self._hub = hub
        self._lease_s = settings.lease
        self._desks: dict[str, GroupDesk] = {}
        #: What the process has leases of; also while its end is on its way to the store.
        self._attempts: dict[str, RemoteAttempt] = {}
        self._dirty: set[WorkerConnection] = set()
        self._numbers = 0
        self._ticker: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._end_cancels: Callable[[], None] | None = None
        #: Without a worker or beat beside it, the process must see to deadlines, leases and retries itself.
        self._roles: tuple[Role, ...] = (Reaper(store=store), Promoter(store=store))

    # --- life

    async def start(self) -> None:
        """Begin to serve."""
        self._end_cancels = await self._hub.listen(keys.CANCELS, self._cancel_asked)
        self._ticker = asyncio.create_task(self._tick_loop(), name="gateway")
        for role in self._roles:
            await role.start()

    async def drain(self) -> None:
        """Tell all workers to connect elsewhere; let what runs finish for a while, then give it back. Idempotent."""
        if self.draining:
            return
        self.draining = True
        for desk in self._desks.values():
            self._note(desk, held=0)
        for connection in list(self.connections):
            connection.post(messages.drain())
            # Also one that says again that it is ready gets nothing more from here.
            connection.leaving = True
            self.changed(connection)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.settings.drain_grace
        while any(connection.running for connection in self.connections) and loop.time() < give_up_at:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.close(messages.GOING_AWAY, "the server restarts")
        await asyncio.gather(*(connection.flushed() for connection in list(self.connections)))

    async def stop(self) -> None:
        """Drain, give back what is left, and end. Idempotent."""
        await self.drain()
        for connection in list(self.connections):
            self.disconnected(connection)
        for role in self._roles:
            await role.stop()
        if self._ticker is not None:
            await end(self._ticker)
            self._ticker = None
        if self._work:
            await asyncio.wait(self._work, timeout=3)
        for task in list(self._work):
            task.cancel()
        if self._end_cancels is not None:
            self._end_cancels()
            self._end_cancels = None
        for desk in self._desks.values():
            if desk.end is not None:
                desk.end()
        self._desks.clear()

    # --- who is there

    def next_worker_id(self) -> str:
        """Return a new worker's id."""
        self._numbers += 1
        return f"W{self._numbers}-{secrets.token_hex(4)}"

    async def connect(self, connection: WorkerConnection) -> None:
        """Take a worker in; when this returns every process knows that its group is served."""
        desk = self._desks.get(connection.group)
        if desk is None:
            desk = GroupDesk(connection.group, self.remote, give=self._give, return_=self._return)
            self._desks[connection.group] = desk
        desk.connections.add(connection)
        self.connections.add(connection)
        if desk.end is None:
            end = await self._hub.listen(keys.remote_wake(connection.group), desk.wake)
            if desk.end is None and self._desks.get(connection.group) is desk:
                desk.end = end
            else:
                end()  # a neighbour was quicker, or everybody has left meanwhile
        await self._note(desk, worker=connection)

    def disconnected(self, connection: WorkerConnection) -> None:
        """Let a worker go; what it ran goes to another one, or fails. Idempotent."""
        connection.abort()
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._dirty.discard(connection)
        desk = self._desks[connection.group]
        desk.remove(connection)
        self._note(desk, worker=connection, gone=True)
        if not desk.connections:
            # Names of groups are the workers' to choose: none is kept longer than it is used.
            del self._desks[connection.group]
            if desk.end is not None:
                desk.end()
        for attempt in list(connection.running.values()):
            self._disarm(attempt)
            if attempt.stopped is None:
                attempt.stopped = "vanished"
                self._vanish(attempt)
        connection.running.clear()

    def changed(self, connection: WorkerConnection) -> None:
        """Take notice that a worker became idle, or busy, or told something of itself."""
        if connection in self.connections:
            self._dirty.add(connection)
            self._desks[connection.group].update(connection)

    def serves(self, group: str) -> bool:
        """Whether a worker of a group is connected to this process."""
        return group in self._desks and not self.draining

    def claims_for(self, group: str) -> Callable[[], bool] | None:
        """Return what claims for an idle worker of a group in the tick of a submission; None when nobody is idle."""
        desk = self._desks.get(group)
        return desk.submitting if desk is not None and desk.idle and not self.draining else None

    # --- tasks

    def _give(self, connection: WorkerConnection, grant: Grant) -> None:
        if (before := connection.running.get(grant.claim.task_id)) is not None:
            self._give_later(connection, grant, before)
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        attempt = RemoteAttempt.of(grant, connection, now)
        claim = attempt.claim
        connection.running[claim.task_id] = attempt
        self._attempts[claim.task_id] = attempt
        self._dirty.add(connection)
        limit_ms = claim.timeout_ms
        if limit_ms is None and attempt.deadline is None:
            limit_ms = self.settings.default_timeout_ms
        ends_at = [] if limit_ms is None else [now + limit_ms / 1000]
        if attempt.deadline is not None:
            ends_at.append(attempt.deadline)
        attempt.timer = loop.call_at(min(ends_at), self._overdue, attempt)
        connection.pinged_at = connection.heard_at = max(connection.heard_at, now)
        connection.post(messages.task(claim, round((min(ends_at) - now) * 1000)))

    def _give_later(self, connection: WorkerConnection, grant: Grant, before: RemoteAttempt) -> None:
        """Return a task of which the worker has still to answer for an earlier run: that answer would end this one."""
        loop = asyncio.get_running_loop()
        others = self._desks[connection.group].pass_over(connection)
        # Where nobody else is idle it would come back at once. The lease holds meanwhile.
        until = loop.time() + (_PASS_S if others else self._lease_s / 2)

        async def return_it() -> None:
            while connection.running.get(grant.claim.task_id) is before and not connection.closed:
                if loop.time() >= until:
                    break
                await asyncio.sleep(_LOOK_S)
            await self._until_done(lambda: self.store.release(grant.claim))

        self._spawn(return_it())

    def _return(self, grant: Grant) -> None:
        self._spawn(self._until_done(lambda: self.store.release(grant.claim)))

    def let_go(self, attempt: RemoteAttempt) -> None:
        """The worker has answered, so it may have the next task."""
        self._disarm(attempt)
        connection = attempt.connection
        connection.running.pop(attempt.claim.task_id, None)
        self.changed(connection)

    def complete(self, attempt: RemoteAttempt, result_json: str) -> None:
        """End an attempt with its result."""
        sent = self.remote.complete(attempt.claim, result_json)

        def answered(answer: asyncio.Future[str]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._ended(attempt, answer.result())
            else:
                self._settle(attempt, lambda: self.store.complete(attempt.claim, result_json))

        sent.add_done_callback(answered)

    def fail(self, attempt: RemoteAttempt, failure: Failure) -> None:
        """End an attempt as failed; it is tried again later while attempts are left."""
        delay_ms = _BACKOFF.delay_ms(attempt.claim.attempt, random.random())  # noqa: S311 - spreads load, no secret
        self._settle(attempt, lambda: self.store.fail(attempt.claim, failure, delay_ms))

    def _vanish(self, attempt: RemoteAttempt) -> None:
        async def abandon() -> None:
            # Stale: it has ended otherwise.
            await self.remote.abandon(attempt.claim)

        if self.draining:
            self._settle(attempt, lambda: self.store.release(attempt.claim))
        else:
            self._settle(attempt, abandon)

    def stop_attempt(self, attempt: RemoteAttempt, reason: str) -> None:
        """Take a task back from a worker that goes on with it; its place stays taken until it answers."""
        if attempt.stopped is not None:
            return
        self._disarm(attempt)
        attempt.stopped = reason
        attempt.connection.post(messages.cancel(attempt.claim.task_id, reason))
        loop = asyncio.get_running_loop()
        attempt.timer = loop.call_later(self.settings.cancel_grace, self._ignored, attempt)
        if reason == "cancelled":
            self._settle(attempt, lambda: self.store.settle_cancelled(attempt.claim))
        elif reason == "timeout" and attempt.deadline is None:
            self.fail(attempt, Failure("timeout", "Task timeout", retryable=True))
        elif reason == "timeout":
            self._settle(attempt, lambda: self.time_out(attempt.claim.task_id))
        else:
            self._attempts.pop(attempt.claim.task_id, None)

    async def time_out(self, task_id: str) -> None:
        """End a task at its deadline; the server's clock says when that is."""
        while isinstance(left_ms := await self.remote.time_out(task_id), int):
            await asyncio.sleep(left_ms / 1000)

    def _overdue(self, attempt: RemoteAttempt) -> None:
        self.stop_attempt(attempt, "timeout")

    def _ignored(self, attempt: RemoteAttempt) -> None:
        log.warning("remote worker %s keeps a task that was taken back", attempt.connection.worker_id)
        attempt.connection.close(messages.NOT_RESPONDING, "a task that was taken back is still being kept")

    def _disarm(self, attempt: RemoteAttempt) -> None:
        if attempt.timer is not None:
            attempt.timer.cancel()
            attempt.timer = None

    def _settle(self, attempt: RemoteAttempt, step: Callable[[], Awaitable[object]]) -> None:
        """Tell the store how an attempt ended, until it knows; the lease is held meanwhile."""

        async def settle() -> None:
            try:
                await self._until_done(step)
                self._ended(attempt, "ok")
            except StaleClaimError as exc:
                self._ended(attempt, f"stale:{exc}")

        self._spawn(settle())

    def _ended(self, attempt: RemoteAttempt, answer: str) -> None:
        task_id = attempt.claim.task_id
        if self._attempts.get(task_id) is attempt:
            del self._attempts[task_id]
        if answer.startswith("stale:") and attempt.stopped is None:
            attempt.connection.post(
                messages.error(f"task {task_id} is no longer yours: the answer counts no more", task_id)
            )

    async def _until_done(self, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
                return
            except StoreUnavailableError as exc:
                log.debug("the store is away, trying again: %s", exc)
                await asyncio.sleep(_AGAIN_S)

    def _cancel_asked(self, task_id: str | None) -> None:
        if task_id is None:
            return  # what was missed comes with the next renewal
        attempt = self._attempts.get(task_id)
        if attempt is not None:
            late = attempt.deadline is not None and asyncio.get_running_loop().time() >= attempt.deadline - _TICK_S
            self.stop_attempt(attempt, "timeout" if late else "cancelled")

    # --- what time does

    async def _tick_loop(self) -> None:
        loop = asyncio.get_running_loop()
        next_leases = next_presence = next_workers = next_poll = 0.0
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            try:
                self._check_liveness(now)
                if now >= next_poll:
                    next_poll = now + self.settings.poll_interval
                    for desk in self._desks.values():
                        if desk.idle:
                            desk.wake()
                if now >= next_leases:
                    next_leases = now + self._lease_s / 3
                    await self._renew_leases()
                if now >= next_presence and not self.draining:
                    next_presence = now + min(1.0, self.settings.presence / 3)
                    for desk in self._desks.values():
                        if desk.connections:
                            self._note(desk)
                if now >= next_workers:
                    next_workers = now + self._lease_s / 3
                    self._dirty.update(self.connections)
                self._write_workers()
            except StoreUnavailableError as exc:
                log.debug("the gateway waits for the store: %s", exc)
            except Exception:
                log.exception("the gateway's look at the time failed; it goes on")

    def _check_liveness(self, now: float) -> None:
        settings = self.settings
        for connection in list(self.connections):
            silent_s = now - connection.heard_at
            if silent_s < settings.ping_interval or connection.closed:
                continue
            if silent_s >= (settings.busy_timeout if connection.running else settings.idle_timeout):
                log.warning("remote worker %s does not answer: disconnected", connection.worker_id)
                connection.close(messages.NOT_RESPONDING, "no answer to a ping")
                self.disconnected_soon(connection)
            elif now - connection.pinged_at >= settings.ping_interval:
                connection.pinged_at = now
                connection.post(messages.PING)

    def disconnected_soon(self, connection: WorkerConnection) -> None:
        """Let a worker go that may not even take the close any more."""

        async def let_go() -> None:
            await connection.flushed()
            self.disconnected(connection)

        self._spawn(let_go())

    async def _renew_leases(self) -> None:
        attempts = list(self._attempts.values())
        if not attempts:
            return
        states = await self.store.renew(self.remote.gateway, [attempt.claim for attempt in attempts])
        for attempt, state in zip(attempts, states, strict=True):
            if self._attempts.get(attempt.claim.task_id) is not attempt or attempt.stopped is not None:
                continue
            if state is LeaseState.CANCEL:
                self.stop_attempt(attempt, "cancelled")
            elif state is LeaseState.LOST and attempt.claim.task_id in attempt.connection.running:
                self.stop_attempt(attempt, "lost")

    def _write_workers(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for connection in dirty:
            if connection in self.connections:
                self._note(self._desks[connection.group], worker=connection)

    def _note(
        self,
        desk: GroupDesk,
        *,
        worker: WorkerConnection | None = None,
        gone: bool = False,
        held: int | None = None,
    ) -> asyncio.Future[str]:
        models: set[str] = set()
        if worker is None:
            models.update(model for connection in desk.connections for model in connection.models)
        elif not gone:
            models.update(worker.models)
        count = len(desk.connections) if held is None else held
        noted = self.remote.note_presence(
            desk.group,
            0 if self.draining else count,
            worker="" if worker is None else worker.worker_id,
            facts=None if worker is None or gone else worker.facts(),
            models=sorted(models),
        )
        noted.add_done_callback(_heard)
        return noted

    def _spawn(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.WARNING if isinstance(error, CeleriacError) else logging.ERROR
            log.log(level, "a step of the gateway failed", exc_info=error)


def now_ms() -> int:
    """Return the time for people to read (ms since the epoch)."""
    return time.time_ns() // 1_000_000


def _heard(noted: asyncio.Future[str]) -> None:
    # Presence is renewed all the time; a note that did not arrive is made good by the next.
    if not noted.cancelled():
        noted.exception()
