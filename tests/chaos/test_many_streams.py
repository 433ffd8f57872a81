"""One worker process holds hundreds of gRPC streams at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from celeriac.model import Status
from tests.kit.chaos.running_platform import RunningPlatform, all_events, wait_until_all_ended
from tests.kit.servers import free_port
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(300)

_STREAMS = 500


async def test_one_worker_process_holds_500_grpc_tasks_at_once(tmp_path: Path) -> None:
    port = free_port()
    platform = RunningPlatform(
        tmp_path,
        {
            "grpc_services": {"services": {"demo": {"address": f"127.0.0.1:{port}"}}},
            "up": {"processes": {"executor": f"python examples/python_service/server.py --port {port}"}},
        },
    )
    await platform.start()
    try:
        body = {
            "type": "grpc_task",
            "payload": {"service": "demo", "method": "count", "data": {"seconds": 40, "steps": 10}},
        }
        async with platform.client() as client, platform.store() as store:
            answers = await asyncio.gather(*(client.post("/api/v1/tasks", json=body) for _ in range(_STREAMS)))
            ids = [answer.json()["task_id"] for answer in answers]

            async def all_run() -> bool:
                return (await store.group("default")).running == _STREAMS

            await eventually(all_run, because="all 500 run at the same time", timeout_s=60)
            assert len(platform.pids("worker")) == 1
            tasks = await wait_until_all_ended(store, ids, timeout_s=150)
            assert {task.status for task in tasks} == {Status.COMPLETED}
            progress = [event for event in await all_events(store, ids[0]) if event.kind == "progress"]
            assert [event.fields["percentage"] for event in progress] == [str(10 * i) for i in range(1, 11)]
    finally:
        platform.stop()
