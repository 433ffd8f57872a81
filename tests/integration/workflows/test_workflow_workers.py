"""Workflows on Celery's workers and on remote ones: nodes find the results of others by name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


async def start(client: httpx.AsyncClient, **nodes: Any) -> tuple[str, dict[str, str]]:
    answer = await client.post("/api/v1/workflows", json={"name": "test", "nodes": nodes})
    assert answer.status_code == 202, answer.text
    return answer.json()["workflow_id"], answer.json()["nodes"]


async def test_handlers_find_nodes_by_name(client: httpx.AsyncClient, store: TaskStore, workers: Workers) -> None:
    await workers.start(store)
    workflow_id, ids = await start(
        client,
        rows={"type": "noop", "payload": {"rows": [3, 4]}},
        broken={"type": "fails", "payload": {"how": "skip"}},
        sum={"type": "add", "payload": {"numbers": {"$result": "rows", "path": "/rows"}}, "after": ["rows"]},
        names={
            "type": "parents",
            "payload": {"look_up": ["sum", "broken"]},
            "after": ["sum", {"node": "broken", "when": "ended"}],
        },
    )
    assert (await ended(store, ids["sum"])).result == {"sum": 7}
    assert (await ended(store, ids["names"])).result == {
        ids["sum"]: ["completed", {"sum": 7}, None],
        ids["broken"]: ["failed", None, "enough"],
        "by name": ["completed", "failed"],
    }
    found = (await client.get(f"/api/v1/workflows/{workflow_id}")).json()
    assert (found["status"], found["counts"]) == ("failed", {"completed": 3, "failed": 1})


async def test_a_remote_worker_is_told_of_nodes_by_name(url: str, client: httpx.AsyncClient, store: TaskStore) -> None:
    _, ids = await start(
        client,
        first={"type": "http_test.echo"},
        second={"type": "remote", "payload": {"data": {"n": {"$result": "first", "path": "/n"}}}, "after": ["first"]},
    )
    await store.complete(await claim(store, ids["first"]), '{"n": 5}')
    parent = {"status": "completed", "result": {"n": 5}, "error": None}
    async with worker(url) as one:
        message = await one.take()
        assert message["payload"]["data"] == {"n": 5}
        assert message["parents"] == {ids["first"]: parent, "first": parent}
        await one.say(type="task_complete", taskId=ids["second"], result=1, duration=1)
        await eventually(lambda: _completed(store, ids["second"]), because="it is completed")


async def test_a_retry_may_refer_to_nodes_by_name(client: httpx.AsyncClient, store: TaskStore) -> None:
    _, ids = await start(client, a={"type": "http_test.echo"}, b={"type": "http_test.echo", "after": ["a"]})
    await store.complete(await claim(store, ids["a"]), "1")
    await store.cancel(ids["b"])
    path = f"/api/v1/tasks/{ids['b']}/retry"
    assert (await client.post(path, json={"payload": {"x": {"$result": "c"}}})).status_code == 422
    assert (await client.post(path, json={"payload": {"x": {"$result": "a"}}})).status_code == 202


async def _completed(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status.final
