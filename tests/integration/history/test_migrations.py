"""The migrations make the tables that the code expects, once, whoever runs them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from celeriac.database.migrating import HEAD, VERSION_TABLE, migrate
from celeriac.database.minute_table import minutes
from celeriac.database.search_tables import numbers, state, words
from celeriac.database.task_tables import metadata
from celeriac.errors import HistoryMissingError, HistoryUnavailableError
from celeriac.history.history import History
from tests.kit.databases import KINDS, empty_database
from tests.kit.servers import free_port


def is_of_one_kind(name: str) -> bool:
    """Return whether only SQLite has the table, or another one than PostgreSQL."""
    return name == minutes.name or (name.startswith("celeriac_search") and name != state.name)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_migrations_make_what_the_tables_say(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        async with History(url) as history:
            with pytest.raises(HistoryMissingError, match="celeriac migrate"):
                await history.check()
            assert migrate(url) == (None, HEAD)
            assert migrate(url) == (HEAD, HEAD)
            await history.check()
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            # The words are in a table of another kind in each database, and the minutes only in one of SQLite.
            names = {"include_name": lambda name, kind, _: kind != "table" or not is_of_one_kind(name)}
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **names})
            assert compare_metadata(context, metadata) == []
            assert state.name in metadata.tables
            own = {numbers.name, minutes.name} if kind == "sqlite" else {words.name}
            assert own <= set(inspect(connection).get_table_names())
        engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
async def test_many_processes_may_migrate_at_once(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as url:
        outcomes = await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(6)))
        assert sorted(outcomes, key=str) == [(HEAD, HEAD)] * 5 + [(None, HEAD)]


def test_a_new_file_takes_many_first_connections_at_once(tmp_path: Path) -> None:
    """Each of them tells SQLite to write ahead, for which it does not let one wait for the other."""
    for n in range(40):
        url = f"sqlite:///{tmp_path}/{n}.db"
        with ThreadPoolExecutor(8) as pool:
            assert [after for _, after in pool.map(migrate, [url] * 8)] == [HEAD] * 8


async def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with pytest.raises(HistoryUnavailableError, match="cannot be used"):
        migrate(url)
    async with History(url) as history:
        with pytest.raises(HistoryUnavailableError, match="cannot be used"):
            await history.get("t")


def test_the_command_migrates_without_a_store(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "celeriac", "migrate", "--data-dir", str(tmp_path / "data")]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert first.stdout == f"sqlite:///{tmp_path}/data/celeriac.db is at version {HEAD} (was: empty)\n"
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert second.stdout == f"sqlite:///{tmp_path}/data/celeriac.db is at version {HEAD}\n"
