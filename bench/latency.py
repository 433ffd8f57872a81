"""From a submission to its result on an idle system: how long does a caller wait?

One caller submits a no-op task, waits for its result, and submits the next one. The worker and the API process have one
core, the caller and the store share another one. Rounds of all targets take turns. Time on the wall is the subject
here, so the machine should be quiet: compare what was measured in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bullmq
from figures import Figure, figure, percentile, table, write_json
from machine import HOST, Cores, Store, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from noop_types import GROUP

PAYLOAD: Final = {"number": 12345, "text": "what a small task works on", "flags": [True, False]}
OURS: Final = "celeriac, delay().get()"
_ADOPTED: Final = {"BENCH_ADOPT": "1", "CELERIAC_LOG_LEVEL": "warning"}
_WORKER: Final = python("celeriac", "worker", "--groups", GROUP)
_TYPES: Final = {"CELERIAC_IMPORTS": "[noop_types]", "CELERIAC_LOG_LEVEL": "warning"}


@dataclass(frozen=True, slots=True)
class Target:
    """A worker, and the module whose `latencies_ms` submits and waits."""

    name: str
    worker: Callable[[], list[str]]
    caller: str
    environment: dict[str, str] = field(default_factory=dict)
    #: An API process is needed too.
    served: bool = False


def _celery(*options: str) -> list[str]:
    return python(
        *("celery", "--app", "peers.awaited_app", "worker", "--loglevel", "warning", "--without-mingle"),
        *("--without-gossip", *options),
    )


def _threads() -> list[str]:
    return _celery("--pool", "threads", "--concurrency", "1")


def _own_pool() -> list[str]:
    return python("celeriac", "worker", "--app", "peers.awaited_app", "--pool", "celeriac", "--quiet")


def _node_worker() -> list[str]:
    return bullmq.worker(1)[0]


def _huey() -> list[str]:
    return python("huey.bin.huey_consumer", "peers.huey_app.huey", "--workers", "1", "--quiet")


def _taskiq() -> list[str]:
    return python("taskiq", "worker", "peers.taskiq_app:broker", "--workers", "1", "--log-level", "WARNING")


_HTTP: Final = {**_TYPES, "BENCH_TYPE": "bench.noop_async"}

TARGETS: Final = (
    Target(OURS, _own_pool, "peers.awaited_app", _ADOPTED),
    Target(f"{OURS}, --pool threads", _threads, "peers.awaited_app", _ADOPTED),
    Target("celeriac, run()", lambda: _WORKER, "peers.awaited_calls", _TYPES),
    Target("celeriac, HTTP", lambda: _WORKER, "peers.awaited_http", {**_HTTP, "BENCH_HTTP": "one"}, served=True),
    Target("celeriac, HTTP, two requests", lambda: _WORKER, "peers.awaited_http", {**_HTTP, "BENCH_HTTP": "two"}, True),
    Target("celeriac, run() over HTTP", lambda: _WORKER, "peers.awaited_calls", {**_TYPES, "BENCH_CLIENT": "1"}, True),
    Target("Celery", _threads, "peers.awaited_app"),
    Target("BullMQ", _node_worker, "", {"BENCH_CONCURRENCY": "1"}),
    Target("huey", _huey, "peers.huey_app"),
    Target("taskiq", _taskiq, "peers.taskiq_app"),
)


def targets(only: str) -> list[Target]:
    """Return the targets whose names contain one of the texts of `only`, those that are installed."""
    found = [target for target in TARGETS if target.caller or bullmq.installed() is not None]
    return [target for target in found if any(text in target.name for text in only.split("|"))]


class Bench:
    """Runs rounds, one target at a time, each in its own database."""

    def __init__(self, store: Store, cores: Cores, folder: Path) -> None:
        self._store = store
        self._cores = cores
        self._folder = folder

    def round(self, target: Target, database: int, *, warm_up: int, count: int) -> list[float]:
        """Return how long each of `count` calls took (milliseconds), after `warm_up` others."""
        url = self._store.url(database)
        environment = {"BENCH_URL": url, "REDIS_URL": url, "CELERIAC_REDIS_URL": url, **target.environment}
        with ExitStack() as stack, self._store.client(database) as client:
            client.flushdb()
            if target.served:
                port = pick_port()
                api = self._started(
                    stack,
                    python("celeriac", "api", "--port", str(port)),
                    {**environment, "CELERIAC_GRPC_PORT": str(pick_port())},
                )
                wait_for_port(api, port)
                environment["BENCH_API"] = f"http://{HOST}:{port}"
            self._started(stack, target.worker(), environment)
            if not target.caller:
                return bullmq.latencies_ms(url, count, PAYLOAD, warm_up=warm_up)
            caller = {"CELERIAC_URL": environment["BENCH_API"]} if target.environment.get("BENCH_CLIENT") else {}
            argv = python("peers.latency", target.caller, str(count), json.dumps(PAYLOAD), str(warm_up))
            found: list[float] = bullmq.run(argv, {**environment, **caller})["latencies_ms"]
            return found

    def _started(self, stack: ExitStack, argv: list[str], environment: dict[str, str]) -> Subject:
        subject = Subject(argv, core=self._cores.subject, environment=environment, folder=self._folder)
        stack.callback(subject.end)
        return subject


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per target (3)")
    parser.add_argument("--calls", type=int, default=500, help="calls of a round (500)")
    parser.add_argument("--warm-up", type=int, default=100, help="calls before those that count (100)")
    parser.add_argument("--only", default="", help="names of targets that contain this text; `|` between several")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    chosen = targets(options.only)
    found = versions("celeriac", "celery", "kombu", "redis", "huey", "taskiq", "taskiq-redis") | bullmq.versions()
    load = os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    rounds: dict[str, list[list[float]]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
    ):
        bench = Bench(store, cores, Path(folder))
        for _ in range(options.rounds):
            for database, target in enumerate(chosen):
                got = bench.round(target, database, warm_up=options.warm_up, count=options.calls)
                rounds[target.name].append(got)
    figures = {name: _summary(of_target) for name, of_target in rounds.items()}
    rows = [[name, of["p50_ms"].text(2), of["p99_ms"].text(2)] for name, of in figures.items()]
    print(f"{options.calls} calls, {options.rounds} rounds\n\n{table(['target', 'p50, ms', 'p99, ms'], rows)}")
    if options.json:
        document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load}
        document["targets"] = {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()}
        write_json(options.json, "latency", document)


def _summary(rounds: list[list[float]]) -> dict[str, Figure]:
    return {
        "p50_ms": figure(percentile(one, 0.5) for one in rounds),
        "p99_ms": figure(percentile(one, 0.99) for one in rounds),
    }


if __name__ == "__main__":
    main()
