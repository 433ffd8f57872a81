"""Waiting for the ends of tasks: any number of waiters of a process, woken by the store, on one subscription.

A task that the process submits names the process's own channel, and the script that ends the task publishes the end
there, with the result. A task that somebody else submitted is heard of on its own channel, where each of its events is
published: only a message that may be an end is looked into. So nobody who does not wait costs the store anything.

A message may get lost with its connection. So the records of all awaited tasks are looked at when the subscription is
made, after each reconnection, and at intervals. Records are read by one loop, many in one round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import CeleriacError, JsonError, StoreUnavailableError
from celeriac.model import Outcome, Status, Submitted, Task
from celeriac.store import keys
from celeriac.store.records import task_from_hash
from celeriac.store.server.pipeline import BatchConnection
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.store.watching.wakeups import FeedReader
from celeriac.task_fields import status_of

#: Records that are read at once; each may hold a large result.
_RECORDS_AT_ONCE: Final = 50
#: How often the records of all awaited tasks are looked at (seconds): a message may be lost, and a foreign program may
#: write a record without one.
LOOK_S: Final = 5.0
#: What such a message says if Celery has stored a state of the task (`- stored`, with the state in a second line).
STORED: Final = "stored"
#: What the messages of a task's own channel say of events that are not its end.
_GOES_ON: Final = frozenset(
    {"progress", "deduplicated", STORED, *(status.stored for status in Status if not status.final)},
)

#: How a task ended: what was published about it, or its record. None if its record is gone, or nobody can tell.
End = Outcome | Task | None


def goes_on(what: str) -> bool:
    """Return whether an event of this status or kind says that its task has not ended."""
    return what in _GOES_ON


class TooManyWaitersError(CeleriacError):
    """As many callers wait for ends of tasks as may wait in this process, in all or of one user."""

    code = "too_many_waiters"


class Ends(FeedReader):
    """The waiters of a process. `most` may wait at once, `most_per_caller` of one caller."""

    def __init__(self, *, store: TaskStore, hub: LiveHub, most: int, most_per_caller: int | None = None) -> None:
        super().__init__(at_once=_RECORDS_AT_ONCE)
        #: Where the ends of the tasks arrive that this process submits and waits for.
        self.channel = keys.replies(secrets.token_hex(12))
        self._store = store
        self._hub = hub
        self._most = most
        self._most_per_caller = most if most_per_caller is None else most_per_caller
        self._callers: Counter[str] = Counter()
        self._waiters: dict[str, set[asyncio.Future[End]]] = {}
        #: Who wants to know how a task is now.
        self._asked: dict[str, list[asyncio.Future[Task | None]]] = {}
        #: Tasks of which a message said that they have ended.
        self._ended: set[str] = set()
        self._connection = BatchConnection(store.redis.connection_pool)
        self._end: Callable[[], None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to listen."""
        await super().start()
        self._end = await self._hub.listen(self.channel, self._heard_end)

    async def stop(self) -> None:
        """Stop listening; all who wait go on without an end. Idempotent."""
        self.let_go()
        if self._end is not None:
            self._end()
            self._end = None
        await super().stop()
        for futures in self._asked.values():
            _fail(futures, StoreUnavailableError("this process is stopping"))
        self._asked.clear()
        await self._connection.close()

    def let_go(self) -> None:
        """End every wait now: the process is about to stop."""
        self._closed = True
        for task_id in list(self._waiters):
            self._settle(task_id, None)

    @asynccontextmanager
    async def waiting(self, caller: str | None = None) -> AsyncGenerator[EndWait]:
        """Hold a place for one who waits; raises `TooManyWaitersError`. `caller`: whose places are counted."""
        if (count := self._callers.total()) >= self._most:
            raise TooManyWaitersError(
                f"{count} callers wait for tasks in this process already (setting server.max_waiters): ask again"
                " without `wait`, or later"
            )
        name = caller or ""
        if caller is not None and self._callers[name] >= self._most_per_caller:
            raise TooManyWaitersError(
                f"you wait for {self._most_per_caller} tasks already (setting server.max_waiters_per_caller): ask again"
                " without `wait`, or later"
            )
        self._callers[name] += 1
        wait = EndWait(self)
        try:
            yield wait
        finally:
            wait.leave()
            self._callers[name] -= 1
            if not self._callers[name]:
                del self._callers[name]

    async def now(self, task_id: str) -> Task | None:
        """Return a task as the store has it, None if it has no record; read with those of all who ask now.

        Raises `StoreUnavailableError`.
        """
        if keys.record_of_nobody(task_id):
            return None
        future: asyncio.Future[Task | None] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(task_id, []).append(future)
        self.wake([task_id])
        task = await future
        return (await self._store.with_waits([task]))[0] if task and task.status is Status.WAITING else task

    async def look(self, names: Sequence[str]) -> None:
        """Read the records of tasks (by id), and settle the waiters of those that have ended."""
        task_ids = [task_id for task_id in names if task_id in self._waiters or task_id in self._asked]
        asked = {task_id: self._asked.pop(task_id) for task_id in task_ids if task_id in self._asked}
        whole = [task_id in self._ended or task_id in asked for task_id in task_ids]
        try:
            replies = await self._store.read_over(
                self._connection,
                [
                    ("HGETALL", keys.task(task_id)) if is_whole else ("HMGET", keys.task(task_id), "status")
                    for task_id, is_whole in zip(task_ids, whole, strict=True)
                ],
            )
        except Exception as exc:
            for futures in asked.values():
                _fail(futures, exc)
            raise
        for task_id, is_whole, reply in zip(task_ids, whole, replies, strict=True):
            if is_whole:
                self._ended.discard(task_id)
                self._settle_by(task_id, reply, asked.get(task_id, ()))
            elif reply[0] is None:
                self._settle(task_id, None)
            elif status_of(reply[0]).final:
                self._wake_ended(task_id)

    @property
    def every_s(self) -> float:
        """Seconds between two looks at all awaited tasks."""
        return LOOK_S

    async def followed(self) -> Iterable[str]:
        """Return the awaited tasks."""
        return list(self._waiters)

    # --- for `EndWait`

    def _enter(self, task_id: str) -> asyncio.Future[End]:
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(None)
        self._waiters.setdefault(task_id, set()).add(future)
        return future

    def _leave(self, task_id: str, future: asyncio.Future[End]) -> None:
        future.cancel()
        waiters = self._waiters.get(task_id)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiters[task_id]
                self._ended.discard(task_id)

    async def _listen(self, task_id: str) -> Callable[[], None]:
        return await self._hub.listen(keys.live(task_id), lambda text: self._heard_event(task_id, text))

    # --- what is heard

    def _heard_event(self, task_id: str, text: str | None) -> None:
        """Take a message of a task's own channel (`keys.live`); None stands for messages that may have been lost."""
        what = "" if text is None else text.partition("\n")[0].partition(" ")[2]
        if goes_on(what):
            return
        if what:
            self._wake_ended(task_id)
        else:
            self.wake([task_id])

    def _heard_end(self, text: str | None) -> None:
        """Take a message of the process's own channel (`notice` in `lua/shared/ends.lua`)."""
        if text is None:
            self.wake(self._waiters)
            return
        task_id, _, rest = text.partition("\n")
        if task_id not in self._waiters:
            return
        kind, _, rest = rest.partition("\n")
        code, _, result = rest.partition("\n")
        if kind == Status.COMPLETED.stored and code == "" and result:
            try:
                self._settle(task_id, Outcome(task_id, Status.COMPLETED, json_text.read(result)))
                return
            except JsonError:
                pass  # the record tells it, damaged as it is
        if kind != "delta":
            self._wake_ended(task_id)

    def _wake_ended(self, task_id: str) -> None:
        if task_id in self._waiters:
            self._ended.add(task_id)
            self.wake([task_id])

    def _settle_by(self, task_id: str, reply: Any, asked: Iterable[asyncio.Future[Task | None]]) -> None:
        # Depending on the protocol's version, the reply is a mapping, or names and values in turn.
        record: Mapping[str, str] = reply if isinstance(reply, dict) else dict(zip(*[iter(reply)] * 2, strict=True))
        task = task_from_hash({"task_id": task_id, **record}) if "status" in record else None
        for future in asked:
            if not future.done():
                future.set_result(task)
        if task is None or task.status.final:  # else it runs, perhaps again already
            self._settle(task_id, task)

    def _settle(self, task_id: str, end: End) -> None:
        for future in self._waiters.get(task_id, ()):
            if not future.done():
                future.set_result(end)


def _fail(futures: Iterable[asyncio.Future[Task | None]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


class EndWait:
    """One who waits. Before a submission it `expect`s the task; for any other task it waits by its id alone."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._task_id = ""
        self._future: asyncio.Future[End] | None = None

    @property
    def channel(self) -> str:
        """What a submission names as `reply_to`."""
        return self._ends.channel

    def expect(self, task_id: str) -> None:
        """Begin to wait for a task that is about to be submitted with `reply_to`."""
        self.leave()
        self._task_id, self._future = task_id, self._ends._enter(task_id)

    def leave(self) -> None:
        """Wait no longer. Idempotent."""
        if self._future is not None:
            self._ends._leave(self._task_id, self._future)
            self._future = None

    async def after(self, submitted: Submitted, within_s: float | None) -> End:
        """Return how the task that a submission was answered with ended; as `of` does."""
        if submitted.status.final:
            return None
        if submitted.created and self._future is not None and submitted.task_id == self._task_id:
            future, begun = self._future, asyncio.get_running_loop().time()
            end = await self._outcome(future, within_s)
            if end is not None or future.cancelled() or self._ends._closed:
                return end
            # A look from before the submission did not find the record.
            if within_s is not None:
                within_s = max(0.0, within_s - (asyncio.get_running_loop().time() - begun))
        self.leave()
        return await self.of(submitted.task_id, within_s)

    async def of(self, task_id: str, within_s: float | None) -> End:
        """Return how the task ended; None after `within_s` seconds, or if its record is gone, or the process stops."""
        self.expect(task_id)
        assert self._future is not None
        stop_listening = await self._ends._listen(task_id)
        try:
            return await self._outcome(self._future, within_s)
        finally:
            stop_listening()

    async def _outcome(self, future: asyncio.Future[End], within_s: float | None) -> End:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                return await future
        return None
