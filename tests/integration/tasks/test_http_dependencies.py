"""Tasks that wait for others, over HTTP, on Celery's workers and on remote ones."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from celeriac.model import Failure
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


async def record(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/tasks/{task_id}")).json())


async def refused(client: httpx.AsyncClient, **fields: Any) -> list[dict[str, str]]:
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}, **fields})
    assert answer.status_code == 422, answer.text
    return list(answer.json()["errors"])


async def test_the_record_says_what_a_task_waits_for(client: httpx.AsyncClient, store: TaskStore) -> None:
    first, second = await submit(client), await submit(client)
    body = {"type": "http_test.echo", "payload": {}, "depends_on": [first, {"task": second, "when": "ended"}]}
    answer = await client.post("/api/v1/tasks", json=body)
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    child = answer.json()["task_id"]
    waits = (await record(client, child))["waiting_for"]
    assert sorted(waits, key=str) == sorted(
        [{"task": first, "when": "completed"}, {"task": second, "when": "ended"}], key=str
    )
    await store.complete(await claim(store, first), "1")
    assert (await record(client, child))["waiting_for"] == [{"task": second, "when": "ended"}]
    await client.post(f"/api/v1/tasks/{second}/cancel")
    freed = await record(client, child)
    assert (freed["status"], freed["waiting_for"]) == ("pending", None)
    all_of_them = [{"task": first, "when": "completed"}, {"task": second, "when": "ended"}]
    assert freed["depends_on"] == all_of_them, "it still says what it depended on"
    await store.complete(await claim(store, child), "1")
    assert (await record(client, child))["depends_on"] == all_of_them
    alone = await record(client, first)
    assert (alone["waiting_for"], alone["depends_on"]) == (None, None)


async def test_a_dependency_that_failed_cancels_or_fails_or_lets_run(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    parent = await submit(client)
    await store.fail(await claim(store, parent), Failure("broken", "it broke", retryable=False), 0)
    for on_unmet, status in ((None, "cancelled"), ("cancel", "cancelled"), ("fail", "failed"), ("run", "pending")):
        more = {} if on_unmet is None else {"on_unmet": on_unmet}
        child = await record(client, await submit(client, depends_on=[parent], **more))
        assert child["status"] == status
        if status != "pending":
            assert child["error"]["code"] == "dependency_failed"
            assert parent in child["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"depends_on": ["nobody"]}, "depends_on.0"),
        ({"depends_on": "x"}, "depends_on"),
        ({"depends_on": [{"task": "x", "when": "soon"}]}, "depends_on.0.when"),
        ({"depends_on": ["y", {"task": "x", "why": 1}]}, "depends_on.1.why"),
        ({"depends_on": ["a", {"task": "a"}]}, "depends_on"),
        ({"depends_on": [f"t{number}" for number in range(1001)]}, "depends_on"),
        ({"depends_on": ["x"], "on_unmet": "wait"}, "on_unmet"),
        ({"on_unmet": "run"}, "on_unmet"),
        ({"payload": {"rows": {"$result": "x"}}}, "payload.rows"),
        ({"payload": {"rows": [{"$result": 5}]}}, "payload.rows.0"),
    ],
)
async def test_what_cannot_be_waited_for_is_refused(
    client: httpx.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    (violation,) = await refused(client, **fields)
    assert violation["field"] == named, violation


@pytest.mark.parametrize("path", ["a", "/~", "/~2", 5])
async def test_a_path_must_be_a_json_pointer(client: httpx.AsyncClient, path: Any) -> None:
    parent = await submit(client)
    payload = {"x": {"$result": parent, "path": path}}
    (violation,) = await refused(client, depends_on=[parent], payload=payload)
    assert violation["field"] == "payload.x.path"


async def test_a_batch_names_the_place_of_each_task_that_does_not_exist(client: httpx.AsyncClient) -> None:
    parent = await submit(client)
    task = {"type": "http_test.echo", "payload": {}}
    tasks = [{**task, "depends_on": [parent]}, {**task, "depends_on": [parent, "nobody"]}, task]
    results = (await client.post("/api/v1/tasks/batch", json={"tasks": tasks})).json()["results"]
    assert [result["status"] for result in results] == [202, 422, 202]
    assert [result.get("task_status") for result in results] == ["waiting", None, "pending"]
    assert results[1]["error"]["errors"][0]["field"] == "depends_on.1"


async def test_handlers_read_their_parents_and_results_are_put_in(
    client: httpx.AsyncClient, store: TaskStore, workers: Workers
) -> None:
    await workers.start(store)
    slow = await submit(client, type="add", payload={"numbers": [1], "pause_s": 0.5})
    numbers = await submit(client, type="noop", depends_on=[slow], payload={"rows": [{"n/a": 3}, 4]})
    broken = await submit(client, type="fails", payload={"how": "skip"})
    references = {
        "all": {"$result": numbers},
        "deep": [{"$result": numbers, "path": "/rows/0/n~1a"}],
        "none": {"$result": broken},
    }
    depends_on = [numbers, {"task": broken, "when": "ended"}]
    given = await submit(client, type="noop", payload=references, depends_on=depends_on)
    family = await submit(client, type="parents", payload={}, depends_on=depends_on)
    beyond = await submit(
        client, type="noop", payload={"x": {"$result": numbers, "path": "/rows/2"}}, depends_on=[numbers]
    )
    unfit = await submit(client, type="add", payload={"numbers": {"$result": numbers}}, depends_on=[numbers])
    assert (await ended(store, given)).result == {"all": {"rows": [{"n/a": 3}, 4]}, "deep": [3], "none": None}
    assert (await ended(store, family)).result == {
        numbers: ["completed", {"rows": [{"n/a": 3}, 4]}, None],
        broken: ["failed", None, "enough"],
    }
    for task_id, code in ((beyond, "invalid_reference"), (unfit, "invalid_payload")):
        task = await ended(store, task_id)
        assert task.error is not None
        assert (task.error.code, task.attempt) == (code, 1)
    shown = await record(client, given)
    assert shown["payload"] == references, "the record shows the payload as it was submitted"


async def test_a_remote_worker_is_told_of_the_parents(url: str, client: httpx.AsyncClient, store: TaskStore) -> None:
    parent = await submit(client)
    await store.complete(await claim(store, parent), '{"n": 5}')
    remote = {"type": "remote", "depends_on": [parent]}
    child = await submit(client, **remote, payload={"data": {"n": {"$result": parent, "path": "/n"}}})
    lost = await submit(client, **remote, payload={"data": {"n": {"$result": parent, "path": "/m"}}})
    async with worker(url) as one:
        message = await one.take()
        assert message["taskId"] == child
        assert message["payload"]["data"] == {"n": 5}
        assert message["parents"] == {parent: {"status": "completed", "result": {"n": 5}, "error": None}}
        await one.say(type="task_complete", taskId=child, result=1, duration=1)
        await eventually(lambda: has_ended(client, lost), because="its reference leads nowhere")
        assert (await record(client, lost))["error"]["code"] == "invalid_reference"
        # The worker is free for the next one.
        after = await submit(client, type="remote", payload={"data": {}})
        assert (await one.take())["taskId"] == after


async def test_a_retry_may_bring_a_payload_that_refers_to_the_parents(
    client: httpx.AsyncClient, store: TaskStore, workers: Workers
) -> None:
    await workers.start(store)
    numbers = await submit(client, type="noop", payload={"rows": [3, 4]})
    child = await submit(client, type="add", payload={"numbers": {"$result": numbers}}, depends_on=[numbers])
    assert (await ended(store, child)).error is not None, "the result is an object, not a list of numbers"
    retry = f"/api/v1/tasks/{child}/retry"
    answer = await client.post(retry, json={"payload": {"numbers": {"$result": "nobody"}}})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "payload.numbers")
    payload = {"numbers": {"$result": numbers, "path": "/rows"}}
    assert (await client.post(retry, json={"payload": payload})).status_code == 202
    await eventually(lambda: has_ended(client, child), because="it runs again")
    found = await record(client, child)
    assert (found["status"], found["result"], found["payload"]) == ("completed", {"sum": 7}, payload)


@pytest.mark.parametrize(
    "task",
    [
        {"type": "celeriac.bulk", "payload": {"$result": "PARENT"}},
        {"type": "celeriac.bulk", "payload": {"action": "cancel", "filter": {"q": {"$result": "PARENT"}}}},
        {"type": "file_process", "payload": {"$result": "PARENT"}},
        {"type": "file_process", "payload": {"processor": "checksum", "path": {"$result": "PARENT"}}},
    ],
)
async def test_a_payload_that_decides_what_its_task_reaches_has_no_references(
    client: httpx.AsyncClient, store: TaskStore, task: dict[str, Any]
) -> None:
    parent = await submit(client)
    await store.complete(await claim(store, parent), '{"action": "cancel", "filter": {"status": ["pending"]}}')
    body = json.loads(json.dumps(task).replace("PARENT", parent))
    (violation,) = await refused(client, **body, depends_on=[parent])
    assert violation["field"] == "payload"
    assert "is checked when" in violation["message"]


async def has_ended(client: httpx.AsyncClient, task_id: str) -> bool:
    return bool((await record(client, task_id))["finished_at"])
