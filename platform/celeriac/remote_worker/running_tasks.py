"""The tasks that a remote worker runs, over all its connections."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from celeriac.remote_worker import messages
from celeriac.remote_worker.connection import Connection
from celeriac.remote_worker.execution import Execution, Handler
from celeriac.remote_worker.outbox import Result
from celeriac.terminal.task_lines import TaskLines

log = logging.getLogger("celeriac.remote_worker")

#: At most this many results, and bytes of results, are kept while there is no connection.
_KEPT: Final = 100
_KEPT_BYTES: Final = 64 * 1024**2


class RunningTasks:
    """Runs at most `concurrency` handlers. Belongs to one event loop.

    A handler goes on if its connection breaks. The server may then fail its task, or give it to another worker. So
    its result is sent over the next connection, where the server accepts it or not, and it is kept for a while: if
    the server gives the same task to this worker again, it is answered without another run.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        concurrency: int,
        models: Sequence[str],
        name: str | None,
        limit: int,
        group: str,
        lines: TaskLines,
    ) -> None:
        self._group = group
        self._lines = lines
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
        """Send the results of tasks that ended without a connection, and ask for work."""
        log.info("connected as %s", connection.worker_id or "a worker without an id")
        self._connection = connection
        self._announced = 0
        for result in self._kept.values():
            connection.outbox.put(result)
        self._announce()

    def given(self, connection: Connection, message: dict[str, Any]) -> None:
        """Begin a task, unless this worker still runs it or has just finished it."""
        task_id = message["taskId"]
        running, kept = self._executions.get(task_id), self._kept.pop(task_id, None)
        if running is not None and running.task.cancelled:
            log.info("the server gave task %s again; it begins when its cancelled run has stopped", task_id)
            running.outbox, running.following = None, (connection, message)
        elif running is not None:
            log.info("the server gave task %s again while it still runs here; it goes on", task_id)
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
        """Close the connection when none of its tasks runs any more."""
        if connection.draining and all(e.outbox is not connection.outbox for e in self._executions.values()):
            leaving = asyncio.create_task(connection.leave())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def refused(self, task_id: str, message: str) -> None:
        """Log that the server refused a message about a task."""
        if task_id in self._kept:
            log.info("the result of task %s came too late and was dropped: %s", task_id, message)
        elif task_id in self._executions:
            log.warning("the server refused a message about task %s: %s", task_id, message)
        else:
            log.info("the server refused the answer to task %s: %s", task_id, message)

    def lost(self, connection: Connection, left: Sequence[Result]) -> None:
        """Let the tasks of a connection go on without it. `left` are the answers that were not sent."""
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
        """Wait until no task runs."""
        await self._idle.wait()

    @property
    def count(self) -> int:
        """How many tasks run."""
        return len(self._executions)

    async def abandon(self) -> None:
        """Stop all tasks, without an answer."""
        running = list(self._executions.values())
        for execution in running:
            # The server gives the task to another worker when the connection is closed.
            execution.outbox = None
        await asyncio.gather(*(execution.abandon() for execution in running))

    def _done(self, execution: Execution) -> None:
        task_id, connection = execution.task.id, self._connection
        del self._executions[task_id]
        if (ended := execution.end) is not None and self._lines.has_room():
            self._lines.add(replace(ended, group=self._group))
        if not self._executions:
            self._idle.set()
        if execution.answer is None:
            return
        if execution.following is not None:
            # The answer of a cancelled run is not sent: nobody waits for it.
            given_over, message = execution.following
            if given_over is connection:
                self.given(given_over, message)
        elif execution.outbox is not None:
            execution.outbox.put(execution.answer)
        elif connection is not None and not execution.task.cancelled:
            # The task came over another connection. The server may still accept its answer.
            connection.outbox.put(execution.answer)
            self._keep(execution.answer)
        elif not execution.task.cancelled:
            self._keep(execution.answer)
        if connection is not None:
            self._announce()
            self.drain(connection)

    def _announce(self) -> None:
        """Ask for as many tasks as there is room for, beside those that go on without their connection."""
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
            log.warning("the result of task %s was dropped: too many results wait for a connection", task_id)
