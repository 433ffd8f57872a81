"""`kill -9` of workers and recorder while one bulk operation cancels thousands of tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.chaos.running_platform import RunningPlatform
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(240)

MANY = 3000


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[RunningPlatform]:
    running = RunningPlatform(tmp_path, {"imports": ["tests.kit.chaos.chaos_types"], "lease": "2s"})
    await running.start()
    yield running
    running.stop()


async def record(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tasks/{task_id}")
    found: dict[str, Any] = (
        answer.json() if answer.status_code == 200 else {"status": "", "progress": {"percentage": 0}}
    )
    return found


async def test_a_bulk_operation_survives_kills_and_counts_each_task_once(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    async with platform.client() as client:
        later = {"type": "nap", "payload": {"marks": str(tmp_path / "marks")}, "delay": "1h"}
        for _ in range(MANY // 1000):
            answer = await client.post("/api/v1/tasks/batch", json={"tasks": [later] * 1000})
            assert {result["status"] for result in answer.json()["results"]} == {202}
        answer = await client.post("/api/v1/bulk", json={"action": "cancel", "filter": {"type": "nap"}})
        bulk_id = answer.json()["task_id"]
        platform.kill("beat")

        kills = 0
        for share in (5, 30, 60):

            async def reached(share: int = share) -> bool:
                found = await record(client, bulk_id)
                return found["status"] == "completed" or found["progress"]["percentage"] >= share

            await eventually(reached, because=f"{share} percent are done", timeout_s=60, interval_s=0.005)
            if (await record(client, bulk_id))["status"] != "completed":
                platform.kill("worker", "beat")
                kills += 1
        assert kills >= 1

        async def ended() -> dict[str, Any] | None:
            found = await record(client, bulk_id)
            return found if found["status"] in ("completed", "failed") else None

        found = await eventually(ended, because="the operation ends", timeout_s=90)
        assert found["status"] == "completed", found
        assert found["result"] == {"matched": MANY, "done": MANY, "skipped": 0, "failed": 0, "errors": []}

        async def history_knows() -> bool:
            dry = {"action": "cancel", "filter": {"type": "nap"}, "dry_run": True}
            return (await client.post("/api/v1/bulk", json=dry)).json()["matched"] == 0

        await eventually(history_knows, because="the history has caught up", timeout_s=60)
        chart = (await client.get("/api/v1/stats", params={"type": "nap"})).json()
        assert chart["total"]["cancelled"] == MANY
