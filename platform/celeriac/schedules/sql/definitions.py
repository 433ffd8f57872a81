"""Definitions in SQL: reading them, and changing one of them in its own transaction.

A process that changes a definition or plans its firings holds the row (`FOR UPDATE`, or SQLite's only write lock). So
each decision is made from the present state, and written in the same transaction or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Select, bindparam, delete, exists, func, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.cursor import Cursor
from celeriac.database.engine import reading, writing
from celeriac.database.page_bytes import PAGE_BYTES, fitting
from celeriac.database.schedule_tables import changes, definitions, firings
from celeriac.database.task_tables import tasks
from celeriac.errors import DefinitionNotFoundError
from celeriac.schedules.definition import (
    Decision,
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Firing,
    FiringState,
    Open,
)
from celeriac.schedules.sql.rows import (
    change_of,
    change_row,
    definition_of,
    definition_row,
    firing_of,
    firing_row,
    readable,
)
from celeriac.task_filter import Sort

_d: Final = definitions.c
_f: Final = firings.c

#: Most open instances that are read for the definitions of one page.
_MOST_OPEN: Final = 5000
#: Most instances of a definition that a list adds because history does not have them yet.
_MOST_UNRECORDED: Final = 1000


@dataclass(frozen=True, slots=True)
class DefinitionPage:
    """Some definitions of a list, the newest first; `next_cursor` is None on the last page."""

    definitions: list[Definition]
    next_cursor: str | None
    #: Whether it has fewer than were asked for because they are long.
    cut: bool = False


def cursor_after(definition: Definition) -> str:
    """Return the cursor of the page that begins after a definition."""
    return Cursor(Sort.CREATED_DOWN, definition.created_ms, definition.definition_id).encoded()


class DefinitionTable:
    """Reads and changes definitions. All calls raise `HistoryUnavailableError`."""

    def __init__(self, engine: AsyncEngine, *, page_bytes: int = PAGE_BYTES) -> None:
        self.engine = engine
        self._page_bytes = page_bytes
        bulk = BulkInsert.of(engine)
        self._insert_firings = bulk.compile(bulk.insert(firings).on_conflict_do_nothing())
        self._insert_new = bulk.insert(definitions).on_conflict_do_nothing().returning(_d.definition_id)

    # --- reading

    async def get(self, definition_id: str) -> Definition:
        """Return one definition; raises `DefinitionNotFoundError`."""
        async with reading(self.engine) as connection:
            return await _one(connection, _plain(definition_id))

    async def find(
        self,
        *,
        user_id: str | None = None,
        statuses: Sequence[DefinitionStatus] = (),
        group: str | None = None,
        trigger_type: str | None = None,
        source: str | None = None,
        id_prefix: str | None = None,
        unended: bool = False,
        limit: int,
        cursor: str | None = None,
    ) -> DefinitionPage:
        """Return a page of definitions, the newest first; `unended` leaves out active ones without open instances.

        Raises `BadCursorError`.
        """
        statement = select(_d.definition_id, _d.created_ms, func.length(_d.spec))
        for column, value in (
            (_d.user_id, user_id),
            (_d.queue, group),
            (_d.trigger_type, trigger_type),
            (_d.source, source),
        ):
            if value is not None:
                statement = statement.where(column == _plain(value))
        if id_prefix is not None:
            first = _plain(id_prefix)
            statement = statement.where(_d.definition_id >= first, _d.definition_id < first + "\U0010ffff")
        if statuses:
            statement = statement.where(_d.status.in_([status.value for status in statuses]))
        if unended:
            opened = exists().where(_f.definition_id == _d.definition_id, _f.state == FiringState.OPEN.value)
            statement = statement.where(or_(_d.status != DefinitionStatus.ACTIVE.value, opened))
        if cursor is not None:
            after = Cursor.decode(cursor, Sort.CREATED_DOWN)
            behind = tuple_(literal(after.at_ms), literal(after.task_id))
            statement = statement.where(tuple_(_d.created_ms, _d.definition_id) < behind)
        statement = statement.order_by(_d.created_ms.desc(), _d.definition_id.desc()).limit(limit + 1)
        async with reading(self.engine) as connection:
            # First how long they are: a few of them may be as long as a page can be.
            sizes = (await connection.execute(statement)).all()
            fit = fitting((size for _, _, size in sizes[:limit]), self._page_bytes)
            chosen = select(definitions).where(
                _d.definition_id.in_([definition_id for definition_id, *_ in sizes[:fit]])
            )
            chosen = chosen.order_by(_d.created_ms.desc(), _d.definition_id.desc())
            rows = (await connection.execute(chosen)).mappings().all()
        return DefinitionPage(list(readable(rows)), _cursor_after(sizes, fit), cut=fit < min(len(sizes), limit))

    async def open_firings(self, definition_ids: Sequence[str]) -> list[Firing]:
        """Return the planned, buffered and open firings of these definitions."""
        states = [FiringState.PLANNED.value, FiringState.BUFFERED.value, FiringState.OPEN.value]
        statement = select(firings).where(_f.definition_id.in_(definition_ids), _f.state.in_(states)).limit(_MOST_OPEN)
        async with reading(self.engine) as connection:
            return [firing_of(row) for row in (await connection.execute(statement)).mappings()]

    async def unrecorded(self, definition_id: str) -> list[Firing]:
        """Return the submitted firings that history does not have yet, the newest first."""
        known = exists().where(tasks.c.task_id == _f.task_id)
        states = [FiringState.OPEN.value, FiringState.ENDED.value]
        statement = (
            select(firings)
            .where(_f.definition_id == _plain(definition_id), _f.state.in_(states), ~known)
            .order_by(_f.planned_ms.desc())
            .limit(_MOST_UNRECORDED)
        )
        async with reading(self.engine) as connection:
            return [firing_of(row) for row in (await connection.execute(statement)).mappings()]

    async def changes(
        self, definition_id: str, *, limit: int, cursor: str | None = None
    ) -> tuple[list[DefinitionChange], Any]:
        """Return a page of the audit trail, the newest first, and the next page's cursor."""
        place = (changes.c.at_ms, changes.c.change_id)
        statement = select(changes.c.change_id, changes.c.at_ms, func.length(changes.c.changed))
        statement = statement.where(changes.c.definition_id == _plain(definition_id))
        if cursor is not None:
            after = Cursor.decode(cursor, Sort.CREATED_DOWN)
            statement = statement.where(tuple_(*place) < tuple_(literal(after.at_ms), literal(after.task_id)))
        statement = statement.order_by(place[0].desc(), place[1].desc()).limit(limit + 1)
        async with reading(self.engine) as connection:
            sizes = (await connection.execute(statement)).all()
            fit = fitting((size for _, _, size in sizes[:limit]), self._page_bytes)
            ids = [change_id for change_id, *_ in sizes[:fit]]
            chosen = select(changes).where(changes.c.change_id.in_(ids)).order_by(place[0].desc(), place[1].desc())
            rows = (await connection.execute(chosen)).mappings().all()
        return [change_of(row) for row in rows], _cursor_after(sizes, fit)

    async def all_from(self, source: str) -> list[Definition]:
        """Return all definitions of a source outside the API; there are few of them."""
        async with reading(self.engine) as connection:
            rows = await connection.execute(select(definitions).where(_d.source == source))
            return list(readable(rows.mappings()))

    # --- changing

    async def insert(self, decision: Decision) -> bool:
        """Store a new definition with its first firings; returns False if its id is taken."""
        async with writing(self.engine) as connection:
            # In one statement: another process may store the same definition at this moment.
            inserted = await connection.execute(self._insert_new.values(definition_row(decision.after)))
            if inserted.first() is None:
                return False
            await self.write_rest(connection, [decision])
            return True

    async def change(self, definition_id: str, decide: Callable[[Definition, Open], Decision | None]) -> Definition:
        """Call `decide` in a thread with a definition, and write its decision; returns the definition after it.

        If `decide` raises, nothing is written. Raises `DefinitionNotFoundError`.
        """
        async with writing(self.engine) as connection:
            definition = await _one(connection, _plain(definition_id), lock=True)
            counts = await open_counts(connection, [definition.definition_id])
            decision = await asyncio.to_thread(decide, definition, counts.get(definition.definition_id, Open()))
            if decision is None:
                return definition
            await self.write(connection, [decision])
            return decision.after

    async def write(self, connection: AsyncConnection, decisions: Sequence[Decision]) -> None:
        """Write decisions about definitions that the transaction has locked."""
        rows = [{f"v_{k}": v for k, v in definition_row(decision.after).items()} for decision in decisions]
        if rows:
            await connection.execute(_UPDATE, rows)
        await self.write_rest(connection, decisions)

    async def write_rest(self, connection: AsyncConnection, decisions: Sequence[Decision]) -> None:
        """Write the parts of decisions that are not in the definitions' rows."""
        for decision in decisions:
            mine = _f.definition_id == decision.after.definition_id
            if decision.drop_buffered:
                await connection.execute(delete(firings).where(mine, _f.state == FiringState.BUFFERED.value))
            if decision.cancel_open:
                await connection.execute(
                    update(firings)
                    .where(mine, _f.state.in_([FiringState.PLANNED.value, FiringState.OPEN.value]))
                    .where(_f.cancel_ms.is_(None))
                    .values(cancel_ms=decision.after.updated_ms)
                )
        await self._insert_firings(connection, [firing_row(f) for decision in decisions for f in decision.firings])
        trail = [change_row(d.after.definition_id, d.change) for d in decisions if d.change is not None]
        if trail:
            await connection.execute(changes.insert(), trail)


_UPDATE: Final = (
    update(definitions)
    .where(_d.definition_id == bindparam("v_definition_id"))
    .values({c.name: bindparam(f"v_{c.name}") for c in definitions.c if c.name != "definition_id"})
)


async def _one(connection: AsyncConnection, definition_id: str, *, lock: bool = False) -> Definition:
    statement: Select[Any] = select(definitions).where(_d.definition_id == definition_id)
    if lock:
        statement = statement.with_for_update()
    row = (await connection.execute(statement)).mappings().first()
    if row is None:
        raise DefinitionNotFoundError(definition_id)
    return definition_of(row)


def _cursor_after(sizes: Sequence[Any], fit: int) -> str | None:
    """Return the cursor of the next page if only the first `fit` rows (id, moment, size) are on this one."""
    if len(sizes) <= fit:
        return None
    last_id, last_ms, _ = sizes[fit - 1]
    return Cursor(Sort.CREATED_DOWN, last_ms, last_id).encoded()


async def open_counts(connection: AsyncConnection, definition_ids: Iterable[str]) -> dict[str, Open]:
    """Return the numbers of firings that have not ended, by definition, for definitions that have any."""
    ids = list(definition_ids)
    if not ids:
        return {}
    states = [FiringState.PLANNED.value, FiringState.BUFFERED.value, FiringState.OPEN.value]
    rows = await connection.execute(
        select(_f.definition_id, _f.state, _f.trigger, func.count())
        .where(_f.definition_id.in_(ids), _f.state.in_(states))
        .group_by(_f.definition_id, _f.state, _f.trigger)
    )
    found: dict[str, Open] = {}
    for definition_id, state, trigger, count in rows:
        known = found.get(definition_id, Open())
        if state != FiringState.BUFFERED.value:
            found[definition_id] = replace(known, running=known.running + count)
        else:
            backfills = count if trigger == "backfill" else 0
            buffered = known.buffered + count
            found[definition_id] = replace(known, buffered=buffered, backfills=known.backfills + backfills)
    return found


def _plain(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
