"""Recording history: how much does it slow down the work?

One worker process runs no-op tasks on its own core. On the other core, beside the store, `celeriac beat` either records
them in SQL or does not; the rounds alternate within one run. In "backlog" rounds all tasks are submitted and recorded
before the worker starts. In "flow" rounds a submitter on the other core submits them at the same time; that core is
then full, and its processes compete. The benchmark measures tasks per second, CPU time per task, and how long after
the last task the history is complete.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from figures import Figure, figure, table, write_json
from machine import Cores, Store, Subject, child_environment, choose_cores, python, store_on, versions
from noop_types import GROUP

from celeriac.database.migrating import migrate
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed, Lag

PAYLOAD = {"number": 12345, "text": "what a small task works on", "flags": [True, False]}
#: The longest time without any progress (seconds).
_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one round."""

    rate: float
    worker_us: float
    beat_us: float
    store_us: float
    behind_s: float


class Bench:
    """Runs rounds; `postgresql` is the URL of a server that allows new databases, or empty."""

    def __init__(self, store: Store, cores: Cores, folder: Path, postgresql: str) -> None:
        self._store = store
        self._cores = cores
        self._folder = folder
        self._postgresql = postgresql

    def round(self, history: str, count: int, *, flow: bool) -> Round:
        """Run `count` tasks, recorded in this kind of history ('' means not recorded)."""
        if history == "postgresql":
            name = f"celeriac_bench_{secrets.token_hex(4)}"
            with psycopg.connect(self._postgresql, autocommit=True) as server:
                server.execute(f"CREATE DATABASE {name}")
                try:
                    return self._round(f"{self._postgresql.rpartition('/')[0]}/{name}", count, flow=flow)
                finally:
                    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        return self._round(f"sqlite:///{self._folder}/{secrets.token_hex(4)}.db" if history else None, count, flow=flow)

    def _round(self, database_url: str | None, count: int, *, flow: bool) -> Round:
        url = self._store.url(0)
        environment = {"BENCH_URL": url, "REDIS_URL": url, "BENCH_TYPE": "bench.noop_async"}
        environment |= {"CELERIAC_IMPORTS": "[noop_types]", "CELERIAC_LOG_LEVEL": "warning"}
        if database_url is not None:
            migrate(database_url)
        recording = {"DATABASE_URL": database_url or f"sqlite:///{self._folder}/never-migrated.db"}
        with self._store.client(0) as client:
            client.flushdb()
            beat = Subject(
                python("celeriac", "beat"),
                core=self._cores.others,
                environment={**environment, **recording},
                folder=self._folder,
            )
            worker = Subject(
                python("celeriac", "worker", "--groups", GROUP),
                core=self._cores.subject,
                environment=environment,
                folder=self._folder,
            )
            try:
                self._send(environment, 500)
                self._wait(client)
                if not flow:
                    worker.pause()
                    self._send(environment, count)
                if database_url is not None:
                    self._catch_up(url)
                before = [time.perf_counter(), worker.cpu_s(), beat.cpu_s(), self._store.cpu_s()]
                if flow:
                    self._send(environment, count)
                else:
                    worker.resume()
                self._wait(client)
                ended = time.perf_counter()
                if database_url is not None:
                    self._catch_up(url)
                caught_up = time.perf_counter()
                after = [ended, worker.cpu_s(), beat.cpu_s(), self._store.cpu_s()]
            finally:
                worker.end()
                beat.end()
            client.flushdb()
        elapsed_s, worker_s, beat_s, store_s = (b - a for a, b in zip(before, after, strict=True))
        return Round(
            rate=count / elapsed_s,
            worker_us=worker_s / count * 1e6,
            beat_us=beat_s / count * 1e6,
            store_us=store_s / count * 1e6,
            behind_s=caught_up - ended,
        )

    def _send(self, environment: dict[str, str], count: int) -> None:
        subprocess.run(
            [sys.executable, "-m", "peers.send", "peers.celeriac_app", str(count), json.dumps(PAYLOAD)],
            env=child_environment(**environment),
            check=True,
        )

    def _wait(self, client: Any) -> None:
        """Wait until all tasks have ended."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while sum(int(client.zcard(f"celeriac:{kind}:{GROUP}")) for kind in ("waiting", "running")):
            if time.monotonic() > give_up_at:
                raise TimeoutError("the tasks do not end")
            time.sleep(0.02)

    def _catch_up(self, url: str) -> None:
        async def lag() -> Lag:
            async with TaskStore(url, Settings().store) as store:
                return await EventFeed(store, consumer="").lag()

        give_up_at = time.monotonic() + _PATIENCE_S
        while (found := asyncio.run(lag())).entries or not found.recording:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"the history does not catch up: {found}")
            time.sleep(0.05)


def report(figures: dict[str, dict[str, Figure]]) -> str:
    """Return the results as a table; the ratio compares the rates with and without recording."""
    rows = [
        [
            name,
            of["rate"].text(),
            f"{of['rate'].median / figures[name.split()[0] + ' none']['rate'].median:.2f}",
            *(of[part].text() for part in ("worker_us", "store_us", "beat_us")),
            of["behind_s"].text(1),
        ]
        for name, of in figures.items()
    ]
    head = ["history", "tasks/s", "ratio", "worker CPU µs/task", "store CPU µs/task", "beat CPU µs/task", "behind s"]
    return table(head, rows)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--tasks", type=int, default=5000, help="tasks of a round (5000)")
    parser.add_argument("--postgresql", default="", metavar="URL", help="a server that lets us make databases")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    found = versions("celeriac", "sqlalchemy", "aiosqlite", "psycopg", "redis", "hiredis")
    load = os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    rounds: dict[str, list[Round]] = defaultdict(list)
    histories = ["", "sqlite", *(["postgresql"] if options.postgresql else [])]
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
    ):
        bench = Bench(store, cores, Path(folder), options.postgresql)
        for _ in range(options.rounds):
            for flow in (False, True):
                for history in histories:
                    name = f"{'flow' if flow else 'backlog'} {history or 'none'}"
                    rounds[name].append(bench.round(history, options.tasks, flow=flow))
    figures = {
        name: {part: figure(getattr(one, part) for one in of) for part in Round.__slots__}
        for name, of in rounds.items()
    }
    print(f"{options.tasks} tasks, {options.rounds} rounds\n\n{report(figures)}")
    if options.json:
        document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load}
        document["histories"] = {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()}
        write_json(options.json, "recorder", document)


if __name__ == "__main__":
    main()
