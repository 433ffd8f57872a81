"""Workers, task types, the audit and API keys, through the API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from celeriac.cli.reach.http.calls import Server, within
from celeriac.cli.reach.platform import Record
from celeriac.errors import ApiError

_PAGE: Final = 1000


class HttpOperators:
    """See `OperatorCalls`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def workers(self) -> list[Record]:
        """See `OperatorCalls.workers`."""
        return await self._server.listing("/workers", "workers")

    async def drain_worker(self, worker_id: str, *, drained: bool) -> Record:
        """See `OperatorCalls.drain_worker`."""
        return await self._server.send("POST", f"/workers{within(worker_id)}{'/drain' if drained else '/resume'}")

    async def types(self) -> list[Record]:
        """See `OperatorCalls.types`."""
        return await self._server.listing("/task-types", "task_types")

    async def type_names(self) -> list[str]:
        """See `OperatorCalls.type_names`."""
        return [known["name"] for known in await self.types()]

    async def audit(self, limit: int) -> list[Record]:
        """See `OperatorCalls.audit`."""
        async with aclosing(self._server.items("/audit", (), page_size=_PAGE, limit=limit)) as items:
            return [item async for item in items]

    async def keys(self) -> list[Record]:
        """See `OperatorCalls.keys`."""
        return await self._server.listing("/keys", "keys")

    async def create_key(self, name: str, *, user_id: str | None, scopes: Sequence[str], ttl_s: float | None) -> Record:
        """See `OperatorCalls.create_key`."""
        wanted = {"name": name, "user_id": user_id, "scopes": list(scopes), "ttl_s": ttl_s}
        return await self._server.send("POST", "/keys", wanted)

    async def revoke_key(self, key_id: str) -> bool:
        """See `OperatorCalls.revoke_key`."""
        try:
            await self._server.send("DELETE", "/keys" + within(key_id))
        except ApiError as exc:
            if exc.code != "key_not_found":
                raise
            return False
        return True
