"""Makes the engine for `database_url`, and translates the errors of its driver."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from celeriac.errors import HistoryMissingError, HistoryUnavailableError, SettingsError

#: Execution option of connections that write: with it, SQLite takes its write lock at the beginning.
WRITING: Final = "celeriac_writing"
#: How long a writer of SQLite waits for another one (ms).
_BUSY_MS: Final = 10_000
_POOL: Final = 5
#: When a connection to PostgreSQL counts as lost whose other end says nothing, as after a failover (libpq's names).
LOST_LINK: Final[dict[str, Any]] = {
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_CONNECT_S: Final = 5

_POSTGRESQL: Final = {"postgresql", "postgres", "postgresql+psycopg"}
_SQLITE: Final = {"sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"}


def database_of(database_url: str) -> URL:
    """Return `database_url` as a URL of SQLite or PostgreSQL without a driver; raises `SettingsError`."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as exc:
        raise SettingsError("database_url is not a URL; use sqlite:///PATH or postgresql://USER@HOST/NAME") from exc
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql")
    if url.drivername in _SQLITE:
        if not url.database or url.database == ":memory:":
            raise SettingsError("database_url: history needs a file, write sqlite:///PATH (four slashes for /…)")
        return url.set(drivername="sqlite")
    raise SettingsError(f"database_url: {url.drivername!r} is not supported, use sqlite:///… or postgresql://…")


def shown(database_url: str) -> str:
    """Return the URL without its password."""
    return database_of(database_url).render_as_string(hide_password=True)


def create_engine(database_url: str, *, statement_timeout_s: float = 30.0, ours: bool = True) -> AsyncEngine:
    """Return an engine, which connects when it is first used. A SQLite file must exist; the migration makes it.

    `ours`: it is our database, whose mode we choose; otherwise it is the application's.

    Raises `SettingsError` if the URL is not valid or its driver is not installed.
    """
    url = database_of(database_url)
    if url.drivername == "sqlite":
        assert url.database is not None
        uri = f"file:{quote(str(Path(url.database).absolute()))}"
        engine = create_async_engine(
            url.set(drivername="sqlite+aiosqlite", database=uri, query={"uri": "true", "mode": "rw"}),
            connect_args={"timeout": _BUSY_MS / 1000},
            pool_size=_POOL,
            max_overflow=0,
        )
        _prepare_sqlite(engine, Path(url.database), ours=ours)
        return engine
    timeout_ms = round(statement_timeout_s * 1000)
    try:
        engine = create_async_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={"connect_timeout": _CONNECT_S, "application_name": "celeriac", **LOST_LINK},
            pool_size=_POOL,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=10,
        )
    except (ModuleNotFoundError, NoSuchModuleError) as exc:
        raise SettingsError("database_url: PostgreSQL needs its driver: pip install 'celeriac[postgresql]'") from exc

    @event.listens_for(engine.sync_engine, "connect")
    def bound_statements(connection: Any, _: Any) -> None:
        autocommit, connection.autocommit = connection.autocommit, True
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(f"SET statement_timeout = {timeout_ms}")
        connection.autocommit = autocommit

    return engine


def _prepare_sqlite(engine: AsyncEngine, file: Path, *, ours: bool) -> None:
    @event.listens_for(engine.sync_engine, "do_connect")
    def look(*_: Any) -> None:
        # If SQLite refused the file, the driver would leave a thread behind that outlives the event loop.
        if not file.exists():
            raise sqlite3.OperationalError("unable to open database file")

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Transactions begin here. The driver would begin all of them as readers, and a writer could not wait its turn.
        connection.isolation_level = None
        if ours:
            tell_sqlite(connection, busy_ms=_BUSY_MS)

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        writing = connection.get_execution_options().get(WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def tell_sqlite(connection: Any, *, busy_ms: int) -> None:
    """Set up a new connection to SQLite; if the file is locked, statements wait up to `busy_ms`."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {busy_ms}")
        # SQLite does not wait when it changes this mode. If the file is locked, another connection is changing it at
        # this moment, and the change is for all.
        with contextlib.suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
        # NORMAL: a power cut may undo the last transactions. Their events are then read from the store again, unless
        # the store lost them too. The file stays intact.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA cache_size = -32768")


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that sees one state of the database; raises `HistoryUnavailableError`."""
    with translated():
        async with engine.connect() as connection:
            yield connection


@contextlib.asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that is committed at the end; raises `HistoryUnavailableError`."""
    with translated():
        async with transaction(engine) as connection:
            yield connection


@contextlib.asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that writes and is committed at the end; raises what the driver raises."""
    async with engine.connect() as connection:
        await connection.execution_options(**{WRITING: True})
        async with connection.begin():
            yield connection


class RowRefusedError(Exception):
    """The database is available and refuses this data: trying again does not help."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate the errors of SQLAlchemy and its drivers."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError) as exc:
        raise RowRefusedError(plain(exc)) from exc
    except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
        if is_missing(exc):
            raise HistoryMissingError("the database has no tables of this version: run `celeriac migrate`") from exc
        if isinstance(exc, DataError | IntegrityError):
            raise RowRefusedError(plain(exc)) from exc
        raise HistoryUnavailableError(f"the database cannot be used: {plain(exc)}") from exc


def is_missing(exc: BaseException) -> bool:
    """Return whether an error says that the tables, one of their columns, or the database do not exist."""
    text = str(getattr(exc, "orig", exc)).lower()
    if isinstance(exc, OperationalError):
        return "no such table" in text or "no such column" in text or "unable to open database file" in text
    if isinstance(exc, ProgrammingError):
        return getattr(exc.orig, "sqlstate", None) in ("42P01", "42703", "3F000")
    return False


def plain(exc: BaseException) -> str:
    """Return an error as one line, without the statement and its values."""
    if isinstance(exc, PoolTimeoutError):
        return "no connection became free in time"
    text = str(getattr(exc, "orig", None) or exc).strip()
    return text.splitlines()[0][:300] if text else type(exc).__name__
