"""Workers and stores that are stopped, killed, cut off: no task is lost, none ends twice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.executors.process import ExecutorProcess
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, ran, runs, statuses, submit, workers_on

# --- in good order


async def test_a_warm_shutdown_lets_short_work_finish_and_gives_long_work_back(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = await workers.start(store, worker__shutdown_grace=9)
    short = [await submit(store, kind, {"numbers": [1], "gate": str(gate)}) for kind in ("add", "add_sync")]
    long = [await submit(store, kind, {"s": 60}) for kind in ("sleeps", "spins", "blocks", "stubborn")]
    for task_id in long:
        await runs(store, task_id)
    for task_id in short:
        await eventually(lambda task_id=task_id: is_status(store, task_id, Status.PROCESSING), because="it runs")
    worker.send(signal.SIGTERM)
    await eventually(lambda: "have 9 s to end" in worker.said(), because="it stops")
    gate.touch()
    # Nine seconds of grace, three for those that do not hear; far from the sixty that they would go on.
    assert await worker.gone(within_s=30) == 0
    for task_id in short:
        assert (await store.get(task_id)).status is Status.COMPLETED
    for task_id in long:
        task = await store.get(task_id)
        assert (task.status, task.attempt) == (Status.PENDING, 0), "the attempt does not count"
        assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "PENDING"]
    assert await store.workers() == []

    await workers.start(store)
    for task_id in long:
        await eventually(lambda task_id=task_id: began_again(store, task_id), because="the next worker takes it")


async def began_again(store: TaskStore, task_id: str) -> bool:
    return (await ran(store, task_id)).count("start 1") == 2


async def test_a_task_goes_back_when_its_executor_is_stopped_together_with_the_worker(
    workers: Workers, store: TaskStore
) -> None:
    async with ExecutorProcess() as executor:
        service = {"svc": {"address": f"127.0.0.1:{executor.port}"}}
        # It would wait for the grace of ten minutes, if the task did not go back.
        worker = await workers.start(store, grpc_services__services=service, worker__shutdown_grace=600, lease=15)
        hangs = {"service": "svc", "method": "play", "data": {"script": [{"progress": {"percentage": 1}}, {"hang": 1}]}}
        task_id = await submit(store, "grpc_task", hangs, max_retries=0)
        await eventually(lambda: has_progress(store, task_id), because="the executor works on it")
        worker.send(signal.SIGTERM)
        await eventually(lambda: "running tasks have 600 s to end" in worker.said(), because="the worker stops")
        await executor.kill()
        assert await worker.gone(within_s=60) == 0
        task = await store.get(task_id)
        assert (task.status, task.attempt, task.error) == (Status.PENDING, 0, None)

        # Without a worker that stops, the same costs the attempt. The record still has the first attempt's report.
        reported_ms = task.progress.timestamp_ms
        await executor.start()
        worker = await workers.start(store, grpc_services__services=service, lease=15)
        await eventually(
            lambda: has_progress(store, task_id, after_ms=reported_ms), because="the executor works on it again"
        )
        await executor.kill()
        task = await ended(store, task_id, timeout_s=60)
        assert task.error is not None
        assert (task.status, task.error.code) == (Status.FAILED, "unavailable")


async def has_progress(store: TaskStore, task_id: str, *, after_ms: int = 0) -> bool:
    """Return whether the task runs and has reported since `after_ms`."""
    task = await store.get(task_id)
    return task.status is Status.PROCESSING and task.progress.timestamp_ms > after_ms


async def is_status(store: TaskStore, task_id: str, status: Status) -> bool:
    return (await store.get(task_id)).status is status


async def test_nothing_is_lost_when_a_busy_worker_is_told_to_stop(workers: Workers, store: TaskStore) -> None:
    # The subject is the stop, neither a lease nor a grace that a busy machine is too slow for.
    patient: dict[str, Any] = {"lease": 60, "worker__shutdown_grace": 60}
    worker = await workers.start(store, **patient)
    ids = [await submit(store, "add", {"numbers": [1], "pause_s": 0.1}) for _ in range(300)]
    await runs(store, ids[0])
    worker.send(signal.SIGTERM)
    await workers.start(store, **patient)
    for task_id in ids:
        task = await ended(store, task_id)
        assert task.status is Status.COMPLETED
        assert await ran(store, task_id) == ["attempt 1"]
    assert await worker.gone(within_s=12) == 0


async def test_a_second_signal_gives_running_tasks_back_at_once(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store, worker__shutdown_grace=60)
    task_id = await submit(store, "sleeps", {"s": 60}, max_retries=0)
    await runs(store, task_id)
    worker.send(signal.SIGTERM)
    await eventually(lambda: "have 60 s to end" in worker.said(), because="it stops")
    await asyncio.sleep(0.5)
    worker.send(signal.SIGTERM)
    assert await worker.gone(within_s=15) == 0
    task = await store.get(task_id)
    assert (task.status, task.attempt) == (Status.PENDING, 0)


# --- killed


async def test_what_a_killed_worker_ran_goes_on_elsewhere_within_seconds(workers: Workers, store: TaskStore) -> None:
    worker = await workers.start(store)
    # Some may be at their ends, some are not.
    ids = [await submit(store, "sleeps_again", {"s": 0.5 + n / 50}) for n in range(25)]
    ids += [await submit(store, "sleeps_again", {"s": 300, "again_s": 0.1}) for _ in range(25)]
    for task_id in ids:
        await runs(store, task_id)
    killed = [task_id for task_id in ids if not (await store.get(task_id)).status.final]
    worker.kill()
    await workers.start(store)
    for task_id in ids:
        task = await ended(store, task_id)
        assert task.status is Status.COMPLETED
        check_one_end(await statuses(store, task_id))
    assert set(ids[25:]) <= set(killed)
    assert {(await store.get(task_id)).attempt for task_id in killed} <= {1, 2}


async def test_a_task_whose_workers_all_die_fails_when_its_attempts_are_used_up(
    workers: Workers, store: TaskStore
) -> None:
    task_id = await submit(store, "sleeps", max_retries=1)
    for attempt in (1, 2):
        worker = await workers.start(store)
        await eventually(lambda n=attempt: has_started(store, task_id, n), because=f"attempt {attempt} runs")
        worker.kill()
    await workers.start(store)
    task = await ended(store, task_id)
    assert task.status is Status.FAILED
    assert task.error is not None
    assert task.error.code == "worker_lost"
    assert await ran(store, task_id) == ["start 1", "start 2"]


async def has_started(store: TaskStore, task_id: str, attempt: int) -> bool:
    return f"start {attempt}" in await ran(store, task_id)


async def test_a_message_that_died_with_its_worker_is_sent_again(workers: Workers, store: TaskStore) -> None:
    """A1: a worker stopped inside BRPOP takes a message that it will never see, and is killed."""
    worker = await workers.start(store, "--groups", "default")
    assert (await ended(store, await submit(store, "noop"))).status is Status.COMPLETED
    for _ in range(20):
        await eventually(lambda: somebody_blocks(store), because="the worker waits for messages")
        worker.send(signal.SIGSTOP)
        task_id = await submit(store, "add", {"numbers": [1]})
        if not await store.redis.llen("default\x06\x169"):
            break
        # It was stopped between two waits.
        worker.send(signal.SIGCONT)
        await ended(store, task_id)
    else:
        raise AssertionError("the server gave no message to the stopped worker")
    worker.kill()
    await workers.start(store)
    task = await ended(store, task_id)
    assert task.status is Status.COMPLETED
    assert await ran(store, task_id) == ["attempt 1"]


async def somebody_blocks(store: TaskStore) -> bool:
    return any(client["cmd"] == "brpop" for client in await store.redis.client_list())


# --- cut off


async def test_a_worker_that_slept_through_its_lease_changes_nothing_any_more(
    workers: Workers, store: TaskStore
) -> None:
    zombie = await workers.start(store)
    ids = [await submit(store, kind, {"s": 300, "again_s": 1}) for kind in ("sleeps_again", "naps_through")]
    for task_id in ids:
        await runs(store, task_id)
    zombie.send(signal.SIGSTOP)
    heir = await workers.start(store)
    for task_id in ids:
        await eventually(lambda task_id=task_id: has_started(store, task_id, 2), because="another worker takes over")
    zombie.send(signal.SIGCONT)
    # The zombie's handlers are stopped as soon as it hears that its claims are gone.
    await eventually(lambda: noted(store, ids[0], "cancelled lost"), because="the zombie's handler is stopped")
    for task_id in ids:
        task = await ended(store, task_id)
        assert (task.status, task.attempt) == (Status.COMPLETED, 2)
        assert task.worker is not None
        assert str(heir.process.pid) in task.worker
        check_one_end(await statuses(store, task_id))
        assert (await ran(store, task_id)).count("end 1") == 0
    assert zombie.alive
    await eventually(lambda: nothing_runs(store), because="neither runs anything")


async def noted(store: TaskStore, task_id: str, text: str) -> bool:
    return text in await ran(store, task_id)


async def nothing_runs(store: TaskStore) -> bool:
    return all(worker.running == 0 for worker in await store.workers())


async def test_cut_connections_lose_nothing_and_run_nothing_twice(
    workers: Workers, store: TaskStore, tmp_path: Path
) -> None:
    """A8: stock Celery runs a running task again when its connection breaks."""
    # The subject is a cut, not a lease that a busy machine renews late.
    worker = await workers.start(store, lease=15)
    gate = tmp_path / "gate"
    ids = [
        await submit(store, kind, {"numbers": [1], "gate": str(gate)}, max_retries=0)
        for kind in ("add", "add_sync")
        for _ in range(10)
    ]
    await eventually(lambda: all_run(store, 20), because="all of them run")
    for cut in range(5):
        if cut == 3:
            gate.touch()
            # They open connections of their own, which would be cut too.
            await eventually(lambda: all_run(store, 0), because="what ran has ended")
        await store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        ids.append(await submit(store, "add", {"numbers": [1], "pause_s": 0.1}))
        await asyncio.sleep(0.4)
        # Its handler too opens a connection of its own.
        await ended(store, ids[-1])
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    assert [await ran(store, task_id) for task_id in ids] == [["attempt 1"]] * len(ids)
    assert worker.alive
    # It hears cancellations again.
    task_id = await submit(store, "sleeps")
    await runs(store, task_id)
    await store.cancel(task_id)
    assert (await ended(store, task_id, timeout_s=5)).status is Status.CANCELLED


async def all_run(store: TaskStore, count: int) -> bool:
    return (await store.group("default")).running == count


async def test_running_tasks_end_once_when_the_store_is_killed_and_comes_back(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with (
            TaskStore(server.url(), Settings().store, patience_s=20) as store,
            workers_on(tmp_path, server.url()) as workers,
        ):
            # The subject is the store, not a lease that a busy machine renews late.
            worker = await workers.start(store, lease=15)
            gate = tmp_path / "gate"
            work = {"numbers": [1], "pause_s": 1, "gate": str(gate)}
            running = [await submit(store, "add", work) for _ in range(20)]
            running += [await submit(store, "add_sync", work) for _ in range(5)]
            await eventually(lambda: all_run(store, 25), because="all of them run")
            server.kill()
            gate.touch()
            await asyncio.sleep(3)
            server.start()
            later = [await submit(store, "add", {"numbers": [1]}) for _ in range(5)]
            for task_id in running + later:
                task = await ended(store, task_id, timeout_s=40)
                assert task.status is Status.COMPLETED
                check_one_end(await statuses(store, task_id))
            assert worker.alive
            for task_id in later:
                assert await ran(store, task_id) == ["attempt 1"]
            # Nothing that an operator would have to see to.
            assert "EMERGENCY" not in worker.said()
    finally:
        server.kill()


async def test_a_worker_can_be_told_to_stop_while_the_store_is_away(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with TaskStore(server.url(), Settings().store) as store, workers_on(tmp_path, server.url()) as workers:
            worker = await workers.start(store)
            await runs(store, await submit(store, "sleeps"))
            server.kill()
            worker.send(signal.SIGTERM)
            await worker.gone(within_s=15)
    finally:
        server.kill()
