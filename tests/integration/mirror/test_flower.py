"""Remote workers in a real Flower, and for `celery inspect`: `celeriac beat` shows them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.remote_watch import RemoteWatch
from celeriac_tasks.adoption.adopting import own_app
from celeriac_tasks.mirror import mirror as mirroring
from celeriac_tasks.mirror.mirror import RemoteMirror
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker
from tests.kit.servers import free_port
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import celery_command, output_of
from tests.kit.workers.engine_workers import WorkerProcess, Workers, workers_on


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "lease": 2})


@pytest.fixture
async def processes(tmp_path: Path, valkey_url: str) -> AsyncIterator[Workers]:
    async with workers_on(tmp_path, valkey_url) as started:
        yield started


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


def start(processes: Workers, command: list[str], **environment: str) -> WorkerProcess:
    process = WorkerProcess(processes.folder, command, {**processes.environment(), **environment})
    processes.all.append(process)
    return process


@pytest.fixture
def beat(processes: Workers) -> WorkerProcess:
    return start(processes, [sys.executable, "-m", "celeriac", "beat"])


async def submit(http: httpx.AsyncClient, **data: Any) -> str:
    body = {"type": "remote", "queue": "gpu", "payload": {"model": "m", "data": data}}
    return str((await http.post("/api/v1/tasks", json=body)).json()["task_id"])


async def test_flower_lists_remote_workers_shows_their_tasks_and_revokes_them(
    http: httpx.AsyncClient, processes: Workers, beat: WorkerProcess
) -> None:
    port = free_port()
    flower = start(
        processes,
        celery_command("flower", f"--port={port}", "--address=127.0.0.1", "--inspect_timeout=1000"),
        FLOWER_UNAUTHENTICATED_API="true",
    )
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as ui,
        worker(str(http.base_url).rstrip("/"), "gpu", concurrency=2, models=["m"]) as remote,
    ):
        name = f"remote@{remote.worker_id}"  # type: ignore[attr-defined]

        async def online() -> bool:
            try:
                return dict((await ui.get("/api/workers?status=1")).json()).get(name) is True
            except httpx.HTTPError:
                return False

        await eventually(
            online, because=f"Flower sees {name}: {flower.said()[-2000:]} {beat.said()[-2000:]}", timeout_s=40
        )

        async def seen(task_id: str, state: str) -> dict[str, Any]:
            async def look() -> dict[str, Any] | None:
                answer = await ui.get(f"/api/task/info/{task_id}")
                found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
                return found if found.get("state") == state else None

            shown: dict[str, Any] = await eventually(look, because=f"Flower shows {task_id} as {state}")
            return shown

        done, failed, revoked = [await submit(http, n=n) for n in range(3)]
        for task_id in (done, failed):
            assert (await remote.take())["taskId"] == task_id
        running = await seen(done, "STARTED")
        assert (running["name"], running["worker"]) == ("remote.gpu", name)
        assert json.loads(running["kwargs"])["data"] == {"n": 0}

        async def inspected() -> dict[str, Any] | None:
            answer = await ui.get(f"/api/workers?refresh=1&workername={name}")
            found: dict[str, Any] = answer.json().get(name, {}) if answer.status_code == 200 else {}
            # Flower asks each thing by itself, and shows what was answered in time.
            pool = found.get("stats", {}).get("pool", {})
            whole = {"registered", "active_queues"} <= found.keys()
            return found if whole and len(found.get("active", ())) == pool.get("max-concurrency") == 2 else None

        found = await eventually(inspected, because="the worker says what it runs, and how much")
        assert found["registered"] == ["remote.gpu"]
        assert found["active_queues"][0]["name"] == "gpu"
        assert {run["id"] for run in found["active"]} == {done, failed}

        await remote.say(type="task_complete", taskId=done, result={"answer": 42}, duration=5)
        await remote.say(type="task_error", taskId=failed, error="no luck", duration=5)
        succeeded = await seen(done, "SUCCESS")
        assert json.loads(succeeded["result"]) == {"answer": 42}
        assert "no luck" in (await seen(failed, "FAILURE"))["exception"]

        assert (await remote.take())["taskId"] == revoked
        await seen(revoked, "STARTED")
        assert (await ui.post(f"/api/task/revoke/{revoked}?terminate=true")).status_code == 200
        told = await remote.hear()
        assert (told["type"], told["taskId"]) == ("cancel", revoked)
        await seen(revoked, "REVOKED")
        await remote.connection.close()

        async def offline() -> bool:
            return dict((await ui.get("/api/workers?status=1")).json()).get(name) is False

        await eventually(offline, because="Flower sees that it left")


async def test_celery_inspect_reaches_remote_workers_and_another_beat_takes_over(
    http: httpx.AsyncClient, processes: Workers, beat: WorkerProcess
) -> None:
    async with worker(str(http.base_url).rstrip("/"), "gpu") as remote:
        name = f"remote@{remote.worker_id}"  # type: ignore[attr-defined]
        inspect = celery_command("inspect", "--timeout=1", "--json", f"--destination={name}", "ping")

        async def answered() -> bool:
            try:
                said = json.loads(await output_of(inspect, processes.environment()))
            except AssertionError:  # nobody answered: the command fails
                return False
            return bool(said == {name: {"ok": "pong"}})

        await eventually(answered, because=f"{name} answers: {beat.said()}")
        start(processes, [sys.executable, "-m", "celeriac", "beat"])
        beat.kill()
        await eventually(answered, because=f"{name} answers again")


async def test_one_process_at_a_time_shows_the_remote_workers(store: TaskStore) -> None:
    first, second = RemoteWatch(store, holder="first"), RemoteWatch(store, holder="second")
    assert await first.hold(8)
    assert not await second.hold(10)
    assert await first.hold(8)
    # Whoever dies has it for no longer than it said.
    await eventually(lambda: second.hold(10), because="the role runs out")
    assert not await first.hold(10)
    await first.let_go()
    assert await second.hold(10)
    await second.let_go()
    assert await first.hold(10)


async def test_a_monitor_sees_the_end_of_all_it_saw_begin_also_when_it_is_too_fast_to_follow(
    http: httpx.AsyncClient, store: TaskStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "_PAGE", 3)
    monkeypatch.setattr(mirroring, "_PAGES", 1)
    app = own_app(lambda: settings)
    heard: list[dict[str, Any]] = []
    receivers: list[Any] = []

    def listen() -> None:
        with app.connection_for_read() as connection:
            receivers.append(app.events.Receiver(connection, handlers={"*": heard.append}))
            # One subscription until `should_stop`: what is said between two of them is lost.
            # Waking up the workers is what a monitor does first.
            receivers[0].capture(limit=None, wakeup=True)

    def ids(*kinds: str) -> list[str]:
        return [event["uuid"] for event in heard if event["type"] in kinds]

    listening = threading.Thread(target=listen)
    mirror = RemoteMirror(store=store, app=app, most_workers=500)
    await mirror.start()
    listening.start()
    try:
        async with worker(str(http.base_url).rstrip("/"), "gpu", concurrency=20) as remote:

            async def noticed() -> bool:
                # What a monitor says is lost if the mirror does not listen yet. It says so again, as Flower does.
                await asyncio.to_thread(app.control.broadcast, "heartbeat")
                return any(event["type"] == "worker-heartbeat" for event in heard)

            await eventually(noticed, because="a monitor is noticed", interval_s=0.5)
            tasks = [await submit(http, n=n) for n in range(20)]
            for _ in tasks:
                await remote.take()
            await eventually(lambda: set(ids("task-started")) == set(tasks), because="what runs is found out")
            for task_id in tasks:
                await remote.say(type="task_complete", taskId=task_id, result=1, duration=1)
            await eventually(lambda: set(ids("task-succeeded")) == set(tasks), because="what has ended is found out")
            assert sorted(ids("task-started")) == sorted(ids("task-succeeded")) == sorted(tasks)
        await eventually(lambda: any(e["type"] == "worker-offline" for e in heard), because="it left")
    finally:
        for receiver in receivers:
            receiver.should_stop = True
        await mirror.stop()
        await asyncio.to_thread(listening.join)
