"""Empty databases for tests: a SQLite file, or a database of our own on a PostgreSQL server; also migrated ones.

The server is `CELERIAC_TEST_POSTGRESQL` (by default the machine's own). Without one the tests that
need it are skipped with a warning, and fail in CI.
"""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from celeriac.database.migrating import VERSION_TABLE, migrate

SERVER = os.environ.get("CELERIAC_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test")

KINDS = ("sqlite", "postgresql")

#: Tables that a test has made larger than this are not emptied: the next test gets another database.
_MOST_BYTES = 2 * 1024**2
_BYTES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables"
_TABLES = "SELECT relname FROM pg_stat_user_tables WHERE relname <> %s"
#: What a test before has left open; waits until it is closed.
_CLOSE = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database of this kind, which is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'history.db'}"
        return
    try:
        server = psycopg.connect(SERVER, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as exc:
        if os.environ.get("CI"):
            raise
        warnings.warn(f"NOT TESTED: no PostgreSQL at {SERVER}: {exc}", stacklevel=2)
        pytest.skip(f"no PostgreSQL at {SERVER}")
    name = f"celeriac_{secrets.token_hex(6)}"
    with server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{SERVER.rpartition('/')[0]}/{name}"
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class MigratedDatabases:
    """Databases with our tables and without rows, for one test after the other.

    To create and drop a database on PostgreSQL takes a second, most of it waiting for the disk. So tests share one,
    which is emptied before each of them. Each gets a SQLite file of its own, a copy of one that was migrated once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._operator: psycopg.Connection[Any] | None = None
        self._url = ""

    def url(self, kind: str, folder: Path) -> str:
        """Return the URL of a database of this kind; the one before it, if it is not a file, is not valid any more."""
        return self._file(folder) if kind == "sqlite" else self._emptied()

    def drop(self) -> None:
        """Drop what is left."""
        self._operator = None
        self._stack.close()

    def _file(self, folder: Path) -> str:
        template = self._folder / "history.db"
        if not template.exists():
            migrate(f"sqlite:///{template}")
        return f"sqlite:///{shutil.copy(template, folder / 'history.db')}"

    def _emptied(self) -> str:
        if self._operator is not None:
            self._operator.execute(_CLOSE)
            (size,) = self._operator.execute(_BYTES).fetchone() or (0,)
            if size < _MOST_BYTES:
                tables = [name for (name,) in self._operator.execute(_TABLES, (VERSION_TABLE,))]
                self._operator.execute("; ".join(f"DELETE FROM {name}" for name in tables).encode())
                return self._url
            self.drop()
        self._url = self._stack.enter_context(empty_database("postgresql", self._folder))
        migrate(self._url)
        self._operator = self._stack.enter_context(psycopg.connect(self._url, autocommit=True))
        return self._url
