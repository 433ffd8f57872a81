"""The dispatch API (docs/dispatch.md), as its callers know it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest

from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    dispatch = {"min_task_timeout_ms": 100, "max_queue_length": 2, "cancel_grace": 0.3}
    return Settings.model_validate({"redis_url": valkey_url, "dispatch": dispatch})


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def call(http: httpx.AsyncClient, **body: Any) -> tuple[int, Any]:
    answer = await http.post("/api/openai", json={**HELLO, **body})
    return answer.status_code, answer.json()


async def state(http: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/api/task/{task_id}")).json()
    return found


async def test_a_sync_call_gets_the_result_of_a_worker(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        calling = asyncio.create_task(call(http, model="m", data={"a": [1, None]}))
        task = await one.take()
        assert task["payload"] == {"model": "m", **HELLO, "data": {"a": [1, None]}}
        await one.say(type="task_complete", taskId=task["taskId"], result={"text": "h\u00e9 \U0001f600"}, duration=3)
        answer = {"taskId": task["taskId"], "status": "completed", "result": {"text": "h\u00e9 \U0001f600"}}
        assert await calling == (200, answer)


async def test_an_async_call_is_followed_by_its_id(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        ids = [(await call(http, **{"async": True}))[1] for _ in range(3)]
        assert [found["status"] for found in ids] == ["queued"] * 3
        first, second, third = (found["taskId"] for found in ids)
        await one.take()
        running = await state(http, first)
        assert running == {
            "taskId": first,
            "status": "executing",
            "workerId": running["workerId"],
            "startedAt": running["startedAt"],
        }
        assert running["startedAt"] > 1_700_000_000_000
        waiting = await state(http, third)
        assert waiting == {"taskId": third, "status": "queued", "enqueuedAt": waiting["enqueuedAt"], "position": 2}
        await one.say(type="task_complete", taskId=first, result=[1])
        assert (await one.take())["taskId"] == second
        done = await eventually(lambda: _has(http, first, "completed"), because="the result arrives")
        assert done == {"taskId": first, "status": "completed", "result": [1], "completedAt": done["completedAt"]}
        await one.say(type="task_error", taskId=second, error="it broke")
        await one.take()
        failed = await eventually(lambda: _has(http, second, "failed"), because="the error arrives")
        assert failed == {"taskId": second, "status": "failed", "error": "it broke", "failedAt": failed["failedAt"]}


async def _has(http: httpx.AsyncClient, task_id: str, status: str) -> dict[str, Any] | None:
    found = await state(http, task_id)
    return found if found["status"] == status else None


async def test_errors_have_the_texts_of_the_contract(url: str, http: httpx.AsyncClient) -> None:
    assert await call(http) == (503, {"error": "No worker available"})
    assert (await http.get("/api/task/unknown")).json() == {"error": "Task not found or expired"}
    assert (await http.get("/api/task/unknown")).status_code == 404
    nothing = await http.post("/api/openai", json={"model": "m"})
    assert (nothing.status_code, nothing.json()) == (400, {"error": "Invalid request: data or messages required"})
    async with worker(url) as one:
        busy = asyncio.create_task(call(http))
        task = await one.take()
        waiting = [asyncio.create_task(call(http)) for _ in range(2)]
        await eventually(lambda: _waiting(http, 2), because="two wait")
        assert await call(http) == (503, {"error": "Queue is full"})
        for one_of in waiting:
            one_of.cancel()
        await eventually(lambda: _waiting(http, 0), because="their callers have hung up")
        waiting = [asyncio.create_task(call(http, timeout=300)) for _ in range(2)]
        assert [await one_of for one_of in waiting] == [(500, {"error": "Task timeout"})] * 2
        await one.say(type="task_error", taskId=task["taskId"], error="out of memory")
        assert await busy == (500, {"error": "out of memory"})
        late = asyncio.create_task(call(http, timeout=5000))
        task = await one.take()
        assert await late == (500, {"error": "Task timeout"})
        assert (await one.hear())["type"] == "cancel"
        await one.say(type="task_complete", taskId=task["taskId"], result=1)
        assert (await one.hear())["type"] == "error"
        assert (await state(http, task["taskId"]))["error"] == "Task timeout"
        vanishing = asyncio.create_task(call(http))
        await one.take()
        await one.connection.close()
        assert await vanishing == (500, {"error": "Worker disconnected"})


async def _waiting(http: httpx.AsyncClient, count: int) -> bool:
    return bool((await http.get("/api/v1/groups/default")).json()["waiting"] == count)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'{"data": 1}',
        b'{"messages": {}}',
        b'{"data": {}, "timeout": 99}',
        b'{"data": {}, "timeout": 600001}',
        b'{"data": {}, "timeout": true}',
        b'{"data": {}, "group": "not a name"}',
        b'{"data": {}, "group": "celeriac:events"}',
        b'{"data": {}, "priority": 10}',
        b'{"data": {}, "async": "yes"}',
        b'{"data": {}, "userId": "\\u0000"}',
    ],
)
async def test_a_malformed_call_is_a_clear_400(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/api/openai", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith("Invalid request: ")


async def test_a_user_id_may_be_a_whole_number(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        calling = asyncio.create_task(http.post("/api/openai", json={"data": {}, "userId": 7}))
        task = await one.take()
        assert task["userId"] == "7"
        await one.say(type="task_complete", taskId=task["taskId"], result=1)
        assert (await calling).json()["result"] == 1


async def test_a_caller_that_hangs_up_cancels_its_task(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        calling = asyncio.create_task(call(http))
        task = await one.take()
        calling.cancel()
        with suppress(asyncio.CancelledError):
            await calling
        assert await one.hear() == {"type": "cancel", "taskId": task["taskId"], "reason": "cancelled"}
        assert (await state(http, task["taskId"]))["status"] == "failed"


async def test_caller_and_worker_may_be_on_different_processes(settings: Settings, url: str) -> None:
    async with serving(settings) as other, httpx.AsyncClient(base_url=other, timeout=30) as http:
        async with worker(url) as one:
            large = "x" * 200_000
            for result in ({"n": 1}, {"text": large}):
                calling = asyncio.create_task(call(http))
                task = await one.take()
                await one.say(type="task_complete", taskId=task["taskId"], result=result)
                status, answer = await calling
                assert (status, answer["result"]) == (200, result)
        await eventually(lambda: _refused(http), because="nobody is connected any more")


async def _refused(http: httpx.AsyncClient) -> bool:
    return await call(http, timeout=100) == (503, {"error": "No worker available"})


async def test_waiters_learn_the_end_though_the_message_of_it_was_missed(
    settings: Settings, url: str, http: httpx.AsyncClient, store: TaskStore
) -> None:
    async with serving(settings) as other, worker(other) as one:
        calling = asyncio.create_task(call(http))
        task = await one.take()
        # The notice goes astray, then all subscriptions are cut.
        await store.redis.hset(keys.task(task["taskId"]), "reply_to", "nowhere")
        await one.say(type="task_complete", taskId=task["taskId"], result="done")
        await eventually(lambda: _completed(http, task["taskId"]), because="the task ends")
        await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert (await calling)[1]["result"] == "done"


async def _completed(http: httpx.AsyncClient, task_id: str) -> bool:
    return bool((await state(http, task_id))["status"] == "completed")


async def test_a_thousand_workers_and_two_hundred_callers_get_every_answer_right(valkey_url: str) -> None:
    # Server, workers and callers share one loop here: its pauses must not count as deaths.
    dispatch = {"presence": 30, "idle_timeout": 120, "task_timeout_ms": 120_000}
    settings = Settings.model_validate({"redis_url": valkey_url, "lease": 60, "dispatch": dispatch})
    gate = asyncio.Semaphore(50)
    stop = asyncio.Event()

    async def serve(url: str) -> None:
        async with AsyncExitStack() as connection:
            async with gate:
                one = await connection.enter_async_context(worker(url, "crowd"))
            working = asyncio.create_task(one.work(lambda payload: payload["data"]["n"] * 2))
            await stop.wait()
            working.cancel()
            await asyncio.wait([working])

    async with (
        serving(settings) as url,
        httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=200)) as http,
    ):
        workers = [asyncio.create_task(serve(url)) for _ in range(1000)]
        await eventually(lambda: _connected(http, 1000), because="all are connected", timeout_s=120, interval_s=0.5)

        async def ask(n: int) -> None:
            for turn in range(3):
                number = n * 10 + turn
                status, answer = await call(http, data={"n": number}, group="crowd")
                assert (status, answer.get("result")) == (200, number * 2), answer

        await asyncio.gather(*(ask(n) for n in range(200)))
        stop.set()
        await asyncio.gather(*workers)


async def _connected(http: httpx.AsyncClient, count: int) -> bool:
    found = (await http.get("/api/v1/groups")).json()["groups"]
    return any(group["name"] == "crowd" and group["workers"] >= count for group in found)
