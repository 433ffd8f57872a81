"""An application's database with an outbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine

from celeriac.contrib.sqlalchemy import outbox_table

METADATA = MetaData()
#: What the application changes in the same transactions.
ORDERS = Table("orders", METADATA, Column("number", Integer, primary_key=True))
OUTBOX = outbox_table(METADATA)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The application's engine, once on each kind of database, with its tables."""
    made = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    METADATA.create_all(made)
    yield made
    made.dispose()
