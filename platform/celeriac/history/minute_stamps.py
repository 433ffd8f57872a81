"""Stamps the minutes in which tasks were created or ended, in the transaction that changes the tasks.

Only SQLite has stamps: see `database/minute_table.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.minute_table import MINUTE_MS, minutes
from celeriac.database.task_tables import tasks

#: Most tasks that one statement names.
_AT_ONCE: Final = 5000
#: Size of a stamp: the sum of the stamps of a year fits into an integer of the database.
_BITS: Final = 44
_c: Final = tasks.c

#: When each task was created and ended, by its id.
Moments = Mapping[str, tuple[int, int | None]]


class MinuteStamps:
    """Writes stamps; does nothing in PostgreSQL. A connection must be in a transaction that writes."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._used = engine.dialect.name == "sqlite"
        bulk = BulkInsert.of(engine)
        stamp = bulk.insert(minutes)
        self._upsert = bulk.compile(
            stamp.on_conflict_do_update(index_elements=["minute"], set_={"stamp": stamp.excluded.stamp})
        )

    async def moments(self, connection: AsyncConnection, ids: Sequence[str]) -> Moments:
        """Return the moments of those tasks that are recorded; to be asked for before they change."""
        found: dict[str, tuple[int, int | None]] = {}
        if self._used:
            for start in range(0, len(ids), _AT_ONCE):
                chosen = select(_c.task_id, _c.created_ms, _c.finished_ms).where(
                    _c.task_id.in_(ids[start : start + _AT_ONCE])
                )
                for task_id, created_ms, finished_ms in await connection.execute(chosen):
                    found[task_id] = (created_ms, finished_ms)
        return found

    async def changed(self, connection: AsyncConnection, rows: Iterable[Mapping[str, Any]], before: Moments) -> None:
        """Stamp what rows change that are written; `before` are the moments of their tasks before that."""
        if not self._used:
            return
        moments: set[int | None] = set()
        for row in rows:
            created_ms, finished_ms = before.get(row["task_id"], (None, None))
            # A task that goes on changes no chart. One that has ended may have another status or duration.
            if row["created_ms"] != created_ms:
                moments |= {row["created_ms"], created_ms}
            moments |= {row["finished_ms"], finished_ms}
        await self._stamp(connection, moments)

    async def deleted(self, connection: AsyncConnection, before: Moments) -> None:
        """Stamp the minutes of tasks that are deleted."""
        await self._stamp(connection, {moment for moments in before.values() for moment in moments})

    async def _stamp(self, connection: AsyncConnection, moments: Iterable[int | None]) -> None:
        found = {moment // MINUTE_MS for moment in moments if moment is not None}
        stamp = secrets.randbits(_BITS)
        await self._upsert(connection, [{"minute": minute, "stamp": stamp} for minute in sorted(found)])
