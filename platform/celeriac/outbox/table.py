"""The table of an outbox, as SQLAlchemy has it. Django's model has the same columns."""

from __future__ import annotations

from sqlalchemy import BLANK_SCHEMA, BigInteger, Column, Integer, MetaData, String, Table, Text

from celeriac.outbox.source import TABLE


def outbox_table(metadata: MetaData) -> Table:
    """Return the table, as a part of the application's own tables: migrations of the application then create it.

    Moments are milliseconds since the epoch. It has no schema, also if `metadata` names one: writers in any language
    and relays find it by the connection's `search_path`.
    """
    return Table(
        TABLE,
        metadata,
        Column("task_id", String(36), primary_key=True),
        Column("submission", Text, nullable=False),
        Column("created_ms", BigInteger, nullable=False),
        # Until then a relay has it, or it is not tried again.
        Column("free_ms", BigInteger, nullable=False, server_default="0"),
        Column("attempts", Integer, nullable=False, server_default="0"),
        # Why the store refused it, for people.
        Column("problem", Text, nullable=False, server_default=""),
        schema=BLANK_SCHEMA,
    )
