"""Reports the tasks of this process to the store, from a thread with an event loop of its own.

So it serves any number of event loops, and code without one. A program that is busy computing still renews
the leases of its tasks.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeVar

from celeriac.errors import CeleriacError, StoreUnavailableError
from celeriac.installation.discovery import joined_settings
from celeriac.model import LeaseState, Status
from celeriac.settings import Settings
from celeriac.store.patience import until_back
from celeriac.threads.forking import call_after_fork, keep_inherited
from celeriac.threads.loop_thread import LoopThread

if TYPE_CHECKING:
    from celeriac.store.notified import Heard, NotifiedTasks
    from celeriac.store.task_store import TaskStore

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long a program that ends may take to release its tasks (seconds).
_CLOSE_S: Final = 2.0
#: Pause between two tries to report the end of a task while the store is not available (seconds).
_PAUSE_S: Final = 1.0
#: At most this many ends of tasks wait for a store that is not available.
_MAX_WAITING: Final = 10_000

#: Returns the settings with every address filled in, and the store's URL.
FindStore = Callable[[], tuple[Settings, str]]
#: Called in the reporter's thread when a user asks to cancel a task that this process holds.
OnCancel = Callable[[], None]


def find_store() -> tuple[Settings, str]:
    """Find the store by the environment, the configuration, or the `celeriac up` that uses the data folder."""
    return joined_settings(None, None)


class _Held:
    """A task that this process holds. Each time that the task is taken there is a new object."""

    __slots__ = ("on_cancel",)

    def __init__(self, on_cancel: OnCancel | None) -> None:
        self.on_cancel = on_cancel


class Reporter:
    """Reports what happens to tasks, and holds the tasks that run in this process.

    It connects when it is first needed. Any thread may call it. A forked child connects anew.
    """

    def __init__(self, find: FindStore = find_store) -> None:
        self._find = find
        self._thread = LoopThread("celeriac-notify")
        self._begin()
        call_after_fork(self)
        atexit.register(self.close)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        keep_inherited(self._store, self._tasks, self._renewing, self._insistent)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._settings: Settings | None = None
        self._store: TaskStore | None = None
        self._tasks: NotifiedTasks | None = None
        self._held: dict[str, _Held] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._insistent: set[asyncio.Task[Heard]] = set()

    def settings(self) -> Settings:
        """Return the settings in use; raises `SettingsError` if no store can be found."""
        return self._find()[0] if self._settings is None else self._settings

    def call(
        self,
        task_id: str,
        say: Callable[[NotifiedTasks], Awaitable[Heard]],
        *,
        insist: bool = False,
        on_cancel: OnCancel | None = None,
    ) -> Future[Heard]:
        """Report something about a task. Reports reach the store in the order of the calls.

        With `insist`, a report that finds the store not available is repeated for as long as this process lives.
        """
        with self._lock:
            self._thread.start()
            return self._thread.submit(self._say(task_id, say, insist, on_cancel))

    def close(self) -> None:
        """Release the tasks that this process holds, and disconnect. The next call connects again. Idempotent."""
        with self._lock:
            if not self._thread.running:
                return
            try:
                self._thread.wait(self._close(), _CLOSE_S)
            except Exception as exc:
                log.warning("the tasks of this process could not be released: %s", exc)
            self._thread.stop(_CLOSE_S)
            self._settings = self._store = self._tasks = self._renewing = None
            self._held.clear()

    # --- in the thread

    async def _say(
        self, task_id: str, say: Callable[[NotifiedTasks], Awaitable[Heard]], insist: bool, on_cancel: OnCancel | None
    ) -> Heard:
        if insist and len(self._insistent) < _MAX_WAITING:
            task = asyncio.ensure_future(self._until_reported(task_id, say))
            self._insistent.add(task)
            task.add_done_callback(self._insistent.discard)
            heard = await asyncio.shield(task)
        else:
            heard = await say(self._connected())
        if heard.platform or heard.status is not Status.PROCESSING:
            self._held.pop(task_id, None)
        else:
            known = self._held.get(task_id)
            self._held[task_id] = _Held(on_cancel or (known.on_cancel if known else None))
        return heard

    async def _until_reported(self, task_id: str, say: Callable[[NotifiedTasks], Awaitable[Heard]]) -> Heard:
        def warn(exc: StoreUnavailableError) -> None:
            log.warning("the end of task %s will be reported when the store is available again: %s", task_id, exc)

        return await until_back(
            lambda: say(self._connected()), what=f"the end of task {task_id}", pause_s=_PAUSE_S, on_away=warn
        )

    def _connected(self) -> NotifiedTasks:
        # Nothing is awaited here: otherwise a later call could overtake the first one.
        if self._tasks is None:
            # Imported here, so that a program that only uses the client does not import redis.
            from celeriac.store.notified import NotifiedTasks
            from celeriac.store.task_store import TaskStore

            settings, url = self._find()
            self._settings = settings
            self._store = TaskStore(url, settings.store)
            name = f"{socket.gethostname()}:{os.getpid()}"
            self._tasks = NotifiedTasks(self._store, holder=f"{name}:{secrets.token_hex(8)}", name=name)
            self._renewing = asyncio.ensure_future(self._renew(self._tasks, settings.lease / 3))
        return self._tasks

    async def _renew(self, tasks: NotifiedTasks, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            held = dict(self._held)
            if not held:
                continue
            try:
                states = await tasks.renew(held)
            except CeleriacError as exc:
                log.debug("the leases of this process's tasks were not renewed: %s", exc)
                continue
            for task_id, state in states.items():
                mine = held[task_id]
                if state is LeaseState.LOST and self._held.get(task_id) is mine:
                    # Another process holds the task now, or the task has ended.
                    del self._held[task_id]
                elif state is LeaseState.CANCEL and mine.on_cancel is not None:
                    mine.on_cancel()

    async def _close(self) -> None:
        if self._insistent:
            await asyncio.wait(self._insistent, timeout=_CLOSE_S / 2)
        if self._renewing is not None:
            self._renewing.cancel()
        if self._tasks is not None:
            await asyncio.gather(*(self._tasks.let_go(task_id) for task_id in self._held), return_exceptions=True)
        if self._store is not None:
            await self._store.stop()
