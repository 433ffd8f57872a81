"""An API process whose event loop is blocked keeps what its remote workers run."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx

from celeriac.store.task_store import TaskStore
from tests.kit.chaos.api_process import ApiProcess
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually


async def test_what_remote_workers_run_outlives_a_blocked_api_and_no_worker_is_called_silent(
    tmp_path: Path, valkey_url: str, store: TaskStore
) -> None:
    process = ApiProcess(
        tmp_path,
        valkey_url,
        CELERIAC_IMPORTS="[tests.kit.chaos.blocking_signal]",
        CELERIAC_LEASE="8",
        CELERIAC_BLOCKED_LOOP__WARNING="1",
        CELERIAC_DISPATCH__PING_INTERVAL="0.5",
        CELERIAC_DISPATCH__BUSY_TIMEOUT="8",
        CELERIAC_DISPATCH__IDLE_TIMEOUT="8",
    )
    await process.start()
    try:
        async with (
            httpx.AsyncClient(base_url=process.url, timeout=60) as http,
            worker(process.url) as quick,
            worker(process.url) as slow,
        ):

            async def submit(**fields: object) -> str:
                body = {"type": "remote", "payload": {"data": {}}, "max_retries": 0, **fields}
                return str((await http.post("/api/v1/tasks", json=body)).json()["task_id"])

            limited = await submit(timeout=9)
            assert (await quick.take())["taskId"] == limited
            unlimited = await submit()
            assert (await slow.take())["taskId"] == unlimited
            process.send(signal.SIGUSR1)
            await eventually(lambda: "event loop has been blocked" in process.said(), because="it is noticed")
            # It answers in time; nobody reads the answer for a while.
            await quick.say(type="task_complete", taskId=limited, result=1, duration=1)
            await eventually(lambda: "runs again after" in process.said(), because="the block ends")
            for _ in range(20):
                assert await store.reap() == (0, 0, 0)
                await asyncio.sleep(0.05)
            await slow.say(type="task_complete", taskId=unlimited, result=2, duration=1)
            for task_id in (limited, unlimited):

                async def completed(task_id: str = task_id) -> bool:
                    record = (await http.get(f"/api/v1/tasks/{task_id}")).json()
                    assert record["status"] in ("processing", "completed"), record
                    return bool(record["status"] == "completed")

                await eventually(completed, because="its answer counts")
                assert (await store.get(task_id)).attempt == 1
            # Both connections are still there.
            await quick.hear_nothing()
            await slow.hear_nothing()
        assert "does not answer" not in process.said()
        assert "blocking_signal.py" in process.said()
    finally:
        process.stop()
