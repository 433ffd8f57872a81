"""Pages of history: does the last page cost as much as the first?

The benchmark writes tasks directly into the history, and lists them page by page to the end, once per filter. It
compares the median of the first tenth of the pages with the median of the last tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from figures import table, write_json
from machine import versions

from celeriac.database.cursor import Cursor
from celeriac.database.migrating import migrate
from celeriac.history.history import History
from celeriac.history.rows import row_of
from celeriac.history.writing import Writer
from celeriac.model import rfc3339, utc_from_ms
from celeriac.task_filter import Sort, TaskFilter

BEGIN_MS = 1_896_076_800_000
APART_MS = 40
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "status=failed": {"status": "failed"},
    "status=failed,cancelled": {"status": "failed,cancelled"},
    "type": {"type": "type3"},
    "type, user": {"type": "type3", "user_id": "user7"},
    "tag": {"tag": "nightly"},
}


async def fill(history: History, count: int, begin_ms: int = BEGIN_MS) -> None:
    """Write `count` finished tasks, the first of them at `begin_ms`."""
    chance = random.Random(1)
    writer = Writer(history.engine, progress="last")
    for start in range(0, count, 5000):
        rows = {}
        for number in range(start, min(start + 5000, count)):
            created_ms = begin_ms + number * APART_MS
            status = chance.choices(("COMPLETED", "FAILED", "CANCELLED"), (90, 7, 3))[0]
            task_id = f"{chance.getrandbits(64):016x}"
            rows[task_id] = row_of(
                {
                    "task_id": task_id, "type": f"type{chance.randrange(10)}", "queue": "default", "status": status,
                    "payload": '{"number": 12345, "text": "what a small task works on"}', "result": '"done"',
                    "user_id": f"user{chance.randrange(50)}", "rev": "3", "attempt": "1",
                    "created_at": rfc3339(utc_from_ms(created_ms)),
                    "updated_at": rfc3339(utc_from_ms(created_ms + 900)),
                    "started_at": rfc3339(utc_from_ms(created_ms + 100)),
                    "finished_at": rfc3339(utc_from_ms(created_ms + 900)),
                    **({"tags": '["nightly"]'} if chance.random() < 0.1 else {}),
                }
            )  # fmt: skip
        await writer.write(rows, [])


async def walk(history: History, task_filter: TaskFilter, limit: int) -> list[float]:
    """Return the time of each page (ms)."""
    times: list[float] = []
    cursor = None
    while True:
        began = time.perf_counter()
        page = await history.find(task_filter, limit=limit, cursor=cursor)
        times.append((time.perf_counter() - began) * 1000)
        cursor = page.next_cursor
        if cursor is None:
            return times


async def measure(url: str, count: int, limit: int) -> dict[str, dict[str, float]]:
    """Return the times of each filter."""
    found: dict[str, dict[str, float]] = {}
    async with History(url) as history:
        await fill(history, count)
        async with history.engine.connect() as connection:
            await connection.exec_driver_sql("ANALYZE")
            await connection.commit()
        for name, conditions in FILTERS.items():
            task_filter = TaskFilter.model_validate(conditions)
            await history.find(task_filter, limit=limit, cursor=Cursor(Sort.CREATED_DOWN, BEGIN_MS, "").encoded())
            times = await walk(history, task_filter, limit)
            tenth = max(len(times) // 10, 1)
            found[name] = {
                "pages": len(times),
                "first": median(times[:tenth]),
                "last": median(times[-tenth:]),
            }
    return found


@contextmanager
def database(kind: str, server_url: str) -> Iterator[str]:
    """Provide a temporary, migrated database."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder:
            url = f"sqlite:///{Path(folder) / 'history.db'}"
            migrate(url)
            yield url
        return
    name = f"celeriac_bench_{secrets.token_hex(4)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            url = f"{server_url.rpartition('/')[0]}/{name}"
            migrate(url)
            yield url
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def report(found: dict[str, dict[str, float]]) -> str:
    """Return the results as a table."""
    rows = [
        [
            name,
            f"{of['pages']:,.0f}",
            f"{of['first']:.1f}",
            f"{of['last']:.1f}",
            f"{of['last'] / of['first']:.2f}",
        ]
        for name, of in found.items()
    ]
    return table(["filter", "pages", "first ms", "last ms", "last / first"], rows)


def main() -> None:
    """Measure, and print a table per database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks in the history (100,000)")
    parser.add_argument("--limit", type=int, default=50, help="tasks of a page (50)")
    parser.add_argument("--postgresql", default="", metavar="URL", help="a server that lets us make databases")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()
    versions_found = versions("celeriac", "sqlalchemy", "aiosqlite", "psycopg")
    document: dict[str, Any] = {"versions": versions_found, "tasks": options.tasks}
    print(", ".join(f"{n} {v}" for n, v in versions_found.items()))
    for kind in ("sqlite", *(["postgresql"] if options.postgresql else [])):
        with database(kind, options.postgresql) as url:
            document[kind] = asyncio.run(measure(url, options.tasks, options.limit))
        print(f"\n{kind}, {options.tasks:,} finished tasks\n\n{report(document[kind])}")
    if options.json:
        write_json(options.json, "history_pages", document)


if __name__ == "__main__":
    main()
