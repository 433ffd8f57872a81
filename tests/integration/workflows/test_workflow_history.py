"""Workflows after the store has let them go: read, listed, followed and run again from the history."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from celeriac.history.history import History
from celeriac.history.pruner import Pruner
from celeriac.history.recorder import Recorder
from celeriac.history.workflows import WorkflowFilter
from celeriac.model import Failure
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, read_events
from tests.kit.history import record_all

ECHO = {"type": "http_test.echo", "payload": {}}
Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "database_url": database_url})


async def start(client: httpx.AsyncClient, nodes: dict[str, Any], **fields: Any) -> tuple[str, dict[str, str]]:
    answer = await client.post("/api/v1/workflows", json={"name": "test", "nodes": nodes, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["workflow_id"], answer.json()["nodes"]


async def read(client: httpx.AsyncClient, workflow_id: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/workflows/{workflow_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def let_go(store: TaskStore) -> None:
    """Remove everything that retention would remove."""
    for pattern in ("task:*", "celeriac:workflow*", "celeriac:events:*"):
        for key in [key async for key in store.redis.scan_iter(pattern)]:
            await store.redis.delete(key)


async def failed_workflow(client: httpx.AsyncClient, store: TaskStore) -> tuple[str, dict[str, str]]:
    nodes = {
        "a": ECHO,
        "b": {**ECHO, "after": ["a"], "payload": {"x": {"$result": "a"}}},
        "c": {**ECHO, "after": [{"node": "b", "when": "completed"}]},
    }
    workflow_id, ids = await start(client, nodes, metadata={"m": 1}, user_id="7")
    await store.complete(await claim(store, ids["a"]), '"kept"')
    await store.fail(await claim(store, ids["b"]), Failure("broken", "it broke", retryable=False), 0)
    return workflow_id, ids


async def test_a_workflow_reads_the_same_from_the_history(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    workflow_id, _ = await failed_workflow(client, store)
    before = await read(client, workflow_id)
    last = (await store.redis.xrevrange(keys.workflow_events(workflow_id), count=1))[0][0]
    await record_all(kept[0], store)
    await let_go(store)
    assert await read(client, workflow_id) == before
    assert (before["status"], before["counts"]) == ("failed", {"completed": 1, "failed": 1, "cancelled": 1})
    assert (await client.post(f"/api/v1/workflows/{workflow_id}/cancel")).status_code == 409
    late = await client.post(f"/api/v1/workflows/{workflow_id}/nodes", json={"nodes": {"x": ECHO}})
    assert (late.status_code, late.json()["workflow_status"]) == (409, "failed")
    async with client.stream("GET", f"/api/v1/workflows/{workflow_id}/stream") as response:
        events = [event async for event in read_events(response)]
    assert [(event.data.get("node", ""), event.data["status"]) for event in events] == [
        ("a", "completed"), ("b", "failed"), ("c", "cancelled"), ("", "failed"),
    ]  # fmt: skip
    assert events[-1].id == last
    nothing = await client.get(f"/api/v1/workflows/{workflow_id}/stream", headers={"Last-Event-ID": last})
    assert nothing.status_code == 204
    found = (await client.get(f"/api/v1/tasks?workflow_id={workflow_id}")).json()["items"]
    assert {(one["node"], one["status"]) for one in found} == {("a", "completed"), ("b", "failed"), ("c", "cancelled")}


async def test_a_workflow_that_only_the_history_has_runs_again(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    workflow_id, ids = await failed_workflow(client, store)
    await record_all(kept[0], store)
    await let_go(store)
    answer = await client.post(f"/api/v1/workflows/{workflow_id}/retry")
    assert (answer.status_code, answer.json()["status"]) == (202, "running"), answer.text
    again = await claim(store, ids["b"])
    assert (await store.parents(again.depends_on))[ids["a"]].result == "kept"
    await store.complete(again, "1")
    await store.complete(await claim(store, ids["c"]), "1")
    found = await read(client, workflow_id)
    assert (found["status"], found["counts"]) == ("completed", {"completed": 3})
    assert await store.redis.pttl(keys.workflow(workflow_id)) > 0
    await record_all(kept[0], store)
    await let_go(store)
    assert (await read(client, workflow_id))["counts"] == {"completed": 3}


async def test_workflows_are_listed_page_by_page(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    expected = []
    for number in range(7):
        workflow_id, ids = await start(client, {"a": ECHO, "b": {**ECHO, "after": ["a"]}}, name=f"n{number % 2}")
        expected.insert(0, workflow_id)
        if number % 3 == 0:
            await store.complete(await claim(store, ids["a"]), "1")
            await store.complete(await claim(store, ids["b"]), "1")
    await record_all(kept[0], store)
    # What happened since is read from the store.
    _, last = expected[0], (await read(client, expected[1]))["nodes"]["a"]["task_id"]
    await store.complete(await claim(store, last), "1")

    async def listed(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = await client.get(f"/api/v1/workflows?limit=2{query}{cursor}")
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            if answer.json()["next_cursor"] is None:
                return found
            cursor = f"&cursor={answer.json()['next_cursor']}"

    everything = await listed("")
    assert [one["workflow_id"] for one in everything] == expected
    assert everything[1]["counts"] == {"completed": 1, "pending": 1}
    assert "nodes" not in everything[0]
    assert [one["workflow_id"] for one in await listed("&status=completed")] == [expected[n] for n in (0, 3, 6)]
    assert [one["workflow_id"] for one in await listed("&name=n1")] == [expected[n] for n in (1, 3, 5)]
    assert [one["workflow_id"] for one in await listed("&name=n1&status=running")] == [expected[n] for n in (1, 5)]
    assert (await client.get("/api/v1/workflows?status=odd")).status_code == 422
    assert (await client.get("/api/v1/workflows?cursor=odd")).status_code == 422


async def test_a_stream_that_was_trimmed_loses_no_workflow(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await start(client, {"first": ECHO})
    await record_all(kept[0], store)
    workflow_id, _ = await failed_workflow(client, store)
    before = await read(client, workflow_id)
    await store.redis.xtrim(keys.EVENTS, maxlen=0, approximate=False)
    await start(client, {"other": ECHO})
    await record_all(kept[0], store)
    await let_go(store)
    assert await read(client, workflow_id) == before


async def test_the_end_of_a_workflow_that_left_before_it_was_recorded_is_known(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    workflow_id, ids = await start(client, {"a": ECHO})
    await record_all(kept[0], store)
    await store.complete(await claim(store, ids["a"]), "1")
    await let_go(store)
    await record_all(kept[0], store)
    assert (await read(client, workflow_id))["status"] == "completed"


async def test_workflows_are_pruned_after_their_retention(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept, settings: Settings
) -> None:
    recorder, history = kept
    ended, _ = await failed_workflow(client, store)
    runs, _ = await start(client, {"a": ECHO})
    await record_all(recorder, store)
    await let_go(store)
    await Pruner(engine=history.engine, store=store, retentions=settings.retentions).step()
    assert len((await history.workflows(WorkflowFilter(), limit=10)).workflows) == 2
    at_once = settings.model_copy(update={"ledger_retention": -1.0})
    pruner = Pruner(engine=history.engine, store=store, retentions=at_once.retentions)
    for _ in range(4):
        await pruner.step()
    assert [one.workflow_id for one in (await history.workflows(WorkflowFilter(), limit=10)).workflows] == [runs]
    assert ended != runs
