"""The tables of schedules: definitions, their firings and their audit trail."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from celeriac.database.task_tables import Key, metadata

COUNTERS: Final = (
    *("fired", "skipped", "missed", "buffered", "triggered", "backfilled"),
    *("succeeded", "failed", "cancelled", "failures_in_row"),
)

definitions: Final = Table(
    "celeriac_definitions",
    metadata,
    Column("definition_id", Key, primary_key=True),
    # Counts changes by people, not firings.
    Column("rev", BigInteger, nullable=False),
    Column("status", Key, nullable=False),
    Column("trigger_type", Key, nullable=False),
    Column("source", Key, nullable=False),
    Column("name", Text),
    Column("user_id", Key),
    Column("queue", Key, nullable=False),
    Column("note", Text),
    # The first slot that is not decided yet, and when it is due (the slot plus its jitter). Nothing is due in a pause.
    Column("next_slot_ms", BigInteger),
    Column("next_ms", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    *(Column(name, BigInteger, nullable=False) for name in COUNTERS),
    Column("last_slot_ms", BigInteger),
    Column("last_task_id", Key),
    Column("outcome_task_id", Key),
    Column("outcome_status", Key),
    Column("outcome_ms", BigInteger),
    Column("outcome_error", Text),
    # Everything that the author set, as JSON: see `celeriac.schedules.definition.Spec`.
    Column("spec", Text, nullable=False),
)

firings: Final = Table(
    "celeriac_firings",
    metadata,
    Column("task_id", Key, primary_key=True),
    Column("definition_id", Key, nullable=False),
    Column("slot_ms", BigInteger, nullable=False),
    Column("trigger", Key, nullable=False),
    Column("state", Key, nullable=False),
    Column("planned_ms", BigInteger, nullable=False),
    # Since when a beat has been submitting it.
    Column("taken_ms", BigInteger, nullable=False),
    # Since when it is to be cancelled.
    Column("cancel_ms", BigInteger),
    Column("error", Text),
)

changes: Final = Table(
    "celeriac_definition_changes",
    metadata,
    Column("change_id", Key, primary_key=True),
    Column("definition_id", Key, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("action", Key, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text),
    # field → [before, after], as JSON.
    Column("changed", Text),
)

_d, _f, _c = definitions.c, firings.c, changes.c


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


INDEXES: Final = (
    # The index that beats read; it does not contain paused or ended definitions.
    Index("celeriac_definitions_next", _d.next_ms, _d.definition_id, **_where("next_ms IS NOT NULL")),
    Index("celeriac_definitions_created", _d.created_ms, _d.definition_id),
    Index("celeriac_definitions_user", _d.user_id, _d.created_ms, _d.definition_id),
    Index("celeriac_definitions_ended", _d.ended_ms, _d.definition_id, **_where("ended_ms IS NOT NULL")),
    Index("celeriac_firings_definition", _f.definition_id, _f.state, _f.slot_ms),
    Index("celeriac_firings_planned", _f.taken_ms, **_where("state = 'planned'")),
    Index("celeriac_firings_buffered", _f.definition_id, **_where("state = 'buffered'")),
    Index("celeriac_firings_open", _f.task_id, **_where("state = 'open'")),
    Index("celeriac_firings_ended", _f.task_id, **_where("state = 'ended'")),
    Index("celeriac_firings_cancel", _f.task_id, **_where("cancel_ms IS NOT NULL AND state = 'open'")),
    Index("celeriac_definition_changes_of", _c.definition_id, _c.at_ms, _c.change_id),
    Index("celeriac_definition_changes_at", _c.at_ms),
)
