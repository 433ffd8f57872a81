"""Definitions, through the API."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import Move, Record
from celeriac.client.inputs import filter_query

_PATH: Final = "/definitions"
#: How many changes a definition is shown with; the server shows as many runs.
_SHOWN: Final = 10
_PAGE: Final = 500


class HttpDefinitions:
    """See `DefinitionCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def listed(
        self, limit: int, *, user_id: str | None, status: str | None, group: str | None, id_prefix: str | None = None
    ) -> list[Record]:
        """See `DefinitionCalls.listed`."""
        chosen = {"user_id": user_id, "group": group, "id_prefix": id_prefix}
        # The status is written as the server knows it, in capitals.
        query = (*filter_query(chosen), *(() if status is None else (("status", status),)))
        async with aclosing(self._server.items(_PATH, query, page_size=_PAGE, limit=limit)) as items:
            return [item async for item in items]

    async def get(self, definition_id: str) -> Record:
        """See `DefinitionCalls.get`."""
        path = _PATH + within(definition_id)
        found = await self._server.get(path)
        changes = await self._server.listing(f"{path}/changes", "items", {"limit": _SHOWN})
        return {**found, "changes": changes}

    async def create(self, document: Mapping[str, Any]) -> Record:
        """See `DefinitionCalls.create`."""
        return await self._server.send("POST", _PATH, dict(document))

    async def edit(self, definition_id: str, fields: Mapping[str, Any]) -> Record:
        """See `DefinitionCalls.edit`."""
        return await self._server.send("PATCH", _PATH + within(definition_id), dict(fields))

    async def move(self, definition_id: str, move: Move, note: str | None) -> Record:
        """See `DefinitionCalls.move`."""
        return await self._server.send("POST", f"{_PATH}{within(definition_id)}/{move}", {"note": note})

    async def trigger(self, definition_id: str) -> Record:
        """See `DefinitionCalls.trigger`."""
        return await self._server.send("POST", f"{_PATH}{within(definition_id)}/trigger")

    async def preview(self, definition_id: str, count: int) -> list[Record]:
        """See `DefinitionCalls.preview`."""
        return await self._server.listing(f"{_PATH}{within(definition_id)}/preview", "items", {"count": count})

    async def backfill(self, definition_id: str, start: datetime, end: datetime, *, one_by_one: bool) -> list[Record]:
        """See `DefinitionCalls.backfill`."""
        wanted = {"start": start.isoformat(), "end": end.isoformat(), "one_by_one": one_by_one}
        answer = await self._server.send("POST", f"{_PATH}{within(definition_id)}/backfill", wanted)
        items: list[Record] = answer["items"]
        return items
