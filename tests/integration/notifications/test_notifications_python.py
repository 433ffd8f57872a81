"""Programs that report their own tasks: by decorator, by context and call by call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.errors import (
    IllegalTransitionError,
    InvalidSubmissionError,
    StoreUnavailableError,
    TaskNotFoundError,
    TaskTakenError,
)
from celeriac.model import Status
from celeriac.notifications import TaskNotificationService, TaskProgressContext, task_notifier
from celeriac.notifications.reporter import Reporter
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import assert_consistent
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, eventually

SETTINGS = Settings(lease=1)


@pytest.fixture
async def service(valkey_url: str) -> AsyncIterator[TaskNotificationService]:
    reporter = Reporter(lambda: (SETTINGS, valkey_url))
    yield TaskNotificationService(reporter)
    await asyncio.to_thread(reporter.close)


async def told(store: TaskStore, task_id: str) -> list[str]:
    """Return what the task's events say, in order."""
    return [
        event.fields.get("status") or f"{event.fields['percentage']} {event.fields['stage']} {event.fields['message']}"
        for event in await store.events(task_id)
    ]


async def test_a_decorated_function_is_a_task_from_start_to_result(
    store: TaskStore, service: TaskNotificationService
) -> None:
    @task_notifier(task_id=lambda n: f"interview_{n}", user_id=7, task_type="interview", service=service)
    async def interview(n: int) -> dict[str, int]:
        assert (await store.get(f"interview_{n}")).status is Status.PROCESSING
        await service.notify_progress(f"interview_{n}", 40, message="asking", step="questions")
        return {"answers": n}

    assert await interview(3) == {"answers": 3}
    task = await store.get("interview_3")
    assert (task.status, task.type, task.user_id, task.result) == (Status.COMPLETED, "interview", "7", {"answers": 3})
    assert await told(store, "interview_3") == ["PENDING", "PROCESSING", "40 questions asking", "COMPLETED"]


async def test_an_exception_fails_the_task_and_goes_on(store: TaskStore, service: TaskNotificationService) -> None:
    @task_notifier(task_id="broken", user_id=7, service=service)
    async def broken() -> None:
        raise ValueError("no such customer")

    with pytest.raises(ValueError, match="no such customer"):
        await broken()
    task = await store.get("broken")
    assert task.error is not None
    assert (task.status, task.error.code, task.error.message) == (Status.FAILED, "ValueError", "no such customer")


async def test_steps_are_counted_and_a_clean_exit_completes(store: TaskStore, service: TaskNotificationService) -> None:
    async with TaskProgressContext("steps", total_steps=3, user_id=7, service=service) as progress:
        await progress.increment("load")
        await progress.increment("sort")
        progress.result = "sorted"
    assert await told(store, "steps") == [
        *("PENDING", "PROCESSING"),
        *("33.33 Step 1/3 load", "66.67 Step 2/3 sort"),
        "COMPLETED",
    ]
    assert (await store.get("steps")).result == "sorted"
    with pytest.raises(RuntimeError):
        async with TaskProgressContext("steps", total_steps=3, service=service):
            raise RuntimeError("out of paper")
    again = await store.get("steps")
    assert (again.status, again.user_id, again.result) == (Status.FAILED, "7", None), "a new run of the same user"


async def test_one_process_may_start_and_another_complete(store: TaskStore, valkey_url: str, tmp_path: Path) -> None:
    async def program(text: str) -> None:
        code = f"from celeriac import task_notification_service as s\nimport asyncio\n{text}"
        environment = {**os.environ, "REDIS_URL": valkey_url, "CELERIAC_LEASE": "1"}
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment, cwd=tmp_path)
        assert await process.wait() == 0

    await program("s.register_task(task_id='import_9', user_id=7, task_type='import')")
    assert (await store.get("import_9")).status is Status.PENDING
    await program("asyncio.run(s.notify_started('import_9'))")
    # It ended in good order: the task may now be silent for much longer than a lease.
    assert await store.redis.zscore(keys.LEASES, "import_9") > (await server_ms(store)) + 3_600_000
    await program("asyncio.run(s.notify_progress('import_9', 50, 'half'))")
    await program("asyncio.run(s.notify_completed('import_9', {'rows': 2}))")
    assert (await store.get("import_9")).result == {"rows": 2}
    assert await told(store, "import_9") == ["PENDING", "PROCESSING", "50  half", "COMPLETED"]
    assert_consistent_now(valkey_url)


async def test_a_forked_child_and_its_parent_both_report(store: TaskStore, valkey_url: str, tmp_path: Path) -> None:
    code = """
import asyncio, os
from celeriac import task_notification_service as service
service.register_task("parent")
child = os.fork()
if child == 0:
    service.register_task("child")
    asyncio.run(service.notify_completed("child", "from the child"))
    service.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(service.notify_completed("parent", "from the parent"))
"""
    environment = {**os.environ, "REDIS_URL": valkey_url}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment, cwd=tmp_path)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert (await store.get("child")).result == "from the child"
    assert (await store.get("parent")).result == "from the parent"


async def test_closing_while_the_store_is_away_is_not_a_cancellation(tmp_path: Path) -> None:
    reporter = Reporter(lambda: (Settings(store_timeout=30), f"redis://127.0.0.1:{port}"))
    service = TaskNotificationService(reporter)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    telling = asyncio.create_task(service.notify_started("t"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(service.close)
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(telling, PATIENCE_S)
    silent.close()


async def test_a_killed_process_loses_its_task_and_a_late_word_brings_it_back(
    store: TaskStore, service: TaskNotificationService, valkey_url: str, tmp_path: Path
) -> None:
    code = (
        "import asyncio\nfrom celeriac import TaskProgressContext\n"
        "async def main():\n async with TaskProgressContext('doomed', total_steps=2, user_id=7) as p:\n"
        "  await p.increment('first'); await asyncio.sleep(600)\nasyncio.run(main())"
    )
    environment = {**os.environ, "REDIS_URL": valkey_url, "CELERIAC_LEASE": "1"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment, cwd=tmp_path)

    async def reported() -> bool:
        return "50 Step 1/2 first" in await told(store, "doomed")

    async def failed() -> bool:
        await store.reap()
        return (await store.get("doomed")).status is Status.FAILED

    await eventually(reported, because="the program reports its first step")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await eventually(failed, because="its lease runs out")
    task = await store.get("doomed")
    assert task.error is not None
    assert task.error.code == "worker_lost"
    await service.notify_completed("doomed", result="by another process")
    assert (await store.get("doomed")).status is Status.COMPLETED
    assert (await told(store, "doomed"))[2:] == ["50 Step 1/2 first", "FAILED", "PROCESSING", "COMPLETED"]
    assert_consistent_now(valkey_url)


async def test_a_living_process_keeps_its_silent_task(store: TaskStore, service: TaskNotificationService) -> None:
    service.register_task("silent", user_id=7)
    await service.notify_started("silent")
    first = await store.redis.zscore(keys.LEASES, "silent")

    async def renewed() -> bool:
        return bool(await store.redis.zscore(keys.LEASES, "silent") > first + 600)

    await eventually(renewed, because="its lease is renewed")


async def test_an_id_in_use_is_refused_to_another_user_and_free_after_its_end(
    store: TaskStore, service: TaskNotificationService
) -> None:
    service.register_task("taken", user_id=7)
    service.register_task("taken", user_id=7)
    with pytest.raises(TaskTakenError):
        service.register_task("taken", user_id=8)
    with pytest.raises(TaskTakenError):
        async with TaskProgressContext("taken", total_steps=1, user_id=8, service=service):
            raise AssertionError("never entered")
    assert (await store.get("taken")).status is Status.PENDING, "nothing was said of another user's task"
    await service.notify_completed("taken")
    with pytest.raises(IllegalTransitionError):
        await service.notify_progress("taken", 10)
    service.register_task("taken", user_id=8, metadata={"of": "eight"})
    task = await store.get("taken")
    assert (task.status, task.user_id, task.metadata, task.attempt) == (Status.PENDING, "8", {"of": "eight"}, 0)
    with pytest.raises(TaskNotFoundError):
        await service.notify_started("nobody registered this")


async def test_what_cannot_be_kept_is_said(service: TaskNotificationService, store: TaskStore) -> None:
    for task_id in ("", "a" * 256, "line\nbreak", "pending"):
        with pytest.raises(InvalidSubmissionError):
            service.register_task(task_id)
    service.register_task("odd", user_id=7)
    for result in (b"bytes", {"x": [float("nan")]}, "half \ud83d"):
        with pytest.raises(InvalidSubmissionError, match=r"result.*(JSON|surrogate)"):
            await service.notify_completed("odd", result=result)

    async def report_odder() -> None:
        # The first call raises it, or the next one if the answer came after `register_wait`.
        service.register_task("odder", metadata={"x": float("inf")})
        await service.notify_started("odder")

    with pytest.raises(InvalidSubmissionError, match=r"metadata\.x: is Infinity"):
        await report_odder()
    await service.notify_failed("odd", error="told in words", error_type="Refused")
    error = (await store.get("odd")).error
    assert error is not None
    assert (error.code, error.message) == ("Refused", "told in words")


async def test_cancelling_the_task_cancels_the_call(store: TaskStore, service: TaskNotificationService) -> None:
    entered = asyncio.Event()

    @task_notifier(task_id="endless", user_id=7, service=service)
    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(endless())
    await entered.wait()
    await store.cancel("endless")
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await store.get("endless")).status is Status.CANCELLED


async def test_the_platforms_own_tasks_take_reports_and_end_by_themselves(
    store: TaskStore, service: TaskNotificationService
) -> None:
    from celeriac.model import Claim, Submission

    await store.submit(Submission(task_id="celery", type="demo"))
    claim = await store.claim("celery", worker="w")
    assert isinstance(claim, Claim)
    service.register_task("celery", user_id=7)
    await service.notify_started("celery")
    await service.notify_progress("celery", 30, "from inside")
    await service.notify_completed("celery", "not this")
    task = await store.get("celery")
    assert (task.status, task.user_id, task.progress.percentage) == (Status.PROCESSING, "7", 30)
    await store.complete(claim, '"this"')
    assert (await store.get("celery")).result == "this"


async def test_many_calls_keep_their_order(store: TaskStore, service: TaskNotificationService, valkey_url: str) -> None:
    ids = [f"m{n}" for n in range(50)]

    async def run(task_id: str) -> None:
        service.register_task(task_id, user_id=task_id)
        await asyncio.gather(*(service.notify_progress(task_id, percentage) for percentage in range(20)))
        await service.notify_completed(task_id, task_id)

    await asyncio.gather(*map(run, ids))
    for task_id in ids:
        percentages = [f"{percentage}  " for percentage in range(20)]
        assert await told(store, task_id) == ["PENDING", "PROCESSING", *percentages, "COMPLETED"]
    assert_consistent_now(valkey_url)


async def test_a_store_that_is_away_delays_the_news_and_never_the_work(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    settings = Settings(store_timeout=0.2)
    reporter = Reporter(lambda: (settings, server.url()))
    service = TaskNotificationService(reporter)
    try:

        @task_notifier(task_id="stubborn", user_id=7, service=service)
        async def stubborn() -> str:
            server.kill()
            service.register_task("late", user_id=7)  # comes back soon, the store being away
            return "done all the same"

        assert await stubborn() == "done all the same"
        server.start()
        async with TaskStore(server.url(), Settings().store) as store:

            async def completed() -> bool:
                return (await store.get("stubborn")).status is Status.COMPLETED

            await eventually(completed, because="the end is told when the store is back")
    finally:
        await asyncio.to_thread(reporter.close)
        server.kill()


async def server_ms(store: TaskStore) -> int:
    seconds, microseconds = await store.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def assert_consistent_now(url: str) -> None:
    import redis

    with redis.Redis.from_url(url, decode_responses=True) as client:
        records: dict[str, Any] = assert_consistent(client)
        assert json.dumps(records)
