"""Titles of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. A task that was recorded before has its title made when it is read."""
    op.add_column("celeriac_tasks", sa.Column("title", sa.Text()))
