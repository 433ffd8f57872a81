"""Submissions over HTTP: how many per second does one API process accept, and at what cost?

Compares Celeriac with (a) a minimal FastAPI route with one script call, (b) FastAPI routes that call stock Celery's
`delay()`, (c) Flower's `async-apply`, and (d) BullMQ's `add` behind Node's HTTP server; and a batch of many tasks in
one request with (d) BullMQ's `addBulk`. Rates and CPU times are per task. All use the same Valkey with an append-only
file, and their rounds alternate within one run. The server has one core to itself; the client and the store share the
other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bullmq
import orjson
import uvloop
from figures import Figure, figure, percentile, table, write_json
from load import Load, generate, post
from machine import HOST, Cores, Store, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from noop_types import GROUP

PAYLOAD = {"number": 12345, "text": "what a small task works on", "flags": [True, False]}
_TYPED = orjson.dumps({"type": "bench.noop_async", "payload": PAYLOAD})
#: How many tasks a batch has, and from how many connections at most batches come.
BATCH = 100
_BATCH_CONNECTIONS = 8
_BATCH = orjson.dumps({"tasks": [{"type": "bench.noop_async", "payload": PAYLOAD}] * BATCH})
#: kombu's list for the lowest of four priority steps, which contains priority 0.
_MESSAGES = f"{GROUP}\x06\x169"
OURS, OUR_BATCH = "celeriac", "celeriac, batch"
NODE, NODE_BATCH = "(d) Node's http, add", "(d) Node's http, addBulk"
_UVICORN = ("--host", HOST, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class Target:
    """One way to submit. `messages` is the Redis list that must have grown by one per accepted task."""

    name: str
    argv: Callable[[int], list[str]]
    path: str
    body: bytes
    messages: str
    environment: dict[str, str] = field(default_factory=dict)
    #: The name of the target whose server and database this one uses too.
    beside: str | None = None
    #: How many tasks are in one request.
    tasks: int = 1


_PYTHON = (
    Target(
        OURS,
        lambda port: python("celeriac", "api", "--host", HOST, "--port", str(port), "--grpc-port", "0"),
        "/api/v1/tasks",
        _TYPED,
        _MESSAGES,
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
#: How many times a target's rate Celeriac should reach; with BullMQ, CPU times are compared, by the same number.
AIMS = {"(a)": 1.5, "(b)": 5.0, "(c)": 8.0, "(d)": 1.0}


def targets(only: str) -> list[Target]:
    """Return what is compared on this machine: the targets whose name contains one of these texts (all by default)."""
    our_batch = replace(_PYTHON[0], name=OUR_BATCH, path=f"{_PYTHON[0].path}/batch", body=_BATCH, tasks=BATCH)
    found = [*_PYTHON, replace(our_batch, beside=OURS)]
    if bullmq.installed() is not None:
        node = Target(NODE, lambda port: bullmq.command("server.mjs", str(port)), "/tasks", _TYPED, bullmq.WAITING)
        found.append(node)
        found.append(replace(node, name=NODE_BATCH, path="/tasks/batch", body=_BATCH, tasks=BATCH, beside=NODE))
    return [target for target in found if any(text in target.name for text in only.split("|"))]


def ours_for(name: str) -> str:
    """Return the name of our target that a target is compared with."""
    return OUR_BATCH if name == NODE_BATCH else OURS


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPU time used so far (seconds)."""

    server: float
    store: float


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one target in one round: tasks per second, CPU times per task, latencies of a request."""

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
                connections=min(connections, _BATCH_CONNECTIONS) if target.tasks > 1 else connections,
                warm_up_s=0.5,
                measure_s=seconds,
                mark=lambda: Cpu(server.cpu_s(), self._store.cpu_s()),
            )
        )
        stored = int(redis.llen(target.messages))
        if stored != load.sent * target.tasks:
            raise RuntimeError(
                f"{name}: {load.sent * target.tasks} tasks were accepted, {stored} messages are in the store"
            )
        redis.flushdb()
        redis.close()
        accepted = load.answered * target.tasks
        return Round(
            rate=accepted / load.seconds,
            server_us=(load.after.server - load.before.server) / accepted * 1e6,
            store_us=(load.after.store - load.before.store) / accepted * 1e6,
            p50_ms=percentile(load.latencies_s, 0.5) * 1000,
            p99_ms=percentile(load.latencies_s, 0.99) * 1000,
        )


@contextmanager
def running(store: Store, cores: Cores, folder: Path, chosen: list[Target]) -> Iterator[Bench]:
    """Run the servers of these targets."""
    with ExitStack() as stack:
        subjects: dict[str, tuple[Target, Subject, int, int]] = {}
        for database, target in enumerate(chosen):
            if target.beside in subjects:
                subjects[target.name] = (target, *subjects[target.beside][1:])
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


def without_batches(names: list[str]) -> list[str]:
    """Return the names without those that send many tasks in one request."""
    return [name for name in names if name not in {OUR_BATCH, NODE_BATCH}]


def summary(rounds: dict[str, list[Round]]) -> dict[str, dict[str, Figure]]:
    """Return the figures of each target."""
    return {
        name: {part: figure(getattr(one, part) for one in of_target) for part in Round.__slots__}
        for name, of_target in rounds.items()
    }


def compared(figures: dict[str, dict[str, Figure]]) -> Iterator[tuple[str, dict[str, Figure], dict[str, Figure]]]:
    """Yield the name and the figures of each other target, with the figures of ours that it is compared with."""
    for name, of in figures.items():
        ours = figures.get(ours_for(name))
        if ours is not None and name not in {OURS, OUR_BATCH}:
            yield name, of, ours


def ratios(figures: dict[str, dict[str, Figure]]) -> dict[str, float]:
    """Return Celeriac's rate as a multiple of each other target's rate."""
    return {name: ours["rate"].median / of["rate"].median for name, of, ours in compared(figures)}


def cost_ratios(figures: dict[str, dict[str, Figure]]) -> dict[str, float]:
    """Return each other target's CPU time as a multiple of Celeriac's; on a busy machine it varies less than rates."""
    return {name: of["server_us"].median / ours["server_us"].median for name, of, ours in compared(figures)}


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
    parser.add_argument("--only", default="", help="names of targets that contain this text; `|` between several")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder:
        document = measure(Path(folder), cores, targets(options.only), options)
    if options.json:
        write_json(options.json, "submit", document)


def measure(folder: Path, cores: Cores, chosen: list[Target], options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; print the results and return them."""
    found = versions("celeriac", "fastapi", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "celery", "flower")
    found |= bullmq.versions()
    print(f"{cores.text()}; load {os.getloadavg()[0]:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    sizes = [options.connections, *(int(n) for n in options.sweep.split(",") if n and int(n) != options.connections)]
    document: dict[str, Any] = {
        "versions": found,
        "cores": cores.text(),
        "load_before": os.getloadavg()[0],
        "sizes": {},
    }
    with store_on(folder, cores.others) as store, running(store, cores, folder, chosen) as bench:
        names = faster(bench, [target.name for target in chosen], options.connections)
        for connections in sizes:
            main = connections == options.connections
            count = options.rounds if main else 1
            rounds: dict[str, list[Round]] = defaultdict(list)
            for _ in range(count):
                for name in names if main else without_batches(names):
                    got = bench.round(name, connections=connections, seconds=options.seconds)
                    rounds[name].append(got)
            figures = summary(rounds)
            print(report(f"{connections} connections, {count} rounds of {options.seconds:g} s", figures))
            document["sizes"][connections] = {
                "targets": {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()},
                "rate_ratios": ratios(figures),
                "cpu_ratios": cost_ratios(figures),
            }
            if main:
                for name, ratio in ratios(figures).items():
                    aim = AIMS[name[:3]]
                    what = "rate"
                    if name in {NODE, NODE_BATCH}:
                        what, ratio = "CPU time", cost_ratios(figures)[name]
                    print(f"{name}, {what} ×: {ratio:.2f} (aim {aim:g}: {'met' if ratio >= aim else 'not met'})")
    return document


if __name__ == "__main__":
    main()
