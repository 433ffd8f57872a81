"""Limits, through their service."""

from __future__ import annotations

from celeriac.cli.reach.direct.auditing import note as note_action
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.platform import Record
from celeriac.groups.record import key_count_record, limit_record
from celeriac.limits.rules import LimitRule, SortKeys


class DirectLimits:
    """See `LimitCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def listed(self) -> list[Record]:
        """See `LimitCalls.listed`."""
        return [limit_record(state) for state in await (await self._opened.limits()).all()]

    async def get(self, name: str) -> Record:
        """See `LimitCalls.get`."""
        return limit_record(await (await self._opened.limits()).get(name))

    async def keys(self, name: str, *, sort: str, limit: int) -> list[Record]:
        """See `LimitCalls.keys`."""
        found = await (await self._opened.limits()).keys(name, sort=SortKeys(sort), limit=limit)
        return [key_count_record(count) for count in found]

    async def set(self, rule: LimitRule) -> Record:
        """See `LimitCalls.set`."""
        state, _ = await (await self._opened.limits()).set(rule)
        await note_action(await self._opened.store(), "limit.set", rule.name)
        return limit_record(state)

    async def delete(self, name: str) -> None:
        """See `LimitCalls.delete`."""
        await (await self._opened.limits()).delete(name)
        await note_action(await self._opened.store(), "limit.delete", name)
