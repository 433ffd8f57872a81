"""Scheduling: what do many definitions cost, and how late do many fire that are due at once?

Compares Celeriac with Celery's own beat, celery-redbeat and sqlalchemy-celery-beat. Each scheduler has its own process
on one core; the store is on the other. The rounds alternate.
"idle": 100,000 entries, none of them due. Measures the CPU time of a complete tick (Celeriac makes two per second), the
CPU time from the start to the end of the first tick, and the resident memory. Another process stored the entries.
"burst": 1,000 entries that are due at the same moment. Measures how late each reached the broker, or the store with its
record.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from figures import figure, percentile, table, write_json
from machine import Store, child_environment, choose_cores, python, store_on, versions

KINDS = ("celeriac, SQLite", "celery", "redbeat", "sqlalchemy")
POSTGRESQL = "celeriac, PostgreSQL"
_PATIENCE_S = 600


class Bench:
    """Runs the schedulers one after the other; `postgresql` is the URL of a server, or empty."""

    def __init__(self, store: Store, core: int, folder: Path, postgresql: str) -> None:
        self._store, self._core, self._folder, self._postgresql = store, core, folder, postgresql

    def run(self, kind: str, mode: str, count: int) -> dict[str, Any]:
        """Return the figures of one scheduler."""
        with self._store.client(0) as client:
            client.flushdb()
        if kind != POSTGRESQL:
            return self._run(kind, mode, count, f"sqlite:///{self._folder}/{secrets.token_hex(4)}.db")
        name = f"celeriac_bench_{secrets.token_hex(4)}"
        with psycopg.connect(self._postgresql, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
            try:
                return self._run(kind, mode, count, f"{self._postgresql.rpartition('/')[0]}/{name}")
            finally:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, kind: str, mode: str, count: int, database: str) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        if mode == "idle":
            # Another process stores the entries, so that their cost is not measured.
            self._process(kind, "fill", count, database, folder)
        return self._process(kind, mode, count, database, folder)

    def _process(self, kind: str, mode: str, count: int, database: str, folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            python("peers.beats", kind.split(",")[0], mode, str(count)),
            env=child_environment(BENCH_URL=self._store.url(0), BENCH_DATABASE=database),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("w"),
            text=True,
            timeout=_PATIENCE_S,
            preexec_fn=lambda: os.sched_setaffinity(0, {self._core}),
        )
        if done.returncode:
            raise RuntimeError(f"{kind}: {(folder / 'errors').read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    """Measure, and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--entries", type=int, default=100_000)
    arguments.add_argument("--burst", type=int, default=1000)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--postgresql", default="", help="URL of a server on which databases may be made")
    arguments.add_argument("--json", default="", help="file to add the figures to; - is standard output")
    chosen = arguments.parse_args()
    kinds = [k for k in (*KINDS, *([POSTGRESQL] if chosen.postgresql else [])) if chosen.only in k]
    cores = choose_cores()
    known = versions("celery", "celery-redbeat", "sqlalchemy-celery-beat", "celeriac")
    print(cores.text(), "|", ", ".join(f"{name} {number}" for name, number in known.items()))
    idle: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    burst: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name, store_on(Path(name), cores.others) as store:
        bench = Bench(store, cores.subject, Path(name), chosen.postgresql)
        for _ in range(chosen.rounds):
            for kind in kinds:
                idle[kind].append(bench.run(kind, "idle", chosen.entries))
                burst[kind].append(bench.run(kind, "burst", chosen.burst))
    print(f"\n{chosen.entries:,} entries, none due\n")
    head = ("scheduler", "tick, CPU ms", "start, CPU s", "memory, MiB")
    names = ("tick_ms", "ready_s", "rss_mb")
    print(
        table(
            head,
            (
                [kind, *(figure(r[n] for r in idle[kind]).text(2 if n == "ready_s" else 1) for n in names)]
                for kind in kinds
            ),
        )
    )
    print(f"\n{chosen.burst:,} due at once: how late, ms\n")
    rows = []
    for kind in kinds:
        for found in burst[kind]:
            if found["published"] < chosen.burst:
                print(f"{kind} published only {found['published']} of {chosen.burst}")
        shares = [[percentile(found["late_s"], share) * 1000 for found in burst[kind]] for share in (0.5, 0.99, 1)]
        rows.append([kind, *(figure(values).text() for values in shares)])
    print(table(("scheduler", "p50", "p99", "the last one"), rows))
    if chosen.json:
        write_json(chosen.json, "scheduler", {"versions": known, "idle": idle, "burst": burst})


if __name__ == "__main__":
    main()
