"""Workflows through both Python clients, against the real API. The test is the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac.errors import (
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    NodeExistsError,
    WorkflowNotFoundError,
)
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Failure, NodeDependency, Status, When
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.workflows.record import workflow_record
from tests.kit.api.either_client import AnyClient, collect, connected, run
from tests.kit.api.http_serving import claim
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.history import record_all
from tests.kit.waiting import eventually

ECHO: Any = {"type": "http_test.echo", "max_retries": 0}
Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "database_url": database_url})


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, url: str) -> AsyncIterator[AnyClient]:
    async with connected(kind, url, retries=0) as made:
        yield made


async def finish(store: TaskStore, task_id: str, result: str = "1") -> None:
    await store.complete(await claim(store, task_id), result)


async def test_a_graph_is_submitted_read_and_extended(client: AnyClient, store: TaskStore) -> None:
    nodes = {
        "fetch": {**ECHO, "payload": {"n": 1}, "tags": ["red"]},
        "render": {**ECHO, "payload": {"rows": {"$result": "fetch"}}, "after": ["fetch"]},
        "clean": {**ECHO, "after": [{"node": "render", "when": "ended"}]},
    }
    accepted = await run(client.workflows.submit, "report", nodes, metadata={"order": 7}, user_id="ann")
    assert list(accepted.nodes) == list(nodes)
    found = await run(client.workflows.get, accepted.workflow_id)
    assert (found.name, found.status, found.user_id, found.metadata) == ("report", "running", "ann", {"order": 7})
    assert found.counts == {Status.PENDING: 1, Status.WAITING: 2}
    assert {name: node.task_id for name, node in found.nodes.items()} == accepted.nodes
    assert found.nodes["clean"].after == (NodeDependency("render", When.ENDED),)
    assert found.finished_at is None
    handle = await run(client.task, accepted.nodes["fetch"])
    assert handle.id == accepted.nodes["fetch"]

    added = await run(client.workflows.add_nodes, accepted.workflow_id, {"send": {**ECHO, "after": ["clean"]}})
    assert list(added) == ["send"]
    with pytest.raises(NodeExistsError):
        await run(client.workflows.add_nodes, accepted.workflow_id, {"send": ECHO})
    for task_id in (*accepted.nodes.values(), *added.values()):
        await eventually(lambda task_id=task_id: is_pending(store, task_id), because="its turn comes")
        await finish(store, task_id)
    ended = await run(client.workflows.get, accepted.workflow_id)
    assert (ended.status, ended.counts) == ("completed", {Status.COMPLETED: 4})
    assert ended.finished_at is not None
    with pytest.raises(IllegalWorkflowMoveError):
        await run(client.workflows.add_nodes, accepted.workflow_id, {"late": ECHO})
    with pytest.raises(IllegalWorkflowMoveError):
        await run(client.workflows.retry, accepted.workflow_id)


async def is_pending(store: TaskStore, task_id: str) -> bool:
    return (await store.get(task_id)).status is Status.PENDING


async def test_what_is_wrong_is_an_error_that_names_it(client: AnyClient) -> None:
    for nodes, text in (
        ({"a": {**ECHO, "after": ["b"]}, "b": {**ECHO, "after": ["a"]}}, "→"),
        ({"a": {**ECHO, "after": ["nobody"]}}, "nobody"),
        ({"a": {**ECHO, "colour": "red"}}, "colour"),
        ({}, "nodes"),
    ):
        with pytest.raises(InvalidSubmissionError, match=text):
            await run(client.workflows.submit, "odd", nodes)
    with pytest.raises(InvalidSubmissionError, match="idempotency_key"):
        await run(client.workflows.submit, "odd", {"a": ECHO}, idempotency_key="a b")
    for call in (client.workflows.get, client.workflows.cancel, client.workflows.retry):
        with pytest.raises(WorkflowNotFoundError):
            await run(call, "nobody")
    with pytest.raises(WorkflowNotFoundError):
        await collect(client.workflows.stream("nobody"))


async def test_one_is_cancelled_and_runs_again(client: AnyClient, store: TaskStore) -> None:
    accepted = await run(client.workflows.submit, "twice", {"a": ECHO, "b": {**ECHO, "after": ["a"]}})
    assert await run(client.workflows.cancel, accepted.workflow_id) in ("running", "cancelled")
    await eventually(lambda: has_status(client, accepted, "cancelled"), because="its nodes wait")
    assert await run(client.workflows.retry, accepted.workflow_id) == "running"
    await eventually(lambda: is_pending(store, accepted.nodes["a"]), because="it runs again")
    await store.fail(await claim(store, accepted.nodes["a"]), Failure("broken", "no ink", False), 0)
    found = await run(client.workflows.get, accepted.workflow_id)
    assert found.status == "failed"
    assert found.nodes["a"].error == Failure("broken", "no ink", False)
    assert found.nodes["b"].error.code == "dependency_failed"


async def has_status(client: AnyClient, accepted: Any, status: str) -> bool:
    return bool((await run(client.workflows.get, accepted.workflow_id)).status == status)


async def test_they_are_listed_page_by_page(client: AnyClient, store: TaskStore, kept: Kept) -> None:
    ids = [(await run(client.workflows.submit, f"n{n % 2}", {"a": ECHO})).workflow_id for n in range(5)]
    await record_all(kept[0], store)
    found = await collect(client.workflows.list())
    assert [one.workflow_id for one in found] == ids[::-1]
    assert found[0].nodes is None
    assert len(await collect(client.workflows.list(limit=3))) == 3
    assert [one.name for one in await collect(client.workflows.list(name="n1", status="running"))] == ["n1", "n1"]
    assert await collect(client.workflows.list(status="failed")) == []


async def test_the_changes_are_followed_through_broken_connections(kind: str, url: str, store: TaskStore) -> None:
    async with FlakyProxy(url) as proxy, connected(kind, proxy.url) as client:
        nodes = {"a": ECHO, **{f"b{n}": {**ECHO, "after": ["a"]} for n in range(3)}}
        accepted = await run(client.workflows.submit, "fan", nodes)
        seen: list[Any] = []
        following = asyncio.create_task(collect(client.workflows.stream(accepted.workflow_id), into=seen))
        await eventually(lambda: len(seen) >= 4, because="the first states are told")
        proxy.cut_all()
        await finish(store, accepted.nodes["a"])
        for n in range(3):
            await eventually(lambda n=n: is_pending(store, accepted.nodes[f"b{n}"]), because="it is released")
            await finish(store, accepted.nodes[f"b{n}"])
            proxy.cut_all()
        await asyncio.wait_for(following, 60)
    told: dict[str, list[str]] = {}
    for change in seen:
        assert change.task_id == accepted.nodes[change.node]
        told.setdefault(change.node, []).append(change.status.wire)
    assert told["a"] == ["pending", "processing", "completed"]
    assert [told[f"b{n}"] for n in range(3)] == [["waiting", "pending", "processing", "completed"]] * 3


async def test_what_the_client_reads_is_what_the_api_writes(client: AnyClient, url: str, store: TaskStore) -> None:
    accepted = await run(client.workflows.submit, "same", {"a": ECHO, "b": {**ECHO, "after": ["a"]}})
    await store.fail(await claim(store, accepted.nodes["a"]), Failure("broken", "no ink", False), 0)
    async with httpx.AsyncClient(timeout=60) as plain:
        written = (await plain.get(f"{url}/api/v1/workflows/{accepted.workflow_id}")).json()
    assert workflow_record(await run(client.workflows.get, accepted.workflow_id)) == written
    assert list(written["nodes"]) == ["a", "b"]
