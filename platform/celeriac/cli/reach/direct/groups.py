"""Groups, through their service."""

from __future__ import annotations

from celeriac.cli.reach.direct.auditing import note as note_action
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.platform import Record
from celeriac.groups.record import group_record
from celeriac.limits.rules import StartRate


class DirectGroups:
    """See `GroupCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def listed(self) -> tuple[list[Record], int]:
        """See `GroupCalls.listed`."""
        groups = await self._opened.groups()
        found, left_out = await groups.listed()
        return [group_record(group, groups.queues) for group in found], left_out

    async def get(self, name: str) -> Record:
        """See `GroupCalls.get`."""
        groups = await self._opened.groups()
        return group_record(await groups.get(name), groups.queues)

    async def pause(self, name: str, note: str, *, action: str = "group.pause") -> Record:
        """See `GroupCalls.pause`."""
        await (await self._opened.groups()).pause(name, note)
        return await self._changed(action, name)

    async def resume(self, name: str) -> Record:
        """See `GroupCalls.resume`."""
        await (await self._opened.groups()).resume(name)
        return await self._changed("group.resume", name)

    async def limit(self, name: str, *, max_running: int | None, rate: str | None, note: str) -> Record:
        """See `GroupCalls.limit`."""
        wanted = None if rate is None else StartRate.parse(rate)
        await (await self._opened.groups()).limit(name, max_running=max_running, rate=wanted, note=note)
        return await self._changed("group.limit", name)

    async def unlimit(self, name: str) -> Record:
        """See `GroupCalls.unlimit`."""
        await (await self._opened.groups()).unlimit(name)
        return await self._changed("group.unlimit", name)

    async def _changed(self, action: str, name: str) -> Record:
        await note_action(await self._opened.store(), action, name)
        return await self.get(name)
