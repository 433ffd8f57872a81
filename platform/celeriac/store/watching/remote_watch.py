"""Remote workers and their tasks, watched by one process at a time that shows them to other programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac.model import Status, WorkerInfo
from celeriac.store import keys
from celeriac.store.records import worker_from_hash
from celeriac.store.server.scripts import script
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.previews import Preview, read_previews
from celeriac.store.watching.wakeups import FeedPage
from celeriac.task_fields import status_of

#: The ids of remote workers.
REMOTE_ID: Final = re.compile(r"W\d+-[0-9a-f]{8}\Z")
#: Most bytes of payload and result that are shown.
_SHOWN_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class RemoteStatusChange:
    """A task changed its status; `worker` is set if it started."""

    task_id: str
    at_ms: int
    status: Status
    attempt: int
    worker: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RemoteTaskPreview:
    """The beginning of a record; `payload` and `result` may be cut anywhere."""

    task_id: str
    status: Status
    group: str
    owner: str
    attempt: int
    started_at: datetime | None
    payload: str
    result: str
    code: str
    message: str


class RemoteWatch:
    """The view of one process; `holder` is an id that no other process has."""

    def __init__(self, store: TaskStore, *, holder: str) -> None:
        self._store = store
        self._holder = holder

    async def hold(self, for_s: float) -> bool:
        """Become or stay the process that watches, for this long; returns whether it is the one."""
        return await self._hold(round(for_s * 1000))

    async def let_go(self) -> None:
        """Let another process watch. Idempotent."""
        await self._hold(0)

    async def workers(self, limit: int) -> tuple[list[WorkerInfo], int]:
        """Return up to `limit` remote workers, sorted by id, and the number of all."""
        ids = [str(name) for name in (await self._store.read(("ZRANGE", keys.WORKERS, 0, -1)))[0]]
        remote = sorted(name for name in ids if REMOTE_ID.match(name))
        chosen = remote[:limit]
        hashes = await self._store.read(*(("HGETALL", keys.worker(name)) for name in chosen))
        return [worker_from_hash(n, fields) for n, fields in zip(chosen, hashes, strict=True) if fields], len(remote)

    async def newest(self) -> str:
        """Return the position after everything that has happened so far."""
        (entries,) = await self._store.read(("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1))
        return str(entries[0][0]) if entries else "0-0"

    async def changes(self, after: str, limit: int) -> FeedPage[RemoteStatusChange]:
        """Return the changes of status among the `limit` events after a position."""
        (entries,) = await self._store.read(("XRANGE", keys.EVENTS, f"({after}", "+", "COUNT", limit))
        found = [
            RemoteStatusChange(
                task_id=fields.get("task_id", ""),
                at_ms=int(entry_id.partition("-")[0]),
                status=status_of(fields.get("status", "")),
                attempt=int(fields.get("attempt") or 0),
                worker=fields.get("worker", ""),
                code=fields.get("code", ""),
                message=fields.get("message", ""),
            )
            for entry_id, fields in entries
            if fields.get("kind") == "status"
        ]
        return FeedPage(found, str(entries[-1][0]) if entries else after, more=len(entries) == limit)

    async def previews(self, task_ids: Sequence[str]) -> dict[str, RemoteTaskPreview]:
        """Return the beginnings of those records that exist."""
        rows = await read_previews(self._store, task_ids, shown_bytes=_SHOWN_BYTES)
        return {task_id: _preview(task_id, row) for task_id, row in rows.items()}

    async def cancel(self, task_id: str, message: str) -> Status:
        """Cancel a task; as `TaskStore.cancel`."""
        return await self._store.cancel(task_id, message)

    async def _hold(self, for_ms: int) -> bool:
        source = script("hold").source
        (held,) = await self._store.read(("EVAL", source, 1, keys.MIRROR, self._holder, for_ms))
        return bool(held)


def _preview(task_id: str, row: Preview) -> RemoteTaskPreview:
    try:
        started = datetime.fromisoformat(row.started_at) if row.started_at else None
    except ValueError:
        started = None
    return RemoteTaskPreview(
        task_id,
        status_of(row.status),
        row.group,
        row.owner,
        int(row.attempt or 0),
        started,
        row.payload,
        row.result,
        row.error_code,
        row.error_message,
    )
