"""Copy what a `celeriac up` keeps in its data folder, while it runs: store, database, uploads and secret.

    python deploy/backup.py .celeriac /backups/2030-01-31
    celeriac up --data-dir /backups/2030-01-31            # or a copy of it: that is all there is to restoring

The database is copied before the store: what happens in between, the store tells it later. A store or a database of
your own (`REDIS_URL`, `DATABASE_URL`) and the files of tasks (`files.storage_path`) are not in the data folder, and
have their own means: see docs/operations.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

#: Where the embedded store is, and its files there that a copy needs: the log of all writes, and the password.
STORE = "valkey"
LOG = "appendonlydir"
#: Files of a run, not of what it keeps. SQLite's own copy has what its -wal and -shm hold.
_OF_A_RUN = ("run.json", "*.lock", "*.db", "*.db-wal", "*.db-shm", STORE)
#: How long a rewrite of the log may take before the copy gives up (seconds).
_REWRITE_S = 600.0


def main() -> int:
    """Copy, and say what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, help="the data folder of `celeriac up`")
    parser.add_argument("target", type=Path, help="a folder that is not there yet")
    arguments = parser.parse_args()
    data_dir, target = arguments.data_dir, arguments.target
    if not data_dir.is_dir():
        print(f"there is no folder {data_dir}", file=sys.stderr)
        return 2
    if target.exists():
        print(f"{target} is there already: a backup is never written over", file=sys.stderr)
        return 2
    target.mkdir(mode=0o700, parents=True)
    shutil.copytree(data_dir, target, ignore=shutil.ignore_patterns(*_OF_A_RUN), dirs_exist_ok=True)
    for database in sorted(data_dir.glob("*.db")):
        copy_database(database, target / database.name)
    if (data_dir / STORE / LOG).is_dir():
        with log_at_rest(data_dir):
            (target / STORE).mkdir(mode=0o700)
            shutil.copytree(data_dir / STORE / LOG, target / STORE / LOG)
            shutil.copy2(data_dir / STORE / "password", target / STORE / "password")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size / 1e6:.1f} MB. Start it with: celeriac up --data-dir {target}")
    return 0


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, whoever writes to it."""
    address = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@contextmanager
def log_at_rest(data_dir: Path) -> Iterator[None]:
    """Keep a running store from rewriting its log, which would exchange the files under a copy. It is appended to."""
    run = data_dir / "run.json"
    if not run.exists():
        yield
        return
    with redis.Redis.from_url(json.loads(run.read_text())["redis"], decode_responses=True) as store:
        name = "auto-aof-rewrite-percentage"
        before = store.config_get(name)[name]
        store.config_set(name, "0")
        try:
            deadline = time.monotonic() + _REWRITE_S
            while store.info("persistence")["aof_rewrite_in_progress"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the store has been rewriting its log for {_REWRITE_S:.0f} s")
                time.sleep(0.1)
            yield
        finally:
            store.config_set(name, before)


if __name__ == "__main__":
    sys.exit(main())
