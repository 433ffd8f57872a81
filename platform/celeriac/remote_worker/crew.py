"""The tasks that a remote worker has in hand, over all its connections."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from celeriac.remote_worker import messages
from celeriac.remote_worker.connection import Connection
from celeriac.remote_worker.execution import Execution, Handler
from celeriac.remote_worker.outbox import Result

log = logging.getLogger("celeriac.remote_worker")

#: Results that were finished while the connection was away and are kept, in number and in bytes.
_KEPT: Final = 100
_KEPT_BYTES: Final = 64 * 1024**2


class Crew:
    """Runs at most `concurrency` handlers; belongs to one event loop.

    A handler goes on when its connection breaks. Its task may then be this worker's no more: the server fails it or
    gives it away. So a finished result is sent over the next connection, where the server takes it or not, and kept
    for a while: should the same task be given to this worker again, it is answered without running twice.
    """

    def __init__(
        self, handler: Handler, *, concurrency: int, models: Sequence[str], name: str | None, limit: int
    ) -> None:
        self._handler = handler
        self._concurrency = concurrency
        self._models = tuple(models)
        self._name = name
        self._limit = limit
        self._executions: dict[str, Execution] = {}
        self._kept: OrderedDict[str, Result] = OrderedDict()
        self._connection: Connection | None = None
        self._announced = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def connected(self, connection: Connection) -> None:
        """Deliver what was finished meanwhile, and ask for work."""
        log.info("connected as %s", connection.worker_id or "a worker without a name")
        self._connection = connection
        self._announced = 0
        for result in self._kept.values():
            connection.outbox.put(result)
        self._announce()

    def given(self, connection: Connection, message: dict[str, Any]) -> None:
        """Begin a task, unless it is one that this worker still runs or has just finished."""
        task_id = message["taskId"]
        running, kept = self._executions.get(task_id), self._kept.pop(task_id, None)
        if running is not None and running.task.cancelled:
            log.info("task %s was given again and begins as soon as its cancelled run has stopped", task_id)
            running.outbox, running.following = None, (connection, message)
        elif running is not None:
            log.info("task %s was given again while it still runs here: it goes on", task_id)
            running.outbox = connection.outbox
        elif kept is not None and kept.ok:
            connection.outbox.put(kept)
        else:
            self._idle.clear()
            self._executions[task_id] = Execution(
                message, self._handler, outbox=connection.outbox, limit=self._limit, done=self._done
            )

    def asked_to_stop(self, task_id: str, reason: str) -> None:
        """Stop a task."""
        execution = self._executions.get(task_id)
        if execution is None:
            return
        if execution.following is not None:
            connection, _ = execution.following
            execution.following = None
            connection.outbox.put(Result(task_id, messages.cancelled(task_id, 0), ok=False))
        execution.stop(reason)

    def drain(self, connection: Connection) -> None:
        """Leave the connection when none of its tasks runs any more."""
        if connection.draining and all(e.outbox is not connection.outbox for e in self._executions.values()):
            leaving = asyncio.create_task(connection.leave())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def refused(self, task_id: str, message: str) -> None:
        """Note that the server did not take an answer."""
        if task_id in self._kept:
            log.info("the result of task %s came too late and is dropped: %s", task_id, message)
        elif task_id in self._executions:
            log.warning("task %s: the server says: %s", task_id, message)
        else:
            log.info("the server did not take the answer to task %s: %s", task_id, message)

    def lost(self, connection: Connection, left: Sequence[Result]) -> None:
        """Let the tasks of a connection go on without it; `left` are answers that did not go out."""
        if self._connection is connection:
            self._connection = None
        for result in left:
            self._keep(result)
        orphans = [e for e in self._executions.values() if e.outbox is connection.outbox]
        for execution in orphans:
            execution.outbox = None
        if orphans:
            log.warning("the connection broke; %d running task(s) go on", len(orphans))

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    @property
    def running(self) -> int:
        """How many tasks run."""
        return len(self._executions)

    async def abandon(self) -> None:
        """Stop all that runs."""
        running = list(self._executions.values())
        for execution in running:
            # Nobody is told: the server gives the task to somebody else when the connection is gone.
            execution.outbox = None
        await asyncio.gather(*(execution.abandon() for execution in running))

    def _done(self, execution: Execution) -> None:
        task_id, connection = execution.task.id, self._connection
        del self._executions[task_id]
        if not self._executions:
            self._idle.set()
        if execution.answer is None:
            return
        if execution.following is not None:
            # What was cancelled has nobody who waits for its answer.
            given_over, message = execution.following
            if given_over is connection:
                self.given(given_over, message)
        elif execution.outbox is not None:
            execution.outbox.put(execution.answer)
        elif connection is not None and not execution.task.cancelled:
            # It began over another connection: the server may still take it.
            connection.outbox.put(execution.answer)
            self._keep(execution.answer)
        elif not execution.task.cancelled:
            self._keep(execution.answer)
        if connection is not None:
            self._announce()
            self.drain(connection)

    def _announce(self) -> None:
        """Ask for as many tasks as there is room for beside those that go on without their connection."""
        connection = self._connection
        if connection is None or connection.draining:
            return
        room = self._concurrency - sum(1 for e in self._executions.values() if e.outbox is None)
        if room > self._announced:
            self._announced = room
            connection.outbox.put(messages.ready(room, self._models, self._name))

    def _keep(self, result: Result) -> None:
        self._kept[result.task_id] = result
        self._kept.move_to_end(result.task_id)
        while len(self._kept) > _KEPT or sum(len(kept.text) for kept in self._kept.values()) > _KEPT_BYTES:
            task_id, _ = self._kept.popitem(last=False)
            log.warning("the result of task %s is dropped: too many wait for a connection", task_id)
