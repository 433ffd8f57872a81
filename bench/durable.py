"""What does a durable step cost, and what does a signal to a task that waits for it?

A step is stored by one script call, so it is compared with the bare limit: as many round trips of an asyncio client
that sets a field of a hash, on the same store with an append-only file. A signal wakes a suspended handler, which runs
again and completes: counted from the `POST` until a stream of server-sent events says `done`. Rounds alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from figures import figure, percentile, table, write_json
from machine import HOST, Cores, Store, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from noop_types import GROUP
from redis.asyncio import Redis

#: Tasks before those that are measured.
_WARM_UP: Final = 5


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one subject in one round, per step or signal."""

    worker_us: float
    store_us: float
    api_us: float
    #: From the beginning to the end (ms): of all steps divided by their number, or the median of the signals.
    wall_ms: float


class Platform:
    """One API process and one worker on a store."""

    def __init__(self, store: Store, cores: Cores, folder: Path, stack: ExitStack) -> None:
        port = pick_port()
        environment = {
            "REDIS_URL": store.url(0),
            "CELERIAC_PORT": str(port),
            "CELERIAC_LOG_LEVEL": "warning",
            "CELERIAC_IMPORTS": "[durable_types]",
        }
        self._store = store
        self._api = Subject(
            python("celeriac", "api", "--grpc-port", "0"), core=cores.others, environment=environment, folder=folder
        )
        stack.callback(self._api.end)
        wait_for_port(self._api, port)
        self._worker = Subject(
            python("celeriac", "worker", "--groups", GROUP), core=cores.subject, environment=environment, folder=folder
        )
        stack.callback(self._worker.end)
        self._http = stack.enter_context(httpx.Client(base_url=f"http://{HOST}:{port}", timeout=120))

    def steps(self, count: int) -> Round:
        """Run one task with so many steps."""
        return self._measured(count, lambda: [self._timed(self._submit("bench.steps", {"count": count})) / count])

    def signals(self, count: int) -> Round:
        """Send so many signals, each to a task of its own, one after another."""
        waiting = [self._submit("bench.waits", {}) for _ in range(count)]
        for task_id in waiting:
            while self._http.get(f"/api/v1/tasks/{task_id}").json()["status"] != "waiting":
                time.sleep(0.05)
        return self._measured(count, lambda: [self._timed(task_id, signal="go") for task_id in waiting])

    def _measured(self, count: int, work: Callable[[], list[float]]) -> Round:
        subjects = (self._worker, self._store, self._api)
        before = [one.cpu_s() for one in subjects]
        took_s = work()
        worker, stored, api = ((one.cpu_s() - was) / count * 1e6 for one, was in zip(subjects, before, strict=True))
        return Round(worker, stored, api, percentile(took_s, 0.5) * 1e3)

    def _submit(self, task_type: str, payload: dict[str, Any]) -> str:
        answer = self._http.post("/api/v1/tasks", json={"type": task_type, "payload": payload, "queue": GROUP})
        return str(answer.raise_for_status().json()["task_id"])

    def _timed(self, task_id: str, *, signal: str | None = None) -> float:
        """Return how long it takes until the task is done, from its signal or from now (seconds)."""
        began = time.perf_counter()
        with self._http.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream") as stream:
            if signal:
                began = time.perf_counter()
                self._http.post(f"/api/v1/tasks/{task_id}/signals/{signal}", json=1).raise_for_status()
            for line in stream.iter_lines():
                if line == "event: done":
                    return time.perf_counter() - began
        raise RuntimeError(f"the stream of {task_id} ended without the end of the task")


async def bare(url: str, count: int) -> float:
    """Return how long a round trip takes that sets one field of a hash (seconds), on an asyncio client."""
    async with Redis.from_url(url) as client:
        await client.ping()
        began = time.perf_counter()
        for number in range(count):
            await client.hset("bare", str(number), "null")
        return (time.perf_counter() - began) / count


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--count", type=int, default=500, help="steps of a task (at most 1000), and signals (500)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()

    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    found, load = versions("celeriac", "redis", "hiredis"), os.getloadavg()[0]
    print(f"{cores.text()}; load {load:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}\n")
    rounds: dict[str, list[Round]] = defaultdict(list)
    bare_ms: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder,
        store_on(Path(folder), cores.others) as store,
        ExitStack() as processes,
    ):
        platform = Platform(store, cores, Path(folder), processes)
        platform.steps(_WARM_UP)
        platform.signals(_WARM_UP)
        for _ in range(options.rounds):
            rounds["step"].append(platform.steps(options.count))
            rounds["signal"].append(platform.signals(options.count))
            bare_ms.append(asyncio.run(bare(store.url(1), options.count)) * 1e3)
    figures = {name: {p: figure(getattr(r, p) for r in of) for p in Round.__slots__} for name, of in rounds.items()}
    rows = [
        [name, *(of[part].text(2 if part == "wall_ms" else 0) for part in Round.__slots__)]
        for name, of in figures.items()
    ]
    limit = figure(bare_ms)
    print(
        table(["", "worker CPU µs", "store CPU µs", "API CPU µs", "ms"], [*rows, ["HSET", "", "", "", limit.text(2)]])
    )
    print(f"\nstep / HSET: {figures['step']['wall_ms'].median / limit.median:.1f}")
    if options.json:
        document: dict[str, Any] = {"versions": found, "cores": cores.text(), "load_before": load}
        document["subjects"] = {name: {part: f.as_json() for part, f in of.items()} for name, of in figures.items()}
        write_json(options.json, "durable", {**document, "bare_ms": limit.as_json()})


if __name__ == "__main__":
    main()
