"""Workers, task types, the audit and API keys, from the store."""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.access.api_key import key_record, make_key
from celeriac.access.principal import Scope
from celeriac.cli.reach.direct.auditing import note
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.platform import Record
from celeriac.store.api_keys import ApiKeys
from celeriac.store.audit import AuditLog
from celeriac.tasks.catalog import type_records
from celeriac.tasks.record import worker_record


class DirectOperators:
    """See `OperatorCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def workers(self) -> list[Record]:
        """See `OperatorCalls.workers`."""
        return [worker_record(worker) for worker in await (await self._opened.store()).workers()]

    async def drain_worker(self, worker_id: str, *, drained: bool) -> Record:
        """See `OperatorCalls.drain_worker`."""
        store = await self._opened.store()
        await store.drain(worker_id, drained=drained)
        await note(store, "worker.drain" if drained else "worker.resume", worker_id)
        return worker_record(await store.worker(worker_id))

    async def types(self) -> list[Record]:
        """See `OperatorCalls.types`."""
        return type_records(await (await self._opened.tasks(checked_here=True)).types.all())

    async def type_names(self) -> list[str]:
        """See `OperatorCalls.type_names`."""
        return [known.name for known in await (await self._opened.tasks()).types.all()]

    async def audit(self, limit: int) -> list[Record]:
        """See `OperatorCalls.audit`."""
        return await AuditLog(await self._opened.store()).page(count=limit)

    async def keys(self) -> list[Record]:
        """See `OperatorCalls.keys`."""
        return [key_record(key) for key in await ApiKeys(await self._opened.store()).all()]

    async def create_key(self, name: str, *, user_id: str | None, scopes: Sequence[str], ttl_s: float | None) -> Record:
        """See `OperatorCalls.create_key`."""
        store = await self._opened.store()
        key, text = make_key(name, user_id=user_id, scopes=[Scope(scope) for scope in scopes], ttl_s=ttl_s)
        await ApiKeys(store).add(key)
        await note(store, "key.create", key.key_id)
        return {**key_record(key), "key": text}

    async def revoke_key(self, key_id: str) -> bool:
        """See `OperatorCalls.revoke_key`."""
        store = await self._opened.store()
        revoked = await ApiKeys(store).revoke(key_id)
        if revoked:
            await note(store, "key.revoke", key_id)
        return revoked
