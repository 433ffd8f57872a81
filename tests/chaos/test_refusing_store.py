"""A store that answers and refuses: during a failover, with a full memory, while a script runs. Everybody waits."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import redis
import redis.asyncio

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.server.scripts import library
from celeriac.store.task_store import TaskStore
from tests.kit.chaos.api_process import ApiProcess
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, ended, runs, submit, workers_on

pytestmark = pytest.mark.timeout(240)

LEASE_S: Final = 2
#: Longer than a lease.
REFUSES_S: Final = 4.0

Do = Callable[["redis.asyncio.Redis[str]"], Any]


def config(name: str, refusing: str, again: str) -> tuple[Do, Do]:
    """Refuse by a setting of the server."""
    return (
        lambda server: server.config_set(name, refusing),
        lambda server: server.config_set(name, again),
    )


async def occupy(server: redis.asyncio.Redis) -> None:
    await server.config_set("busy-reply-threshold", 200)
    host = server.connection_pool.connection_kwargs

    def run() -> None:
        # It will be killed.
        with redis.Redis(port=host["port"], socket_timeout=60) as own, contextlib.suppress(redis.RedisError):
            own.eval("while true do end", 0)

    threading.Thread(target=run, daemon=True).start()

    async def is_occupied() -> bool:
        try:
            await server.ping()
        except redis.ResponseError as exc:
            return "busy" in str(exc).lower()
        return False

    await eventually(is_occupied, because="the script runs")


#: What an operator or a failover does to the server, and what ends it.
REFUSALS: Final[dict[str, tuple[Do, Do]]] = {
    "READONLY": (lambda server: server.replicaof("127.0.0.1", "1"), lambda server: server.replicaof("NO", "ONE")),
    "OOM": config("maxmemory", "1", "0"),
    "NOREPLICAS": config("min-replicas-to-write", "1", "0"),
    "BUSY": (occupy, lambda server: server.script_kill()),
}


@asynccontextmanager
async def platform(folder: Path, server: ValkeyServer, store: TaskStore) -> AsyncIterator[tuple[Any, list[Any]]]:
    """Run an API, a beat and a worker on a server; gives a client and the worker and the beat."""
    api = ApiProcess(folder, server.url(), CELERIAC_LEASE=str(LEASE_S), CELERIAC_STORE_TIMEOUT="1")
    async with workers_on(folder, server.url()) as workers:
        worker = await workers.start(store, lease=LEASE_S)
        command = [sys.executable, "-m", "celeriac", "beat"]
        beat = WorkerProcess(folder, command, workers.environment(lease=LEASE_S))
        workers.all.append(beat)
        await api.start()
        try:
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
                yield http, [worker, beat]
        finally:
            api.stop()


async def test_everybody_outlives_a_store_that_refuses_and_goes_on_by_itself(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    settings = Settings(lease=LEASE_S)
    admin = redis.asyncio.Redis.from_url(server.url(), decode_responses=True)
    try:
        async with (
            TaskStore(server.url(), settings.store, patience_s=60) as store,
            platform(tmp_path, server, store) as (http, processes),
        ):

            async def submitted() -> httpx.Response:
                return await http.post("/api/v1/tasks", json={"type": "add", "payload": {"numbers": [1]}})

            async def accepted() -> str | None:
                answer = await submitted()
                return str(answer.json()["task_id"]) if answer.status_code == 202 else None

            async def names(code: str) -> bool:
                refused = await submitted()
                assert refused.status_code == 503, (code, refused.text)
                # On a busy machine the second that the API waits for the store may be over before it hears anything.
                detail = refused.json()["detail"]
                assert code in detail or "in time" in detail, detail
                return code in detail

            for code, (refuse, relent) in REFUSALS.items():
                held = await submit(store, "sleeps", {"s": REFUSES_S + 2 * LEASE_S}, max_retries=0)
                await runs(store, held)
                await refuse(admin)
                await eventually(lambda code=code: names(code), because=f"a refused submission names {code}")
                await asyncio.sleep(REFUSES_S)
                for process in processes:
                    assert process.alive, f"{code}: {process.said()}"
                await relent(admin)
                task_id = await eventually(accepted, because=f"after {code} a submission is accepted")
                task = await ended(store, task_id)
                assert task.status is Status.COMPLETED, code
                # Its lease could not be renewed for longer than a lease, and nobody took it away.
                task = await ended(store, held)
                assert (task.status, task.attempt, task.error) == (Status.COMPLETED, 1, None), code

            # Connections that are cut, and scripts that are forgotten, are not even noticed.
            for cut in (["TYPE", "normal"], ["TYPE", "pubsub"]):
                await admin.execute_command("CLIENT", "KILL", *cut)
                await admin.function_flush()
                task_id = await eventually(accepted, because="a submission is accepted")
                assert (await ended(store, task_id)).status is Status.COMPLETED
            assert await admin.function_list(library().name), "they are sent again"
            held = await submit(store, "sleeps", {"s": 4}, max_retries=0)
            await runs(store, held)
            server.kill()
            server.start()
            task = await ended(store, held)
            assert (task.status, task.attempt) == (Status.COMPLETED, 1)
            for process in processes:
                assert process.alive, process.said()
                assert "Unrecoverable" not in process.said()
    finally:
        await admin.aclose()
        server.kill()
