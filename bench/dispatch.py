"""Synchronous calls to remote workers: how many per second does one API process answer, and how fast?

Compares Celeriac with the bare limit: the same call over the same WebSocket hop through uvicorn, in memory, without
storing anything (`peers/bare_gateway.py`). The rounds alternate. The server has one core to itself; callers, workers
and the store share the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop
from figures import Figure, figure, percentile, table, write_json
from load import Load, generate, post
from machine import HOST, Cores, Store, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from websockets.asyncio.client import connect

_CALL = orjson.dumps({"model": "default", "messages": [{"role": "user", "content": "What a small call says."}]})
_RESULT = {"content": "What a small answer says."}
#: How long the workers may take to connect (seconds).
_CONNECTED_S = 120.0
OURS, BARE = "celeriac", "bare WebSocket hop"

_COMMANDS: dict[str, Callable[[int], list[str]]] = {
    OURS: lambda port: python("celeriac", "api", "--host", HOST, "--port", str(port), "--grpc-port", "0"),
    BARE: lambda port: python(
        *("uvicorn", "peers.bare_gateway:app", "--port", str(port), "--loop", "uvloop", "--http", "httptools"),
        *("--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"),
    ),
}


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one round."""

    rate: float
    server_us: float
    p50_ms: float
    p99_ms: float


@asynccontextmanager
async def workers(port: int, count: int) -> AsyncIterator[None]:
    """Keep `count` workers connected that answer at once; all of them are there before the block begins."""
    result = orjson.dumps(_RESULT).decode()
    ready = asyncio.Semaphore(0)

    async def work() -> None:
        async with connect(f"ws://{HOST}:{port}/ws", compression=None, ping_interval=None) as connection:
            await connection.recv()
            await connection.send('{"type":"ready"}')
            ready.release()
            async for text in connection:
                message = orjson.loads(text)
                if message["type"] == "task":
                    task_id = message["taskId"]
                    answer = f'{{"type":"task_complete","taskId":"{task_id}","result":{result},"duration":0}}'
                    await connection.send(answer)

    running = [asyncio.create_task(work()) for _ in range(count)]
    try:
        async with asyncio.timeout(_CONNECTED_S):
            for _ in range(count):
                await ready.acquire()
        await asyncio.sleep(0.5)
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def one_round(port: int, server: Subject, *, callers: int, count: int, seconds: float) -> Round:
    """Run one round; any answer other than a result fails the run."""
    async with workers(port, count):
        load: Load[float] = await generate(
            port,
            post("/api/openai", _CALL, host=HOST),
            connections=callers,
            warm_up_s=0.5,
            measure_s=seconds,
            mark=server.cpu_s,
        )
    return Round(
        load.answered / load.seconds,
        1e6 * (load.after - load.before) / load.answered,
        1e3 * percentile(load.latencies_s, 0.5),
        1e3 * percentile(load.latencies_s, 0.99),
    )


def report(title: str, figures: dict[str, dict[str, Figure]]) -> str:
    """Return the results as a table."""
    bare = figures[BARE]
    rows = [
        [
            name,
            of["rate"].text(),
            of["server_us"].text(),
            f"{of['p50_ms'].median:.1f}",
            f"{of['p99_ms'].median:.1f}",
            f"{of['rate'].median / bare['rate'].median:.2f}",
            f"{of['server_us'].median / bare['server_us'].median:.2f}",
        ]
        for name, of in figures.items()
    ]
    head = ["target", "answers/s", "server CPU µs", "p50 ms", "p99 ms", "rate ×", "CPU ×"]
    return f"\n{title}\n\n{table(head, rows)}"


def measure(store: Store, folder: Path, cores: Cores, options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; print the results and return them."""
    found = versions("celeriac", "uvicorn", "uvloop", "httptools", "websockets", "redis", "hiredis")
    print(f"{cores.text()}; load {os.getloadavg()[0]:.1f}\n{', '.join(f'{n} {v}' for n, v in found.items())}")
    document: dict[str, Any] = {"versions": found, "cores": cores.text(), "sizes": {}}
    environment = {"REDIS_URL": store.url(0), "CELERIAC_LOG_LEVEL": "warning", "MAX_QUEUE_LENGTH": "100000"}
    with ExitStack() as stack:
        servers: dict[str, tuple[Subject, int]] = {}
        for name, command in _COMMANDS.items():
            port = pick_port()
            server = Subject(command(port), core=cores.subject, environment=environment, folder=folder)
            stack.callback(server.end)
            wait_for_port(server, port)
            servers[name] = (server, port)
        for size in options.sizes.split(","):
            callers, count = (int(number) for number in size.split("x"))
            rounds: dict[str, list[Round]] = defaultdict(list)
            for _ in range(options.rounds):
                for name, (server, port) in servers.items():
                    step = one_round(port, server, callers=callers, count=count, seconds=options.seconds)
                    rounds[name].append(uvloop.run(step))
                    store.client(0).flushdb()
            parts = ("rate", "server_us", "p50_ms", "p99_ms")
            figures = {
                name: {part: figure(getattr(one, part) for one in found) for part in parts}
                for name, found in rounds.items()
            }
            print(report(f"{callers} callers, {count} workers, {options.rounds} rounds", figures))
            document["sizes"][size] = {
                name: {part: of.as_json() for part, of in found.items()} for name, found in figures.items()
            }
    return document


def main() -> None:
    """Measure and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each target (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round (4)")
    parser.add_argument("--sizes", default="1x1,64x64,200x1000", help="callers x workers, separated by commas")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON too (- for standard output)")
    options, _ = parser.parse_known_args()
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.others})
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder, store_on(Path(folder), cores.others) as store:
        document = measure(store, Path(folder), cores, options)
    if options.json:
        write_json(options.json, "dispatch", document)


if __name__ == "__main__":
    main()
