"""Deletes tasks from the history when their retention is over, a bounded number at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, func, literal, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from celeriac.database.engine import reading, writing
from celeriac.database.minute_table import MINUTE_MS, minutes
from celeriac.database.task_tables import events, tags, tasks
from celeriac.errors import HistoryUnavailableError
from celeriac.history.minute_stamps import MinuteStamps
from celeriac.history.search import Words
from celeriac.history.workflows import delete_workflows, over
from celeriac.model import Status
from celeriac.settings import Retentions
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms

log = logging.getLogger(__name__)

#: Most tasks that one transaction deletes.
_BATCH: Final = 500
#: Pause after all tasks have been checked (seconds).
_INTERVAL_S: Final = 60.0
#: Pause between two batches, in which recorders can write (seconds).
_BREATH_S: Final = 0.05
#: Pause between two updates of the statistics from which SQLite chooses its indexes (seconds).
_OPTIMIZE_S: Final = 3600.0

_OPEN: Final = [status.stored for status in Status if not status.final]
_c: Final = tasks.c


class Pruner(Role):
    """Deletes the tasks of each type after the retention of the type. Any number may run.

    A task that never ended is deleted at this age too, if the store no longer has it.
    """

    def __init__(self, *, engine: AsyncEngine, store: TaskStore, retentions: Retentions) -> None:
        super().__init__()
        self._engine = engine
        self._store = store
        self._retentions = retentions
        self._words = Words.of(engine)
        self._stamps = MinuteStamps(engine)
        self._optimized_at = float("-inf")
        #: Where the next look at open tasks begins: (created_ms, task_id).
        self._open_from: tuple[int, str] = (-1, "")

    async def step(self) -> float:
        """Delete up to one batch of one type; returns the seconds until the next look."""
        try:
            # The clock that wrote the records. This machine's may be years ahead of it.
            now_ms = await server_ms(self._store)
            for task_type in await self._types():
                if deleted := await self._prune(task_type, now_ms):
                    log.info("history: deleted %d tasks of type %s whose retention is over", deleted, task_type)
                    return _BREATH_S
            if await self._prune_workflows(now_ms):
                return _BREATH_S
            if await self._prune_lost(now_ms):
                return _BREATH_S
            await self._optimize()
        except HistoryUnavailableError as exc:
            log.debug("history cannot be pruned at the moment: %s", exc)
        return _INTERVAL_S

    async def _types(self) -> list[str]:
        """Return the types that have tasks; each is found by one step along the index."""
        found: list[str] = []
        async with reading(self._engine) as connection:
            while True:
                following = select(func.min(_c.type)).where(_c.finished_ms.is_not(None))
                if found:
                    following = following.where(_c.type > found[-1])
                name = (await connection.execute(following)).scalar()
                if name is None:
                    return found
                found.append(name)

    async def _prune(self, task_type: str, now_ms: int) -> int:
        before_ms = now_ms - round(self._retentions.history_of(task_type) * 1000)
        over = (
            select(_c.task_id)
            .where(_c.type == task_type, _c.finished_ms.is_not(None), _c.finished_ms < before_ms)
            .order_by(_c.finished_ms, _c.task_id)
            .limit(_BATCH)
        )
        async with reading(self._engine) as connection:
            # Check without the write lock first: nearly always there is nothing to do.
            if (await connection.execute(over.limit(1))).first() is None:
                return 0
        async with writing(self._engine) as connection:
            ids = (await connection.execute(over.with_for_update(skip_locked=True))).scalars().all()
            await self._delete(connection, ids)
        return len(ids)

    async def _prune_workflows(self, now_ms: int) -> bool:
        """Delete one batch of workflows whose retention is over; returns whether there were any."""
        before_ms = now_ms - round(self._retentions.history_s * 1000)
        async with reading(self._engine) as connection:
            # Check without the write lock first: nearly always there is nothing to do.
            if not await over(connection, before_ms, 1):
                return False
        async with writing(self._engine) as connection:
            await delete_workflows(connection, await over(connection, before_ms, _BATCH))
        return True

    async def _prune_lost(self, now_ms: int) -> bool:
        """Look at one batch of open tasks that are older than any retention; returns whether there are more."""
        before_ms = now_ms - round(self._retentions.history_s * 1000)
        place = (_c.created_ms, _c.task_id)
        old = (
            select(*place)
            .where(_c.status.in_(_OPEN), _c.updated_ms < before_ms, tuple_(*place) > tuple_(*self._open_from))
            .where(_c.created_ms < before_ms)
            .order_by(*place)
            .limit(_BATCH)
        )
        async with reading(self._engine) as connection:
            rows = (await connection.execute(old)).all()
        known = await self._store.known([row.task_id for row in rows])
        lost = [row.task_id for row, is_known in zip(rows, known, strict=True) if not is_known]
        if lost:
            log.warning("history: deleted %d tasks that never ended and that the store no longer has", len(lost))
            async with writing(self._engine) as connection:
                await self._delete(connection, lost)
        more = len(rows) == _BATCH
        self._open_from = (rows[-1].created_ms, rows[-1].task_id) if more else (-1, "")
        return more

    async def _optimize(self) -> None:
        if self._engine.dialect.name == "sqlite" and time.monotonic() - self._optimized_at > _OPTIMIZE_S:
            async with writing(self._engine) as connection:
                await connection.execute(text("PRAGMA analysis_limit = 1000"))
                await connection.execute(text("PRAGMA optimize"))
                # A minute without a stamp is counted again, so this is safe whatever is written later.
                first = select(func.min(_c.created_ms)).scalar_subquery()
                await connection.execute(delete(minutes).where(minutes.c.minute < first // literal(MINUTE_MS)))
            self._optimized_at = time.monotonic()

    async def _delete(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        await self._stamps.deleted(connection, await self._stamps.moments(connection, ids))
        for table in (events, tags, tasks):
            await connection.execute(delete(table).where(table.c.task_id.in_(ids)))
        if await self._words.available(connection):
            await self._words.forget(connection, ids)
