"""The remote workers of an API process: which are connected, which gets the next task, and when one is given up.

Everything that must outlive the process is in the store: the tasks with their leases, and the presence of the workers.
What is here ends with the connections.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from celeriac.errors import StoreUnavailableError
from celeriac.execution.lease_thread import LeaseThread
from celeriac.execution.loop_watch import LoopWatch
from celeriac.settings import BlockedLoopSettings, DispatchSettings, TaskLogSettings
from celeriac.store import keys
from celeriac.store.remote import Grant, RemoteTasks
from celeriac.store.roles.promoter import Promoter
from celeriac.store.roles.reaper import Reaper
from celeriac.store.roles.role import Role, end
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.replies import Replies
from celeriac.terminal.task_lines import TaskLines
from celeriac_api.gateway import messages
from celeriac_api.gateway.attempts import Attempts
from celeriac_api.gateway.connection import RemoteAttempt, WorkerConnection
from celeriac_api.gateway.group_workers import GroupWorkers

log = logging.getLogger(__name__)

#: How often the gateway checks everything that depends on time (seconds).
_TICK_S: Final = 0.5
#: How long calls of the store may still take when the process ends (seconds).
_FINISH_S: Final = 3.0
#: For a task that its worker cannot take yet: how long the gateway waits before others may take it, and how often it
#: checks (seconds).
_PASS_S: Final = 0.1
_LOOK_S: Final = 0.02


class Gateway:
    """Holds connected workers and gives them tasks; `attempts` ends each of these.

    Running tasks hold a lease of `lease_s` seconds; `task_log` says which lines of workers are kept. `replies` has the
    callers of this process.
    Belongs to the running event loop. While something else blocks that loop, a thread renews the leases.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        hub: LiveHub,
        dispatch: DispatchSettings,
        task_log: TaskLogSettings,
        blocked_loop: BlockedLoopSettings,
        lease_s: float,
        remote: RemoteTasks,
        lines: TaskLines | None = None,
        replies: Replies | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        watch = LoopWatch(loop, blocked_loop)
        self.settings = dispatch
        self.task_log = task_log
        self.store = store
        self.remote = remote
        #: What the workers run.
        self.attempts = Attempts(
            store=store,
            remote=self.remote,
            dispatch=dispatch,
            task_log=task_log,
            let_go=self.let_go,
            watch=watch,
            lines=lines,
            replies=replies,
        )
        self._lease_thread = LeaseThread(
            store=store, leases=self.attempts.leases, worker=self.remote.gateway, loop=loop, watch=watch
        )
        self.draining = False
        self.connections: set[WorkerConnection] = set()
        self._hub = hub
        self._lease_s = lease_s
        self._groups: dict[str, GroupWorkers] = {}
        self._dirty: set[WorkerConnection] = set()
        self._numbers = 0
        self._task: asyncio.Task[None] | None = None
        self._end_listening: list[Callable[[], None]] = []
        #: The process itself handles deadlines, leases and retries, because no worker or beat may be running.
        self._roles: tuple[Role, ...] = (Reaper(store=store), Promoter(store=store))

    # --- life

    async def start(self) -> None:
        """Begin to serve."""
        self._end_listening = [
            await self._hub.listen(keys.CANCELS, self.attempts.cancel_asked),
            await self._hub.listen(keys.DRAINS, self._drain_asked),
        ]
        self._lease_thread.start()
        self._task = asyncio.create_task(self._loop(), name="gateway")
        for role in self._roles:
            await role.start()

    async def drain(self) -> None:
        """Tell all workers to connect elsewhere. Wait a while for running tasks, then give them back. Idempotent."""
        if self.draining:
            return
        self.draining = True
        for workers in self._groups.values():
            self._note(workers, held=0)
        for connection in list(self.connections):
            connection.post(messages.drain())
            # A worker that says again that it is ready gets nothing more either.
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
        """Drain, give back the remaining tasks, and stop. Idempotent."""
        await self.drain()
        for connection in list(self.connections):
            self.disconnected(connection)
        for role in self._roles:
            await role.stop()
        if self._task is not None:
            await end(self._task)
            self._task = None
        self.remote.stopped = True
        await self.attempts.finish(_FINISH_S)
        await self._lease_thread.stop()
        while self._end_listening:
            self._end_listening.pop()()
        for workers in self._groups.values():
            if workers.end is not None:
                workers.end()
        self._groups.clear()

    # --- connections

    def next_worker_id(self) -> str:
        """Return a new worker's id."""
        self._numbers += 1
        return f"W{self._numbers}-{secrets.token_hex(4)}"

    async def connect(self, connection: WorkerConnection) -> None:
        """Add a worker. When this returns, every process knows that its group is served."""
        workers = self._groups.get(connection.group)
        if workers is None:
            workers = GroupWorkers(
                connection.group, self.remote, give=self._give, return_=self._return, lease_s=self._lease_s
            )
            self._groups[connection.group] = workers
        workers.connections.add(connection)
        self.connections.add(connection)
        if workers.end is None:
            end_wakes = await self._hub.listen(keys.remote_wake(connection.group), workers.wake)
            if workers.end is None and self._groups.get(connection.group) is workers:
                workers.end = end_wakes
            else:
                end_wakes()  # another connection was quicker, or all workers have left meanwhile
        await self._note(workers, worker=connection)

    def disconnected(self, connection: WorkerConnection) -> None:
        """Remove a worker; its tasks go to other workers, or fail. Idempotent."""
        connection.abort()
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._dirty.discard(connection)
        workers = self._groups[connection.group]
        workers.remove(connection)
        self._note(workers, worker=connection, gone=True)
        if not workers.connections:
            # Workers choose the names of groups, so a name is not kept longer than it is used.
            del self._groups[connection.group]
            if workers.end is not None:
                workers.end()
        for attempt in list(connection.running.values()):
            self.attempts.vanished(attempt, draining=self.draining)
        connection.running.clear()

    def changed(self, connection: WorkerConnection) -> None:
        """Note that a worker became idle or busy, or announced something."""
        if connection in self.connections:
            self._dirty.add(connection)
            self._groups[connection.group].update(connection)

    def serves(self, group: str) -> bool:
        """Whether a worker of a group is connected to this process."""
        return group in self._groups and not self.draining

    def claims_for(self, group: str) -> Callable[[], bool] | None:
        """Return what claims for an idle worker in the tick of a submission; None if no worker is idle."""
        workers = self._groups.get(group)
        return workers.submitting if workers is not None and workers.idle and not self.draining else None

    # --- tasks

    def _give(self, connection: WorkerConnection, grant: Grant) -> None:
        if (before := connection.running.get(grant.claim.task_id)) is not None:
            self._give_later(connection, grant, before)
            return
        self.attempts.begin(grant, connection)
        self._dirty.add(connection)

    def _give_later(self, connection: WorkerConnection, grant: Grant, before: RemoteAttempt) -> None:
        """Return a task whose worker has not answered for an earlier run yet: that answer would end this run."""
        loop = asyncio.get_running_loop()
        others = self._groups[connection.group].pass_over(connection)
        # If no other worker is idle, the task would come back at once. Its lease is held meanwhile.
        until = loop.time() + (_PASS_S if others else self._lease_s / 2)

        async def return_it() -> None:
            while connection.running.get(grant.claim.task_id) is before and not connection.closed:
                if loop.time() >= until:
                    break
                await asyncio.sleep(_LOOK_S)
            await self.attempts.give_back(grant.claim)

        self.attempts.spawn(return_it())

    def _return(self, grant: Grant) -> None:
        self.attempts.spawn(self.attempts.give_back(grant.claim))

    def let_go(self, attempt: RemoteAttempt) -> None:
        """Free the worker for the next task, because it has answered."""
        attempt.state.let_go()
        connection = attempt.connection
        connection.running.pop(attempt.claim.task_id, None)
        connection.ended += 1
        self.changed(connection)

    # --- operators drain and resume workers

    def _drain_asked(self, worker_id: str | None) -> None:
        """Look what an operator wants of a worker; None: of all, since messages may have been missed."""
        about = [one for one in self.connections if worker_id in (None, one.worker_id)]
        if about:
            self.attempts.spawn(self._obey(about, worker_id))

    async def _obey(self, about: list[WorkerConnection], worker_id: str | None) -> None:
        try:
            drained = await self.store.drained_among([connection.worker_id for connection in about])
        except StoreUnavailableError:
            asyncio.get_running_loop().call_later(_TICK_S, self._drain_asked, worker_id)
            return
        for connection in about:
            if connection.drained != (connection.worker_id in drained):
                connection.drained = not connection.drained
                self.changed(connection)

    # --- what depends on time

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        next_presence = next_workers = next_poll = 0.0
        while True:
            before = loop.time()
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            self._forgive(now - before - _TICK_S, now)
            try:
                self._check_liveness(now)
                if now >= next_poll:
                    next_poll = now + self.settings.poll_interval
                    for workers in self._groups.values():
                        if workers.idle:
                            workers.wake()
                if now >= next_presence and not self.draining:
                    next_presence = now + min(1.0, self.settings.presence / 3)
                    for workers in self._groups.values():
                        if workers.connections:
                            self._note(workers)
                if now >= next_workers:
                    next_workers = now + self._lease_s / 3
                    # Renewed, whatever it says.
                    self._dirty.update(self.connections)
                    for connection in self.connections:
                        connection.noted = None
                        connection.reckon(now)
                    self._drain_asked(None)
                self._write_workers()
            except StoreUnavailableError as exc:
                log.debug("the gateway waits for the store: %s", exc)
            except Exception:
                log.exception("a periodic check of the gateway failed; it goes on")

    def _forgive(self, late_s: float, now: float) -> None:
        """Do not count the time in which this process read nothing as silence of the workers."""
        if late_s > _TICK_S:
            for connection in self.connections:
                connection.heard_at = min(connection.heard_at + late_s, now)

    def _check_liveness(self, now: float) -> None:
        settings = self.settings
        for connection in list(self.connections):
            silent_s = now - connection.heard_at
            if silent_s < settings.ping_interval or connection.closed:
                continue
            if silent_s >= (settings.busy_timeout if connection.running else settings.idle_timeout):
                log.warning("remote worker %s does not answer: disconnected", connection.worker_id)
                connection.close(messages.NOT_RESPONDING, "no answer to a ping")
                self._disconnect_soon(connection)
            elif now - connection.pinged_at >= settings.ping_interval:
                connection.pinged_at = now
                connection.post(messages.PING)

    def _disconnect_soon(self, connection: WorkerConnection) -> None:
        """Remove a worker that may not even read the close message."""

        async def let_go() -> None:
            await connection.flushed()
            self.disconnected(connection)

        self.attempts.spawn(let_go())

    def _write_workers(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for connection in dirty:
            # A worker that ran a short task since is as it was.
            if connection in self.connections and connection.facts() != connection.noted:
                self._note(self._groups[connection.group], worker=connection)

    def _note(
        self,
        workers: GroupWorkers,
        *,
        worker: WorkerConnection | None = None,
        gone: bool = False,
        held: int | None = None,
    ) -> asyncio.Future[str]:
        models: set[str] = set()
        if worker is None:
            models.update(model for connection in workers.connections for model in connection.models)
        elif not gone:
            models.update(worker.models)
        count = len(workers.connections) if held is None else held
        facts = None if worker is None or gone else worker.facts()
        if worker is not None:
            worker.noted = facts
        noted = self.remote.note_presence(
            workers.group,
            0 if self.draining else count,
            worker="" if worker is None else worker.worker_id,
            facts=facts,
            models=sorted(models),
        )
        noted.add_done_callback(partial(_heard, worker))
        return noted


def _heard(worker: WorkerConnection | None, noted: asyncio.Future[str]) -> None:
    # Presence is renewed all the time, so the next note replaces one that did not arrive.
    if (noted.cancelled() or noted.exception() is not None) and worker is not None:
        worker.noted = None
