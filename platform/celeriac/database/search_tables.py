"""The tables of the search: the words of each task, and how far the tasks that were there before have been indexed.

The words are in SQLite's FTS5, and in PostgreSQL in a `tsvector` with a GIN index. Both get words that
`celeriac.task_query.tokens_of` made, so both find the same.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import TSVECTOR

from celeriac.database.task_tables import Key, metadata

#: One row at most.
state: Final = Table(
    "celeriac_search_state",
    metadata,
    Column("state_id", SmallInteger, primary_key=True),
    # What is indexed: the parts and the number of characters, as the recorder's settings say. Empty: nothing.
    Column("indexed", Text, nullable=False),
    # Whether all tasks are.
    Column("complete", Boolean, nullable=False),
    # The last task that was gone through.
    Column("created_ms", BigInteger, nullable=False),
    Column("task_id", Key, nullable=False),
)

_of_sqlite: Final = MetaData()
#: SQLite: the number of each task in the full-text table, whose rows have no other name.
numbers: Final = Table(
    "celeriac_search_numbers",
    _of_sqlite,
    Column("number", Integer, primary_key=True),
    Column("task_id", Text, nullable=False, unique=True),
)

_of_postgresql: Final = MetaData()
#: PostgreSQL: the words of each task. Its name in SQLite is that of the full-text table.
words: Final = Table(
    "celeriac_search",
    _of_postgresql,
    Column("task_id", Key, primary_key=True),
    Column("words", TSVECTOR, nullable=False),
)
