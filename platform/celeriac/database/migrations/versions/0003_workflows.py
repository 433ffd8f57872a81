"""Workflows, and the workflow of a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column, the table and their indexes."""
    op.add_column("celeriac_tasks", sa.Column("workflow_id", _KEY))
    op.create_table(
        "celeriac_workflows",
        sa.Column("workflow_id", _KEY, primary_key=True),
        sa.Column("rev", sa.BigInteger, nullable=False),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("status", _KEY, nullable=False),
        sa.Column("user_id", _KEY),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("last_event", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text),
        sa.Column("nodes", sa.Text, nullable=False),
    )
    _index("tasks", "workflow_created", "workflow_id", "created_ms", "task_id", where="workflow_id IS NOT NULL")
    _index("workflows", "created", "created_ms", "workflow_id")
    _index("workflows", "status_created", "status", "created_ms", "workflow_id")
    _index("workflows", "name_created", "name", "created_ms", "workflow_id")
    _index("workflows", "user_created", "user_id", "created_ms", "workflow_id", where="user_id IS NOT NULL")
    _index("workflows", "finished", "finished_ms", "workflow_id", where="finished_ms IS NOT NULL")


def _index(table: str, name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"celeriac_{table}_{name}",
        f"celeriac_{table}",
        list(columns),
        sqlite_where=condition,
        postgresql_where=condition,
    )
