"""One worker process holds hundreds of gRPC streams at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from celeriac.model import Status
from tests.kit.chaos.running_platform import RunningPlatform, all_events, wait_until_all_ended
from tests.kit.executors.process import ExecutorProcess
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(300)

_STREAMS = 500


async def test_one_worker_process_holds_500_grpc_tasks_at_once(tmp_path: Path) -> None:
    async with ExecutorProcess() as executor:
        demo = {"address": f"127.0.0.1:{executor.port}", "timeout": "200s"}
        platform = RunningPlatform(tmp_path, {"grpc_services": {"services": {"demo": demo}}})
        await platform.start()
        try:
            await _all_run_at_once_and_end(platform, executor)
        finally:
            platform.stop()


async def _all_run_at_once_and_end(platform: RunningPlatform, executor: ExecutorProcess) -> None:
    # The executor answers nobody before this test has called too.
    data = {"streams": _STREAMS + 1}
    body = {"type": "grpc_task", "payload": {"service": "demo", "method": "wait_for", "data": data}}
    async with platform.client() as client, platform.store() as store:
        answers = await asyncio.gather(*(client.post("/api/v1/tasks", json=body) for _ in range(_STREAMS)))
        ids = [answer.json()["task_id"] for answer in answers]

        async def all_run() -> bool:
            return len((await executor.seen())["running"]) == (await store.group("default")).running == _STREAMS

        await eventually(all_run, because="all 500 run at the same time")
        assert len(platform.pids("worker")) == 1
        assert await executor.ask("wait_for", **data) == {"gathered": _STREAMS + 1}
        tasks = await wait_until_all_ended(store, ids, timeout_s=150)
        assert {task.status for task in tasks} == {Status.COMPLETED}
        for task_id in ids[:1] + ids[-1:]:
            progress = [event for event in await all_events(store, task_id) if event.kind == "progress"]
            assert [event.fields["percentage"] for event in progress] == ["50"]
