"""A submission that no replica has is refused at every door with the id that it has, and doubles nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status.rpc_status import from_call

from celeriac import AsyncClient
from celeriac.errors import NotReplicatedError
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.api.file_services import file_settings, rpc_serving
from tests.kit.api.http_serving import serving
from tests.kit.command_line import celeriac

ECHO = {"type": "http_test.echo", "payload": {}}
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    """The settings of a store without replicas, which is asked for one."""
    return file_settings(
        tmp_path, redis_url=valkey_url, durability="replicated", durability_timeout=0.05, store_timeout=0.05
    )


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
async def later(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API process that waits for no replica: as if the replica were back."""
    async with (
        serving(settings.model_copy(update={"durability": "everysec"})) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client


def _named(problem: dict[str, Any], name: str = "task_id") -> str:
    assert (problem["status"], problem["code"]) == (503, "store_unavailable")
    assert "0 of 1 replicas" in problem["detail"]
    assert problem[name] in problem["detail"]
    return str(problem[name])


async def test_one_task(http: httpx.AsyncClient, later: httpx.AsyncClient, settings: Settings) -> None:
    answers = [await http.post("/api/v1/tasks", json=ECHO, headers=KEY) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].headers["retry-after"] == "1"
    (named,) = {_named(answer.json()) for answer in answers}
    found = await later.post("/api/v1/tasks", json=ECHO, headers=KEY)
    assert (found.status_code, found.json()["task_id"]) == (200, named)
    async with TaskStore(settings.redis_url or "", Settings().store) as store:
        assert await store.redis.keys("task:*") == [f"task:{named}"]


async def test_a_batch(http: httpx.AsyncClient, later: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/tasks/batch", json={"tasks": [ECHO, {"type": 1}, ECHO]}, headers=KEY)
    assert answer.status_code == 200
    first, wrong, last = answer.json()["results"]
    assert wrong["status"] == 422
    named = [_named(one["error"]) for one in (first, last)]
    found = await later.post("/api/v1/tasks/batch", json={"tasks": [ECHO, {"type": 1}, ECHO]}, headers=KEY)
    assert [one.get("task_id") for one in found.json()["results"]] == [named[0], None, named[1]]


async def test_a_workflow(http: httpx.AsyncClient, later: httpx.AsyncClient) -> None:
    document = {"name": "test", "nodes": {"only": ECHO}}
    answer = await http.post("/api/v1/workflows", json=document, headers=KEY)
    assert answer.status_code == 503
    named = _named(answer.json(), "workflow_id")
    found = await later.post("/api/v1/workflows", json=document, headers=KEY)
    assert found.json()["workflow_id"] == named


async def test_a_file_that_was_handed_in_before(
    http: httpx.AsyncClient, later: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "temp" / "a.txt"
    path.write_text("text")
    document = {"type": "file_process", "payload": {"processor": "checksum", "path": str(path)}}
    named = {_named((await http.post("/api/v1/tasks", json=document, headers=KEY)).json()) for _ in range(2)}
    found = await later.post("/api/v1/tasks", json=document, headers=KEY)
    assert {found.json()["task_id"]} == named


async def test_the_client_raises_what_names_the_task(http: httpx.AsyncClient) -> None:
    async with AsyncClient(str(http.base_url), retries=1) as client:
        with pytest.raises(NotReplicatedError) as raised:
            await client.submit("http_test.echo")
    assert raised.value.task_id
    assert raised.value.task_id in str(raised.value)


async def test_grpc_says_unavailable_and_names_the_task(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "temp" / "a.mp4"
    path.write_bytes(b"a film")
    async with (
        TaskStore(settings.redis_url or "", settings.store) as store,
        rpc_serving(store, settings) as (_, channel, _),
    ):
        stub: Any = task_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(path)))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        status = from_call(raised.value)
        assert status is not None
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        found = await store.get(info.metadata["task_id"])
    assert found.type == "file_process"


@pytest.mark.parametrize("direct", [False, True])
async def test_the_command_line_names_the_task(
    http: httpx.AsyncClient, settings: Settings, tmp_path: Path, direct: bool
) -> None:
    where = {} if direct else {"CELERIAC_URL": str(http.base_url)}
    code, _, err = await celeriac(
        "submit", "http_test.echo", "--idempotency-key", "k", cwd=tmp_path,
        REDIS_URL=settings.redis_url or "", CELERIAC_DURABILITY="replicated", CELERIAC_DURABILITY_TIMEOUT="0.05s",
        CELERIAC_DATA_DIR=str(tmp_path / "data"), CELERIAC_IMPORTS='["tests.kit.api.http_serving"]',
        PYTHONPATH=os.getcwd(), **where,
    )  # fmt: skip
    assert code != 0
    assert "0 of 1 replicas" in err
    async with TaskStore(settings.redis_url or "", Settings().store) as store:
        made = await store.made_under(None, "k")
    assert made is not None
    assert made.task_id in err
