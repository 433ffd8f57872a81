"""Groups of errors, and the group of a task's last failure.

Rows that are older have none. The history's pruner groups them afterwards, a bounded number at once, so this is quick.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns, the table and their indexes."""
    op.add_column("celeriac_tasks", sa.Column("error_group", _KEY))
    op.add_column("celeriac_tasks", sa.Column("failed_ms", sa.BigInteger))
    op.create_table(
        "celeriac_errors",
        sa.Column("error_group", _KEY, primary_key=True),
        sa.Column("type", _KEY, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("first_ms", sa.BigInteger, nullable=False),
    )
    grouped = "error_group IS NOT NULL"
    _index("error_created", "error_group", "created_ms", "task_id", where=grouped)
    _index("failures", "failed_ms", "error_group", "status", "type", "queue", "user_id", "task_id", where=grouped)
    _index("ungrouped", "finished_ms", "task_id", where="error_group IS NULL AND status = 'FAILED'")


def _index(name: str, *columns: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        f"celeriac_tasks_{name}",
        "celeriac_tasks",
        list(columns),
        sqlite_where=condition,
        postgresql_where=condition,
    )
