"""Moves what is due - scheduled tasks, retries after their backoff - from the delayed set to its group."""

from __future__ import annotations

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

#: Tasks moved in one step.
_BATCH = 500
#: Longest pause (seconds): how late a task may start that was scheduled nearer than all others.
_LONGEST_PAUSE_S = 0.5


class Promoter(Role):
    """Wakes when the next task is due, and every half second for those that came in meanwhile."""

    def __init__(self, *, store: TaskStore) -> None:
        super().__init__()
        self._store = store

    async def step(self) -> float:
        """Move up to one batch."""
        moved, next_ms = await self._store.promote(_BATCH)
        if moved == _BATCH:
            return 0
        return _LONGEST_PAUSE_S if next_ms is None else min(_LONGEST_PAUSE_S, max(next_ms, 1) / 1000)
