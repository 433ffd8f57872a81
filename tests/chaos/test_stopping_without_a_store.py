"""Every process that is told to stop ends in time, whatever has become of its store."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.up.run import answers_healthz
from tests.kit.servers import ValkeyServer, free_port
from tests.kit.waiting import Load, eventually
from tests.kit.workers.engine_workers import TYPES, WorkerProcess, Workers, runs, submit, workers_on

pytestmark = pytest.mark.timeout(240)

GRACE_S: Final = 2
#: The grace, and what giving back, disconnecting and leaving take at most (docs/operations.md).
ENDS_WITHIN_S: Final = GRACE_S + 12

CELERIAC: Final = [sys.executable, "-m", "celeriac"]
CELERY: Final = [sys.executable, "-m", "celery", "-A", "celeriac_tasks"]
COMMANDS: Final = {
    "worker": [*CELERIAC, "worker"],
    "idle worker": [*CELERIAC, "worker", "--groups", "idle"],
    "prefork": [*CELERY, "worker", "-P", "prefork", "-c", "1", "-Q", "prefork"],
    "solo": [*CELERY, "worker", "-P", "solo", "-Q", "solo"],
    "threads": [*CELERY, "worker", "-P", "threads", "-c", "2", "-Q", "threads"],
    "beat": [*CELERIAC, "beat"],
    "celery beat": [*CELERY, "beat"],
    "api": [*CELERIAC, "api", "--port", "0", "--grpc-port", "0"],
}


def stall(server: ValkeyServer) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def demote(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url()) as admin:
        admin.replicaof("127.0.0.1", "1")


FAULTS: Final[dict[str, Callable[[ValkeyServer], Any]]] = {
    "gone": ValkeyServer.kill,
    "stalled": stall,
    "demoted": demote,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_process_ends_in_time_without_a_store(tmp_path: Path, fault: str) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with (
            TaskStore(server.url(), Settings().store) as store,
            workers_on(tmp_path, server.url()) as workers,
        ):
            processes = {name: started(workers, tmp_path, command) for name, command in COMMANDS.items()}
            busy = [
                await submit(store, kind, {"s": 60, "numbers": [1]}, group=group)
                for group, kind in [
                    *[("default", kind) for kind in ("sleeps", "spins", "blocks", "stubborn")],
                    *[(group, "polite") for group in ("prefork", "solo", "threads")],
                ]
            ]
            for task_id in busy:
                await runs(store, task_id, timeout_s=60)
            await eventually(lambda: serves(processes["api"]), because="the API serves")
            await eventually(lambda: "beat: promoting" in processes["beat"].said(), because="beat runs")
            FAULTS[fault](server)
            # Celery's thread is in the middle of what it does without a store.
            await asyncio.sleep(4)
            for name, process in processes.items():
                assert process.alive, f"{name}: {process.said()[-3000:]}"
                process.send(signal.SIGTERM)
            began = asyncio.get_running_loop().time()
            took: dict[str, float] = {}
            load = Load()
            while len(took) < len(processes):
                now = asyncio.get_running_loop().time() - began
                took.update({name: now for name, one in processes.items() if name not in took and not one.alive})
                left = {name: one.said()[-1500:] for name, one in processes.items() if name not in took}
                load.look()
                assert now < load.allowance_s(ENDS_WITHIN_S + 4), f"{took}: {left}"
                await asyncio.sleep(0.1)
            print(fault, {name: round(seconds, 1) for name, seconds in took.items()})
            for process in processes.values():
                assert "Unrecoverable" not in process.said(), process.said()
    finally:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)
        server.kill()


async def serves(api: WorkerProcess) -> bool:
    """It says where it listens before it has begun to serve."""
    found = re.search(r"HTTP on 127\.0\.0\.1:(\d+)", api.said())
    return found is not None and await answers_healthz("127.0.0.1", int(found[1]))


def started(workers: Workers, folder: Path, command: list[str]) -> WorkerProcess:
    """Start a process on the store."""
    settings: dict[str, Any] = {
        "imports": [TYPES], "worker__shutdown_grace": GRACE_S, "lease": 15, "dispatch__drain_grace": GRACE_S,
        "data_dir": str(folder / str(free_port())), "database_url": f"sqlite:///{folder / 'history.db'}",
    }  # fmt: skip
    process = WorkerProcess(folder, command, workers.environment(**settings))
    workers.all.append(process)
    return process
