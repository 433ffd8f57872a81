"""Copy the data folder of a `celeriac up`, also while it runs: store, database, uploads and secret.

The database is copied before the store. What happens in between is in the copied store, from which the copied database
is brought up to date later. An operator's own store or database and the files of tasks are not in the data folder:
they are backed up by other means (docs/operations.md).
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
from celeriac.settings import StoreSettings
from celeriac.store.server.log_at_rest import log_at_rest
from celeriac.store.task_store import TaskStore

#: Folder of the embedded store, and in it the append-only log. A copy needs this and the file `password`.
_STORE: Final = "valkey"
_LOG: Final = "appendonlydir"
#: Files that are not copied: those of the current run, and databases, which SQLite itself copies (-wal, -shm included).
_OF_A_RUN: Final = ("run.json", "*.lock", "*.db", "*.db-wal", "*.db-shm", _STORE)


def back_up(data_dir: Path, target: Path, *, store: StoreSettings) -> int:
    """Copy the data folder to `target`, which must not exist; returns the size of the copy in bytes.

    `store` configures the connection to the embedded store of a running `celeriac up`.
    `target` appears when the copy is complete. Raises `SettingsError` or `StoreUnavailableError`.
    """
    if not data_dir.is_dir():
        raise SettingsError(f"there is no data folder {data_dir}: name the right one with --data-dir")
    if target.exists():
        raise SettingsError(f"{target} exists already and is not overwritten: name a new folder")
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise SettingsError(f"{target} is inside the data folder {data_dir}: name a folder outside of it")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        _copy_files(data_dir, draft)
        if (data_dir / _STORE / _LOG).is_dir():
            asyncio.run(_copy_store(data_dir, draft / _STORE, store))
        size = sum(file.stat().st_size for file in draft.rglob("*") if file.is_file())
        draft.rename(target)
    except StoreUnavailableError:
        raise  # it is an OSError too, with a better message
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
        # The file was an upload that a task has taken over meanwhile, or that was deleted.


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, while other processes may write to it."""
    address = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


async def _copy_store(data_dir: Path, target: Path, store: StoreSettings) -> None:
    async with _log_at_rest(data_dir, store):
        await asyncio.to_thread(_copy_log, data_dir / _STORE, target)


def _copy_log(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    shutil.copytree(source / _LOG, target / _LOG)
    shutil.copy2(source / "password", target / "password")


@asynccontextmanager
async def _log_at_rest(data_dir: Path, settings: StoreSettings) -> AsyncIterator[None]:
    """Keep a running server from replacing the files of its log inside this block."""
    installation = read_installation(data_dir)
    if installation is None:
        yield
        return
    store = TaskStore(installation.redis, settings, patience_s=0)
    async with AsyncExitStack() as held:
        held.push_async_callback(store.stop)
        try:
            await held.enter_async_context(log_at_rest(store))
        except StoreUnavailableError:
            if is_alive(installation.pid):
                raise
            # run.json is from a run that was killed; its server is gone too.
        yield


def _reason(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, shutil.Error):
        # Its argument is a list of (source, target, reason), one for each file.
        return str(error.args[0][0][2])
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
