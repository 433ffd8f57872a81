"""Writes history: idempotent, in any order, by any number of recorders at once.

Only a later state of a task replaces its row, and an event is inserted only if it is missing. So writing something
twice, or late, changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import and_, case, delete, func, or_
from sqlalchemy.ext.asyncio import AsyncEngine

from celeriac import json_text
from celeriac.database import task_tables as tables
from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.engine import RowRefusedError, writing
from celeriac.errors import JsonError
from celeriac.history.error_groups import normalised
from celeriac.history.minute_stamps import MinuteStamps
from celeriac.history.rows import clean
from celeriac.history.search import SearchWriter
from celeriac.model import Status
from celeriac.store.watching.feed import LOG, STEP, FeedEntry
from celeriac.task_fields import status_of

log = logging.getLogger(__name__)

#: The columns that are known of a task whose record was gone before it was written; other columns stay as they are.
_OF_EVENTS: Final = (
    *("rev", "status", "attempt", "updated_ms", "finished_ms"),
    *("error_code", "error_message", "error_retryable"),
)
#: Columns that keep what they have while the task has nothing new for them: it may be retried and complete.
_KEPT: Final = ("error_group", "failed_ms")


class Writer:
    """Writes pages of rows and events, each in one transaction. `progress` is the setting `ledger.progress`."""

    def __init__(self, engine: AsyncEngine, *, progress: str, search: SearchWriter | None = None) -> None:
        self._engine = engine
        self._progress = progress
        self._search = search
        self._stamps = MinuteStamps(engine)
        bulk = BulkInsert.of(engine)
        task = bulk.insert(tables.tasks)
        self._upsert_task = bulk.compile(_replacing_older(task, [c.name for c in tables.tasks.c]))
        self._end_task = bulk.compile(_replacing_older(task, _OF_EVENTS))
        self._insert_error = bulk.compile(error_insert(bulk))
        event = bulk.insert(tables.events)
        self._insert_event = bulk.compile(
            event.on_conflict_do_update(
                index_elements=["task_id", "slot"],
                set_={name: event.excluded[name] for name in ("at_ms", "seq", "kind", "fields")},
                where=or_(
                    event.excluded.at_ms > tables.events.c.at_ms,
                    and_(event.excluded.at_ms == tables.events.c.at_ms, event.excluded.seq > tables.events.c.seq),
                ),
            )
        )
        self._insert_tag = bulk.compile(bulk.insert(tables.tags).on_conflict_do_nothing())

    async def write(self, rows: Mapping[str, Mapping[str, Any]], entries: Sequence[FeedEntry]) -> None:
        """Write `rows` (by task id) and the events of `entries`, all or nothing.

        A task of `entries` without a row has lost its record; what its events say is written instead.
        Raises `HistoryUnavailableError`. Data that the database refuses is left out, and logged.
        """
        ended = _rows_of_events([entry for entry in entries if entry.task_id not in rows])
        events = event_rows(entries, progress=self._progress)
        try:
            await self._write(rows.values(), ended, events, entries)
        except RowRefusedError:
            # One by one, so that one bad task does not keep the others out of the history.
            for task_id in sorted({*rows, *(event["task_id"] for event in events)}):
                try:
                    await self._write(
                        [rows[task_id]] if task_id in rows else [],
                        [row for row in ended if row["task_id"] == task_id],
                        [event for event in events if event["task_id"] == task_id],
                        [entry for entry in entries if entry.task_id == task_id],
                    )
                except RowRefusedError as exc:
                    log.error("task %s is left out of the history: the database refuses it: %s", task_id, exc)

    async def write_steps(self, task_id: str, entries: Sequence[FeedEntry]) -> None:
        """Replace the steps that history has of a task, all or nothing; a retry may have forgotten some of them.

        Raises `HistoryUnavailableError`. Data that the database refuses is left out, and logged.
        """
        c = tables.events.c
        try:
            async with writing(self._engine) as connection:
                # Their slots are beside each other in the primary key.
                old = delete(tables.events).where(c.task_id == task_id, c.slot > f"{STEP}-", c.slot < f"{STEP}.")
                await connection.execute(old)
                await self._insert_event(connection, event_rows(entries, progress=self._progress))
        except RowRefusedError as exc:
            log.error("the steps of task %s are left out of the history: the database refuses them: %s", task_id, exc)

    async def _write(
        self,
        rows: Iterable[Mapping[str, Any]],
        ended: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
        entries: Sequence[FeedEntry],
    ) -> None:
        # Always in the same order, so that two recorders cannot deadlock.
        ordered = sorted(rows, key=lambda row: str(row["task_id"]))
        tags = [
            {"tag": clean(tag), "created_ms": row["created_ms"], "task_id": row["task_id"]}
            for row in ordered
            for tag in _tags_of(row["tags"])
        ]
        async with writing(self._engine) as connection:
            before = await self._stamps.moments(connection, [row["task_id"] for row in (*ordered, *ended)])
            await self._stamps.changed(connection, (*ordered, *ended), before)
            await self._upsert_task(connection, ordered)
            await self._insert_error(connection, error_rows(ordered))
            await self._end_task(connection, ended)
            await self._insert_event(connection, events)
            await self._insert_tag(connection, tags)
            if self._search is not None:
                said = ((entry.task_id, entry.event.kind, entry.event.fields) for entry in entries)
                await self._search.write(connection, ordered, ended, said)


def _tags_of(text: str | None) -> Sequence[str]:
    try:
        tags = json_text.read(text) if text else []
    except JsonError:  # a foreign program's
        return ()
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else ()


def _replacing_older(insert: Any, columns: Iterable[str]) -> Any:
    """Return `insert` so that it replaces `columns` of a row that is an earlier state of the task.

    After the store has forgotten a task, the same id may be used for another task, which was created later. Foreign
    programs that write records do not count revisions, so the time decides between equal revisions.
    """
    new, old = insert.excluded, tables.tasks.c
    values = {name: new[name] for name in columns if name not in ("task_id", "created_ms")}
    for name in _KEPT:
        if name in values:
            same_task = new.created_ms == old.created_ms
            values[name] = case((same_task, func.coalesce(new[name], old[name])), else_=new[name])
    return insert.on_conflict_do_update(
        index_elements=["task_id"],
        set_=values | {"created_ms": new.created_ms if "created_ms" in columns else old.created_ms},
        where=or_(
            new.created_ms > old.created_ms,
            and_(
                new.created_ms == old.created_ms,
                or_(new.rev > old.rev, and_(new.rev == old.rev, new.updated_ms > old.updated_ms)),
            ),
        )
        if "created_ms" in columns
        else new.rev > old.rev,
    )


def error_insert(bulk: BulkInsert) -> Any:
    """Return the insert of groups of errors; of a known one, only the time of its first failure may change."""
    insert = bulk.insert(tables.error_groups)
    return insert.on_conflict_do_update(
        index_elements=["error_group"],
        set_={"first_ms": insert.excluded.first_ms},
        where=insert.excluded.first_ms < tables.error_groups.c.first_ms,
    )


def error_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups of the failures among rows of tasks, in the order of their ids."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = row["error_group"]
        if group is None or (group in found and found[group]["first_ms"] <= row["failed_ms"]):
            continue
        found[group] = {
            "error_group": group,
            "type": row["type"],
            "code": clean(row["error_code"]) or "",
            "message": clean(normalised(row["error_message"] or "")),
            "first_ms": row["failed_ms"],
        }
    return [found[group] for group in sorted(found)]


def event_rows(entries: Iterable[FeedEntry], *, progress: str) -> list[dict[str, Any]]:
    """Return the rows of events, one for each place, in the order of (task, place)."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        event = entry.event
        at_ms, _, seq = event.id.partition("-")
        # The id of a log line belongs to another stream.
        slot = f"{event.kind}-{event.id}" if event.kind in (LOG, STEP) else event.id
        if event.kind == "progress" and progress != "all":
            if progress == "none":
                continue
            slot = f"progress-{event.fields.get('attempt', '')}"
        known = found.get((entry.task_id, slot))
        if known is None or (known["at_ms"], known["seq"]) < (int(at_ms), int(seq or 0)):
            found[entry.task_id, slot] = {
                "task_id": entry.task_id,
                "slot": slot,
                "at_ms": int(at_ms),
                "seq": int(seq or 0),
                "kind": event.kind,
                "fields": json_text.encode(event.fields).decode(),
            }
    return [found[place] for place in sorted(found)]


def _rows_of_events(entries: Iterable[FeedEntry]) -> list[dict[str, Any]]:
    """Return rows from what status events say, for tasks without a record, in the order of their ids."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.event.kind != "status":
            continue
        fields, at_ms = entry.event.fields, int(entry.event.id.partition("-")[0])
        status = status_of(fields.get("status", ""))
        row = rows.setdefault(entry.task_id, _unknown_task(entry.task_id, at_ms))
        row["type"] = clean(fields.get("type")) or row["type"]
        row["queue"] = clean(fields.get("queue")) or row["queue"]
        if entry.rev < row["rev"]:
            continue
        row |= {
            "rev": entry.rev,
            "status": status.stored,
            "attempt": int(attempt) if (attempt := fields.get("attempt", "")).isdecimal() else 0,
            "updated_ms": at_ms,
            "finished_ms": at_ms if status.final else None,
            "error_code": clean(fields.get("code")),
            "error_message": clean(fields.get("message")),
            "error_retryable": fields["retryable"] == "1" if "retryable" in fields else None,
        }
    return [rows[task_id] for task_id in sorted(rows)]


def _unknown_task(task_id: str, at_ms: int) -> dict[str, Any]:
    row: dict[str, Any] = {str(column.name): None for column in tables.tasks.c}
    return row | {
        "task_id": task_id,
        "rev": 0,
        "type": "",
        "queue": "default",
        "status": Status.PENDING.stored,
        "priority": 0,
        "attempt": 0,
        "max_retries": 0,
        "cancel_requested": False,
        "created_ms": at_ms,
        "updated_ms": at_ms,
        "payload": "{}",
    }
