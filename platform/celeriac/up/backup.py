"""Copies what a `celeriac up` keeps in its data folder, while it runs: store, database, uploads and secret.

The database is copied before the store: what happens in between, the store tells it later. A store or a database of
the operator's own and the files of tasks are not in the data folder, and have their own means (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final

from celeriac.errors import SettingsError, StoreUnavailableError
from celeriac.installation.run_file import is_alive, read_installation
from celeriac.settings import Settings
from celeriac.store.server.log_at_rest import log_at_rest
from celeriac.store.task_store import TaskStore

#: Where the embedded store is, and its files there that a copy needs: the log of all writes, and the password.
_STORE: Final = "valkey"
_LOG: Final = "appendonlydir"
#: Files of a run, not of what it keeps. SQLite's own copy has what its -wal and -shm hold.
_OF_A_RUN: Final = ("run.json", "*.lock", "*.db", "*.db-wal", "*.db-shm", _STORE)


def back_up(settings: Settings, target: Path) -> int:
    """Copy the data folder to `target`, which must not be there; returns the size of the copy in bytes.

    It is at its place when it is whole. Raises `SettingsError` and `StoreUnavailableError`.
    """
    data_dir = settings.data_dir
    if not data_dir.is_dir():
        raise SettingsError(f"there is no folder {data_dir}")
    if target.exists():
        raise SettingsError(f"{target} is there already: a backup is never written over")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise SettingsError(f"{target} lies in the data folder {data_dir}: choose a folder outside of it")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        _copy_files(data_dir, draft)
        if (data_dir / _STORE / _LOG).is_dir():
            asyncio.run(_copy_store(settings, draft / _STORE))
        size = sum(file.stat().st_size for file in draft.rglob("*") if file.is_file())
        draft.rename(target)
    except StoreUnavailableError:
        raise  # it is an OSError too, and says more
    except (OSError, sqlite3.Error) as exc:
        raise SettingsError(f"cannot copy {data_dir} to {target}: {_reason(exc)}") from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return size


def _copy_files(data_dir: Path, target: Path) -> None:
    shutil.copytree(
        data_dir, target, ignore=shutil.ignore_patterns(*_OF_A_RUN), copy_function=_copy_file, dirs_exist_ok=True
    )
    for database in sorted(data_dir.glob("*.db")):
        _copy_database(database, target / database.name)


def _copy_file(source: str, target: str) -> None:
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        if Path(source).exists():
            raise
        # An upload that a task has taken, or that was dropped, meanwhile.


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, whoever writes to it."""
    address = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


async def _copy_store(settings: Settings, target: Path) -> None:
    async with _log_at_rest(settings):
        await asyncio.to_thread(_copy_log, settings.data_dir / _STORE, target)


def _copy_log(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    shutil.copytree(source / _LOG, target / _LOG)
    shutil.copy2(source / "password", target / "password")


@asynccontextmanager
async def _log_at_rest(settings: Settings) -> AsyncIterator[None]:
    """Keep the log's files as they are, where a server runs that could exchange them."""
    installation = read_installation(settings.data_dir)
    if installation is None:
        yield
        return
    store = TaskStore(installation.redis, settings.store, patience_s=0)
    async with AsyncExitStack() as held:
        held.push_async_callback(store.stop)
        try:
            await held.enter_async_context(log_at_rest(store))
        except StoreUnavailableError:
            if is_alive(installation.pid):
                raise
            # The file is of a run that was killed, and its server is gone too.
        yield


def _reason(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, shutil.Error):
        # It holds (source, target, reason) of each file.
        return str(error.args[0][0][2])
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
