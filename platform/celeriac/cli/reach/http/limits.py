"""Limits, through the API."""

from __future__ import annotations

from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import Record
from celeriac.client.limits import limit_document
from celeriac.limits.rules import LimitRule


class HttpLimits:
    """See `LimitCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def listed(self) -> list[Record]:
        """See `LimitCalls.listed`."""
        return await self._server.listing("/limits", "items")

    async def get(self, name: str) -> Record:
        """See `LimitCalls.get`."""
        return await self._server.get("/limits" + within(name))

    async def keys(self, name: str, *, sort: str, limit: int) -> list[Record]:
        """See `LimitCalls.keys`."""
        return await self._server.listing(f"/limits{within(name)}/keys", "items", {"sort": sort, "limit": limit})

    async def set(self, rule: LimitRule) -> Record:
        """See `LimitCalls.set`."""
        return await self._server.send("PUT", "/limits" + within(rule.name), limit_document(rule))

    async def delete(self, name: str) -> None:
        """See `LimitCalls.delete`."""
        await self._server.delete("/limits" + within(name))
