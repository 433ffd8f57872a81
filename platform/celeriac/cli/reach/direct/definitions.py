"""Definitions, through the service of schedules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from celeriac.cli.reach.direct.auditing import note as note_action
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.platform import Move, Record
from celeriac.schedules.definition import DefinitionStatus
from celeriac.schedules.record import (
    change_record,
    definition_record,
    firing_record,
    instance_record,
    preview_records,
)
from celeriac.schedules.service import CurrentDefinition

_ACTOR: Final = "command line"
#: How many next and last runs, and changes, a definition is shown with.
_SHOWN: Final = 10


class DirectDefinitions:
    """See `DefinitionCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def listed(
        self, limit: int, *, user_id: str | None, status: str | None, group: str | None, id_prefix: str | None = None
    ) -> list[Record]:
        """See `DefinitionCalls.listed`."""
        schedules = await self._opened.schedules()
        statuses = () if status is None else (DefinitionStatus(status),)
        found: list[CurrentDefinition] = []
        cursor: str | None = None
        while len(found) < limit:
            more, cursor = await schedules.find(
                statuses=statuses,
                limit=limit - len(found),
                cursor=cursor,
                user_id=user_id,
                group=group,
                id_prefix=id_prefix,
            )
            found += more
            if cursor is None:
                break
        return [_record(seen) for seen in found]

    async def get(self, definition_id: str) -> Record:
        """See `DefinitionCalls.get`."""
        schedules = await self._opened.schedules()
        seen = await schedules.get(definition_id)
        table, slots = await schedules.preview(definition_id, _SHOWN)
        tasks, _ = await schedules.instances(definition_id, limit=_SHOWN)
        trail, _ = await schedules.definitions.changes(definition_id, limit=_SHOWN)
        return {
            **_record(seen),
            "next_runs": [] if seen.status is DefinitionStatus.PAUSED else preview_records(table, slots),
            "last_runs": [instance_record(task, definition_id) for task in tasks],
            "changes": [change_record(change) for change in trail],
        }

    async def create(self, document: Mapping[str, Any]) -> Record:
        """See `DefinitionCalls.create`."""
        seen, _ = await (await self._opened.schedules()).create(document, actor=_ACTOR)
        return await self._changed("create", seen)

    async def edit(self, definition_id: str, fields: Mapping[str, Any]) -> Record:
        """See `DefinitionCalls.edit`."""
        seen = await (await self._opened.schedules()).edit(definition_id, dict(fields), actor=_ACTOR)
        return await self._changed("edit", seen)

    async def move(self, definition_id: str, move: Move, note: str | None) -> Record:
        """See `DefinitionCalls.move`."""
        schedules = await self._opened.schedules()
        moves = {"pause": schedules.pause, "resume": schedules.resume, "cancel": schedules.cancel}
        return await self._changed(move, await moves[move](definition_id, actor=_ACTOR, note=note))

    async def trigger(self, definition_id: str) -> Record:
        """See `DefinitionCalls.trigger`."""
        schedules = await self._opened.schedules()
        firing = await schedules.trigger(definition_id, actor=_ACTOR)
        await note_action(schedules.store, "definition.trigger", definition_id)
        return firing_record(firing, "pending")

    async def preview(self, definition_id: str, count: int) -> list[Record]:
        """See `DefinitionCalls.preview`."""
        return preview_records(*await (await self._opened.schedules()).preview(definition_id, count))

    async def backfill(self, definition_id: str, start: datetime, end: datetime, *, one_by_one: bool) -> list[Record]:
        """See `DefinitionCalls.backfill`."""
        schedules = await self._opened.schedules()
        firings = await schedules.backfill(definition_id, start, end, actor=_ACTOR, one_by_one=one_by_one)
        await note_action(schedules.store, "definition.backfill", definition_id)
        return [firing_record(firing, firing.state.value) for firing in firings]

    async def _changed(self, action: str, seen: CurrentDefinition) -> Record:
        store = (await self._opened.schedules()).store
        await note_action(store, f"definition.{action}", seen.definition.definition_id)
        return _record(seen)


def _record(seen: CurrentDefinition) -> Record:
    return definition_record(seen.definition, seen.status, seen.warnings)
