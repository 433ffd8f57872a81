"""Whatever is killed, every accepted task ends, once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.model import Event, Status
from celeriac.store.task_store import TaskStore
from tests.kit.chaos.running_platform import RunningPlatform, alive, all_events, final_states, wait_until_all_ended
from tests.kit.servers import free_port
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[RunningPlatform]:
    executor = free_port()
    running = RunningPlatform(
        tmp_path,
        {
            "imports": ["tests.kit.chaos.chaos_types"],
            "up": {
                "workers": 2,
                "processes": {"executor": f"python examples/python_service/server.py --port {executor}"},
            },
            "worker": {"threads": 8},
            "grpc_services": {"services": {"demo": {"address": f"127.0.0.1:{executor}"}}},
            "files": {"storage_path": str(tmp_path / "storage"), "allowed_roots": [str(tmp_path)]},
        },
    )
    await running.start()
    yield running
    running.stop()


async def _submit(client: httpx.AsyncClient, kind: str, marks: Path, seconds: float) -> str:
    answer = await client.post(
        "/api/v1/tasks", json={"type": kind, "payload": {"marks": str(marks), "seconds": seconds}}
    )
    answer.raise_for_status()
    return str(answer.json()["task_id"])


async def _submit_of_every_kind(client: httpx.AsyncClient, folder: Path, marks: Path, gate: Path) -> dict[str, str]:
    """Submit 170 tasks of four kinds; return for each id how its marks name it, '' if it leaves none."""
    nap = {"marks": str(marks), "gate": str(gate), "seconds": 0}
    call = {"service": "demo", "method": "count", "data": {"seconds": 10, "steps": 5}}

    async def one(kind: str, payload: dict[str, Any], name: str | None = None) -> tuple[str, str]:
        answer = await client.post("/api/v1/tasks", json={"type": kind, "payload": payload})
        assert answer.status_code == 202, answer.text
        task_id = answer.json()["task_id"]
        return task_id, task_id if name is None else name

    # Each has a process of its own. The two workers have 16 threads for them: some wait.
    paths = [folder / f"file-{number}.txt" for number in range(20)]
    for path in paths:
        path.write_text(path.name)
    # What takes longest to begin comes first; what waits for a thread holds up what comes after it.
    names = await asyncio.gather(
        *(one("file_process", {"processor": "nap", "path": str(p), "options": nap}, p.name) for p in paths),
        *(one("nap", nap) for _ in range(50)),
    )
    await eventually(
        lambda: marks.exists() and "begin file-" in marks.read_text(), because="a child has begun", timeout_s=60
    )
    names += await asyncio.gather(*(one("grpc_task", call, "") for _ in range(50)))
    names += await asyncio.gather(*(one("nap_in_thread", nap) for _ in range(50)))
    return dict(names)


async def test_every_task_ends_once_when_all_workers_are_killed(platform: RunningPlatform, tmp_path: Path) -> None:
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    kinds = {"nap", "nap_in_thread", "grpc_task", "file_process"}
    async with platform.client() as client, platform.store() as store:
        names = await _submit_of_every_kind(client, tmp_path, marks, gate)

        async def every_kind_runs() -> bool:
            tasks = await asyncio.gather(*(store.get(task_id) for task_id in names))
            return {t.type for t in tasks if t.status is Status.PROCESSING} == kinds

        await eventually(every_kind_runs, because="some of each kind run, others wait", timeout_s=60)
        family = platform.family("worker")
        platform.kill("worker")
        killed_ms = time.time() * 1000
        await eventually(lambda: not any(map(alive, family)), because="they end, and what they started with them")
        # None of the runs that were killed has ended.
        gate.touch()
        tasks = await wait_until_all_ended(store, names, timeout_s=120)
        assert {task.status for task in tasks} == {Status.COMPLETED}
        assert [await final_states(store, task_id) for task_id in names] == [["COMPLETED"]] * len(names)
        again = [task for task in tasks if task.attempt == 2]
        assert {task.type for task in again} == kinds, "of each kind, one that ran was taken over"
        assert {task.attempt for task in tasks} == {1, 2}
        # Nothing was completed by two runs.
        ends = Counter(line.split()[1] for line in marks.read_text().splitlines() if line.startswith("end"))
        assert ends == Counter(name for name in names.values() if name)
        first = min([int(e.id.partition("-")[0]) for t in again for e in await _starts(store, t.task_id)])
        last = max(task.finished_at.timestamp() * 1000 for task in tasks if task.finished_at)
        print(f"{len(again)} taken over, the first {(first - killed_ms) / 1000:.1f} s after the kill;", end=" ")
        print(f"all ended after {(last - killed_ms) / 1000:.1f} s")


async def _starts(store: TaskStore, task_id: str) -> list[Event]:
    """Return the events of the task that begin its second attempt."""
    return [
        event
        for event in await all_events(store, task_id)
        if event.kind == "status" and event.fields["status"] == "PROCESSING" and event.fields["attempt"] == "2"
    ]


async def test_everything_answered_ends_after_all_was_killed(platform: RunningPlatform, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    accepted: list[str] = []

    async def keep_submitting(client: httpx.AsyncClient) -> None:
        while True:
            try:
                accepted.append(await _submit(client, "nap", marks, 0.3))
            except httpx.HTTPError:
                return

    async with platform.client() as client:
        submitters = [asyncio.create_task(keep_submitting(client)) for _ in range(8)]
        await eventually(lambda: len(accepted) >= 300, because="submissions go on")
        await platform.kill_everything()
        await asyncio.gather(*submitters)
    await platform.start()
    async with platform.store() as store:
        tasks = await wait_until_all_ended(store, accepted, timeout_s=120)
        assert {task.status for task in tasks} == {Status.COMPLETED}
        assert {tuple(await final_states(store, i)) for i in accepted} == {("COMPLETED",)}


async def test_the_store_is_killed_again_and_again_under_load(platform: RunningPlatform, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    accepted: list[str] = []
    stop = asyncio.Event()

    async def keep_submitting(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            try:
                accepted.append(await _submit(client, "nap", marks, 0.1))
            except httpx.HTTPStatusError as exc:
                assert exc.response.status_code == 503  # said clearly, and nothing was accepted
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.01)

    async with platform.client() as client:
        submitters = [asyncio.create_task(keep_submitting(client)) for _ in range(4)]
        for death in range(1, 4):
            wanted = death * 100
            await eventually(lambda wanted=wanted: len(accepted) >= wanted, because="submissions go on", timeout_s=60)
            platform.kill("valkey-server")
        await eventually(lambda: len(accepted) >= 400, because="submissions go on", timeout_s=60)
        stop.set()
        await asyncio.gather(*submitters)
    async with platform.store() as store:
        tasks = await wait_until_all_ended(store, accepted, timeout_s=120)
        assert {task.status for task in tasks} == {Status.COMPLETED}
        assert {tuple(await final_states(store, i)) for i in accepted} == {("COMPLETED",)}


async def test_api_and_beat_may_die_at_any_time(platform: RunningPlatform, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    async with platform.client() as client, platform.store() as store:
        ids = [await _submit(client, "nap", marks, 0.5) for _ in range(50)]
        before = platform.pids("api", "beat")
        platform.kill("api", "beat")
        await wait_until_all_ended(store, ids, timeout_s=60)
        await eventually(lambda: not set(before) & set(platform.pids("api", "beat")), because="they are started again")

        async def serves() -> bool:
            try:
                return (await client.get(f"/api/v1/tasks/{ids[0]}")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(serves, because="the API answers again")
