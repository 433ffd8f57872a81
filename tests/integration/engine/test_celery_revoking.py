"""`revoke(terminate=True)`: the record is cancelled first, then the process ends."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from celeriac.model import Status
from celeriac.store.task_store import TaskStore
from tests.kit.workers.celery_processes import celery_command, output_of
from tests.kit.workers.engine_workers import Workers, ended, runs, statuses

MODULE = "tests.kit.workers.celery_pools"
#: With this lease, a task whose process died would stay PROCESSING for long.
SETTINGS: dict[str, Any] = {"imports": [MODULE], "lease": 60}


async def run(workers: Workers, *lines: str) -> list[str]:
    """Run lines of Python where the tasks are known; returns the words that they print."""
    program = "\n".join([f"from {MODULE} import *", *lines])
    return (await output_of([sys.executable, "-c", program], workers.environment(**SETTINGS))).split()


def by_signal(name: str) -> str:
    return f"app.control.revoke(ids, terminate=True, signal={name!r})"


WAYS = {
    "SIGTERM": by_signal("SIGTERM"),
    "SIGKILL": by_signal("SIGKILL"),
    "results": "[app.AsyncResult(id).revoke(terminate=True) for id in ids]",
    "terminate": "app.control.terminate(ids, signal='SIGTERM')",
    "stamps": "app.control.revoke_by_stamped_headers({'batch': ['b1']}, terminate=True, signal='SIGKILL')",
}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_terminated_tasks_are_cancelled_at_once_and_others_go_on(
    workers: Workers, store: TaskStore, pool: str
) -> None:
    await workers.start_command(store, celery_command("worker", "-P", pool, "-c", "5"), **SETTINGS)
    (other,) = await run(workers, "print(naps.delay(12).id)")
    for way, revoking in WAYS.items():
        ids = await run(
            workers, "call = naps.s(60)", "call.stamp(batch='b1')", "for _ in range(4): print(call.clone().delay().id)"
        )
        for task_id in ids:
            await runs(store, task_id)
        await run(workers, f"ids = {ids}", revoking)
        for task_id in ids:
            assert (await ended(store, task_id, timeout_s=15)).status is Status.CANCELLED, way
            assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "CANCELLED"], way
        if way != "stamps":
            # The slots are free again.
            assert (await ended(store, *await run(workers, "print(retries.delay().id)"))).status is Status.COMPLETED
    task = await ended(store, other)
    assert (task.status, task.attempt) == (Status.COMPLETED, 1)


async def test_a_process_that_is_ended_from_outside_gives_its_task_back(workers: Workers, store: TaskStore) -> None:
    await workers.start_command(store, celery_command("worker", "-P", "prefork", "-c", "1"), **SETTINGS)
    (task_id,) = await run(workers, "print(ends_its_process.delay().id)")
    task = await ended(store, task_id)
    # The attempt does not count, and no result says that it failed.
    assert (task.status, task.result) == (Status.COMPLETED, "survived")
    assert await run(workers, f"print(app.AsyncResult({task_id!r}).get())") == ["survived"]
