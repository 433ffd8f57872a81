"""Whatever is killed, every accepted task ends, once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from celeriac.model import Status
from tests.chaos.running_platform import RunningPlatform, final_states, wait_until_all_ended
from tests.support import eventually

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[RunningPlatform]:
    running = RunningPlatform(
        tmp_path,
        {"imports": ["tests.chaos.chaos_types"], "up": {"workers": 2}, "worker": {"concurrency": 20, "threads": 8}},
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


async def test_every_task_ends_once_when_all_workers_are_killed(platform: RunningPlatform, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    async with platform.client() as client, platform.store() as store:
        kinds = ["nap", "nap_in_thread"] * 100
        ids = await asyncio.gather(*(_submit(client, kind, marks, 1.0) for kind in kinds))
        await eventually(
            lambda: marks.exists() and marks.read_text().count("begin") >= 20, because="some run, others wait"
        )
        running = [i for i in ids if (await store.get(i)).status is Status.PROCESSING]
        assert running
        platform.kill("worker")
        killed_at = time.monotonic()

        async def first_recovered() -> bool:
            return any([(await store.get(i)).attempt == 2 for i in running])

        await eventually(first_recovered, because="a running task is taken over", timeout_s=60)
        print(f"first recovery after {time.monotonic() - killed_at:.1f} s")
        tasks = await wait_until_all_ended(store, ids, timeout_s=90)
        print(f"all 200 ended after {time.monotonic() - killed_at:.1f} s")
        assert {task.status for task in tasks} == {Status.COMPLETED}
        assert [await final_states(store, i) for i in ids] == [["COMPLETED"]] * 200
        # Nothing was completed by two runs.
        ends = Counter(line.split()[1] for line in marks.read_text().splitlines() if line.startswith("end"))
        assert ends == Counter(ids)


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
