"""Indexes the words of tasks that were recorded without them: before an update, or with other settings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from celeriac.database.engine import RowRefusedError, writing
from celeriac.database.search_tables import state
from celeriac.database.task_tables import tasks
from celeriac.errors import HistoryUnavailableError
from celeriac.history.search import SearchWriter
from celeriac.settings import LedgerSettings
from celeriac.store.roles.role import Role

log = logging.getLogger(__name__)

#: Tasks that one transaction indexes, and the pause until the next one (seconds), in which recorders can write.
_BATCH: Final = 200
_BREATH_S: Final = 0.05
#: Pause when nothing is left to do (seconds); the state may be set back by `celeriac migrate --reindex`.
_INTERVAL_S: Final = 30.0
_c: Final = tasks.c


class SearchIndexer(Role):
    """Goes through all tasks, the oldest first, until all are indexed as the settings say. Any number may run.

    The state in the database says how far it is, so that another one goes on there. Searches use the index when all
    tasks are in it.
    """

    def __init__(self, *, engine: AsyncEngine, ledger: LedgerSettings) -> None:
        super().__init__()
        self._engine = engine
        self._writer = SearchWriter(engine, parts=ledger.search, most=ledger.search_chars)
        self._begun = False
        self._busy = asyncio.Lock()

    async def stop(self) -> None:
        """End the loop, after the batch that is being indexed. Idempotent."""
        async with self._busy:
            await super().stop()

    async def step(self) -> float:
        """Index one batch; returns the seconds until the next one."""
        try:
            async with self._busy, writing(self._engine) as connection:
                return await self._step(connection)
        except HistoryUnavailableError as exc:
            log.debug("the search cannot be indexed at the moment: %s", exc)
        except RowRefusedError as exc:
            # Another one has made the state at the same moment, or the database refuses the words of a task.
            log.warning("the search cannot be indexed: %s", exc)
        return _INTERVAL_S

    async def _step(self, connection: AsyncConnection) -> float:
        # The one that has the lock works; the others come again later.
        row = (await connection.execute(select(state).with_for_update(skip_locked=True))).mappings().first()
        wanted = self._writer.indexed if await self._writer.available(connection) else ""
        if row is None:
            if (await connection.execute(select(state.c.state_id))).first() is None:
                await connection.execute(insert(state).values(state_id=1, **_begin(wanted)))
                return 0
            return _INTERVAL_S
        if not self._begun and row["indexed"] != wanted:
            await connection.execute(update(state).values(**_begin(wanted)))
        self._begun = True
        if row["indexed"] != wanted or row["complete"] or not wanted:
            return 0 if row["indexed"] != wanted and wanted else _INTERVAL_S
        place = (_c.created_ms, _c.task_id)
        following = (
            select(*place)
            .where(tuple_(*place) > tuple_(row["created_ms"], row["task_id"]))
            .order_by(*place)
            .limit(_BATCH)
        )
        found = (await connection.execute(following)).all()
        if found:
            ids = sorted(one.task_id for one in found)
            # In the order in which recorders write.
            await connection.execute(
                select(_c.task_id).where(_c.task_id.in_(ids)).order_by(_c.task_id).with_for_update()
            )
            await self._writer.write_again(connection, ids)
            at = {"created_ms": found[-1].created_ms, "task_id": found[-1].task_id}
        else:
            at = {}
            log.info("the search finds the words of all tasks")
        await connection.execute(update(state).values(complete=not found, **at))
        return _BREATH_S if found else _INTERVAL_S


def _begin(indexed: str) -> dict[str, Any]:
    return {"indexed": indexed, "complete": False, "created_ms": -1, "task_id": ""}
