"""When the tasks of each minute changed last: what was counted of a minute is right as long as its stamp is the same.

What writes or deletes tasks writes stamps in the same transaction (`history/minute_stamps.py`). Only SQLite has this
table: it has one writer at a time, while recorders on PostgreSQL would wait for each other, because all of them write
the present minute.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table

#: The length of a minute, in the unit of all times (ms).
MINUTE_MS: Final = 60_000

minutes: Final = Table(
    "celeriac_minutes",
    MetaData(),
    # Minutes since the epoch. In it, tasks were created or ended.
    Column("minute", Integer, primary_key=True),
    # A random number, so that the stamp of an older copy of the database is another one too. A sum of many fits.
    Column("stamp", BigInteger, nullable=False),
)
