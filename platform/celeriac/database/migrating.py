"""Migrates the tables to this version, and checks their version.

Any number of processes may migrate at once: one of them does it, and the others wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from celeriac.database.engine import RowRefusedError, database_of, reading, tell_sqlite, translated
from celeriac.database.search_tables import state
from celeriac.errors import HistoryMissingError, HistoryUnavailableError, SettingsError

#: The newest migration. Processes of the version before must keep working after each migration.
HEAD: Final = "0008"
VERSION_TABLE: Final = "celeriac_schema"

_READ_VERSION: Final = text("SELECT version_num FROM celeriac_schema")

#: Name of the lock in PostgreSQL: "celeriac" as a number.
_LOCK: Final = 0x63656C65726961


def migrate(database_url: str) -> tuple[str | None, str]:
    """Create or change the tables; returns the versions before (None: there were none) and after. Blocks.

    Raises `HistoryUnavailableError`, and `SettingsError` if the URL is not valid.
    """
    engine = _engine(database_url)
    try:
        with translated(), engine.connect() as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            before = _version(connection)
            if before is None or before < HEAD:
                _upgrade(connection)
            return before, max(before or HEAD, HEAD)
    except RowRefusedError as exc:
        raise HistoryUnavailableError(f"the database refused to be migrated: {exc}") from exc
    finally:
        engine.dispose()


def reindex(database_url: str) -> None:
    """Let recorders index the words of all tasks anew; searches look in ids and errors until they have. Blocks.

    Raises `HistoryUnavailableError`, and `SettingsError` if the URL is not valid.
    """
    engine = _engine(database_url)
    try:
        with translated(), engine.connect() as connection, connection.begin():
            connection.execute(update(state).values(complete=False, created_ms=-1, task_id=""))
    finally:
        engine.dispose()


async def check(engine: AsyncEngine) -> None:
    """Raise `HistoryMissingError` unless the tables are of this version or a later one."""
    async with reading(engine) as connection:
        version = (await connection.execute(_READ_VERSION)).scalar()
    if version is None or version < HEAD:
        raise HistoryMissingError(
            f"the database's tables are of version {version}, {HEAD} is needed: run `celeriac migrate`"
        )


def _engine(database_url: str) -> Engine:
    url = database_of(database_url)
    if url.drivername == "postgresql":
        try:
            return create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 5})
        except ModuleNotFoundError as exc:
            raise SettingsError(
                "database_url: PostgreSQL needs its driver: pip install 'celeriac[postgresql]'"
            ) from exc
    assert url.database is not None
    folder = Path(url.database).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"database_url: cannot make the folder {folder}: {exc.strerror}") from exc
    engine = create_engine(url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        tell_sqlite(connection, busy_ms=60_000)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, VERSION_TABLE):
        return None
    version: str | None = connection.execute(_READ_VERSION).scalar()
    return version


def _upgrade(connection: Connection) -> None:
    # Imported here: other processes only look at the version.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
