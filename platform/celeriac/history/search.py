"""Full-text search: writes the words of tasks, beside their rows, and finds tasks by words.

The words come from `task_query.tokens_of`, so the two kinds of databases only compare them. A search first looks how
many tasks have the words. The few that have rare words are selected by their ids. For words that many tasks have, the
list is read along its own index, and each task is looked at; a page is soon full then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import cast, column, delete, func, literal, literal_column, select, table, text
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.elements import ColumnElement

from celeriac.database import search_tables
from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.task_tables import events, tasks
from celeriac.history.search_words import fields_of, message_of, words_of
from celeriac.model import Status
from celeriac.store.watching.feed import LOG
from celeriac.task_query import Phrase, Query

#: With more tasks than this, words are not rare.
FEW: Final = 1000
#: Events of one task whose messages are read, and tasks whose events are in memory at once.
_EVENTS: Final = 500
_TASKS_AT_ONCE: Final = 20
_FINAL: Final = frozenset(status.stored for status in Status if status.final)
#: A task that was accepted, started once and ended has so many revisions. Its row has all that its events say.
_USUAL_REVS: Final = 3
#: Results without a word.
_WORDLESS: Final = (None, "null", "true", "false", "{}", "[]", '""')
_c: Final = tasks.c
#: SQLite's table of words.
_FTS: Final = table("celeriac_search", column("rowid"))
#: The columns that `words_of` reads.
_READ: Final = (
    *("task_id", "type", "key", "tags", "error_code", "error_message", "stage", "progress_message", "progress_ms"),
    *("extra", "metadata", "payload", "result"),
)


class Words(ABC):
    """The words of tasks in one kind of database."""

    @staticmethod
    def of(engine: AsyncEngine) -> Words:
        """Return the implementation for this engine's database."""
        return _PostgreSQL(engine) if engine.dialect.name == "postgresql" else _SQLite()

    @abstractmethod
    async def available(self, connection: AsyncConnection) -> bool:
        """Return whether the database can search."""

    @abstractmethod
    async def known(self, connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
        """Return which of the tasks have words; the values are for `write`."""

    @abstractmethod
    async def write(
        self, connection: AsyncConnection, words: Mapping[str, list[str]], known: Mapping[str, int]
    ) -> None:
        """Write the words of tasks, in the order of their ids, in place of those that they had."""

    @abstractmethod
    async def forget(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        """Delete the words of tasks."""

    @abstractmethod
    async def matching(self, connection: AsyncConnection, expression: str, limit: int) -> Sequence[str]:
        """Return the ids of up to `limit` tasks that an expression finds."""

    @abstractmethod
    def condition(self, expression: str) -> ColumnElement[bool]:
        """Return the condition on a row of `tasks` that an expression finds its task, without looking for others."""

    @abstractmethod
    def expression(self, wanted: Sequence[Phrase], without: Sequence[Phrase]) -> str:
        """Return what finds all `wanted` phrases, at least one, and none of the others, in the database's language."""

    async def found(self, connection: AsyncConnection, query: Query) -> ColumnElement[bool] | None:
        """Return the condition that a task has the words of a query.

        None if the query has none, or if the index is not complete.
        """
        wanted = [term.phrase for term in query.of("")]
        without = [term.phrase for term in query.of("", negated=True)]
        if not wanted and not without:
            return None
        complete = (await connection.execute(select(search_tables.state.c.complete))).scalar()
        if not complete:
            return None
        if not wanted:
            return ~self._any_of(without)
        expression = self.expression(wanted, without)
        ids = await self.matching(connection, expression, FEW + 1)
        return _c.task_id.in_(ids) if len(ids) <= FEW else self.condition(expression)

    def _any_of(self, phrases: Sequence[Phrase]) -> ColumnElement[bool]:
        first, *others = (self.condition(self.expression([phrase], [])) for phrase in phrases)
        for other in others:
            first = first | other
        return first


class _SQLite(Words):
    """FTS5. Its rows have numbers only; a table beside it has the number of each task."""

    async def available(self, connection: AsyncConnection) -> bool:
        try:
            await connection.execute(text("SELECT rowid FROM celeriac_search LIMIT 1"))
        except OperationalError as exc:
            # The table is missing if FTS5 was, when the tables were made.
            if "no such module" in str(exc) or "no such table: celeriac_search" in str(exc):
                return False
            raise
        return True

    async def known(self, connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
        c = search_tables.numbers.c
        found = await connection.execute(select(c.task_id, c.number).where(c.task_id.in_(ids)))
        return {row.task_id: row.number for row in found}

    async def write(
        self, connection: AsyncConnection, words: Mapping[str, list[str]], known: Mapping[str, int]
    ) -> None:
        again = [(" ".join(words[task_id]), known[task_id]) for task_id in words if task_id in known]
        if again:
            await connection.exec_driver_sql("UPDATE celeriac_search SET words = ? WHERE rowid = ?", again)
        new = [task_id for task_id in words if task_id not in known]
        if not new:
            return
        # Nobody else writes meanwhile: SQLite has one writer.
        last = (await connection.execute(select(func.max(search_tables.numbers.c.number)))).scalar() or 0
        numbered = list(enumerate(new, last + 1))
        await connection.exec_driver_sql(
            "INSERT INTO celeriac_search_numbers (number, task_id) VALUES (?, ?)", numbered
        )
        rows = [(number, " ".join(words[task_id])) for number, task_id in numbered]
        await connection.exec_driver_sql("INSERT INTO celeriac_search (rowid, words) VALUES (?, ?)", rows)

    async def forget(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        known = await self.known(connection, ids)
        if known:
            numbers = [(number,) for number in known.values()]
            await connection.exec_driver_sql("DELETE FROM celeriac_search WHERE rowid = ?", numbers)
            await connection.exec_driver_sql("DELETE FROM celeriac_search_numbers WHERE number = ?", numbers)

    async def matching(self, connection: AsyncConnection, expression: str, limit: int) -> Sequence[str]:
        found = text(
            "SELECT task_id FROM (SELECT rowid AS number FROM celeriac_search WHERE celeriac_search MATCH :expression "
            "LIMIT :limit) JOIN celeriac_search_numbers USING (number)"
        )
        return (await connection.execute(found, {"expression": expression, "limit": limit})).scalars().all()

    def condition(self, expression: str) -> ColumnElement[bool]:
        c = search_tables.numbers.c
        number = select(c.number).where(c.task_id == _c.task_id).correlate(tasks).scalar_subquery()
        # In FTS5, the name of the table stands for all of its columns.
        matches = literal_column("celeriac_search").op("MATCH")(expression)
        return select(literal(1)).select_from(_FTS).where(matches, _FTS.c.rowid == number).exists()

    def expression(self, wanted: Sequence[Phrase], without: Sequence[Phrase]) -> str:
        def quoted(phrase: Phrase) -> str:
            return f'"{" ".join(phrase.tokens)}"{" *" if phrase.prefix else ""}'

        found = " AND ".join(map(quoted, wanted))
        return f"({found}) NOT ({' OR '.join(map(quoted, without))})" if without else found


class _PostgreSQL(Words):
    """A `tsvector` for each task, with a GIN index."""

    def __init__(self, engine: AsyncEngine) -> None:
        bulk = BulkInsert.of(engine)
        statement = bulk.insert(search_tables.words)
        self._upsert = bulk.compile(
            statement.on_conflict_do_update(index_elements=["task_id"], set_={"words": statement.excluded.words})
        )

    async def available(self, connection: AsyncConnection) -> bool:
        return True

    async def known(self, connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
        c = search_tables.words.c
        return dict.fromkeys((await connection.execute(select(c.task_id).where(c.task_id.in_(ids)))).scalars(), 0)

    async def write(
        self, connection: AsyncConnection, words: Mapping[str, list[str]], known: Mapping[str, int]
    ) -> None:
        rows = [
            {"task_id": task_id, "words": " ".join(f"'{word}':{at}" for at, word in enumerate(words[task_id], 1))}
            for task_id in sorted(words)
        ]
        await self._upsert(connection, rows)

    async def forget(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        await connection.execute(delete(search_tables.words).where(search_tables.words.c.task_id.in_(ids)))

    async def matching(self, connection: AsyncConnection, expression: str, limit: int) -> Sequence[str]:
        c = search_tables.words.c
        found = select(c.task_id).where(c.words.op("@@")(cast(expression, TSQUERY))).limit(limit)
        return (await connection.execute(found)).scalars().all()

    def condition(self, expression: str) -> ColumnElement[bool]:
        c = search_tables.words.c
        # The function, and not the operator `@@` that means the same: no index is used for it.
        matches = func.ts_match_vq(c.words, cast(expression, TSQUERY))
        return select(literal(1)).where(c.task_id == _c.task_id, matches).correlate(tasks).exists()

    def expression(self, wanted: Sequence[Phrase], without: Sequence[Phrase]) -> str:
        def following(phrase: Phrase) -> str:
            *first, last = (f"'{token}'" for token in phrase.tokens)
            return "(" + " <-> ".join([*first, f"{last}:*" if phrase.prefix else last]) + ")"

        found = " & ".join(map(following, wanted))
        return f"{found} & !({' | '.join(map(following, without))})" if without else found


class SearchWriter:
    """Writes the words of tasks in the transaction that writes their rows.

    `parts` and `most` are the settings `ledger.search` and `ledger.search_chars`. A task is indexed when it is recorded
    first, and again with all that it has when it has ended.
    """

    def __init__(self, engine: AsyncEngine, *, parts: Sequence[str], most: int) -> None:
        self.words = Words.of(engine)
        self._parts = tuple(parts)
        self._most = most
        self._available: bool | None = None

    @property
    def indexed(self) -> str:
        """What is indexed, as the state says it; empty: nothing."""
        return f"{','.join(self._parts)}:{self._most}" if self._parts else ""

    async def available(self, connection: AsyncConnection) -> bool:
        """Return whether words are written: the settings want it, and the database can search."""
        if self._available is None:
            self._available = bool(self._parts) and await self.words.available(connection)
        return self._available

    async def write(
        self,
        connection: AsyncConnection,
        rows: Sequence[Mapping[str, Any]],
        ended: Sequence[Mapping[str, Any]],
        messages: Iterable[tuple[str, str, Mapping[str, str]]],
    ) -> None:
        """Index tasks whose rows were written; `messages` are (task id, kind, fields) of their events.

        `ended` are rows of tasks without a record, which say little: such a task is indexed as its row is by now.
        """
        if not (rows or ended) or not await self.available(connection):
            return
        ids = sorted({row["task_id"] for row in (*rows, *ended)})
        known = await self.words.known(connection, ids)
        said: dict[str, list[str]] = {row["task_id"]: [] for row in rows}
        logged = set()
        for task_id, kind, fields in messages:
            if task_id in said and (message := message_of(kind, fields, self._parts)):
                said[task_id].append(message)
                if kind == LOG:
                    logged.add(task_id)
        new = [row for row in rows if row["task_id"] not in known]
        final = [row for row in rows if row["task_id"] in known and row["status"] in _FINAL]
        usual, changed = [], [row["task_id"] for row in ended]
        for row in final:
            if row["rev"] <= _USUAL_REVS and row["progress_ms"] is None and row["task_id"] not in logged:
                usual.append(row)
            else:
                changed.append(row["task_id"])
        latest = await self._latest(connection, [row for row in usual if self._has_more_words(row)])
        found = {
            row["task_id"]: words_of(row, said[row["task_id"]], self._parts, self._most)
            for row in sorted((*new, *latest), key=lambda row: str(row["task_id"]))
        }
        if changed:
            found |= await self._as_recorded(connection, changed)
        await self.words.write(connection, found, known)

    def _has_more_words(self, row: Mapping[str, Any]) -> bool:
        """Return whether the end of a usual life has words that its acceptance did not have."""
        result = row["result"] if "result" in self._parts else None
        return bool(row["error_code"] or row["error_message"]) or result not in _WORDLESS

    async def _latest(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the rows that are recorded as they are; another recorder has written later states of the others."""
        if not rows:
            return []
        chosen = select(_c.task_id, _c.rev).where(_c.task_id.in_([row["task_id"] for row in rows]))
        revs = {row.task_id: row.rev for row in await connection.execute(chosen)}
        return [row for row in rows if revs.get(row["task_id"]) == row["rev"]]

    async def write_again(self, connection: AsyncConnection, ids: Sequence[str]) -> None:
        """Index tasks as they are recorded. Their rows must be locked."""
        found = await self._as_recorded(connection, ids)
        await self.words.write(connection, found, await self.words.known(connection, sorted(found)))

    async def _as_recorded(self, connection: AsyncConnection, ids: Sequence[str]) -> dict[str, list[str]]:
        said: dict[str, list[str]] = {}
        e = events.c
        kinds = ("status", "progress", LOG)
        for start in range(0, len(ids), _TASKS_AT_ONCE):
            some = ids[start : start + _TASKS_AT_ONCE]
            chosen = select(e.task_id, e.kind, e.fields).where(e.task_id.in_(some), e.kind.in_(kinds))
            in_order = chosen.order_by(e.task_id, e.at_ms, e.seq).limit(len(some) * _EVENTS)
            for task_id, kind, fields in await connection.execute(in_order):
                of_task = said.setdefault(task_id, [])
                if len(of_task) < _EVENTS and (message := message_of(kind, fields_of(fields), self._parts)):
                    of_task.append(message)
        chosen_rows = select(*(_c[name] for name in _READ)).where(_c.task_id.in_(ids)).order_by(_c.task_id)
        rows = [dict(row) for row in (await connection.execute(chosen_rows)).mappings()]
        return {row["task_id"]: words_of(row, said.get(row["task_id"], ()), self._parts, self._most) for row in rows}
