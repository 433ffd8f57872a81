"""One long chain through one worker process: what does a link cost?

Compares an adopted Celery project with the same project on stock Celery, each on prefork with one process, on the same
Valkey with an append-only file. Rounds alternate within one run. Celery sends the rest of a chain with each link, so
the cost of a link grows with the length of the chain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from figures import figure, table, write_json
from machine import Cores, Store, Subject, child_environment, choose_cores, python, store_on, versions

WORKER: Final = python(
    *("celery", "--app", "peers.chain_app", "worker", "--pool", "prefork", "--concurrency", "1"),
    *("--loglevel", "warning", "--without-mingle", "--without-gossip"),
)
PROJECTS: Final = {"adopted": {"BENCH_ADOPT": "1"}, "stock Celery": {"BENCH_ADOPT": ""}}
#: How long after the result there may still be writes (seconds).
_SETTLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one project in one round, per link."""

    worker_us: float
    store_us: float
    wall_us: float


def run(name: str, store: Store, cores: Cores, folder: Path, links: int) -> Round:
    """Run a short chain to warm up, and then one of `links` links."""
    database = list(PROJECTS).index(name)
    environment = {"BENCH_URL": store.url(database), "PYTHONWARNINGS": "ignore", **PROJECTS[name]}
    with store.client(database) as client:
        client.flushdb()
        worker = Subject(WORKER, core=cores.subject, environment=environment, folder=folder)
        try:
            _chain(environment, 20)
            worker_s, store_s = worker.cpu_s(), store.cpu_s()
            wall_s = _chain(environment, links)
            time.sleep(_SETTLE_S)
            worker_s, store_s = worker.cpu_s() - worker_s, store.cpu_s() - store_s
        finally:
            worker.end()
        client.flushdb()
    return Round(*(seconds / links * 1e6 for seconds in (worker_s, store_s, wall_s)))


def _chain(environment: dict[str, str], links: int) -> float:
    """Run one chain and return how long its caller waited (seconds)."""
    command = [sys.executable, "-m", "peers.chain_app", str(links)]
    done = subprocess.run(command, env=child_environment(**environment), check=True, capture_output=True, text=True)
    _, waited_s = map(float, done.stdout.split())
    return waited_s


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per project (3)")
    parser.add_argument("--links", type=int, default=1500, help="links of the chain (1500)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    found = versions("celeriac", "celery", "kombu", "redis", "hiredis")
    load = os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    rounds: dict[str, list[Round]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
    ):
        for _ in range(options.rounds):
            for name in PROJECTS:
                rounds[name].append(run(name, store, cores, Path(folder), options.links))
    figures = {name: {p: figure(getattr(r, p) for r in of) for p in Round.__slots__} for name, of in rounds.items()}
    rows = [[name, *(of[part].text() for part in Round.__slots__)] for name, of in figures.items()]
    ratio = [f"{figures['adopted'][p].median / figures['stock Celery'][p].median:.2f}" for p in Round.__slots__]
    rows.append(["adopted / stock", *ratio])
    print(f"{options.links} links, {options.rounds} rounds\n")
    print(table(["project", "worker CPU µs/link", "store CPU µs/link", "wall µs/link"], rows))
    if options.json:
        document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load}
        document["projects"] = {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()}
        write_json(options.json, "chain", document)


if __name__ == "__main__":
    main()
