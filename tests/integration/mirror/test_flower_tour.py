"""All that Flower offers over HTTP, against a worker of ours that no line of Flower knows of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.servers import free_port
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, PLAIN, celery_command
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, runs, workers_on

ADD, NAPS = f"{PLAIN}.add", f"{PLAIN}.naps"
WORKER = "w@here"


@pytest.fixture
async def workers(tmp_path: Path, valkey_url: str) -> AsyncIterator[Workers]:
    async with workers_on(tmp_path, valkey_url) as started:
        yield started


class Flower:
    """A running Flower."""

    def __init__(self, http: httpx.AsyncClient, process: WorkerProcess) -> None:
        self.http = http
        self.process = process

    async def get(self, path: str) -> Any:
        """Return what a page or route shows; it must answer 200."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text}\n{self.process.said()[-2000:]}"
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text

    async def post(self, path: str, *, status: int = 200, **body: Any) -> Any:
        """Return the answer to a command."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code == status, f"{path}: {answer.text}\n{self.process.said()[-2000:]}"
        return answer.json() if status == 200 else answer.text

    async def task(self, task_id: str, state: str) -> dict[str, Any]:
        """Return what Flower knows of a task, once it is in this state."""

        async def shown() -> dict[str, Any] | None:
            answer = await self.http.get(f"/api/task/info/{task_id}")
            found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
            return found if found.get("state") == state else None

        found: dict[str, Any] = await eventually(shown, because=f"Flower shows {task_id} as {state}")
        return found


async def test_flower_shows_and_does_all_that_it_does_with_a_stock_worker(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start_command(store, celery_command("worker", "-c", "4", "-n", WORKER), **BOTH)
    port = free_port()
    command = celery_command("flower", f"--port={port}", "--address=127.0.0.1", "--inspect_timeout=2000")
    process = WorkerProcess(
        workers.folder, command, {**workers.environment(**BOTH), "FLOWER_UNAUTHENTICATED_API": "true"}
    )
    workers.all.append(process)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        flower = Flower(http, process)

        async def online() -> bool:
            try:
                return dict((await http.get("/api/workers?status=1")).json()).get(WORKER) is True
            except httpx.HTTPError:
                return False

        await eventually(online, because=f"Flower sees the worker: {process.said()}")

        # Tasks in all ways, and what is shown of them.
        assert (await flower.post(f"/api/task/apply/{ADD}", args=[1, 2]))["result"] == 3
        for way in ("async-apply", "send-task"):
            task_id = (await flower.post(f"/api/task/{way}/{ADD}", args=[1], kwargs={"b": 4}))["task-id"]
            assert (await ended(store, task_id)).result == 5
            info = await flower.task(task_id, "SUCCESS")
            assert (info["name"], info["args"], info["kwargs"], info["result"]) == (ADD, "[1]", "{'b': 4}", "5")
            assert (info["worker"], info["routing_key"]) == (WORKER, "default") or way == "send-task"
            assert (await flower.get(f"/api/task/result/{task_id}"))["result"] == 5
            assert task_id in await flower.get(f"/task/{task_id}")
        assert task_id in await flower.get("/api/tasks")
        assert "task-types" in await flower.get("/api/task/types")
        for page in ("/", "/workers", "/tasks", "/healthcheck"):
            await flower.get(page)

        # A task that waits for a time, and one that runs.
        eta = (await flower.post(f"/api/task/async-apply/{ADD}", args=[1], countdown=900))["task-id"]
        going = (await flower.post(f"/api/task/async-apply/{NAPS}", args=[60]))["task-id"]
        await runs(store, going)

        async def looked() -> dict[str, Any] | None:
            found = (await flower.get(f"/api/workers?refresh=1&workername={WORKER}"))[WORKER]
            # Flower asks each thing by itself, and shows what was answered in time.
            asked = {"stats", "registered", "active_queues", "conf", "revoked", "reserved"}
            return found if found.get("active") and found.get("scheduled") and asked <= found.keys() else None

        found: dict[str, Any] = await eventually(looked, because="Flower asks the worker")
        assert [request["id"] for request in found["active"]] == [going]
        assert [item["request"]["id"] for item in found["scheduled"]] == [eta]
        assert ADD in str(found["registered"])
        assert eta in await flower.get(f"/worker/{WORKER}")
        await flower.post(f"/api/task/revoke/{eta}")
        assert (await ended(store, eta)).status is Status.CANCELLED
        await flower.post(f"/api/task/revoke/{going}?terminate=true")
        assert (await ended(store, going)).status is Status.CANCELLED

        # The broker.
        await store.pause("default")
        waiting = (await flower.post(f"/api/task/async-apply/{ADD}", args=[1]))["task-id"]
        lengths = (await flower.get("/api/queues/length"))["active_queues"]
        assert "default" in {queue["name"] for queue in lengths}
        assert "default" in await flower.get("/broker")
        await store.resume("default")
        await ended(store, waiting)

        # Commands to the worker.
        where = f"workername={WORKER}"
        assert "success" in str(await flower.post(f"/api/task/rate-limit/{ADD}?{where}&ratelimit=100/s"))
        assert "success" in str(await flower.post(f"/api/task/timeout/{NAPS}?{where}&soft=20&hard=30"))
        for path in ("pool/grow", "pool/shrink"):
            await flower.post(f"/api/worker/{path}/{WORKER}?n=1")
        await flower.post(f"/api/worker/pool/autoscale/{WORKER}?min=1&max=2", status=403)
        await flower.post(f"/api/worker/pool/restart/{WORKER}", status=403)
        for path in ("add-consumer", "cancel-consumer"):
            assert "more" in str(await flower.post(f"/api/worker/queue/{path}/{WORKER}?queue=more"))

        metrics = await flower.get("/metrics")
        assert f'flower_events_total{{task="{ADD}",type="task-succeeded",worker="{WORKER}"}}' in metrics
        await flower.post(f"/api/worker/shutdown/{WORKER}")
        assert await worker.gone(20) == 0
