"""Groups, through the API."""

from __future__ import annotations

from typing import Any

from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import Record
from celeriac.client.outputs import member


class HttpGroups:
    """See `GroupCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def listed(self) -> tuple[list[Record], int]:
        """See `GroupCalls.listed`."""
        document = await self._server.get("/groups")
        return member(document, "groups", list), int(document.get("left_out") or 0)

    async def get(self, name: str) -> Record:
        """See `GroupCalls.get`."""
        return await self._server.get("/groups" + within(name))

    async def pause(self, name: str, note: str, *, action: str = "group.pause") -> Record:
        """See `GroupCalls.pause`; the server calls it `group.pause` in its audit."""
        return await self._change("POST", name, "/pause", {"note": note})

    async def resume(self, name: str) -> Record:
        """See `GroupCalls.resume`."""
        return await self._change("POST", name, "/resume")

    async def limit(self, name: str, *, max_running: int | None, rate: str | None, note: str) -> Record:
        """See `GroupCalls.limit`."""
        return await self._change("PUT", name, "/limits", {"max_running": max_running, "rate": rate, "note": note})

    async def unlimit(self, name: str) -> Record:
        """See `GroupCalls.unlimit`."""
        return await self._change("DELETE", name, "/limits")

    async def _change(self, method: str, name: str, below: str, body: Any | None = None) -> Record:
        return await self._server.send(method, f"/groups{within(name)}{below}", body)
