"""The service of groups: the one door through which every front door reads and changes them."""

from __future__ import annotations

from typing import Final

from celeriac.errors import GroupNotFoundError
from celeriac.limits.rules import Limits, StartRate, check_limits
from celeriac.model import GroupStats, Pause
from celeriac.settings import QueueSettings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore

#: An error names this many groups.
_NAMED: Final = 50


class Groups:
    """A process's access to groups; belongs to one event loop.

    A group exists if it had tasks, has workers, is in the configuration, or is `default`. Methods that take the name of
    another group raise `GroupNotFoundError`. Every method raises `StoreUnavailableError` while the store is away.
    """

    def __init__(self, *, store: TaskStore, queues: QueueSettings) -> None:
        self.store = store
        self.queues = queues

    async def all(self) -> list[GroupStats]:
        """Return all groups, sorted by name."""
        return await self.store.groups(also=("default", *self.queues.groups))

    async def listed(self) -> tuple[list[GroupStats], int]:
        """Return the groups as `all` does, and how many of them are left out if there are very many."""
        return await self.store.groups_and_left_out(also=("default", *self.queues.groups))

    async def get(self, name: str) -> GroupStats:
        """Return the present state of one group."""
        workers = await self.store.workers()
        served = any(name in worker.groups for worker in workers)
        if served or self.queues.is_configured(name) or await self.store.is_known(name):
            return await self.store.group(name, workers)
        _, some = await self.store.page_of_groups(keys.GROUPS, 0, _NAMED)
        raise GroupNotFoundError(name, known=sorted({"default", *self.queues.groups, *some})[:_NAMED])

    async def pause(self, name: str, note: str = "") -> Pause:
        """Hold a group back: its tasks are accepted and wait, running tasks continue. A new note replaces the old."""
        await self.get(name)
        return await self.store.pause(name, note)

    async def resume(self, name: str) -> bool:
        """Send the waiting tasks of a paused group to its workers, in order; returns whether it was paused."""
        await self.get(name)
        return await self.store.resume(name)

    async def limit(
        self, name: str, *, max_running: int | None = None, rate: StartRate | None = None, note: str = ""
    ) -> Limits:
        """Replace the limits of a group; running tasks continue.

        Raises `InvalidSubmissionError` if neither limit is given, or `max_running` is out of range.
        """
        check_limits(max_running, rate)
        await self.get(name)
        return await self.store.limit(name, max_running=max_running, rate=rate, note=note)

    async def unlimit(self, name: str) -> bool:
        """Remove the limits of a group; returns whether it had any."""
        await self.get(name)
        return await self.store.unlimit(name)
