"""The words of tasks, for the search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables; a recorder fills them. A SQLite without FTS5 gets none for words, and is not searched."""
    op.create_table(
        "celeriac_search_state",
        sa.Column("state_id", sa.SmallInteger, primary_key=True),
        sa.Column("indexed", sa.Text, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("task_id", _KEY, nullable=False),
    )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.create_table(
            "celeriac_search",
            sa.Column("task_id", _KEY, primary_key=True),
            sa.Column("words", TSVECTOR, nullable=False),
        )
        op.create_index("celeriac_search_words", "celeriac_search", ["words"], postgresql_using="gin")
        return
    op.create_table(
        "celeriac_search_numbers",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("task_id", sa.Text, nullable=False, unique=True),
    )
    try:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE celeriac_search USING fts5(words, tokenize = 'ascii', columnsize = 0)"
        )
    except sa.exc.OperationalError as exc:
        if "no such module" not in str(exc):
            raise
