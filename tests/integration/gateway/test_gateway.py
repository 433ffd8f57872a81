"""Remote workers over WebSocket, by the messages of docs/remote-workers.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    """Short times, so that what is late is seen soon; but what is to be in time is so on a machine that stalls, too."""
    dispatch = {
        "cancel_grace": 0.3,
        "ping_interval": 0.2,
        "idle_timeout": 8,
        "busy_timeout": 8,
        "drain_grace": 8,
        "max_frame_bytes": 100_000,
        "poll_interval": 0.2,
    }
    return Settings.model_validate({"redis_url": valkey_url, "lease": 8, "dispatch": dispatch})


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


def patient(settings: Settings) -> Settings:
    """Return settings under which a worker may keep for long what was taken back."""
    dispatch = settings.dispatch.model_copy(update={"cancel_grace": 20})
    return settings.model_copy(update={"dispatch": dispatch})


async def submit(http: httpx.AsyncClient, /, payload: dict[str, Any] | None = None, **fields: Any) -> str:
    body = {"type": "remote", "payload": payload or {"data": {"n": 1}}, **fields}
    answer = await http.post("/api/v1/tasks", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def ended(http: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        record: dict[str, Any] = (await http.get(f"/api/v1/tasks/{task_id}")).json()
        return record if record["status"] in ("completed", "failed", "cancelled") else None

    found: dict[str, Any] = await eventually(look, because=f"{task_id} ends")
    return found


async def failures(http: httpx.AsyncClient, task_id: str) -> list[tuple[str, Any]]:
    """Return level and data of what the task's log says of attempts that failed."""
    lines = (await http.get(f"/api/v1/tasks/{task_id}/log")).json()["items"]
    return [(line["level"], line["data"]) for line in lines if line["message"] == "attempt failed"]


async def test_a_worker_of_the_contract_takes_task_after_task(url: str, http: httpx.AsyncClient) -> None:
    async with connect(url.replace("http", "ws") + "/ws") as connection:
        greeting = json.loads(await connection.recv())
        assert greeting == {
            "type": "connected",
            "workerId": greeting["workerId"],
            "message": "Connected to Task Dispatcher",
        }
        assert re.fullmatch(r"W\d+-[0-9a-f]{8}", greeting["workerId"])
        await connection.send('{"type":"ready"}')
        for n in range(3):
            task_id = await submit(
                http, {"model": "m", "messages": [{"role": "user", "content": "h\u00e9"}], "data": {"n": n}}
            )
            task = json.loads(await connection.recv())
            assert task["type"] == "task"
            assert task["taskId"] == task_id
            assert task["payload"] == {
                "model": "m",
                "messages": [{"role": "user", "content": "h\u00e9"}],
                "data": {"n": n},
            }
            answer = {"type": "task_complete", "taskId": task_id, "result": {"n": n}, "duration": 5}
            await connection.send(json.dumps(answer))
            record = await ended(http, task_id)
            assert (record["status"], record["result"], record["worker"]) == (
                "completed",
                {"n": n},
                greeting["workerId"],
            )


async def test_a_worker_that_is_not_ready_gets_nothing(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url, ready=False) as silent:
        task_id = await submit(http)
        await silent.hear_nothing()
        async with worker(url) as ready:
            assert (await ready.take())["taskId"] == task_id
        await silent.hear_nothing()


async def test_priority_goes_before_arrival_and_concurrency_is_kept(url: str, http: httpx.AsyncClient) -> None:
    ids = [await submit(http, priority=priority, queue="gpu") for priority in (0, 0, 5)]
    async with worker(url, "gpu", concurrency=2) as one:
        assert [(await one.take())["taskId"], (await one.take())["taskId"]] == [ids[2], ids[0]]
        await one.hear_nothing()
        await one.say(type="task_error", taskId=ids[2], error="no", duration=1)
        assert (await one.take())["taskId"] == ids[1]
        record = await ended(http, ids[2])
        assert (record["status"], record["error"]["message"]) == ("failed", "no")


async def test_the_task_of_a_worker_that_vanishes_fails_or_goes_on(url: str, http: httpx.AsyncClient) -> None:
    once, again = await submit(http), await submit(http, max_retries=1)
    async with worker(url, concurrency=2) as first:
        await first.take()
        await first.take()
    record = await ended(http, once)
    assert record["error"] == {"code": "worker_disconnected", "message": "Worker disconnected", "retryable": True}
    async with worker(url) as second:
        task = await second.take()
        assert (task["taskId"], task["attempt"]) == (again, 2)
        await second.say(type="task_complete", taskId=again, result="done")
        assert (await ended(http, again))["status"] == "completed"


async def test_what_is_no_message_is_refused_and_the_connection_stays(url: str) -> None:
    async with worker(url) as one:
        for sent in ("{", "[]", "{}", '{"type":"nonsense"}', b"\x00\x01", '{"type":"task_complete"}', "[" * 5000):
            await one.connection.send(sent)
            assert (await one.hear())["type"] == "error"
        await one.say(type="task_complete", taskId="invented", result=1)
        assert (await one.hear())["taskId"] == "invented"
        await one.hear_nothing()
        await one.connection.send("x" * 100_001)
        assert await one.hear_the_end() == 1009


async def test_a_worker_that_floods_loses_nothing(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url, models=["\ud800fine"]) as one:
        task_id = await submit(http)
        await one.take()
        for n in range(3000):
            await one.say(type="progress", taskId=task_id, percentage=n / 30)
        await one.say(type="task_complete", taskId=task_id, result=None)
        record = await ended(http, task_id)
        assert (record["status"], round(record["progress"]["percentage"], 1)) == ("completed", 100.0)


async def test_a_cancelled_task_is_taken_back_and_its_answer_counts_no_more(settings: Settings) -> None:
    async with (
        serving(patient(settings)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        worker(url) as one,
    ):
        task_id = await submit(http)
        await one.take()
        assert (await http.post(f"/api/v1/tasks/{task_id}/cancel")).status_code == 202
        assert await one.hear() == {"type": "cancel", "taskId": task_id, "reason": "cancelled"}
        await one.say(type="task_complete", taskId=task_id, result=1)
        assert (await one.hear())["type"] == "error"
        assert (await ended(http, task_id))["status"] == "cancelled"
        following = await submit(http)
        assert (await one.take())["taskId"] == following


async def test_the_answer_of_a_lost_attempt_does_not_end_the_next_one(settings: Settings) -> None:
    async with (
        serving(patient(settings)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        worker(url, concurrency=3) as one,
    ):
        task_id = await submit(http, timeout=6, max_retries=1)
        await one.take()
        assert (await one.hear())["reason"] == "timeout"

        async def claimed_again() -> bool:
            return bool((await http.get(f"/api/v1/tasks/{task_id}")).json()["attempt"] == 2)

        await eventually(claimed_again, because="the next attempt is claimed")
        await one.hear_nothing()
        await one.say(type="task_error", taskId=task_id, error="cancelled", code="cancelled", retryable=False)
        assert (await one.hear())["type"] == "error"
        again = await one.take()
        assert (again["taskId"], again["attempt"]) == (task_id, 2)
        await one.say(type="task_complete", taskId=task_id, result="second")
        assert (await ended(http, task_id))["result"] == "second"


async def test_a_lost_attempt_that_is_not_answered_leaves_the_next_one_to_other_workers(settings: Settings) -> None:
    async with (
        serving(patient(settings)) as url,
        httpx.AsyncClient(timeout=60, base_url=url) as http,
        worker(url, concurrency=3) as one,
    ):
        task_id = await submit(http, timeout=6, max_retries=1)
        await one.take()
        assert (await one.hear())["reason"] == "timeout"
        async with worker(url) as other:
            assert (await other.take())["taskId"] == task_id
            await other.say(type="task_complete", taskId=task_id, result="second")
            assert (await ended(http, task_id))["result"] == "second"
        await one.hear_nothing()


async def test_a_worker_that_keeps_a_task_past_its_timeout_is_disconnected(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        task_id = await submit(http, timeout=0.2)
        await one.take()
        assert (await one.hear())["reason"] == "timeout"
        assert (await ended(http, task_id))["error"]["message"] == "Task timeout"
        assert await failures(http, task_id) == [("error", {"code": "timeout", "error": "Task timeout"})]
        assert await one.hear_the_end() == 4000


async def test_a_worker_that_answers_no_ping_is_disconnected_and_its_task_fails(
    url: str, http: httpx.AsyncClient
) -> None:
    async with worker(url) as one:
        task_id = await submit(http)
        await one.take()
        one.connection.transport.pause_reading()
        assert (await ended(http, task_id))["error"]["code"] == "worker_disconnected"
        one.connection.transport.abort()


async def test_progress_and_retryable_errors_are_kept(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        task_id = await submit(http, max_retries=5)
        await one.take()
        await one.say(type="progress", taskId=task_id, percentage=40, message="half", stage="s")
        await one.say(type="task_error", taskId=task_id, error="for good", code="bad_input", retryable=False)
        record = await ended(http, task_id)
        assert (record["progress"]["percentage"], record["progress"]["message"]) == (40, "half")
        assert record["error"] == {"code": "bad_input", "message": "for good", "retryable": False}
        assert await failures(http, task_id) == [("error", {"code": "bad_input", "error": "for good"})]


async def test_lines_of_a_log_are_kept_and_what_is_none_is_refused(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        task_id = await submit(http)
        await one.take()
        await one.say(type="log", taskId=task_id, message="Bearer abc.def.ghi went out", data={"token": "t", "page": 3})
        await one.say(type="log", taskId=task_id, message="hidden", level="debug")
        await one.say(type="log", taskId=task_id, message="loud", level="critical")
        for wrong, why in (
            ({"message": "m", "level": "loud"}, "level is one of debug, info, warning, error, critical"),
            ({"message": 7}, "message is a text"),
            ({"message": "m", "data": [1]}, "data is an object"),
        ):
            await one.say(type="log", taskId=task_id, **wrong)
            assert (await one.hear())["message"] == why
        await one.say(type="log", taskId="another", message="m")
        assert (await one.hear())["message"] == "task 'another' is not yours"
        await one.say(type="task_complete", taskId=task_id, result=1)
        await ended(http, task_id)
        lines = (await http.get(f"/api/v1/tasks/{task_id}/log")).json()["items"]
        assert [(line["level"], line["message"], line["data"]) for line in lines] == [
            ("info", "Bearer *** went out", {"token": "***", "page": 3}),
            ("critical", "loud", {}),
        ]


async def test_operators_see_remote_workers_and_their_groups(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url, "gpu", concurrency=3, models=["llama"], name="box-1") as one:
        task_id = await submit(http, queue="gpu")
        await one.take()

        async def seen() -> dict[str, Any] | None:
            workers = (await http.get("/api/v1/workers")).json()["workers"]
            return workers[0] if workers and workers[0]["running_tasks"] == [task_id] else None

        found = await eventually(seen, because="the worker's record says what it runs")
        assert {name: found[name] for name in ("kind", "groups", "concurrency", "running", "models", "name")} == {
            "kind": "remote",
            "groups": ["gpu"],
            "concurrency": 3,
            "running": 1,
            "models": ["llama"],
            "name": "box-1",
        }
        assert (await http.get("/api/v1/groups/gpu")).json()["workers"] == 1
        assert (found["drainable"], found["drained"], found["memory_bytes"]) == (True, False, None)
        unknown = await http.post("/api/v1/workers/nobody/resume")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "worker_not_found")
        await one.say(type="task_complete", taskId=task_id, result=1)

        async def counted() -> bool:
            return bool((await http.get("/api/v1/workers")).json()["workers"][0]["ended_per_minute"] == 1)

        await eventually(counted, because="its ended task is counted")


async def test_an_operator_drains_and_resumes_one_remote_worker(
    settings: Settings, store: TaskStore, http: httpx.AsyncClient, url: str
) -> None:
    """Through a process that does not hold the worker, too."""
    async with (
        serving(settings) as elsewhere,
        worker(elsewhere, "gpu", concurrency=2) as one,
    ):
        running = await submit(http, queue="gpu")
        await one.take()
        [name] = [found["worker_id"] for found in (await http.get("/api/v1/workers")).json()["workers"]]
        drained = (await http.post(f"/api/v1/workers/{name}/drain")).json()
        assert (drained["worker_id"], drained["drained"]) == (name, True)

        async def obeys() -> bool:
            return (await store.read(("HGET", keys.worker(name), "ready")))[0] == "0"

        await eventually(obeys, because="the worker's own process has heard of it")
        waiting = await submit(http, queue="gpu")
        why = (await http.get(f"/api/v1/tasks/{waiting}/why")).json()
        assert "1 of its workers is drained" in json.dumps(why)
        await one.say(type="task_complete", taskId=running, result=1)
        assert (await ended(http, running))["status"] == "completed"
        await one.say(type="ready", concurrency=2)
        await one.hear_nothing()
        async with worker(elsewhere, "gpu") as other:
            assert (await other.take())["taskId"] == waiting
            await other.say(type="task_complete", taskId=waiting, result=2)
            await ended(http, waiting)
        later = await submit(http, queue="gpu")
        await one.hear_nothing()
        assert (await http.post(f"/api/v1/workers/{name}/resume")).json()["drained"] is False
        assert (await one.take())["taskId"] == later


async def test_a_worker_that_does_not_take_its_tasks_from_the_store_is_not_drained(
    store: TaskStore, http: httpx.AsyncClient
) -> None:
    await store.renew("of-rabbitmq", [], {"kind": "celery", "started_ms": "1", "drains": "0"})
    refused = await http.post("/api/v1/workers/of-rabbitmq/drain")
    assert (refused.status_code, refused.json()["code"]) == (409, "worker_not_drainable")
    assert refused.json()["worker_id"] == "of-rabbitmq"
    await eventually(lambda: _no_workers(http), because="a worker that left is off the list")


async def test_remote_tasks_come_late_in_batches_and_again_by_hand(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url, concurrency=10) as one:
        late = await submit(http, delay="200ms")
        body = {"tasks": [{"type": "remote", "payload": {"data": {"n": n}}} for n in range(3)]}
        batch = (await http.post("/api/v1/tasks/batch", json=body)).json()
        taken = [await one.take() for _ in range(4)]
        assert [task["payload"] for task in taken[:3]] == [{"model": "default", "data": {"n": n}} for n in range(3)]
        assert taken[3]["taskId"] == late, batch
        await one.say(type="task_error", taskId=late, error="no")
        assert (await ended(http, late))["status"] == "failed"
        assert (await http.post(f"/api/v1/tasks/{late}/retry")).status_code == 202
        again = await one.take()
        assert (again["taskId"], again["attempt"]) == (late, 2)
        refused = await http.post("/api/v1/tasks", json={"type": "remote", "payload": {"model": "m"}})
        assert refused.status_code == 422


async def _no_workers(http: httpx.AsyncClient) -> bool:
    return (await http.get("/api/v1/workers")).json()["workers"] == []


@pytest.mark.parametrize("group", ["celeriac:events", "not%20a%20name", "_kombu"])
async def test_a_bad_group_is_told_not_to_come_back(url: str, group: str) -> None:
    async with connect(f"{url.replace('http', 'ws')}/ws?group={group}") as connection:
        assert json.loads(await connection.recv())["type"] == "error"
        await connection.wait_closed()
        assert connection.close_code == 1008


async def test_a_stopping_server_lets_workers_finish_and_gives_the_rest_back(settings: Settings) -> None:
    async with (
        AsyncExitStack() as first,
        serving(settings) as second,
        httpx.AsyncClient(timeout=60, base_url=second) as http,
    ):
        going = await first.enter_async_context(serving(settings))
        async with worker(going, concurrency=2) as leaving:
            finished, unfinished = await submit(http), await submit(http)
            await leaving.take()
            await leaving.take()
            stopping = asyncio.create_task(first.aclose())
            assert (await leaving.hear())["type"] == "drain"
            waiting = await submit(http)
            await leaving.say(type="task_complete", taskId=finished, result="in time")
            await leaving.say(type="ready", concurrency=2)
            await leaving.hear_nothing()
            assert await leaving.hear_the_end() == 1012
            await stopping
        assert (await ended(http, finished))["result"] == "in time"
        async with worker(second, concurrency=2) as staying:
            tasks = [await staying.take(), await staying.take()]
            assert [(task["taskId"], task["attempt"]) for task in tasks] == [(unfinished, 1), (waiting, 1)]
