"""Firings in SQL: what beats do with them, each step in one transaction. Any number of beats may run.

This order survives a `kill -9` at any point: (1) one transaction claims a due definition, writes its firings and moves
the definition to its next slot; (2) the firings are submitted, under ids that derive from definition and slot; (3) they
are marked as submitted. If a beat dies in between, planned firings are left, and another beat submits them again; the
store recognises ids that it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from celeriac.database.engine import reading, writing
from celeriac.database.schedule_tables import changes, definitions, firings
from celeriac.database.task_tables import tasks
from celeriac.history.rows import clean
from celeriac.model import Status
from celeriac.schedules.definition import SKIPPED, Decision, Definition, Firing, FiringState, InstanceEnd, Open
from celeriac.schedules.sql.definitions import DefinitionTable, open_counts
from celeriac.schedules.sql.rows import UNREADABLE, firing_of, readable

log = logging.getLogger(__name__)

_d: Final = definitions.c
_f: Final = firings.c
_PLANNED, _OPEN = FiringState.PLANNED.value, FiringState.OPEN.value
_BUFFERED, _ENDED = FiringState.BUFFERED.value, FiringState.ENDED.value
_FINAL: Final = [status.stored for status in Status if status.final]

#: A firing with its definition.
Planned = tuple[Definition, Firing]


@dataclass(frozen=True, slots=True)
class DueWork:
    """When the next definition is due, and which kinds of firings wait for a beat."""

    next_ms: int | None
    #: Some were planned and not submitted for too long.
    orphans: bool
    #: Some are open and should be cancelled.
    cancels: bool
    #: Some wait for an earlier instance.
    buffered: bool
    #: Some were submitted and may have ended.
    opened: bool


class FiringTable:
    """The transactions of beats. All calls raise `HistoryUnavailableError`."""

    def __init__(self, table: DefinitionTable) -> None:
        self._table = table
        self._engine = table.engine

    async def due_work(self, now_ms: int, *, older_ms: int) -> DueWork:
        """Return whether there is anything to do; it costs a few index lookups for any number of definitions."""
        planned = exists().where(_f.state == _PLANNED, _f.taken_ms <= now_ms - older_ms)
        statement = select(
            select(func.min(_d.next_ms)).where(_d.next_ms.is_not(None)).scalar_subquery(),
            planned,
            exists().where(_f.cancel_ms.is_not(None), _f.state == _OPEN),
            exists().where(_f.state == _BUFFERED),
            exists().where(_f.state == _OPEN),
        )
        async with reading(self._engine) as connection:
            next_ms, orphans, cancels, buffered, opened = (await connection.execute(statement)).one()
        return DueWork(next_ms, bool(orphans), bool(cancels), bool(buffered), bool(opened))

    async def claim(
        self, now_ms: int, limit: int, decide: Callable[[Definition, Open], Decision]
    ) -> tuple[list[Planned], int]:
        """Claim up to `limit` due definitions: write their firings, and move them to their next slots.

        Returns the firings to submit now, and how many definitions were claimed. Definitions that another beat holds
        are skipped.
        """
        due = (
            select(definitions)
            .where(_d.next_ms <= now_ms)
            .order_by(_d.next_ms)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with writing(self._engine) as connection:
            rows = (await connection.execute(due)).mappings().all()
            found = list(readable(rows))
            counts = await open_counts(connection, [d.definition_id for d in found])
            # In a thread: what a definition's author wrote decides how long this takes.
            decisions = await asyncio.to_thread(lambda: list(_decided(found, counts, decide)))
            await self._table.write(connection, decisions)
            # One that cannot be read or decided about would be due for ever.
            stuck = {row["definition_id"] for row in rows} - {d.after.definition_id for d in decisions}
            if stuck:
                await connection.execute(update(definitions).where(_d.definition_id.in_(stuck)).values(next_ms=None))
        return [(d.after, f) for d in decisions for f in d.firings if f.state is FiringState.PLANNED], len(rows)

    async def take_over(self, now_ms: int, *, older_ms: int, limit: int) -> list[Planned]:
        """Take over firings that a beat planned and did not submit: it died, or the store refused them."""
        waiting = (
            select(firings)
            .where(_f.state == _PLANNED, _f.taken_ms <= now_ms - older_ms)
            .order_by(_f.taken_ms)
            .limit(limit)
        )
        async with writing(self._engine) as connection:
            rows = (await connection.execute(waiting.with_for_update(skip_locked=True))).mappings().all()
            ids = [row["task_id"] for row in rows]
            if not ids:
                return []
            await connection.execute(update(firings).where(_f.task_id.in_(ids)).values(taken_ms=now_ms))
            # A firing that history has was submitted, only not marked.
            known = set(
                (await connection.execute(select(tasks.c.task_id).where(tasks.c.task_id.in_(ids)))).scalars().all()
            )
            if known:
                await connection.execute(update(firings).where(_f.task_id.in_(known)).values(state=_OPEN))
            return await _with_definitions(connection, [firing_of(r) for r in rows if r["task_id"] not in known])

    async def known(self, task_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that firings have."""
        async with reading(self._engine) as connection:
            return set((await connection.execute(select(_f.task_id).where(_f.task_id.in_(task_ids)))).scalars())

    async def submitted(self, task_ids: Sequence[str]) -> None:
        """Mark planned firings as submitted."""
        if task_ids:
            async with writing(self._engine) as connection:
                await connection.execute(
                    update(firings).where(_f.task_id.in_(task_ids), _f.state == _PLANNED).values(state=_OPEN)
                )

    # --- following instances to their ends

    async def open_ids(self, after: str, limit: int) -> list[str]:
        """Return up to `limit` ids of open firings after the id `after`, in order."""
        statement = select(_f.task_id).where(_f.state == _OPEN, _f.task_id > after).order_by(_f.task_id).limit(limit)
        async with reading(self._engine) as connection:
            return list((await connection.execute(statement)).scalars())

    async def awaited_ids(self, due_ms: int, limit: int) -> list[str]:
        """Return the ids of open firings whose ends are needed soon.

        These are the firings of definitions that have a buffered firing, or that are due until `due_ms`.
        """
        buffered = select(_f.definition_id).where(_f.state == _BUFFERED).distinct()
        due = select(_d.definition_id).where(_d.next_ms <= due_ms)
        statement = (
            select(_f.task_id)
            .where(_f.state == _OPEN, or_(_f.definition_id.in_(buffered), _f.definition_id.in_(due)))
            .limit(limit)
        )
        async with reading(self._engine) as connection:
            return list((await connection.execute(statement)).scalars())

    async def to_cancel(self, limit: int) -> list[str]:
        """Return the ids of open firings that should be cancelled."""
        statement = select(_f.task_id).where(_f.cancel_ms.is_not(None), _f.state == _OPEN).limit(limit)
        async with reading(self._engine) as connection:
            return list((await connection.execute(statement)).scalars())

    async def recorded_ends(self, task_ids: Sequence[str]) -> dict[str, InstanceEnd | None]:
        """Return the ends of tasks according to history; None for a task that has not ended there."""
        c = tasks.c
        statement = select(c.task_id, c.status, c.finished_ms, c.updated_ms, c.error_message).where(
            c.task_id.in_(task_ids)
        )
        async with reading(self._engine) as connection:
            rows = (await connection.execute(statement)).all()
        return {
            row.task_id: InstanceEnd(row.status, row.finished_ms or row.updated_ms, row.error_message)
            if row.status in _FINAL
            else None
            for row in rows
        }

    async def planned_before(self, task_ids: Sequence[str], ms: int) -> list[str]:
        """Return those of the firings that were planned before a moment."""
        statement = select(_f.task_id).where(_f.task_id.in_(task_ids), _f.planned_ms < ms)
        async with reading(self._engine) as connection:
            return list((await connection.execute(statement)).scalars())

    async def settle(
        self,
        outcomes: Mapping[str, InstanceEnd],
        decide: Callable[[Definition, list[tuple[Firing, InstanceEnd]], Open], Decision],
    ) -> None:
        """Count the ends of firings, each once, even if several beats and readers see it."""
        ids = list(outcomes)
        async with writing(self._engine) as connection:
            rows = await connection.execute(select(_f.definition_id).where(_f.task_id.in_(ids), _f.state != _ENDED))
            names = sorted(set(rows.scalars()))
            if not names:
                return
            held = await _hold(connection, names)
            statement = (
                update(firings)
                .where(_f.task_id.in_(ids), _f.state != _ENDED, _f.definition_id.in_([d.definition_id for d in held]))
                .values(state=_ENDED)
                .returning(firings)
            )
            ended: dict[str, list[tuple[Firing, InstanceEnd]]] = {}
            for row in (await connection.execute(statement)).mappings().all():
                firing = firing_of(row)
                ended.setdefault(firing.definition_id, []).append((firing, outcomes[firing.task_id]))
            counts = await open_counts(connection, ended)
            decisions = [
                decide(d, ended[d.definition_id], counts.get(d.definition_id, Open()))
                for d in held
                if d.definition_id in ended
            ]
            await self._table.write(connection, decisions)
            skipped = [f.task_id for found in ended.values() for f, o in found if o.status == SKIPPED]
            if skipped:
                await connection.execute(delete(firings).where(_f.task_id.in_(skipped)))
            errors = {f.task_id: o.error for found in ended.values() for f, o in found if o.status == "MISSED"}
            for task_id, error in errors.items():
                await connection.execute(
                    update(firings).where(_f.task_id == task_id).values(error=clean(error or "missed"))
                )

    async def release(self, now_ms: int, limit: int, allowed: Callable[[Definition], bool]) -> list[Planned]:
        """Release the first buffered firing of each definition whose instances have all ended; returns them."""
        other = firings.alias()
        busy = exists().where(other.c.definition_id == _f.definition_id, other.c.state.in_([_PLANNED, _OPEN]))
        free = select(_f.definition_id).where(_f.state == _BUFFERED, ~busy).distinct().limit(limit)
        async with reading(self._engine) as connection:
            names = sorted((await connection.execute(free)).scalars())
        if not names:
            return []
        released: list[Planned] = []
        async with writing(self._engine) as connection:
            held = {d.definition_id: d for d in await _hold(connection, names) if allowed(d)}
            counts = await open_counts(connection, held)
            ready = [name for name in held if (count := counts.get(name)) and not count.running and count.buffered]
            rows = await connection.execute(
                select(firings)
                .where(_f.definition_id.in_(ready), _f.state == _BUFFERED)
                .order_by(_f.definition_id, _f.slot_ms, _f.planned_ms, _f.task_id)
            )
            seen: set[str] = set()
            for row in rows.mappings().all():
                if row["definition_id"] not in seen:
                    seen.add(row["definition_id"])
                    released.append((held[row["definition_id"]], firing_of(row)))
            if released:
                await connection.execute(
                    update(firings)
                    .where(_f.task_id.in_([firing.task_id for _, firing in released]))
                    .values(state=_PLANNED, taken_ms=now_ms, planned_ms=now_ms)
                )
        return released

    # --- keeping house

    async def prune(self, now_ms: int, *, keep_ms: int, limit: int) -> int:
        """Delete rows that are no longer needed; returns how many.

        These are ended firings that history has, definitions that ended `keep_ms` ago, and audit entries of that age.
        """
        recorded = exists().where(tasks.c.task_id == _f.task_id, tasks.c.finished_ms.is_not(None))
        ended = (
            select(_f.task_id).where(_f.state == _ENDED, or_(recorded, _f.planned_ms < now_ms - keep_ms)).limit(limit)
        )
        old = (
            select(_d.definition_id)
            .where(_d.ended_ms < now_ms - keep_ms)
            .where(~exists().where(_f.definition_id == _d.definition_id, _f.state != _ENDED))
            .limit(limit)
        )
        trail = select(changes.c.change_id).where(changes.c.at_ms < now_ms - keep_ms).limit(limit)
        gone = 0
        for table, key, ids in (
            (firings, _f.task_id, ended),
            (definitions, _d.definition_id, old),
            (changes, changes.c.change_id, trail),
        ):
            async with reading(self._engine) as connection:
                found: list[Any] = list((await connection.execute(ids)).scalars())
            if found:
                async with writing(self._engine) as connection:
                    await connection.execute(delete(table).where(key.in_(found)))
                gone += len(found)
        return gone


async def _hold(connection: AsyncConnection, names: Sequence[str]) -> list[Definition]:
    """Lock definitions, always in the same order; those that another process holds are skipped until the next time."""
    rows = await connection.execute(
        select(definitions)
        .where(_d.definition_id.in_(names))
        .order_by(_d.definition_id)
        .with_for_update(skip_locked=True)
    )
    return list(readable(rows.mappings()))


def _decided(
    found: Iterable[Definition], counts: Mapping[str, Open], decide: Callable[[Definition, Open], Decision]
) -> Iterator[Decision]:
    for definition in found:
        try:
            yield decide(definition, counts.get(definition.definition_id, Open()))
        except UNREADABLE as exc:
            log.error("the definition %s does not fire, its trigger cannot be read: %s", definition.definition_id, exc)


async def _with_definitions(connection: AsyncConnection, found: Sequence[Firing]) -> list[Planned]:
    names = {firing.definition_id for firing in found}
    rows = await connection.execute(select(definitions).where(_d.definition_id.in_(names)))
    by_id = {definition.definition_id: definition for definition in readable(rows.mappings())}
    return [(by_id[f.definition_id], f) for f in found if f.definition_id in by_id]
