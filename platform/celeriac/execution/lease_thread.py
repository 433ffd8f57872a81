"""A thread that keeps the leases of a process alive, whatever the handlers do to the process's event loop.

It has a loop and a connection to the store of its own. What it cannot outlive: code in C that holds the interpreter's
lock for longer than a lease (a regular expression that backtracks, for example) stops this thread too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from celeriac.errors import CeleriacError
from celeriac.execution.leases import HeldAttempt, Leases
from celeriac.execution.loop_watch import LoopWatch
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.threads.loop_thread import LoopThread

A = TypeVar("A", bound=HeldAttempt)

log = logging.getLogger(__name__)

#: What the holder of leases says about itself, for display; None if it is not a worker.
Facts = Callable[[], Mapping[str, str] | None]
#: How long the start and the end of the thread may take (seconds).
_START_S: Final = 5.0


class LeaseThread(Generic[A]):
    """Renews leases, and watches the loop on which their attempts run.

    `store` belongs to the loop of the caller; the thread connects by itself. `stop` of an attempt is called on `loop`.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        leases: Leases[A],
        worker: str,
        loop: asyncio.AbstractEventLoop,
        watch: LoopWatch,
        facts: Facts = lambda: None,
    ) -> None:
        self._near = store
        self._leases = leases
        self._worker = worker
        self._loop = loop
        self._watch = watch
        self._facts = facts
        self._thread = LoopThread("celeriac-leases")
        self._store: TaskStore
        self._roles: list[Role] = []

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._thread.wait(self._start(), _START_S)

    async def stop(self) -> None:
        """Renew no more, and end the thread. Idempotent."""
        if self._thread.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_START_S):
                    await asyncio.wrap_future(self._thread.submit(self._stop()))
            self._thread.stop()

    def give_back_all(self, within_s: float) -> None:
        """Give all tasks back from this thread, because the process ends and its loop does not run."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            self._thread.wait(self._give_back_all(), within_s)

    def spawn(self, call: Callable[[TaskStore], Any]) -> None:
        """Do something with the thread's own connection to the store; errors of it are logged."""
        self._thread.submit(self._do(call))

    def renew_soon(self) -> None:
        """Renew all leases and the presence of the worker once more, without waiting."""
        self.spawn(lambda _: self.renew())

    async def _do(self, call: Callable[[TaskStore], Any]) -> None:
        try:
            await call(self._store)
        except CeleriacError as exc:
            log.warning("%s", exc)

    async def _start(self) -> None:
        self._store = self._near.for_another_loop()
        self._roles = [_Keeper(self), self._watch]
        for role in self._roles:
            await role.start()

    async def _stop(self) -> None:
        for role in self._roles:
            await role.stop()
        await self._store.stop()

    async def _give_back_all(self) -> None:
        attempts = list(self._leases)
        log.warning("the event loop is still blocked: %d running tasks are given back", len(attempts))
        await asyncio.gather(*(self._store.release(held.claim) for held in attempts), return_exceptions=True)

    async def renew(self) -> float:
        """Renew all leases once, unless the process counts as dead; returns the seconds until the next time."""
        if not self._watch.hopeless:
            await self._leases.renew(self._store, self._worker, self._facts(), call=self._loop.call_soon_threadsafe)
        return self._store.settings.lease / 3


class _Keeper(Role):
    """Renews three times per lease, so that a lease survives two lost renewals in a row."""

    def __init__(self, thread: LeaseThread[Any]) -> None:
        super().__init__()
        self._thread = thread

    async def step(self) -> float:
        """Renew once, and have the attempts stopped that were lost or cancelled meanwhile."""
        return await self._thread.renew()
