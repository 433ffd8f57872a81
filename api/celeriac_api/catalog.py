"""The task types that a front door accepts: its own, and those that running workers announce."""

from __future__ import annotations

import asyncio
from typing import Final

from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import Registry
from celeriac.tasks.submission import KnownTypes

#: How old the announcements may be when a type is found in them (seconds).
FRESH_S: Final = 2.0
#: How old they may be when a type is *not* found: a worker that just started should be seen at once.
_DOUBTED_S: Final = 0.2


class TaskTypeCatalog:
    """Looks task types up without asking the store for each one.

    Types of this process need no look-up. Others cost at most one round trip in `FRESH_S`, shared by
    all requests that wait for it.
    """

    def __init__(self, local: Registry, store: TaskStore) -> None:
        self.local = local
        self._store = store
        self._known = KnownTypes(local, {})
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def containing(self, name: str) -> KnownTypes:
        """Return the types to look `name` up in, as fresh as it takes; raises `StoreUnavailableError`."""
        if name in self.local:
            return self._known
        known = await self.all(max_age_s=FRESH_S)
        return known if known.get(name) is not None else await self.all(max_age_s=_DOUBTED_S)

    async def all(self, *, max_age_s: float = FRESH_S) -> KnownTypes:
        """Return all types; raises `StoreUnavailableError`."""
        if asyncio.get_running_loop().time() - self._read_at > max_age_s:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(), name="read-announced-types")
                self._reading.add_done_callback(self._read_ended)
            # Shielded: one client that hangs up must not fail the others.
            await asyncio.shield(self._reading)
        return self._known

    async def _read(self) -> None:
        announced = await self._store.task_types()
        self._known = KnownTypes(self.local, announced)
        self._read_at = asyncio.get_running_loop().time()

    def _read_ended(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # everybody who waited has it; nobody may have waited to the end
