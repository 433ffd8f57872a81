"""Live delivery: one subscription of a process for any number of listeners; `wakeups.py` has the readers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, NoReturn

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from celeriac.errors import StoreUnavailableError
from celeriac.model import Event, LogLine, Task
from celeriac.store import keys
from celeriac.store.roles.role import end
from celeriac.store.server.connecting import run_id_over
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.wakeups import FeedPage, Listener, read_on

log = logging.getLogger(__name__)

#: After so many seconds without a message the hub asks whether the server is still the primary.
_QUIET_S: Final = 5.0


class Subscription(PubSub):
    """A pub/sub connection that does not connect again by itself."""

    async def _reconnect(self, conn: object, error: BaseException | None = None, *_: object) -> NoReturn:
        raise error or RedisConnectionError("the connection for live messages was lost")


class LiveHub:
    """Shares one pub/sub connection to the store among all listeners of a process."""

    def __init__(self, *, store: TaskStore) -> None:
        self._store = store
        #: Untyped, as the driver is.
        self._pubsub: Any = Subscription(store.redis.connection_pool)
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._something_to_hear = asyncio.Event()
        self._closed = False
        #: A subscription failed, so the loop has to look for channels without a subscription.
        self._incomplete = False
        #: The loop has connected, and no failure was seen since. Only the loop connects: two coroutines that connect at
        #: once would read each other's answers. All others may write to a connection that is up.
        self._up = False
        self._ending: set[asyncio.Future[None]] = set()
        #: How often it has connected. After a further time the server may be another one, which lacks the last events.
        self.connections = 0
        self._run_id = ""

    async def start(self) -> None:
        """Begin to listen. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="live-hub")

    async def stop(self) -> None:
        """End every `follow` and disconnect. Idempotent."""
        self._closed = True
        self._wake_all()
        if self._task is not None:
            await end(self._task)
            self._task = None
        for ending in list(self._ending):
            ending.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._pubsub.aclose()

    def close_streams(self) -> None:
        """End every `follow` now; the process is about to stop."""
        self._closed = True
        self._wake_all()

    @property
    def closed(self) -> bool:
        """Whether every `follow` should end: the process is about to stop."""
        return self._closed

    async def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each message on `channel`; returns a function that ends that.

        The listener is called with None when the subscription is made, and after each reconnection: messages from then
        on arrive, and earlier ones may have been missed.
        """
        listeners = self._listeners[channel]
        listeners.add(listener)
        if len(listeners) == 1:
            if not self._may_write or not await self._wrote(self._pubsub.subscribe(channel)):
                # The store is away: the loop subscribes when it is back.
                self._incomplete = True
        else:
            listener(None)
        self._something_to_hear.set()

        def end() -> None:
            listeners.discard(listener)
            if not listeners and self._listeners.get(channel) is listeners:
                del self._listeners[channel]
                if self._closed:
                    return  # the whole connection will be closed
                unsubscribe = asyncio.ensure_future(self._unsubscribe(channel))
                self._ending.add(unsubscribe)
                unsubscribe.add_done_callback(self._ending.discard)

        return end

    def follow(
        self, task_id: str, after: str = "-", *, idle_s: float = 15.0, page: int = 500
    ) -> AsyncGenerator[Event | None, None]:
        """Yield the task's events after the stream id `after`: what is held, then live, each once, in order.

        Yields None after `idle_s` quiet seconds (a moment to send a keep-alive) and while the store is away. It ends
        only when the hub stops: leave it at the event you wait for.
        """

        async def read(after: str) -> FeedPage[Event]:
            events = await self._store.events(task_id, after=after, count=page)
            return FeedPage(events, events[-1].id if events else after, more=len(events) == page)

        return read_on(self, [keys.live(task_id)], read, after, idle_s=idle_s)

    def follow_workflow(
        self, workflow_id: str, after: str = "-", *, idle_s: float = 15.0, page: int = 500
    ) -> AsyncGenerator[Event | None, None]:
        """Yield the events of a workflow after the stream id `after`, as `follow` does those of a task."""

        async def read(after: str) -> FeedPage[Event]:
            events = await self._store.workflow_events(workflow_id, after=after, count=page)
            return FeedPage(events, events[-1].id if events else after, more=len(events) == page)

        return read_on(self, [keys.live_workflow(workflow_id)], read, after, idle_s=idle_s)

    async def lacks(self, task_id: str, seen: str) -> bool:
        """Return whether the task's event of the id `seen` is gone: lost in a failover, or trimmed."""
        events = await self._store.events(task_id, after=_before(seen), count=1)
        return not events or events[0].id != seen

    async def workflow_lacks(self, workflow_id: str, seen: str) -> bool:
        """Return whether the workflow's event of the id `seen` is gone, as `lacks` does for a task."""
        events = await self._store.workflow_events(workflow_id, after=_before(seen), count=1)
        return not events or events[0].id != seen

    def follow_log(
        self, task_id: str, after: str = "-", *, idle_s: float = 15.0, page: int = 500
    ) -> AsyncGenerator[LogLine | Task | None, None]:
        """Yield the lines of the task's log after the stream id `after`, then live, and the task once it has ended.

        Yields None after `idle_s` quiet seconds and while the store is away; raises `TaskNotFoundError` when the record
        is gone.
        """

        async def read(after: str) -> FeedPage[LogLine | Task]:
            # The record first: if it says that the task has ended, all lines are there.
            task = await self._store.get(task_id)
            lines = await self._store.log_lines(task_id, after=after, count=page)
            position = lines[-1].id if lines else after
            if len(lines) == page:
                return FeedPage(lines, position, more=True)
            if task.status.final:
                return FeedPage([*lines, task], position, ended=True)
            return FeedPage(lines, position)

        # The end of the task is published on its own channel.
        return read_on(self, [keys.live_log(task_id), keys.live(task_id)], read, after, idle_s=idle_s)

    async def _unsubscribe(self, channel: str) -> None:
        if channel not in self._listeners and self._may_write:
            await self._wrote(self._pubsub.unsubscribe(channel))

    @property
    def _may_write(self) -> bool:
        connection = self._pubsub.connection
        return self._up and connection is not None and bool(connection.is_connected)

    async def _wrote(self, change: Awaitable[object]) -> bool:
        """Return whether a change of the subscriptions was sent; if it was not, the loop connects again."""
        try:
            await change
        except (RedisError, OSError):
            self._up = False
            return False
        return True

    def _wake_all(self) -> None:
        for listeners in list(self._listeners.values()):
            for listener in list(listeners):
                listener(None)

    async def _loop(self) -> None:
        while True:
            try:
                await self._hear()
                continue
            except (RedisError, OSError) as exc:
                log.debug("the connection for live messages was lost; connecting again: %s", exc)
            except Exception:
                log.exception("live messages: a step failed; the loop connects again")
            self._up = False
            await asyncio.sleep(0.1)

    async def _hear(self) -> None:
        """Subscribe to what lacks it, wait for the next message for a while, and call its listeners."""
        if not self._listeners and not self._pubsub.channels:
            await self._something_to_hear.wait()
        self._something_to_hear.clear()
        if not self._up:
            await self._connect()
        elif self._incomplete:
            self._incomplete = False
            lacking = [channel for channel in self._listeners if channel not in self._pubsub.channels]
            if lacking:
                await self._pubsub.subscribe(*lacking)
        message = await self._pubsub.get_message(timeout=_QUIET_S)
        if message is None:
            await self._check_primary()
        elif message["type"] in ("message", "subscribe"):
            self._deliver(message["channel"], message["data"] if message["type"] == "message" else None)

    async def _check_primary(self) -> None:
        """Ask in a quiet moment whether this is still the connection to the primary, which may be another server now.

        A server that was replaced may be silent for ever.
        """
        try:
            run_id = await self._store.run_id()
        except StoreUnavailableError as exc:
            raise RedisConnectionError(str(exc)) from exc
        if run_id != self._run_id:
            raise RedisConnectionError("the store is another server now")

    def _deliver(self, channel: str, text: str | None) -> None:
        for listener in list(self._listeners.get(channel, ())):
            try:
                listener(text)
            except Exception:
                # A fault of one listener must not end the delivery to the others.
                log.exception("a listener of %s failed", channel)

    async def _connect(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._pubsub.aclose()
        self._pubsub = Subscription(self._store.redis.connection_pool)
        await self._pubsub.connect()
        self._run_id = await run_id_over(self._pubsub.connection)
        self._incomplete, self._up = False, True
        self.connections += 1
        if self._listeners:
            await self._pubsub.subscribe(*self._listeners)


def _before(event_id: str) -> str:
    """Return the id of a stream before which no other one lies."""
    ms, _, number = event_id.partition("-")
    return f"{ms}-{int(number) - 1}" if int(number or 0) else f"{int(ms) - 1}-{2**64 - 1}"
