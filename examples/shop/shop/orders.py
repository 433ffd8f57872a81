"""The shop's own data: its orders, in a file of SQLite. The web application and the tasks both use it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel, Field, TypeAdapter

PRICES: Final = {"tea": 4.50, "cup": 12.00, "pot": 39.00}


class Item(BaseModel):
    """So many of one thing."""

    name: str
    count: int = Field(1, ge=1, le=100)


ITEMS: Final = TypeAdapter(list[Item])


class Order(BaseModel):
    """An order, and the task that fulfils it."""

    number: int
    email: str
    items: list[Item]
    status: str = "new"
    task_id: str | None = None

    @property
    def total(self) -> float:
        """The price of all items."""
        return sum(PRICES[item.name] * item.count for item in self.items)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(os.environ.get("SHOP_DATABASE", "shop.db"), timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, email TEXT, items TEXT, status TEXT,"
                " task_id TEXT)"
            )
            yield connection
    finally:
        connection.close()


def add(email: str, items: list[Item]) -> Order:
    """Store a new order."""
    with _database() as database:
        row = database.execute(
            "INSERT INTO orders (email, items, status) VALUES (?, ?, 'new')", (email, ITEMS.dump_json(items).decode())
        )
        return Order(number=int(row.lastrowid or 0), email=email, items=items)


def get(number: int) -> Order | None:
    """Return an order, or None."""
    with _database() as database:
        row = database.execute("SELECT * FROM orders WHERE number = ?", (number,)).fetchone()
    return None if row is None else Order(**{**dict(row), "items": ITEMS.validate_json(row["items"])})


def update(number: int, *, status: str | None = None, task_id: str | None = None) -> None:
    """Change the status of an order, or the task that fulfils it."""
    with _database() as database:
        database.execute(
            "UPDATE orders SET status = coalesce(?, status), task_id = coalesce(?, task_id) WHERE number = ?",
            (status, task_id, number),
        )


def sold() -> dict[str, int]:
    """Return how many of each thing were sold."""
    with _database() as database:
        rows = database.execute("SELECT items FROM orders WHERE status = 'sent'").fetchall()
    counts: dict[str, int] = {}
    for row in rows:
        for item in ITEMS.validate_json(row["items"]):
            counts[item.name] = counts.get(item.name, 0) + item.count
    return counts
