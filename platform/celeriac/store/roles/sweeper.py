"""Sends messages again that were lost with a worker between the queue and the claim."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from celeriac.store import keys
from celeriac.store.labels import make_room
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.unknown_tasks import unknown_tasks

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_SENT_AGAIN = "group %s: sent %d lost messages again"
#: Groups that one step looks at: of those that are awake, and of all. With more groups, a round takes several steps.
_AWAKE_AT_ONCE = 200
_OTHERS_AT_ONCE = 50
#: Rules that one step looks at.
_RULES_AT_ONCE = 10
#: After so many steps it looks whether there is room for the counts of new names.
_ROUNDS_TO_ROOM = 30


class Sweeper(Role):
    """Looks at the groups once a second; the script decides what is lost (see `lua/transitions/sweep.lua`).

    A step looks at a bounded number of groups, so that no number of names delays the others for long. `broker_empty`
    returns whether a broker other than Redis has no message for a group.
    """

    def __init__(self, *, store: TaskStore, broker_empty: Callable[[str], Awaitable[bool]] | None = None) -> None:
        super().__init__()
        self._store = store
        self._broker_empty = broker_empty
        #: Where the next step goes on, by the set of groups.
        self._cursors = {keys.AWAKE: 0, keys.GROUPS: 0}
        self._rounds = 0

    async def step(self) -> float:
        """Look once at each group and at some of the rules, and continue interrupted resumptions."""
        if resumed := await self._store.carry_on():
            log.info("sent messages of %d tasks in resumed groups", resumed)
        awake = await self._page(keys.AWAKE, _AWAKE_AT_ONCE)
        others = await self._page(keys.GROUPS, _OTHERS_AT_ONCE)
        for group in dict.fromkeys([*awake, *others]):
            empty = None if self._broker_empty is None else await self._broker_empty(group)
            sent = await self._store.sweep(group, broker_empty=empty)
            if sent:
                # What no worker of the group knows is said once, by the worker that received it.
                unknown = group in {where for _, where in await unknown_tasks(self._store)}
                log.log(logging.DEBUG if unknown else logging.INFO, _SENT_AGAIN, group, len(sent))
        await self._mend()
        if self._rounds % _ROUNDS_TO_ROOM == 0 and (folded := await make_room(self._store)):
            log.info("the counts of %d rarely used groups and types are added to those of others", folded)
        self._rounds += 1
        return _INTERVAL_S

    async def _mend(self) -> None:
        """Look at some of the rules, in turn."""
        (names,) = await self._store.read(("HKEYS", keys.RULES))
        if not names:
            return
        turn = self._rounds * _RULES_AT_ONCE % len(names)
        some = [str(name) for name in (*names[turn:], *names[:turn])[:_RULES_AT_ONCE]]
        if forgotten := await self._store.mend_rules(["", *some]):
            log.warning("forgot %d notes of rules on tasks that are gone: a foreign program deleted them", forgotten)

    async def _page(self, groups: str, most: int) -> list[str]:
        self._cursors[groups], found = await self._store.page_of_groups(groups, self._cursors[groups], most)
        return found
