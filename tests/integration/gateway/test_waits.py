"""A remote worker lets its task wait for a signal, is free at once, and any worker goes on with the same attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac.remote_worker import RemoteTask, RemoteWorker
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

SCHEMA = {"type": "boolean"}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "lease": 5})


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


async def submit(http: httpx.AsyncClient, **fields: Any) -> str:
    body = {"type": "remote", "payload": {"data": {"n": 1}}, **fields}
    return str((await http.post("/api/v1/tasks", json=body)).json()["task_id"])


async def record(http: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    return dict((await http.get(f"/api/v1/tasks/{task_id}")).json())


async def reaches(http: httpx.AsyncClient, task_id: str, status: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        task = await record(http, task_id)
        return task if task["status"] == status else None

    found: dict[str, Any] = await eventually(look, because=f"the task is {status}")
    return found


async def signal(http: httpx.AsyncClient, task_id: str, value: Any, name: str = "approval") -> int:
    return (await http.post(f"/api/v1/tasks/{task_id}/signals/{name}", json=value)).status_code


async def test_the_worker_is_free_while_its_task_waits_and_the_attempt_goes_on(
    url: str, http: httpx.AsyncClient
) -> None:
    first, second = await submit(http, max_retries=0), await submit(http)
    async with worker(url) as one:
        task = await one.take()
        assert (task["taskId"], task["attempt"]) == (first, 1)
        assert "signals" not in task
        wait = {"signal": "approval", "timeout_s": 3600, "schema": SCHEMA, "title": "Really?"}
        await one.say(type="task_wait", taskId=first, **wait)
        # It is free at once.
        assert (await one.take())["taskId"] == second
        (shown,) = (await reaches(http, first, "waiting"))["waiting_for"]
        assert (shown["signal"], shown["title"], shown["schema"]) == ("approval", "Really?", SCHEMA)
        (listed,) = (await http.get("/api/v1/waits")).json()["items"]
        assert (listed["task_id"], listed["type"]) == (first, "remote")
        await one.say(type="task_complete", taskId=second, result=1)
        assert await signal(http, first, "yes") == 422
        assert await signal(http, first, True) == 202
        again = await one.take()
        assert (again["taskId"], again["attempt"], again["signals"]) == (first, 1, {"approval": True})
        assert "timed_out" not in again
        await one.say(type="task_complete", taskId=first, result="done")
    done = await reaches(http, first, "completed")
    assert (done["attempt"], done["result"]) == (1, "done")


async def test_a_signal_that_is_there_already_gives_the_task_again(url: str, http: httpx.AsyncClient) -> None:
    task_id = await submit(http, max_retries=0)
    async with worker(url) as one:
        await one.take()
        assert await signal(http, task_id, {"n": 1}) == 202
        await one.say(type="task_wait", taskId=task_id, signal="approval")
        again = await one.take()
        assert (again["attempt"], again["signals"]) == (1, {"approval": {"n": 1}})
        # Another one may follow.
        await one.say(type="task_wait", taskId=task_id, signal="second")
        await reaches(http, task_id, "waiting")
        assert await signal(http, task_id, 2, "second") == 202
        assert (await one.take())["signals"] == {"approval": {"n": 1}, "second": 2}
        await one.say(type="task_complete", taskId=task_id, result=1)
    await reaches(http, task_id, "completed")


async def test_a_wait_whose_time_is_over_is_named(url: str, http: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(http)
    async with worker(url) as one:
        await one.take()
        await one.say(type="task_wait", taskId=task_id, signal="approval", timeout_s=0.05)

        async def given() -> bool:
            await store.promote()
            return (await record(http, task_id))["status"] == "processing"

        await eventually(given, because="the time is over")
        again = await one.take()
        assert (again["attempt"], again["timed_out"]) == (1, ["approval"])
        assert "signals" not in again
        await one.say(type="task_complete", taskId=task_id, result=1)
    await reaches(http, task_id, "completed")


async def test_another_worker_may_go_on_after_the_first_one_has_left(url: str, http: httpx.AsyncClient) -> None:
    task_id = await submit(http)
    async with worker(url) as one:
        await one.take()
        await one.say(type="task_wait", taskId=task_id, signal="approval")
        await reaches(http, task_id, "waiting")
    assert await signal(http, task_id, 1) == 202
    async with worker(url) as other:
        again = await other.take()
        assert (again["attempt"], again["signals"]) == (1, {"approval": 1})
        await other.say(type="task_complete", taskId=task_id, result=1)
    await reaches(http, task_id, "completed")


async def test_a_task_that_waits_can_be_cancelled(url: str, http: httpx.AsyncClient) -> None:
    task_id = await submit(http)
    async with worker(url) as one:
        await one.take()
        await one.say(type="task_wait", taskId=task_id, signal="approval")
        await reaches(http, task_id, "waiting")
        assert (await http.post(f"/api/v1/tasks/{task_id}/cancel")).json()["status"] == "cancelled"
        await one.hear_nothing()
    assert await signal(http, task_id, 1) == 409


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"signal": "a b"},
        {"signal": 1},
        {"signal": "a", "timeout_s": 0},
        {"signal": "a", "timeout_s": "3d"},
        {"signal": "a", "timeout_s": True},
        {"signal": "a", "title": "x" * 501},
        {"signal": "a", "schema": "boolean"},
        {"signal": "a", "schema": {"$ref": "http://x"}},
    ],
)
async def test_a_wait_that_cannot_be_fails_the_task_because_nothing_else_would_end_it(
    url: str, http: httpx.AsyncClient, wrong: dict[str, Any]
) -> None:
    task_id = await submit(http, max_retries=1)
    async with worker(url) as one:
        await one.take()
        await one.say(type="task_wait", taskId=task_id, **wrong)
        told = await one.hear()
        assert (told["type"], told["taskId"]) == ("error", task_id)
        failed = await reaches(http, task_id, "failed")
        assert (failed["error"]["code"], failed["error"]["message"]) == ("invalid_wait", told["message"])


async def test_a_wait_for_a_task_of_another_worker_is_refused(url: str, http: httpx.AsyncClient) -> None:
    task_id = await submit(http)
    async with worker(url) as one:
        await one.take()
        async with worker(url) as other:
            await other.say(type="task_wait", taskId=task_id, signal="approval")
            assert (await other.hear())["type"] == "error"
        assert (await record(http, task_id))["status"] == "processing"


@pytest.mark.parametrize("in_thread", [False, True])
async def test_the_python_worker_waits_in_coroutines_and_in_plain_functions(
    url: str, http: httpx.AsyncClient, store: TaskStore, in_thread: bool
) -> None:
    seen: list[int] = []

    def decide(task: RemoteTask) -> Any:
        seen.append(task.attempt)
        try:
            approved = task.wait_for("approval", schema=SCHEMA, timeout_s=3600, title="Really?")
            late = task.wait_for("late", timeout_s=0.05, default="nobody came")
        except Exception as exc:  # a wait passes by this
            return repr(exc)
        return {"approved": approved, "late": late}

    async def coroutine(task: RemoteTask) -> Any:
        return decide(task)

    remote = RemoteWorker(url, decide if in_thread else coroutine, quiet=True)
    running = asyncio.create_task(remote.run_async())
    try:
        task_id = await submit(http, max_retries=0)
        await reaches(http, task_id, "waiting")
        assert await signal(http, task_id, False) == 202

        async def ended() -> bool:
            await store.promote()
            return (await record(http, task_id))["status"] == "completed"

        await eventually(ended, because="the second wait is over")
    finally:
        remote.stop()
        await running
    done = await record(http, task_id)
    assert done["result"] == {"approved": False, "late": "nobody came"}
    assert (done["attempt"], seen) == (1, [1, 1, 1])
