"""How many users can one API process notify about their tasks?

Each user has a WebSocket and a running task; progress reports arrive at a steady rate, for one user after the other.
The benchmark checks that each report arrives once and in order, and measures its delay and the CPU time of the process.
The same run sends the same messages through a bare WebSocket server, which only forwards pub/sub and stores nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import redis.asyncio as redis
from figures import percentile, table, write_json
from machine import HOST, Subject, choose_cores, pick_port, python, store_on, versions, wait_for_port
from websockets.asyncio.client import connect

from celeriac.access.tokens import mint_token
from celeriac.settings import Settings
from celeriac.store.notified import NotifiedTasks
from celeriac.store.task_store import TaskStore

#: Sends report `number` (from 1) of a user.
Report = Callable[[int, int], Awaitable[None]]


class User:
    """One connected user, and the messages that arrived."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.numbers: list[int] = []
        self.late_s: list[float] = []

    async def listen(self, address: str) -> None:
        """Read until cancelled."""
        async with connect(address, open_timeout=60, compression=None, max_queue=None) as connection:
            async for text in connection:
                message = json.loads(text)
                if message["type"] in ("connected", "active_tasks"):
                    self.connected.set()
                elif message.get("status") == "progress":
                    sent_at, _, number = message["message"].partition(" ")
                    self.late_s.append(time.time() - float(sent_at))
                    self.numbers.append(int(number))


async def measured(
    users: int, rate: int, seconds: int, address: Callable[[int], str], report: Report, subject: Subject, pid: int
) -> dict[str, Any]:
    """Connect all users, send reports at this rate, and return the results."""
    process = psutil.Process(pid)
    memory = process.memory_info().rss
    crowd = [User() for _ in range(users)]
    listening: list[asyncio.Task[None]] = []
    for start in range(0, users, 50):
        some = range(start, min(start + 50, users))
        listening += [asyncio.create_task(crowd[user].listen(address(user + 1))) for user in some]
        await asyncio.gather(*(crowd[user].connected.wait() for user in some))
    memory = process.memory_info().rss - memory
    expected = rate * seconds
    cpu_s, began = subject.cpu_s(), time.perf_counter()
    sending: set[asyncio.Task[None]] = set()
    for event in range(expected):
        wait_s = began + event / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.ensure_future(report(event % users + 1, event // users + 1))
        sending.add(task)
        task.add_done_callback(sending.discard)
    took_s = time.perf_counter() - began
    give_up_at = time.monotonic() + 20
    while sum(len(user.numbers) for user in crowd) < expected and time.monotonic() < give_up_at:
        await asyncio.sleep(0.05)
    cpu_s = subject.cpu_s() - cpu_s
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, *sending, return_exceptions=True)
    each = [list(range(1, expected // users + 1 + (user < expected % users))) for user in range(users)]
    late_s = [value for user in crowd for value in user.late_s]
    return {
        "events": expected,
        "rate": expected / took_s,
        "delivered": len(late_s),
        "right": sum(user.numbers == wanted for user, wanted in zip(crowd, each, strict=True)),
        "p50_ms": 1000 * percentile(late_s, 0.5),
        "p99_ms": 1000 * percentile(late_s, 0.99),
        "cpu_us_per_event": 1e6 * cpu_s / expected,
        "memory_kib_per_user": memory / users / 1024,
    }


async def ours(url: str, folder: Path, core: int, options: argparse.Namespace) -> dict[str, Any]:
    secret, port = secrets.token_hex(32), pick_port()
    environment = {"REDIS_URL": url, "JWT_SECRET": secret, "CELERIAC_LOG_LEVEL": "warning", "CELERIAC_GRPC_PORT": "0"}
    subject = Subject(python("celeriac", "api", "--port", str(port)), core=core, environment=environment, folder=folder)
    settings = Settings.model_validate({"redis_url": url, "access": {"jwt_secret": secret}})
    try:
        wait_for_port(subject, port)
        tokens = [
            mint_token(settings.access, data_dir=settings.data_dir, user_id=str(user), scopes=[])
            for user in range(1, options.users + 1)
        ]
        async with TaskStore(url, settings.store) as store:
            tasks = NotifiedTasks(store, holder="bench", name="bench")
            for start in range(1, options.users + 1, 200):
                some = range(start, min(start + 200, options.users + 1))
                await asyncio.gather(
                    *(tasks.open(f"t{user}", task_type="bench", user_id=str(user), metadata=None) for user in some)
                )

            async def report(user: int, number: int) -> None:
                await tasks.progress(f"t{user}", 1, message=f"{time.time()} {number}")

            def address(user: int) -> str:
                return f"ws://{HOST}:{port}/api/task/ws/task/{user}?token={tokens[user - 1]}"

            arguments = options.users, options.rate, options.seconds
            return await measured(*arguments, address, report, subject, subject.pid)
    finally:
        subject.end()


async def bare(url: str, folder: Path, core: int, options: argparse.Namespace) -> dict[str, Any]:
    port = pick_port()
    environment = {"REDIS_URL": url, "PORT": str(port)}
    subject = Subject(python("peers.bare_socket"), core=core, environment=environment, folder=folder)
    client = redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(url, max_connections=20))
    try:
        wait_for_port(subject, port)

        async def report(user: int, number: int) -> None:
            text = {
                "type": "task_status", "id": "1795514803319-0", "task_id": f"t{user}", "status": "progress",
                "progress": 1, "message": f"{time.time()} {number}", "step": "",
                "timestamp": "2026-11-24T10:00:00.000Z", "result": None, "error": None,
            }  # fmt: skip
            await client.publish(f"bare:{user}", json.dumps(text))

        arguments = options.users, options.rate, options.seconds
        return await measured(*arguments, lambda user: f"ws://{HOST}:{port}/{user}", report, subject, subject.pid)
    finally:
        await client.aclose()
        subject.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=500, help="events per second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--json", help="write the figures here (- is standard output)")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    cores = choose_cores()
    rounds: list[dict[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as name, store_on(Path(name), cores.others) as store:
        folder = Path(name)
        for turn in range(options.rounds):
            found = {
                "celeriac": asyncio.run(ours(store.url(2 * turn % 32), folder, cores.subject, options)),
                "bare": asyncio.run(bare(store.url(2 * turn % 32 + 1), folder, cores.subject, options)),
            }
            rounds.append(found)
            print(f"{options.users} users, {options.rate} events/s for {options.seconds} s; {cores.text()}")
            print(table(HEAD, [row(name, of) for name, of in found.items()]), flush=True)
    if options.json:
        used = versions("celeriac", "uvicorn", "websockets")
        write_json(options.json, "notify", {"rounds": rounds, "versions": used})


HEAD = ["", "delivered", "users with all, once, in order", "p50 ms", "p99 ms", "CPU µs/event", "KiB/user"]


def row(name: str, of: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    figures = (f"{of[key]:.1f}" for key in ("p50_ms", "p99_ms", "cpu_us_per_event", "memory_kib_per_user"))
    return [name, f"{of['delivered']} of {of['events']}", str(of["right"]), *figures]


if __name__ == "__main__":
    main()
