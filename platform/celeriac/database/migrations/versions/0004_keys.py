"""Keys of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("celeriac_tasks", sa.Column("key", sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")))
    condition = sa.text("key IS NOT NULL")
    op.create_index(
        "celeriac_tasks_key_created",
        "celeriac_tasks",
        ["key", "created_ms", "task_id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
