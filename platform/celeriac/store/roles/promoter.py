"""Moves tasks that are due (scheduled ones, and retries after their backoff) from the delayed set to their groups.

It also goes on with workflows whose nodes are still to be stored, cancelled or run again.
"""

from __future__ import annotations

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.workflows import steer_due

#: Most tasks that one step moves.
_BATCH = 500
#: Longest pause (seconds). A task that is scheduled before all others may be this late.
_LONGEST_PAUSE_S = 0.5


class Promoter(Role):
    """Wakes when the next task is due, and every half second for tasks that were submitted meanwhile."""

    def __init__(self, *, store: TaskStore) -> None:
        super().__init__()
        self._store = store

    async def step(self) -> float:
        """Move up to one batch."""
        moved, next_ms = await self._store.promote(_BATCH)
        if moved == _BATCH or await steer_due(self._store):
            return 0
        return _LONGEST_PAUSE_S if next_ms is None else min(_LONGEST_PAUSE_S, max(next_ms, 1) / 1000)
