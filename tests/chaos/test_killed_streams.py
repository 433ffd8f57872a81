"""A worker process that holds hundreds of streams of a gRPC executor, as it runs and as it dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.executors.process import ExecutorProcess
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, statuses, submit, workers_on

pytestmark = pytest.mark.timeout(240)

STREAMS = 500


@pytest.fixture
async def workers(tmp_path: Path, valkey_url: str) -> AsyncIterator[Workers]:
    async with workers_on(tmp_path, valkey_url) as started:
        yield started


async def test_500_streams_of_one_worker_process_are_taken_over_when_it_is_killed(
    workers: Workers, store: TaskStore
) -> None:
    async with ExecutorProcess() as executor:
        services = {"services": {"svc": {"address": f"127.0.0.1:{executor.port}", "timeout": "200s"}}}
        worker = await workers.start(store, grpc_services=services)
        # The executor answers nobody before each of them has called twice.
        call = {"service": "svc", "method": "wait_for", "data": {"streams": 2 * STREAMS}}
        ids = [await submit(store, "grpc_task", call) for _ in range(STREAMS)]

        async def all_run() -> bool:
            return len((await executor.seen())["running"]) == STREAMS

        await eventually(all_run, because="all streams are open at the same time", timeout_s=60)
        assert psutil.Process(worker.process.pid).num_threads() < 100, "streams cost no threads"

        worker.kill()
        await workers.start(store, grpc_services=services)
        for task_id in ids:
            task = await ended(store, task_id, timeout_s=90)
            assert (task.status, task.attempt) == (Status.COMPLETED, 2), task.error
            check_one_end(await statuses(store, task_id))
        calls = (await executor.seen())["requests"]
        assert Counter(call["task_id"] for call in calls) == dict.fromkeys(ids, 2)
        assert Counter(call["metadata"]["retry_count"] for call in calls) == {"0": STREAMS, "1": STREAMS}
