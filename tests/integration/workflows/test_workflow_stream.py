"""Workflows that are followed: live and replayed events are the same ones, and the end comes once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from celeriac.model import Failure
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import SentEvent, claim, read_events
from tests.kit.waiting import eventually

ECHO = {"type": "http_test.echo", "payload": {}}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


async def start(client: httpx.AsyncClient, **nodes: Any) -> tuple[str, dict[str, str]]:
    answer = await client.post("/api/v1/workflows", json={"name": "test", "nodes": nodes})
    assert answer.status_code == 202, answer.text
    return answer.json()["workflow_id"], answer.json()["nodes"]


async def watch(client: httpx.AsyncClient, workflow_id: str, last: str | None = None) -> list[SentEvent]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", f"/api/v1/workflows/{workflow_id}/stream", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in read_events(response)]


def told(events: list[SentEvent]) -> list[tuple[str, str]]:
    return [(event.data.get("node", ""), event.data["status"]) for event in events]


async def test_live_events_are_replayed_with_their_ids(client: httpx.AsyncClient, store: TaskStore) -> None:
    workflow_id, ids = await start(client, a=ECHO, b={**ECHO, "after": ["a"]})
    live: list[SentEvent] = []

    async def follow() -> None:
        async with client.stream("GET", f"/api/v1/workflows/{workflow_id}/stream") as response:
            async for event in read_events(response):
                live.append(event)

    following = asyncio.create_task(follow())
    await eventually(lambda: len(live) == 2, because="the events so far are there")
    await store.complete(await claim(store, ids["a"]), "1")
    await eventually(lambda: len(live) == 5, because="the changes of a come live, and that b is free")
    await store.fail(await claim(store, ids["b"]), Failure("broken", "it broke", retryable=False), 0)
    await asyncio.wait_for(following, 60)
    assert told(live) == [
        ("a", "pending"), ("b", "waiting"), ("a", "processing"), ("a", "completed"), ("b", "pending"),
        ("b", "processing"), ("b", "failed"), ("", "failed"),
    ]  # fmt: skip
    assert live[6].data["error"] == {"code": "broken", "message": "it broke", "retryable": False}
    assert live[6].data["task_id"] == ids["b"]
    assert live[-1].name == "done"
    assert live[-1].data == {"workflow_id": workflow_id, "status": "failed", "counts": {"completed": 1, "failed": 1}}
    assert [event.name for event in live[:-1]] == ["node"] * 7
    assert await watch(client, workflow_id) == live
    for place, event in enumerate(live[:-1]):
        assert await watch(client, workflow_id, event.id) == live[place + 1 :]
    nothing = await client.get(f"/api/v1/workflows/{workflow_id}/stream", headers={"Last-Event-ID": live[-1].id or ""})
    assert nothing.status_code == 204


async def test_a_node_that_waits_for_something_else_has_no_new_status(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    wait = {"type": "wait", "payload": {"signal": "go"}}
    workflow_id, ids = await start(client, a=ECHO, early=wait, late={**wait, "after": ["a"]})
    await store.complete(await claim(store, ids["a"]), "1")
    for name in ("late", "early"):
        answer = await client.post(f"/api/v1/tasks/{ids[name]}/signals/go", json=1)
        assert answer.status_code == 202, answer.text
    assert told(await watch(client, workflow_id)) == [
        ("a", "pending"), ("early", "waiting"), ("late", "waiting"), ("a", "processing"), ("a", "completed"),
        ("late", "completed"), ("early", "completed"), ("", "completed"),
    ]  # fmt: skip


async def test_a_workflow_that_runs_again_has_ended_once_for_a_watcher(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    workflow_id, ids = await start(client, a=ECHO)
    await store.fail(await claim(store, ids["a"]), Failure("broken", "it broke", retryable=False), 0)
    await client.post(f"/api/v1/workflows/{workflow_id}/retry")
    await store.complete(await claim(store, ids["a"]), "1")
    events = await watch(client, workflow_id)
    assert told(events) == [
        *(("a", status) for status in ("pending", "processing", "failed", "pending", "processing", "completed")),
        ("", "completed"),
    ]


async def test_a_watcher_of_events_that_are_gone_gets_the_present_state(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    workflow_id, ids = await start(client, a=ECHO, b=ECHO)
    first = (await store.redis.xrange(keys.workflow_events(workflow_id), count=1))[0][0]
    await store.complete(await claim(store, ids["a"]), "1")
    await store.complete(await claim(store, ids["b"]), "1")
    await store.redis.xtrim(keys.workflow_events(workflow_id), maxlen=1, approximate=False)
    for last in (None, first):
        events = await watch(client, workflow_id, last)
        assert told(events) == [("a", "completed"), ("b", "completed"), ("", "completed")]
        assert [event.data.get("snapshot") for event in events] == [True, True, None]


async def test_a_bad_last_event_id_is_refused(client: httpx.AsyncClient) -> None:
    workflow_id, _ = await start(client, a=ECHO)
    answer = await client.get(f"/api/v1/workflows/{workflow_id}/stream", headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")
