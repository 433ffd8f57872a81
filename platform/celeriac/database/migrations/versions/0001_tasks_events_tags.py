"""Tasks, events, tags."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "celeriac_tasks",
        sa.Column("task_id", _KEY, primary_key=True),
        sa.Column("rev", sa.BigInteger, nullable=False),
        sa.Column("type", _KEY, nullable=False),
        sa.Column("queue", _KEY, nullable=False),
        sa.Column("status", _KEY, nullable=False),
        sa.Column("definition_id", _KEY),
        sa.Column("user_id", _KEY),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("max_retries", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("run_at_ms", sa.BigInteger),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("wait_ms", sa.BigInteger),
        sa.Column("run_ms", sa.BigInteger),
        sa.Column("wait_class", sa.SmallInteger),
        sa.Column("run_class", sa.SmallInteger),
        sa.Column("percentage", sa.Double),
        sa.Column("stage", sa.Text),
        sa.Column("progress_message", sa.Text),
        sa.Column("progress_ms", sa.BigInteger),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("error_retryable", sa.Boolean),
        sa.Column("metadata", sa.Text),
        sa.Column("tags", sa.Text),
        sa.Column("extra", sa.Text),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
    )
    _index("created", "created_ms", "task_id")
    for name, column in (("status", "status"), ("type", "type"), ("queue", "queue")):
        _index(f"{name}_created", column, "created_ms", "task_id")
    for name, column in (("user", "user_id"), ("definition", "definition_id")):
        _index(f"{name}_created", column, "created_ms", "task_id", where=f"{column} IS NOT NULL")
    _index("updated", "updated_ms", "task_id")
    _index("errors", "created_ms", "task_id", where="error_message IS NOT NULL")
    for name in ("status", "type"):
        _index(f"{name}_finished", name, "finished_ms", "task_id", where="finished_ms IS NOT NULL")
    _index(
        "finished",
        *("finished_ms", "task_id", "status", "type", "queue", "run_ms", "run_class", "wait_ms", "wait_class"),
        where="finished_ms IS NOT NULL",
    )
    op.create_table(
        "celeriac_events",
        sa.Column("task_id", _KEY, primary_key=True),
        sa.Column("slot", _KEY, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "celeriac_tags",
        sa.Column("tag", _KEY, primary_key=True),
        sa.Column("created_ms", sa.BigInteger, primary_key=True),
        sa.Column("task_id", _KEY, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("celeriac_tags_task", "celeriac_tags", ["task_id"])


def _index(name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"celeriac_tasks_{name}",
        "celeriac_tasks",
        list(columns),
        sqlite_where=condition,
        postgresql_where=condition,
    )
