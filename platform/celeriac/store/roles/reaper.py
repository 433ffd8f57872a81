"""Takes tasks back from dead workers, and ends tasks that expired before they started."""

from __future__ import annotations

import logging

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: Most tasks of each kind that one step handles.
_BATCH = 500
_INTERVAL_S = 1.0


class Reaper(Role):
    """Looks for expired leases once a second.

    While the store was away or took no writes, workers could not renew their leases. So after that, no lease runs out
    until one lease time has passed since the first reaper reached the server.
    """

    def __init__(self, *, store: TaskStore) -> None:
        super().__init__()
        self._store = store
        self._was_away = False

    async def step(self) -> float:
        """Take back up to one batch."""
        was_away, self._was_away = self._was_away, True
        returned, failed, expired = await self._store.reap(
            _BATCH, grace_s=self._store.settings.lease, was_away=was_away
        )
        self._was_away = False
        if returned or failed or expired:
            log.warning(
                "leases ran out: %d tasks returned, %d failed; %d expired before a start", returned, failed, expired
            )
        return 0 if max(returned + failed, expired) >= _BATCH else _INTERVAL_S
