"""Sends messages again that were lost with a worker between the queue and the claim."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0


class Sweeper(Role):
    """Looks at every group once a second; the script decides what is lost (see `lua/transitions/sweep.lua`).

    `broker_empty` returns whether a broker other than Redis has no message for a group.
    """

    def __init__(self, *, store: TaskStore, broker_empty: Callable[[str], Awaitable[bool]] | None = None) -> None:
        super().__init__()
        self._store = store
        self._broker_empty = broker_empty

    async def step(self) -> float:
        """Look once at each group, and continue interrupted resumptions."""
        if resumed := await self._store.carry_on():
            log.info("sent messages of %d tasks in resumed groups", resumed)
        for group in await self._store.group_names():
            empty = None if self._broker_empty is None else await self._broker_empty(group)
            sent = await self._store.sweep(group, broker_empty=empty)
            if sent:
                log.info("group %s: sent %d lost messages again", group, len(sent))
        return _INTERVAL_S
