"""Takes back what dead workers held, and ends what expired before it was started."""

from __future__ import annotations

import logging

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: Tasks handled in one step, of each kind.
_BATCH = 500
_INTERVAL_S = 1.0


class Reaper(Role):
    """Looks for expired leases once a second.

    A store that was away could not be told that a worker lives. So after a start of the server all
    leases count as renewed when the first reaper finds it: nothing is taken back for one lease.
    """

    def __init__(self, *, store: TaskStore) -> None:
        super().__init__()
        self._store = store

    async def step(self) -> float:
        """Take back up to one batch."""
        returned, failed, expired = await self._store.reap(_BATCH, grace_s=self._store.settings.lease)
        if returned or failed or expired:
            log.warning("leases ran out: %d tasks returned, %d ended; %d expired unstarted", returned, failed, expired)
        return 0 if max(returned + failed, expired) >= _BATCH else _INTERVAL_S
