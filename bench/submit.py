"""Submissions over HTTP: how many per second does one API process accept, and at what cost?

Compares Celeriac with (a) a minimal FastAPI route with one script call, (b) FastAPI routes that call stock Celery's
`delay()`, and (c) Flower's `async-apply`. All use the same Valkey with an append-only file, and their rounds alternate
within one run. The server has one core to itself; the client and the store share the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop
from figures import Figure, figure, percentile, table, write_json
from load import Load, generate, post
from machine import HOST, Cores, Store, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from noop_types import GROUP

PAYLOAD = {"number": 12345, "text": "what a small task works on", "flags": [True, False]}
_TYPED = orjson.dumps({"type": "bench.noop_async", "payload": PAYLOAD})
_UVICORN = ("--host", HOST, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class Target:
    """One way to submit. `messages` is the Redis list that must have grown by one per accepted request."""

    name: str
    argv: Callable[[int], list[str]]
    path: str
    body: bytes
    messages: str
    environment: dict[str, str] = field(default_factory=dict)


TARGETS = (
    Target(
        "celeriac",
        lambda port: python("celeriac", "api", "--host", HOST, "--port", str(port), "--grpc-port", "0"),
        "/api/v1/tasks",
        _TYPED,
        # kombu's list for the lowest of four priority steps, which contains priority 0.
        f"{GROUP}\x06\x169",
        {"CELERIAC_IMPORTS": "[noop_types]", "CELERIAC_LOG_LEVEL": "warning", "CELERIAC_MAX_QUEUE_LENGTH": "10000000"},
    ),
    Target(
        "(a) FastAPI, one script call",
        lambda port: python("uvicorn", "peers.bare_route:app", "--port", str(port), *_UVICORN),
        "/tasks",
        _TYPED,
        "queue",
    ),
    Target(
        "(b) FastAPI, delay() in a thread",
        lambda port: python("uvicorn", "peers.delay_routes:app", "--port", str(port), *_UVICORN),
        "/in-thread",
        _TYPED,
        "celery",
    ),
    Target(
        "(b) FastAPI, delay() on the loop",
        lambda port: python("uvicorn", "peers.delay_routes:app", "--port", str(port), *_UVICORN),
        "/on-loop",
        _TYPED,
        "celery",
    ),
    Target(
        "(c) Flower, async-apply",
        lambda port: python(
            *("celery", "--app", "peers.celery_app", "flower", f"--address={HOST}", f"--port={port}"),
            *("--logging=warning", "--persistent=False"),
        ),
        "/api/task/async-apply/bench.noop",
        orjson.dumps({"args": [PAYLOAD]}),
        "celery",
        {"FLOWER_UNAUTHENTICATED_API": "true"},
    ),
)
#: The targets that Celeriac is compared with, and how many times as fast it should be.
AIMS = {"(a)": 1.5, "(b)": 5.0, "(c)": 8.0}


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPU time used so far (seconds)."""

    server: float
    store: float


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one target in one round."""

    rate: float
    server_us: float
    store_us: float
    p50_ms: float
    p99_ms: float


class Bench:
    """All targets, running side by side; an idle target does not use any CPU time."""

    def __init__(self, store: Store, cores: Cores, targets: dict[str, tuple[Target, Subject, int, int]]) -> None:
        self._store = store
        self._cores = cores
        self._targets = targets

    def round(self, name: str, *, connections: int, seconds: float) -> Round:
        """Run one round on an empty database; raises an error if an accepted task is not in the store."""
        target, server, port, database = self._targets[name]
        redis = self._store.client(database)
        redis.flushdb()
        load: Load[Cpu] = uvloop.run(
            generate(
                port,
                post(target.path, target.body, host=HOST),
                connections=connections,
                warm_up_s=0.5,
                measure_s=seconds,
                mark=lambda: Cpu(server.cpu_s(), self._store.cpu_s()),
            )
        )
        stored = int(redis.llen(target.messages))
        if stored != load.sent:
            raise RuntimeError(f"{name}: {load.sent} submissions were accepted, {stored} messages are in the store")
        redis.flushdb()
        redis.close()
        return Round(
            rate=load.answered / load.seconds,
            server_us=(load.after.server - load.before.server) / load.answered * 1e6,
            store_us=(load.after.store - load.before.store) / load.answered * 1e6,
            p50_ms=percentile(load.latencies_s, 0.5) * 1000,
            p99_ms=percentile(load.latencies_s, 0.99) * 1000,
        )


@contextmanager
def running(store: Store, cores: Cores, folder: Path, names: list[str]) -> Iterator[Bench]:
    """Run the servers of these targets."""
    with ExitStack() as stack:
        subjects: dict[str, tuple[Target, Subject, int, int]] = {}
        for database, target in enumerate(TARGETS):
            if target.name not in names:
                continue
            port = pick_port()
            environment = {"BENCH_URL": store.url(database), "REDIS_URL": store.url(database), **target.environment}
            server = Subject(target.argv(port), core=cores.subject, environment=environment, folder=folder)
            stack.callback(server.end)
            wait_for_port(server, port)
            subjects[target.name] = (target, server, port, database)
        yield Bench(store, cores, subjects)


def faster(bench: Bench, names: list[str], connections: int) -> list[str]:
    """Return the names without the slower one of the two ways to call `delay()`."""
    ways = [name for name in names if name.startswith("(b)")]
    rates = {name: bench.round(name, connections=connections, seconds=2).rate for name in ways}
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f}/s")
    return [name for name in names if name not in ways or rates[name] == max(rates.values())]


def summary(rounds: dict[str, list[Round]]) -> dict[str, dict[str, Figure]]:
    """Return the figures of each target."""
    return {
        name: {part: figure(getattr(one, part) for one in of_target) for part in Round.__slots__}
        for name, of_target in rounds.items()
    }


def ratios(figures: dict[str, dict[str, Figure]]) -> dict[str, float]:
    """Return Celeriac's rate as a multiple of each other target's rate."""
    ours = figures.get("celeriac")
    if ours is None:
        return {}
    return {name: ours["rate"].median / of["rate"].median for name, of in figures.items() if of is not ours}


def cost_ratios(figures: dict[str, dict[str, Figure]]) -> dict[str, float]:
    """Return each other target's CPU time as a multiple of Celeriac's; on a busy machine it varies less than rates."""
    ours = figures.get("celeriac")
    if ours is None:
        return {}
    return {name: of["server_us"].median / ours["server_us"].median for name, of in figures.items() if of is not ours}


def report(title: str, figures: dict[str, dict[str, Figure]]) -> str:
    """Return the table for a number of connections; the last columns compare Celeriac's rate and CPU time."""
    ours, costs = ratios(figures), cost_ratios(figures)
    rows = [
        [
            name,
            of["rate"].text(),
            of["server_us"].text(),
            of["store_us"].text(),
            f"{of['p50_ms'].median:.1f}",
            f"{of['p99_ms'].median:.1f}",
            f"{ours[name]:.2f}" if name in ours else "",
            f"{costs[name]:.2f}" if name in costs else "",
        ]
        for name, of in figures.items()
    ]
    head = ["target", "accepted/s", "server CPU µs", "store CPU µs", "p50 ms", "p99 ms", "rate ×", "CPU ×"]
    return f"\n{title}\n\n{table(head, rows)}"


def main() -> None:
    """Measure, print a table for each number of connections, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per target (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round (4)")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (64)")
    parser.add_argument("--sweep", default="1,16,256", help="further numbers of connections, a round each")
    parser.add_argument("--only", default="", help="names of targets that contain this text")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    names = [target.name for target in TARGETS if options.only in target.name]
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder:
        document = measure(Path(folder), cores, names, options)
    if options.json:
        write_json(options.json, "submit", document)


def measure(folder: Path, cores: Cores, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; print the results and return them."""
    found = versions("celeriac", "fastapi", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "celery", "flower")
    print(f"{cores.text()}; load {os.getloadavg()[0]:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    sizes = [options.connections, *(int(n) for n in options.sweep.split(",") if n and int(n) != options.connections)]
    document: dict[str, Any] = {
        "versions": found,
        "cores": cores.text(),
        "load_before": os.getloadavg()[0],
        "sizes": {},
    }
    with store_on(folder, cores.others) as store, running(store, cores, folder, names) as bench:
        names = faster(bench, names, options.connections)
        for connections in sizes:
            count = options.rounds if connections == options.connections else 1
            rounds: dict[str, list[Round]] = defaultdict(list)
            for _ in range(count):
                for name in names:
                    rounds[name].append(bench.round(name, connections=connections, seconds=options.seconds))
            figures = summary(rounds)
            print(report(f"{connections} connections, {count} rounds of {options.seconds:g} s", figures))
            document["sizes"][connections] = {
                "targets": {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()},
                "rate_ratios": ratios(figures),
                "cpu_ratios": cost_ratios(figures),
            }
            if connections == options.connections:
                for name, ratio in ratios(figures).items():
                    aim = AIMS[name[:3]]
                    print(f"celeriac / {name}: {ratio:.2f} (aim {aim:g}: {'met' if ratio >= aim else 'not met'})")
    return document


if __name__ == "__main__":
    main()
