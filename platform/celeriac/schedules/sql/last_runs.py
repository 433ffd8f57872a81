"""The last instances of many definitions at once, in short, from the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine

from celeriac.database.engine import reading
from celeriac.database.task_tables import tasks

#: SQLite joins at most 500 statements.
_AT_ONCE: Final = 100
_c: Final = tasks.c


@dataclass(frozen=True, slots=True)
class LastRun:
    """An instance in short; times are milliseconds since the epoch."""

    definition_id: str
    task_id: str
    status: str
    created_ms: int
    started_ms: int | None
    finished_ms: int | None


async def last_runs(engine: AsyncEngine, definition_ids: Sequence[str], count: int) -> dict[str, list[LastRun]]:
    """Return the last `count` instances of each definition, the newest first; those without any are left out."""
    found: dict[str, list[LastRun]] = {}
    async with reading(engine) as connection:
        for start in range(0, len(definition_ids), _AT_ONCE):
            ids = definition_ids[start : start + _AT_ONCE]
            # Each along the index by definition and creation, however many instances there are.
            branches = [select(_last(definition_id, count).subquery()) for definition_id in ids]
            for row in (await connection.execute(union_all(*branches))).all():
                run = LastRun(*row)
                found.setdefault(run.definition_id, []).append(run)
    for runs in found.values():
        runs.sort(key=lambda run: (run.created_ms, run.task_id), reverse=True)
    return found


def _last(definition_id: str, count: int) -> Select[tuple[str | None, str, str, int, int | None, int | None]]:
    return (
        select(_c.definition_id, _c.task_id, _c.status, _c.created_ms, _c.started_ms, _c.finished_ms)
        .where(_c.definition_id == definition_id)
        .order_by(_c.created_ms.desc(), _c.task_id.desc())
        .limit(count)
    )
