"""`celeriac worker --processes N`: one command that keeps several workers running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from celeriac.model import Status, WorkerInfo
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_operators import operator_of
from tests.kit.workers.celery_processes import celery_command
from tests.kit.workers.engine_workers import WorkerProcess, Workers, ended, ran, submit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")


async def present(store: TaskStore, count: int, without: frozenset[int] = frozenset()) -> list[WorkerInfo]:
    """Wait until so many workers serve groups, none of them with one of these process ids; return them by name."""
    found: list[WorkerInfo] = []

    async def all_there() -> bool:
        found[:] = [one for one in await store.workers() if one.groups and one.pid not in without and alive(one.pid)]
        return len(found) == count

    await eventually(all_there, because=f"{count} workers are there")
    return sorted(found, key=lambda one: one.worker_id)


def alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


async def started(workers: Workers, store: TaskStore, count: int, **settings: object) -> WorkerProcess:
    command = [sys.executable, "-m", "celeriac", "worker", "--processes", str(count), "--concurrency", "2"]
    worker = WorkerProcess(workers.folder, command, workers.environment(**settings))
    workers.all.append(worker)
    await present(store, count)
    return worker


async def test_one_command_runs_several_workers_and_a_signal_ends_them_all(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    command = await started(workers, store, 2, worker__shutdown_grace=60)
    both = await present(store, 2)
    numbers = [one.worker_id.partition("@")[0] for one in both]
    assert numbers == [f"worker-{command.process.pid}-1", f"worker-{command.process.pid}-2"]
    async with operator_of(workers.redis_url) as operator:
        await operator.ask("ping", workers=2)
    pinged = await asyncio.to_thread(
        subprocess.run,
        # By itself, it takes what is answered within a second.
        celery_command("inspect", "--timeout=30", f"--destination={','.join(one.worker_id for one in both)}", "ping"),
        env=workers.environment(),
        capture_output=True,
        text=True,
    )
    assert all(one.worker_id in pinged.stdout for one in both), pinged.stdout
    gate = tmp_path / "gate"
    ids = [await submit(store, "add", {"numbers": [1], "gate": str(gate)}) for _ in range(8)]
    await eventually(lambda: run_at_once(store, 4), because="both run as much as they may")
    gate.touch()
    assert {(await ended(store, task_id)).worker for task_id in ids} == {one.worker_id for one in both}
    last_gate = tmp_path / "last gate"
    slow = await submit(store, "add", {"numbers": [1], "gate": str(last_gate)})
    await eventually(lambda: is_running(store, slow), because="it has begun")
    command.process.send_signal(signal.SIGTERM)
    await eventually(lambda: "have 60 s to end" in command.said(), because="they stop")
    last_gate.touch()
    assert await asyncio.to_thread(command.process.wait, 60) == 0
    assert (await ended(store, slow)).status is Status.COMPLETED, "it had its grace"
    assert not any(alive(one.pid) for one in both)
    said = command.said()
    assert "worker-1" in said
    assert "worker-2" in said


async def run_at_once(store: TaskStore, count: int) -> bool:
    return (await store.group("default")).running == count


async def is_running(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.PROCESSING


async def test_a_process_that_is_killed_is_started_again_and_its_tasks_go_on(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    command = await started(workers, store, 2)
    both = await present(store, 2)
    ids = [await submit(store, "add", {"numbers": [1], "gate": str(gate)}) for _ in range(4)]

    async def all_begun() -> bool:
        return all([await is_running(store, task_id) for task_id in ids])

    await eventually(all_begun, because="all of them run")
    of_first = [task_id for task_id in ids if (await store.get(task_id)).worker == both[0].worker_id]
    assert both[0].pid
    os.kill(both[0].pid, signal.SIGKILL)
    gate.touch()
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    assert of_first
    for task_id in of_first:
        assert (await ran(store, task_id))[-1] == "attempt 2"
    again = await present(store, 2, without=frozenset({both[0].pid}))
    assert [one.worker_id for one in again] == [one.worker_id for one in both], "under the same name"
    assert command.alive


async def test_a_hangup_starts_the_processes_anew(workers: Workers, store: TaskStore) -> None:
    command = await started(workers, store, 2)
    pids = frozenset(one.pid for one in await present(store, 2) if one.pid)
    command.process.send_signal(signal.SIGHUP)
    await present(store, 2, without=pids)
    assert command.alive


@pytest.mark.parametrize("count", ["0", "many", "-1", "1025"])
def test_a_number_that_is_not_one_is_refused(workers: Workers, count: str) -> None:
    command = [sys.executable, "-m", "celeriac", "worker", "--processes", count]
    done = subprocess.run(command, env=workers.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give a number from 1 to 1024, or auto" in done.stderr
