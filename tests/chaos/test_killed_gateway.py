"""The process that holds the connections of remote workers is killed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from celeriac.model import RemoteOrders
from celeriac.settings import Settings
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac.tasks.submission import new_task_id, remote_submission
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


async def test_a_task_that_its_killed_gateway_had_claimed_and_not_sent_goes_to_another_worker(
    processes: tuple[ApiProcess, ApiProcess], store: TaskStore
) -> None:
    """The store has accepted the task and granted the claim; the gateway dies before its worker hears of it."""
    _, second = processes
    settings = Settings()
    dying = RemoteTasks(store, secrets.token_hex(6))
    # A gateway whose workers are connected, as the store sees it.
    await dying.note_presence("default", 1, worker="W1-00000000", facts={"groups": "default"})
    orders = RemoteOrders(deadline_in_ms=60_000, quiet=True, reply_to="celeriac:replies:nobody")
    kind = dying.kind_of(remote_submission(settings, group="default", orders=orders, max_retries=1))
    offer = dying.offer("default", tell=True)
    offer.workers.append("W1-00000000")
    claims: list[asyncio.Future[Any]] = []
    task_id = new_task_id()
    # Both in one round trip, as a gateway with an idle worker sends them; then it is gone.
    await dying.submit(task_id, '{"model":"m","data":{}}', kind, then=lambda: claims.append(dying.claim(offer)))
    (granted,) = dying.read_grants(offer.number, await claims[0]).granted
    assert granted.claim.task_id == task_id
    assert [(e.fields["status"]) for e in await store.events(task_id)] == ["PENDING", "PROCESSING"]
    async with worker(second.url) as other:
        task = await other.take()
        assert (task["taskId"], task["attempt"]) == (task_id, 2)
        await other.say(type="task_complete", taskId=task_id, result="done")

        async def completed() -> bool:
            return (await store.get(task_id)).status == "completed"

        await eventually(completed, because="the other worker has done it")
