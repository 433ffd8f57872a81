"""A worker that an operator drains takes no more tasks until it is told to; what it has taken runs to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from celeriac.errors import CeleriacError
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: How often a worker looks, for messages that it did not hear (seconds).
_LOOK_S: Final = 5.0
#: How often a drained worker says how many tasks it still runs, since somebody may wait for their end (seconds).
_TELL_S: Final = 1.0


class DrainWatch(Role):
    """Follows what the store says. Calls `turn` when it changes, and `tell` again and again while it is drained."""

    def __init__(
        self, *, store: TaskStore, worker_id: str, turn: Callable[[], object], tell: Callable[[], object]
    ) -> None:
        super().__init__()
        self._store = store
        self._worker_id = worker_id
        self._turn = turn
        self._tell = tell
        self._said = asyncio.Event()
        #: Whether the worker takes no more tasks.
        self.drained = False

    def heard(self, worker_id: str | None) -> None:
        """Look at once if a message is about this worker; None: messages may have been missed."""
        if worker_id in (None, self._worker_id):
            self._said.set()

    async def step(self) -> float:
        """Look, and wait until it is time to look again."""
        await self._look()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S if self.drained else _LOOK_S):
                await self._said.wait()
        self._said.clear()
        return 0.0

    async def _look(self) -> None:
        try:
            wanted = await self._store.is_drained(self._worker_id)
        except CeleriacError as exc:
            log.debug("a worker cannot look whether it is to take tasks: %s", exc)
            return
        if wanted != self.drained:
            self.drained = wanted
            log.info("an operator has this worker take %s", "no more tasks" if wanted else "tasks again")
            self._turn()
        elif wanted:
            self._tell()
