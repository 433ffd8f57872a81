"""Workflows over HTTP: what is taken, what is refused, how they run and end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from celeriac.model import Failure, Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.waiting import PATIENCE_S, eventually, in_time

ECHO = {"type": "http_test.echo", "payload": {}}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


def node(*after: Any, **fields: Any) -> dict[str, Any]:
    return {**ECHO, "after": list(after), **fields}


async def start(client: httpx.AsyncClient, nodes: dict[str, Any], **fields: Any) -> tuple[str, dict[str, str]]:
    answer = await client.post("/api/v1/workflows", json={"name": "test", "nodes": nodes, **fields})
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert found["status"] == "running"
    assert answer.headers["location"] == f"/api/v1/workflows/{found['workflow_id']}"
    return found["workflow_id"], found["nodes"]


async def read(client: httpx.AsyncClient, workflow_id: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/workflows/{workflow_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def statuses(workflow: dict[str, Any]) -> dict[str, str]:
    return {name: found["status"] for name, found in workflow["nodes"].items()}


async def run(store: TaskStore, task_id: str, result: str = "1") -> None:
    await store.complete(await claim(store, task_id), result)


async def fail(store: TaskStore, task_id: str) -> None:
    await store.fail(await claim(store, task_id), Failure("broken", "it broke", retryable=False), 0)


async def test_a_workflow_runs_in_the_order_of_its_graph(client: httpx.AsyncClient, store: TaskStore) -> None:
    workflow_id, ids = await start(
        client,
        {
            "last": node({"node": "left", "when": "ended"}, "right"),
            "right": node("first"),
            "left": node("first"),
            "first": node(tags=["x"]),
        },
        metadata={"order": 7},
        user_id=8,
    )
    assert list(ids) == ["last", "right", "left", "first"], "the answer has the order of the request"
    found = await read(client, workflow_id)
    assert {name: found[name] for name in ("workflow_id", "name", "status", "counts", "user_id", "metadata")} == {
        "workflow_id": workflow_id,
        "name": "test",
        "status": "running",
        "counts": {"waiting": 3, "pending": 1},
        "user_id": "8",
        "metadata": {"order": 7},
    }
    assert found["nodes"]["last"] == {
        "task_id": ids["last"],
        "type": "http_test.echo",
        "status": "waiting",
        "after": [{"node": "left", "when": "ended"}, {"node": "right", "when": "completed"}],
        "started_at": None,
        "finished_at": None,
        "error": None,
    }
    record = (await client.get(f"/api/v1/tasks/{ids['last']}")).json()
    assert (record["workflow_id"], record["node"], record["user_id"]) == (workflow_id, "last", "8")
    assert sorted(one["task"] for one in record["waiting_for"]) == sorted([ids["left"], ids["right"]])
    await run(store, ids["first"])
    await run(store, ids["right"])
    await fail(store, ids["left"])
    assert statuses(await read(client, workflow_id)) == {
        "first": "completed", "right": "completed", "left": "failed", "last": "pending",
    }  # fmt: skip
    await run(store, ids["last"])
    found = await read(client, workflow_id)
    assert (found["status"], found["counts"]) == ("failed", {"completed": 3, "failed": 1})
    assert found["finished_at"] is not None
    assert found["nodes"]["left"]["error"] == {"code": "broken", "message": "it broke", "retryable": False}
    assert found["nodes"]["left"]["started_at"] is not None


@pytest.mark.parametrize(
    ("nodes", "field", "message"),
    [
        ({"a": node("b"), "b": node("a")}, "nodes.a.after", "a → b → a"),
        ({"a": node("a")}, "nodes.a.after", "a → a"),
        ({"x": node(), "a": node("x", "c"), "b": node("a"), "c": node("b")}, "nodes.a.after", "a → b → c → a"),
        ({"a": node("fetc"), "fetch": node()}, "nodes.a.after.0", "did you mean fetch"),
        ({"a": node(), "b": node("a", {"node": "a", "when": "ended"})}, "nodes.b.after", "twice"),
        ({"a": node(), "b": node({"node": "a", "when": "soon"})}, "nodes.b.after.0.when", "completed"),
        ({"a": node(), "b": node("a", {"node": "c", "why": 1})}, "nodes.b.after.1.why", "there is no such field"),
        ({"a": node(), "b": node(5)}, "nodes.b.after.0", "must be a JSON object"),
        ({}, "nodes", "at least one"),
        ({"a": 5}, "nodes.a", "JSON object"),
        ({"a": {"type": "nothing"}}, "nodes.a.type", "no task type"),
        ({"a": {**ECHO, "wait": 1}}, "nodes.a.wait", "no such field"),
        ({"a": {"type": "http_test.thumbnail", "payload": {}}}, "nodes.a.payload.path", "required"),
        ({"a": node(), "b": node(payload={"x": {"$result": "a"}})}, "nodes.b.payload.x", "does not depend"),
        ({"a": node(), "b": node("a", depends_on=["nobody"])}, "nodes.b.depends_on.0", "nobody"),
        ({"a": node(on_unmet="run")}, "nodes.a.on_unmet", "means nothing"),
        ({"a\n": node()}, "nodes.a\n", "printable"),
        ({f"n{number}": node() for number in range(1001)}, "nodes", "1000"),
    ],
)
async def test_what_cannot_run_is_refused_as_a_whole(
    client: httpx.AsyncClient, store: TaskStore, nodes: dict[str, Any], field: str, message: str
) -> None:
    answer = await client.post("/api/v1/workflows", json={"name": "test", "nodes": nodes})
    assert answer.status_code == 422, answer.text
    assert (answer.json()["errors"][0]["field"], answer.json()["code"]) == (field, "invalid_submission")
    assert message in answer.json()["errors"][0]["message"]
    left = [key async for key in store.redis.scan_iter() if key.startswith(("task:", "celeriac:workflow"))]
    assert left == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nodes": {"a": node()}, "name": ""}, "name"),
        ({"nodes": {"a": node()}, "nmae": "x"}, "nmae"),
        ({"nodes": {"a": node()}, "metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"nodes": [node()]}, "nodes"),
        ([], ""),
    ],
)
async def test_a_body_that_is_not_a_workflow_is_refused(client: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await client.post("/api/v1/workflows", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_a_repeated_idempotency_key_answers_with_the_first_workflow(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    body = {"name": "test", "nodes": {"a": node(), "b": node("a")}}
    first = await client.post("/api/v1/workflows", json=body, headers={"Idempotency-Key": "k"})
    await client.post(f"/api/v1/workflows/{first.json()['workflow_id']}/nodes", json={"nodes": {"c": node("b")}})
    second = await client.post("/api/v1/workflows", json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]
    task = await client.post("/api/v1/tasks", json=ECHO, headers={"Idempotency-Key": "k"})
    assert task.status_code == 202, "the key of a task is another one"


async def test_results_are_named_by_nodes(client: httpx.AsyncClient, store: TaskStore) -> None:
    payload = {"rows": {"$result": "fetch", "path": "/rows"}}
    _, ids = await start(client, {"fetch": node(), "render": node("fetch", payload=payload)})
    await run(store, ids["fetch"], json.dumps({"rows": [1, 2]}))
    record = (await client.get(f"/api/v1/tasks/{ids['render']}")).json()
    assert record["payload"] == payload, "the record has the payload as it was submitted"
    claimed = await claim(store, ids["render"])
    assert (claimed.workflow_id, claimed.node) == (record["workflow_id"], "render")


async def test_nodes_are_added_while_a_workflow_runs(client: httpx.AsyncClient, store: TaskStore) -> None:
    workflow_id, ids = await start(client, {"a": node(), "b": node("a")})
    path = f"/api/v1/workflows/{workflow_id}/nodes"
    added = await client.post(path, json={"nodes": {"d": node("c"), "c": node("b", payload={"x": {"$result": "b"}})}})
    assert (added.status_code, list(added.json()["nodes"])) == (202, ["d", "c"]), added.text
    ids |= added.json()["nodes"]
    taken = await client.post(path, json={"nodes": {"e": node(), "a": node()}})
    assert (taken.status_code, taken.json()["code"], taken.json()["node"]) == (409, "node_exists", "a")
    assert "e" not in (await read(client, workflow_id))["nodes"], "all or nothing"
    cycle = await client.post(path, json={"nodes": {"x": node("y", "a"), "y": node("x")}})
    assert (cycle.status_code, "x → y → x" in cycle.text) == (422, True)
    unknown = await client.post(path, json={"nodes": {"x": node("zzz")}})
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["message"].endswith("neither in this request nor in the workflow")
    assert (await client.post("/api/v1/workflows/nobody/nodes", json={"nodes": {"x": node()}})).status_code == 404
    for name in ("a", "b", "c", "d"):
        assert (await read(client, workflow_id))["status"] == "running"
        await run(store, ids[name])
    assert (await read(client, workflow_id))["status"] == "completed"
    late = await client.post(path, json={"nodes": {"z": node()}})
    assert (late.status_code, late.json()["code"]) == (409, "illegal_workflow_move")


async def test_a_workflow_is_cancelled_as_a_whole(client: httpx.AsyncClient, store: TaskStore) -> None:
    workflow_id, ids = await start(client, {"a": node(), "b": node(), "c": node("a", "b"), "d": node(delay=60)})
    await run(store, ids["a"])
    running = await claim(store, ids["b"])
    answer = await client.post(f"/api/v1/workflows/{workflow_id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"workflow_id": workflow_id, "status": "running"})
    assert statuses(await read(client, workflow_id)) == {
        "a": "completed", "b": "processing", "c": "cancelled", "d": "cancelled",
    }  # fmt: skip
    late = await client.post(f"/api/v1/workflows/{workflow_id}/nodes", json={"nodes": {"x": node()}})
    assert late.status_code == 409
    assert await store.fail(running, Failure("broken", "it broke", retryable=True), 0) is Status.CANCELLED
    found = await read(client, workflow_id)
    assert (found["status"], found["counts"]) == ("cancelled", {"completed": 1, "cancelled": 3})
    again = await client.post(f"/api/v1/workflows/{workflow_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")

    retried = await client.post(f"/api/v1/workflows/{workflow_id}/retry")
    assert (retried.status_code, retried.json()["status"]) == (202, "running")
    assert statuses(await read(client, workflow_id)) == {
        "a": "completed", "b": "pending", "c": "waiting", "d": "pending",
    }  # fmt: skip
    for name in ("b", "c", "d"):
        await run(store, ids[name])
    assert (await read(client, workflow_id))["status"] == "completed"


async def test_a_retry_runs_what_failed_and_puts_back_what_that_had_cancelled(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    workflow_id, ids = await start(
        client,
        {
            "a": node(),
            "b": node("a"),
            "c": node("b"),
            "d": node("c"),
            "clean": node({"node": "b", "when": "failed"}),
            "unneeded": node({"node": "a", "when": "failed"}),
        },
    )
    path = f"/api/v1/workflows/{workflow_id}/retry"
    assert (await client.post(path)).status_code == 409, "it runs"
    await run(store, ids["a"])
    await fail(store, ids["b"])
    await run(store, ids["clean"])
    found = await read(client, workflow_id)
    assert found["status"] == "failed"
    assert statuses(found) == {
        "a": "completed", "b": "failed", "c": "cancelled", "d": "cancelled",
        "clean": "completed", "unneeded": "cancelled",
    }  # fmt: skip
    assert found["nodes"]["d"]["error"]["code"] == "dependency_failed"
    answer = await client.post(path)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert statuses(await read(client, workflow_id)) == {
        "a": "completed", "b": "pending", "c": "waiting", "d": "waiting",
        "clean": "completed", "unneeded": "cancelled",
    }  # fmt: skip
    for name in ("b", "c", "d"):
        await run(store, ids[name])
    assert (await read(client, workflow_id))["status"] == "completed"
    refused = await client.post(path)
    assert (refused.status_code, refused.json()["workflow_status"]) == (409, "completed")
    assert (await client.post(f"/api/v1/workflows/{workflow_id}/cancel")).status_code == 409


async def test_an_unknown_workflow_is_not_found(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/stream")):
        answer = await client.request(method, f"/api/v1/workflows/nobody{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "workflow_not_found"), path
        assert answer.json()["workflow_id"] == "nobody"


async def test_parents_outside_of_the_workflow_are_kept_until_it_may_read_them(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    outside = await submit(client)
    await store.redis.hset(keys.task(outside), "retention_ms", 50)
    _, ids = await start(client, {"a": node(depends_on=[outside]), "b": node("a", depends_on=[outside])})
    await run(store, outside, '"kept"')
    await asyncio.sleep(0.1)
    assert await store.redis.hget(keys.task(outside), "dependants") == "2"
    await run(store, ids["a"])
    await run(store, ids["b"])
    assert await store.redis.pttl(keys.task(outside)) != -1


async def test_limits_refuse_a_workflow_as_a_whole(client: httpx.AsyncClient, valkey_url: str) -> None:
    body = {"name": "test", "nodes": {"a": node(queue="unacked")}}
    assert (await client.post("/api/v1/workflows", json=body)).status_code == 422
    body["nodes"] = {f"n{one}": node(*(f"m{two}" for two in range(150))) for one in range(150)}
    body["nodes"] |= {f"m{two}": node() for two in range(150)}
    answer = await client.post("/api/v1/workflows", json=body)
    assert (answer.status_code, "22500" in answer.text, "workflows.max_edges" in answer.text) == (422, True, True)


@pytest.mark.parametrize("shape", ["fan", "chain"])
async def test_a_thousand_nodes_are_accepted_and_run(client: httpx.AsyncClient, store: TaskStore, shape: str) -> None:
    if shape == "fan":
        nodes = {"first": node(), **{f"n{one}": node("first") for one in range(998)}}
        nodes["last"] = node(*(f"n{one}" for one in range(998)))
    else:
        nodes = {f"n{one}": node(*([f"n{one - 1}"] if one else [])) for one in range(1000)}
    workflow_id, ids = await start(client, nodes)
    found = await read(client, workflow_id)
    assert (found["counts"], len(found["nodes"])) == ({"pending": 1, "waiting": 999}, 1000)
    assert await store.redis.exists(keys.workflow_plan(workflow_id), keys.STEERING) == 0
    if shape == "fan":
        await run(store, ids["first"])
        while (await read(client, workflow_id))["counts"].get("waiting", 0) > 1:
            await store.promote(100)
        await asyncio.gather(*(run(store, ids[f"n{one}"]) for one in range(998)))
        await run(store, ids["last"])
    else:
        for one in range(1000):
            await run(store, ids[f"n{one}"])
    found = await read(client, workflow_id)
    assert (found["status"], found["counts"]) == ("completed", {"completed": 1000})


async def test_workers_hear_of_a_group_that_begins_with_a_node(client: httpx.AsyncClient, store: TaskStore) -> None:
    async with store.redis.pubsub() as heard:
        await heard.subscribe(keys.AWAKE)
        await start(client, {"first": node(queue="new-group"), "second": node(queue="new-group")})
        async with asyncio.timeout(PATIENCE_S):
            while (message := await heard.get_message(timeout=1)) is None or message["type"] != "message":
                pass
    assert message["data"] in ("new-group", b"new-group")
    assert await store.redis.sismember(keys.AWAKE, "new-group")


async def test_nodes_that_need_no_worker_wait_and_end_by_themselves(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    workflow_id, ids = await start(
        client,
        {
            "ask": {"type": "wait", "payload": {"signal": "approval", "timeout": "3d"}},
            "pause": {"type": "sleep", "payload": {"for": "50ms"}, "after": ["ask"]},
            "last": node("pause", payload={"decision": {"$result": "pause"}}),
        },
    )
    assert statuses(await read(client, workflow_id)) == {"ask": "waiting", "pause": "waiting", "last": "waiting"}
    answer = await client.post(f"/api/v1/tasks/{ids['ask']}/signals/approval", json=True)
    assert answer.status_code == 202, answer.text

    async def ended() -> bool:
        await store.promote(10)
        return statuses(await read(client, workflow_id))["pause"] == "completed"

    await eventually(ended, because="the sleep is over")
    await run(store, ids["last"])
    assert (await read(client, workflow_id))["status"] == "completed"


async def test_a_request_that_waits_is_answered_when_the_workflow_ends(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    workflow_id, ids = await start(client, {"first": node(), "last": node("first")})
    path = f"/api/v1/workflows/{workflow_id}"
    early = await client.get(path, params={"wait": "0.05"})
    assert (early.status_code, early.json()) == (200, await read(client, workflow_id))
    asking = asyncio.create_task(client.get(path, params={"wait": "60"}))

    async def heard() -> bool:
        return bool((await store.redis.pubsub_numsub(keys.live_workflow(workflow_id)))[0][1])

    await eventually(heard, because="the process listens")
    await run(store, ids["first"])
    await eventually(lambda: store.redis.zscore(keys.waiting("default"), ids["last"]), because="the last one waits")
    assert not asking.done()
    await run(store, ids["last"])
    assert (await in_time(asking, PATIENCE_S, because="it has ended")).json()["status"] == "completed"
    assert (await client.get(path, params={"wait": "60"})).json()["status"] == "completed"
    assert (await client.get(path, params={"wait": "61"})).json()["code"] == "invalid_request"
    assert (await client.get("/api/v1/workflows/unknown", params={"wait": "60"})).status_code == 404
