"""Definitions, firings, changes of definitions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
_COUNTERS = (
    *("fired", "skipped", "missed", "buffered", "triggered", "backfilled"),
    *("succeeded", "failed", "cancelled", "failures_in_row"),
)


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "celeriac_definitions",
        sa.Column("definition_id", _KEY, primary_key=True),
        sa.Column("rev", sa.BigInteger, nullable=False),
        sa.Column("status", _KEY, nullable=False),
        sa.Column("trigger_type", _KEY, nullable=False),
        sa.Column("source", _KEY, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("user_id", _KEY),
        sa.Column("queue", _KEY, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("next_slot_ms", sa.BigInteger),
        sa.Column("next_ms", sa.BigInteger),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        sa.Column("last_slot_ms", sa.BigInteger),
        sa.Column("last_task_id", _KEY),
        sa.Column("outcome_task_id", _KEY),
        sa.Column("outcome_status", _KEY),
        sa.Column("outcome_ms", sa.BigInteger),
        sa.Column("outcome_error", sa.Text),
        sa.Column("spec", sa.Text, nullable=False),
    )
    op.create_table(
        "celeriac_firings",
        sa.Column("task_id", _KEY, primary_key=True),
        sa.Column("definition_id", _KEY, nullable=False),
        sa.Column("slot_ms", sa.BigInteger, nullable=False),
        sa.Column("trigger", _KEY, nullable=False),
        sa.Column("state", _KEY, nullable=False),
        sa.Column("planned_ms", sa.BigInteger, nullable=False),
        sa.Column("taken_ms", sa.BigInteger, nullable=False),
        sa.Column("cancel_ms", sa.BigInteger),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "celeriac_definition_changes",
        sa.Column("change_id", _KEY, primary_key=True),
        sa.Column("definition_id", _KEY, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("action", _KEY, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("changed", sa.Text),
    )
    _index("definitions", "next", "next_ms", "definition_id", where="next_ms IS NOT NULL")
    _index("definitions", "created", "created_ms", "definition_id")
    _index("definitions", "user", "user_id", "created_ms", "definition_id")
    _index("definitions", "ended", "ended_ms", "definition_id", where="ended_ms IS NOT NULL")
    _index("firings", "definition", "definition_id", "state", "slot_ms")
    _index("firings", "planned", "taken_ms", where="state = 'planned'")
    _index("firings", "buffered", "definition_id", where="state = 'buffered'")
    _index("firings", "open", "task_id", where="state = 'open'")
    _index("firings", "ended", "task_id", where="state = 'ended'")
    _index("firings", "cancel", "task_id", where="cancel_ms IS NOT NULL AND state = 'open'")
    _index("definition_changes", "of", "definition_id", "at_ms", "change_id")
    _index("definition_changes", "at", "at_ms")


def _index(table: str, name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"celeriac_{table}_{name}",
        f"celeriac_{table}",
        list(columns),
        sqlite_where=condition,
        postgresql_where=condition,
    )
