"""Renews the leases of all attempts of a process, together with the worker's presence, in one call."""

from __future__ import annotations

from collections.abc import Callable

from celeriac.execution.runner import Runner
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore


class LeaseKeeper(Role):
    """Renews three times per lease, so that a lease survives two lost renewals in a row."""

    def __init__(
        self, *, store: TaskStore, runner: Runner, worker_id: str, facts: Callable[[], dict[str, str] | None]
    ) -> None:
        super().__init__()
        self._store = store
        self._runner = runner
        self._worker_id = worker_id
        self._facts = facts

    async def step(self) -> float:
        """Renew once, and stop the attempts that were lost or cancelled meanwhile."""
        await self._runner.leases.renew(self._store, self._worker_id, self._facts())
        return self._store.settings.lease / 3
