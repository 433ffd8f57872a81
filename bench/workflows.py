"""Graphs of no-op tasks through one worker process: what does a node cost?

Compares a workflow of Celeriac (submitted over HTTP, with record, history and events of each node) with a canvas of
stock Celery on the Redis result backend, and with a flow of BullMQ if Node is there. Shapes: a chain, and a fan-in
(all nodes but one, and the last one after all of them). All use the same Valkey with an append-only file, and rounds
alternate within one run. The time of the store includes the submission.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bullmq
from figures import Figure, figure, table, write_json
from machine import (
    HOST,
    Cores,
    Store,
    Subject,
    child_environment,
    choose_cores,
    pick_port,
    python,
    store_on,
    versions,
    wait_for_port,
)
from noop_types import GROUP

#: How many tasks a worker runs at once; stock Celery's threads as many.
_AT_ONCE: Final = 8
#: How long after the last result there may still be writes (seconds).
_SETTLE_S: Final = 0.5
SHAPES: Final = ("chain", "fan")


@dataclass(frozen=True, slots=True)
class Target:
    """A worker, and the program that publishes one graph (`chain` or `fan`, number) and waits for its end."""

    name: str
    worker: list[str]
    publisher: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    #: A server that the publisher talks to, not measured.
    server: list[str] | None = None


def targets() -> list[Target]:
    """Return what is compared on this machine."""
    found = [
        Target(
            "celeriac",
            python("celeriac", "worker", "--groups", GROUP),
            python("peers.workflow"),
            {"CELERIAC_IMPORTS": "[noop_types]", "CELERIAC_LOG_LEVEL": "warning", "BENCH_TYPE": "bench.noop_async"},
            python("celeriac", "api", "--grpc-port", "0"),
        ),
        Target(
            "Celery, threads",
            python(
                *("celery", "--app", "peers.canvas_app", "worker", "--pool", "threads"),
                *("--concurrency", str(_AT_ONCE), "--loglevel", "warning", "--without-mingle", "--without-gossip"),
            ),
            python("peers.canvas_app"),
        ),
    ]
    if bullmq.installed() is not None:
        worker, environment = bullmq.worker(_AT_ONCE)
        found.append(Target("BullMQ", worker, bullmq.command("flow.mjs"), environment))
    return found


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one target in one round, per node."""

    worker_us: float
    store_us: float
    wall_us: float


def run(target: Target, shape: str, store: Store, cores: Cores, folder: Path, count: int, database: int) -> Round:
    """Run a small graph to warm up, and then one of `count` nodes."""
    port = pick_port()
    environment = {
        "BENCH_URL": store.url(database),
        "REDIS_URL": store.url(database),
        "BENCH_API": f"http://{HOST}:{port}",
        "CELERIAC_PORT": str(port),
        "PYTHONWARNINGS": "ignore",
        **target.environment,
    }
    with store.client(database) as client, ExitStack() as stack:
        client.flushdb()
        if target.server:
            server = Subject(target.server, core=cores.others, environment=environment, folder=folder)
            stack.callback(server.end)
            wait_for_port(server, port)
        worker = Subject(target.worker, core=cores.subject, environment=environment, folder=folder)
        stack.callback(worker.end)
        _publish(target, environment, shape, 20)
        worker_s, store_s = worker.cpu_s(), store.cpu_s()
        wall_s = _publish(target, environment, shape, count)
        time.sleep(_SETTLE_S)
        worker_s, store_s = worker.cpu_s() - worker_s, store.cpu_s() - store_s
    return Round(*(seconds / count * 1e6 for seconds in (worker_s, store_s, wall_s)))


def _publish(target: Target, environment: dict[str, str], shape: str, count: int) -> float:
    """Run one graph and return how long it took from its publication to its end (seconds)."""
    command = [*target.publisher, shape, str(count)]
    done = subprocess.run(command, env=child_environment(**environment), check=True, capture_output=True, text=True)
    return sum(map(float, done.stdout.split()))


def main() -> None:
    """Measure, and print a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per target and shape (3)")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of a graph (1000)")
    parser.add_argument("--only", default="", help="measure only the targets with this text in their names")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    compared = [target for target in targets() if options.only.lower() in target.name.lower()]
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    found = versions("celeriac", "celery", "kombu", "redis", "hiredis") | bullmq.versions()
    load = os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}")
    rounds: dict[tuple[str, str], list[Round]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
    ):
        for _ in range(options.rounds):
            for shape in SHAPES:
                for number, target in enumerate(compared):
                    measured = run(target, shape, store, cores, Path(folder), options.nodes, number)
                    rounds[shape, target.name].append(measured)
    document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load, "shapes": {}}
    for shape in SHAPES:
        figures = {target.name: _figures(rounds[shape, target.name]) for target in compared}
        rows = [[name, *(of[part].text() for part in Round.__slots__)] for name, of in figures.items()]
        print(f"\n{shape} of {options.nodes} nodes, {options.rounds} rounds\n")
        print(table([shape, "worker CPU µs/node", "store CPU µs/node", "wall µs/node"], rows))
        document["shapes"][shape] = {n: {part: f.as_json() for part, f in of.items()} for n, of in figures.items()}
    if options.json:
        write_json(options.json, "workflows", document)


def _figures(rounds: list[Round]) -> dict[str, Figure]:
    return {part: figure(getattr(one, part) for one in rounds) for part in Round.__slots__}


if __name__ == "__main__":
    main()
