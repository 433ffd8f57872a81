"""Empty databases for tests: a SQLite file, or a database of our own on a PostgreSQL server.

The server is `CELERIAC_TEST_POSTGRESQL` (by default the machine's own). Without one the tests that
need it are skipped with a warning, and fail in CI.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

SERVER = os.environ.get("CELERIAC_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test")

KINDS = ("sqlite", "postgresql")


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
