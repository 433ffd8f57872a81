"""No-op tasks through one worker process: what does a task cost?

Compares Celeriac (with record, history and events) with stock Celery on the Redis result backend, with dramatiq, huey
and taskiq, each with results in Redis, and with BullMQ on Node. All use the same Valkey with an append-only file, and
their rounds alternate within one run. All tasks are published before the worker starts. After a warm-up, the benchmark
measures the CPU time of the worker with all its children, and of the store, until the last result is stored.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bullmq
import redis
from figures import Figure, figure, table, write_json
from machine import Cores, Store, Subject, child_environment, choose_cores, python, store_on, versions
from noop_types import GROUP

PAYLOAD = {"number": 12345, "text": "what a small task works on", "flags": [True, False]}
#: The longest time that a worker may make no progress, including its start (seconds).
_PATIENCE_S = 60.0
#: How long after the last result there may still be writes: events in batches, acknowledgements (seconds).
_SETTLE_S = 0.5

#: The worker that the others are compared with.
OURS = "celeriac, async"

#: Counts the finished tasks in a database, given the number of tasks sent.
Done = Callable[["redis.Redis", int], int]


def _results(client: redis.Redis, sent: int) -> int:
    # All peers store each result under its own key. The few keys of a queue do not matter.
    return min(int(client.dbsize()), sent)


def _huey_results(client: redis.Redis, sent: int) -> int:
    return int(client.hlen("huey.results.bench"))


def _completed_jobs(client: redis.Redis, sent: int) -> int:
    return int(client.zcard(bullmq.COMPLETED))


def _ended_records(client: redis.Redis, sent: int) -> int:
    return sent - sum(int(client.zcard(f"celeriac:{kind}:{GROUP}")) for kind in ("waiting", "running"))


@dataclass(frozen=True, slots=True)
class Target:
    """One worker, and the module that publishes its tasks."""

    name: str
    argv: list[str]
    sender: str
    done: Done = _results
    environment: dict[str, str] = field(default_factory=dict)


def _celeriac(type_name: str) -> Target:
    return Target(
        f"celeriac, {type_name.removeprefix('bench.noop_')}",
        python("celeriac", "worker", "--groups", GROUP),
        "peers.celeriac_app",
        _ended_records,
        {"CELERIAC_IMPORTS": "[noop_types]", "CELERIAC_LOG_LEVEL": "warning", "BENCH_TYPE": type_name},
    )


def _celery(pool: str, concurrency: int, *, events: bool) -> Target:
    argv = python(
        *("celery", "--app", "peers.celery_app", "worker", "--pool", pool, "--concurrency", str(concurrency)),
        *("--loglevel", "warning", "--without-mingle", "--without-gossip", *(["--task-events"] if events else [])),
    )
    name = f"Celery, {pool}, {'events' if events else 'no events'}"
    return Target(name, argv, "peers.celery_app", environment={"BENCH_RESULTS": "1"})


def _bullmq() -> list[Target]:
    if bullmq.installed() is None:
        return []
    argv, environment = bullmq.worker()
    return [Target("BullMQ", argv, "peers.bullmq_app", _completed_jobs, environment)]


def targets(only: str) -> list[Target]:
    """Return what is compared on this machine: the workers whose name contains one of these texts (all by default)."""
    found = [
        _celeriac("bench.noop_async"),
        _celeriac("bench.noop_sync"),
        *_bullmq(),
        _celery("threads", 8, events=True),
        _celery("threads", 8, events=False),
        _celery("prefork", 1, events=True),
        _celery("prefork", 1, events=False),
        Target("dramatiq", python("dramatiq", "peers.dramatiq_app", "--processes", "1"), "peers.dramatiq_app"),
        Target(
            "huey",
            python("huey.bin.huey_consumer", "peers.huey_app.huey", "--workers", "8", "--quiet"),
            "peers.huey_app",
            _huey_results,
        ),
        Target(
            "taskiq",
            python("taskiq", "worker", "peers.taskiq_app:broker", "--workers", "1", "--log-level", "WARNING"),
            "peers.taskiq_app",
        ),
    ]
    return [target for target in found if any(text in target.name for text in only.split("|"))]


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one worker in one round."""

    worker_us: float
    store_us: float
    rate: float


@dataclass(frozen=True, slots=True)
class Mark:
    """The progress of a round at one moment."""

    done: int
    at: float
    worker_s: float
    store_s: float


class Bench:
    """Runs rounds, one worker at a time, each in its own database."""

    def __init__(self, store: Store, cores: Cores, folder: Path) -> None:
        self._store = store
        self._cores = cores
        self._folder = folder

    def round(self, target: Target, database: int, *, warm_up: int, count: int) -> Round:
        """Run `warm_up` tasks and then `count` tasks through a new worker; raises an error if some do not end."""
        environment = {"BENCH_URL": self._store.url(database), "REDIS_URL": self._store.url(database)}
        environment |= target.environment
        with self._store.client(database) as client:
            client.flushdb()
            self._send(target, environment, warm_up + count)
            worker = Subject(target.argv, core=self._cores.subject, environment=environment, folder=self._folder)
            try:
                before = self._wait(target, worker, client, warm_up + count, until=warm_up)
                last = self._wait(target, worker, client, warm_up + count, until=warm_up + count)
                time.sleep(_SETTLE_S)
                after = self._mark(worker, last.done)
            finally:
                worker.end()
            client.flushdb()
        done = last.done - before.done
        return Round(
            worker_us=(after.worker_s - before.worker_s) / done * 1e6,
            store_us=(after.store_s - before.store_s) / done * 1e6,
            rate=done / (last.at - before.at),
        )

    def _send(self, target: Target, environment: dict[str, str], count: int) -> None:
        subprocess.run(
            [sys.executable, "-m", "peers.send", target.sender, str(count), json.dumps(PAYLOAD)],
            env=child_environment(**environment),
            check=True,
        )

    def _wait(self, target: Target, worker: Subject, client: redis.Redis, sent: int, *, until: int) -> Mark:
        """Wait until this many tasks are done; return the progress at that moment."""
        seen, moved_at = 0, time.perf_counter()
        while (done := target.done(client, sent)) < until:
            worker.check()
            if done > seen:
                seen, moved_at = done, time.perf_counter()
            elif time.perf_counter() - moved_at > _PATIENCE_S:
                raise TimeoutError(f"{target.name}: {sent - done} of {sent} tasks did not end")
            time.sleep(0.02)
        return self._mark(worker, done)

    def _mark(self, worker: Subject, done: int) -> Mark:
        return Mark(done, time.perf_counter(), worker.cpu_s(), self._store.cpu_s())


def summary(rounds: dict[str, list[Round]]) -> dict[str, dict[str, Figure]]:
    """Return the figures of each target."""
    return {
        name: {part: figure(getattr(one, part) for one in of_target) for part in Round.__slots__}
        for name, of_target in rounds.items()
    }


def report(figures: dict[str, dict[str, Figure]]) -> str:
    """Return the table: the costs, and the cost of each worker as a multiple of Celeriac's async worker's."""
    ours = figures.get(OURS)
    rows = [
        [
            name,
            of["worker_us"].text(),
            of["store_us"].text(),
            of["rate"].text(),
            f"{of['worker_us'].median / ours['worker_us'].median:.2f}" if ours else "",
        ]
        for name, of in figures.items()
    ]
    return table(["worker", "worker CPU µs/task", "store CPU µs/task", "tasks/s", "× celeriac, async"], rows)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds per worker (3)")
    parser.add_argument("--tasks", type=int, default=5000, help="tasks of a round (5000)")
    parser.add_argument("--warm-up", type=int, default=2000, help="tasks before those that count (2000)")
    parser.add_argument("--only", default="", help="names of workers that contain this text; `|` between several")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    chosen = targets(options.only)
    found = versions("celeriac", "celery", "kombu", "redis", "hiredis", "dramatiq", "huey", "taskiq", "taskiq-redis")
    found |= bullmq.versions()
    load = os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    rounds: dict[str, list[Round]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
    ):
        bench = Bench(store, cores, Path(folder))
        for _ in range(options.rounds):
            for database, target in enumerate(chosen):
                got = bench.round(target, database, warm_up=options.warm_up, count=options.tasks)
                rounds[target.name].append(got)
    figures = summary(rounds)
    print(f"{options.tasks} tasks, {options.rounds} rounds\n\n{report(figures)}")
    if options.json:
        document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load}
        document["workers"] = {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()}
        write_json(options.json, "throughput", document)


if __name__ == "__main__":
    main()
