"""A worker that an operator drains takes no more tasks until it is told to; what it has taken runs to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from celeriac.errors import CeleriacError
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: How often a worker looks, for messages that it did not hear (seconds).
_LOOK_S: Final = 5.0


class DrainWatch(Role):
    """Follows what the store says, and calls `turn` when it changes."""

    def __init__(self, *, store: TaskStore, worker_id: str, turn: Callable[[], object]) -> None:
        super().__init__()
        self._store = store
        self._worker_id = worker_id
        self._turn = turn
        self._looking: asyncio.Future[float] | None = None
        #: Whether the worker takes no more tasks.
        self.drained = False

    def heard(self, worker_id: str | None) -> None:
        """Look at once if a message is about this worker; None: messages may have been missed."""
        if worker_id in (None, self._worker_id):
            self._looking = asyncio.ensure_future(self.step())

    async def step(self) -> float:
        """Look once; returns the seconds until the next time."""
        try:
            wanted = await self._store.is_drained(self._worker_id)
        except CeleriacError as exc:
            log.debug("a worker cannot look whether it is to take tasks: %s", exc)
            return _LOOK_S
        if wanted != self.drained:
            self.drained = wanted
            log.info("an operator has this worker take %s", "no more tasks" if wanted else "tasks again")
            self._turn()
        return _LOOK_S
