"""The process that holds the connections of remote workers is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.chaos.api_process import ApiProcess
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def processes(tmp_path: Path, valkey_url: str) -> AsyncIterator[tuple[ApiProcess, ApiProcess]]:
    pair = (ApiProcess(tmp_path, valkey_url), ApiProcess(tmp_path, valkey_url))
    await asyncio.gather(*(process.start() for process in pair))
    yield pair
    for process in pair:
        process.stop()


async def test_the_tasks_of_a_killed_gateway_go_on_or_fail_as_the_contract_says(
    processes: tuple[ApiProcess, ApiProcess],
) -> None:
    first, second = processes
    async with httpx.AsyncClient(base_url=second.url, timeout=60) as http:

        async def call(**body: Any) -> tuple[int, Any]:
            answer = await http.post("/api/openai", json={"data": {}, **body})
            return answer.status_code, answer.json()

        async def state(task_id: str) -> dict[str, Any]:
            found: dict[str, Any] = (await http.get(f"/api/task/{task_id}")).json()
            return found

        async def hopeless() -> bool:
            return await call(group="only-there", timeout=5000) == (503, {"error": "No worker available"})

        async with worker(second.url) as staying:
            await staying.say(type="drain")
            await staying.hear_nothing()
            async with worker(first.url, concurrency=3) as leaving, worker(first.url, "only-there"):
                # One caller waits on the process that lives; the worker is on the one that dies.
                waiting = asyncio.create_task(call(maxRetries=1))
                again = (await leaving.take())["taskId"]
                _, found = await call(**{"async": True})
                once = (await leaving.take())["taskId"]
                assert once == found["taskId"]
                first.kill()
                killed_at = time.monotonic()
                with pytest.raises(ConnectionClosed):
                    await leaving.connection.recv()
            await eventually(hopeless, because="a group that nobody serves any more is known")
            await staying.say(type="ready")
            task = await staying.take()
            assert (task["taskId"], task["attempt"]) == (again, 2)
            await staying.say(type="task_complete", taskId=again, result="on another worker")
            assert await waiting == (200, {"taskId": again, "status": "completed", "result": "on another worker"})

            async def failed() -> bool:
                return (await state(once))["status"] == "failed"

            await eventually(failed, because="a task without retries fails")
            assert (await state(once))["error"] == "Worker disconnected"
            print(f"both ended {time.monotonic() - killed_at:.1f} s after the kill")
