"""Groups failures that were recorded without a group, and forgets groups without failures, a few at once."""

from __future__ import annotations

import logging
from typing import Any, Final

from sqlalchemy import bindparam, delete, exists, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.engine import reading, writing
from celeriac.database.task_tables import error_groups, tasks
from celeriac.errors import HistoryUnavailableError
from celeriac.history.error_groups import error_group_of
from celeriac.history.writing import error_insert, error_rows
from celeriac.store.roles.role import Role

log = logging.getLogger(__name__)

#: Most rows that one transaction changes.
_BATCH: Final = 500
#: Pause after everything has been looked at (seconds).
_INTERVAL_S: Final = 60.0
#: Pause between two batches, in which recorders can write (seconds).
_BREATH_S: Final = 0.05

_c: Final = tasks.c
#: As the index says it, so that the database uses the index.
_UNGROUPED: Final = text("error_group IS NULL AND status = 'FAILED'")


class ErrorGrouper(Role):
    """Gives failures without a group theirs. Any number may run.

    Such failures are those that a version without groups recorded, and those of tasks whose record was gone.
    """

    def __init__(self, *, engine: AsyncEngine) -> None:
        super().__init__()
        self._engine = engine
        self._insert_error = (bulk := BulkInsert.of(engine)).compile(error_insert(bulk))
        #: Where the next look at groups begins.
        self._after = ""

    async def step(self) -> float:
        """Group, or forget, one batch; returns the seconds until the next look."""
        try:
            if grouped := await self._group():
                log.info("history: grouped %d failures that had no group of errors", grouped)
                return _BREATH_S
            if await self._forget():
                return _BREATH_S
        except HistoryUnavailableError as exc:
            log.debug("failures cannot be grouped at the moment: %s", exc)
        return _INTERVAL_S

    async def _group(self) -> int:
        """Group one batch of failures, the latest first; returns how many there were."""
        columns = (_c.task_id, _c.rev, _c.type, _c.error_code, _c.error_message, _c.finished_ms, _c.updated_ms)
        wanted = select(*columns).where(_UNGROUPED).order_by(_c.finished_ms.desc(), _c.task_id).limit(_BATCH)
        async with reading(self._engine) as connection:
            found = (await connection.execute(wanted)).mappings().all()
        if not found:
            return 0
        rows = sorted((_grouped(row) for row in found), key=lambda row: str(row["task_id"]))
        # A row that changed meanwhile was written with its group, if it has one.
        place = (_c.task_id == bindparam("the_id"), _c.rev == bindparam("the_rev"))
        change = update(tasks).where(*place).values(error_group=bindparam("the_group"), failed_ms=bindparam("the_time"))
        async with writing(self._engine) as connection:
            await connection.execute(
                change,
                [
                    {
                        "the_id": row["task_id"],
                        "the_rev": row["rev"],
                        "the_group": row["error_group"],
                        "the_time": row["failed_ms"],
                    }
                    for row in rows
                ],
            )
            await self._insert_error(connection, error_rows(rows))
        return len(rows)

    async def _forget(self) -> bool:
        """Look at one batch of groups and delete those whose tasks are gone; returns whether there are more."""
        group = error_groups.c.error_group
        wanted = select(group).where(group > self._after).order_by(group).limit(_BATCH)
        async with reading(self._engine) as connection:
            names = (await connection.execute(wanted)).scalars().all()
            used = select(group).where(group.in_(names), exists().where(_c.error_group == group))
            gone = sorted(set(names) - set((await connection.execute(used)).scalars()))
        if gone:
            # Looked at once more in the transaction: a failure may have been recorded meanwhile.
            unused = delete(error_groups).where(group.in_(gone), ~exists().where(_c.error_group == group))
            async with writing(self._engine) as connection:
                await connection.execute(unused)
        more = len(names) == _BATCH
        self._after = names[-1] if more else ""
        return more


def _grouped(row: Any) -> dict[str, Any]:
    group = error_group_of(row["type"], row["error_code"], row["error_message"])
    return {**row, "error_group": group, "failed_ms": row["finished_ms"] or row["updated_ms"]}
