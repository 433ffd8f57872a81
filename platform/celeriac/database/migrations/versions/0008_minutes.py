"""What makes charts and counts cheap: the status in the index by creation; in SQLite when each minute changed last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Widen the index. In SQLite create the table; in PostgreSQL it would make recorders wait for each other."""
    op.drop_index("celeriac_tasks_created", "celeriac_tasks")
    op.create_index("celeriac_tasks_created", "celeriac_tasks", ["created_ms", "task_id", "status"])
    if op.get_bind().dialect.name != "sqlite":
        return
    op.create_table(
        "celeriac_minutes",
        sa.Column("minute", sa.Integer, primary_key=True),
        sa.Column("stamp", sa.BigInteger, nullable=False),
    )
