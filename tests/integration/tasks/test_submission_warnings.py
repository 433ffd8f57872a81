"""A task that no living worker takes is accepted, and the answer says so; with a worker it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac import task
from celeriac.database.migrating import migrate
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.warnings import Warnings
from tests.kit.api.http_serving import serving
from tests.kit.code_versions import version, worker_starts, workers_are_gone
from tests.kit.waiting import eventually


@task("warned")
async def warned(payload: dict[str, Any]) -> None:
    """Do nothing."""


def nobody(group: str, task_type: str = "warned") -> dict[str, str]:
    return {"code": "no_worker", "text": f"no worker serves the group {group}", "group": group, "type": task_type}


@pytest.fixture
async def http(valkey_url: str, tmp_path: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate(
        {
            "redis_url": valkey_url,
            "database_url": f"sqlite:///{tmp_path}/history.db",
            "groups": {"programs": {"processor": "external"}},
        }
    )
    await asyncio.to_thread(migrate, settings.history_url)
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


async def submitted(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/api/v1/tasks", json={"type": "warned", "payload": {}, **fields})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_submission_that_nobody_takes_says_so_until_a_worker_is_there(
    http: httpx.AsyncClient, store: TaskStore
) -> None:
    assert (await submitted(http, queue="g"))["warnings"] == [nobody("g")]
    assert (await submitted(http, queue="g", delay="1h"))["warnings"] == [nobody("g")]
    (remote,) = (await submitted(http, type="remote", queue="g", payload={"data": 1}))["warnings"]
    assert remote["text"] == "no remote worker serves the group g"
    await worker_starts(store, "w", version(other=None), "g")

    async def says_type() -> bool:
        (warning,) = (await submitted(http, queue="g"))["warnings"]
        return bool(warning["text"] == "no worker of the group g knows the type warned")

    await eventually(says_type, because="the worker is known, and does not know the type")
    await worker_starts(store, "w", version(warned=None), "g")

    async def silent() -> bool:
        return "warnings" not in await submitted(http, queue="g")

    await eventually(silent, because="a worker takes it")
    assert set(await submitted(http, queue="g")) == {"task_id", "status"}


async def test_what_needs_none_of_our_workers_has_no_warning(http: httpx.AsyncClient) -> None:
    for fields in ({"queue": "programs"}, {"type": "sleep", "payload": {"for": "1h"}}):
        assert "warnings" not in await submitted(http, **fields)


async def test_a_batch_says_each_warning_once(http: httpx.AsyncClient) -> None:
    tasks = [{"type": "warned", "payload": {}, "queue": f"g{n % 2}"} for n in range(10)]
    answer = (await http.post("/api/v1/tasks/batch", json={"tasks": tasks})).json()
    assert answer["warnings"] == [nobody("g0"), nobody("g1")]
    assert all(set(result) == {"status", "task_id", "task_status"} for result in answer["results"])
    many = [{"type": "warned", "payload": {}, "queue": f"g{n}"} for n in range(50)]
    assert len((await http.post("/api/v1/tasks/batch", json={"tasks": many})).json()["warnings"]) == 20


async def test_a_definition_says_that_nobody_takes_its_tasks_and_its_old_routes_do_not(
    http: httpx.AsyncClient, store: TaskStore
) -> None:
    body = {
        "name": "nightly",
        "user_id": 7,
        "content": "",
        "trigger_type": "LOOP",
        "trigger_args": {"cron": "0 3 * * *"},
        "task": {"type": "warned", "payload": {}, "queue": "g"},
    }
    answer = await http.post("/api/v1/definitions", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["warnings"] == [nobody("g")]
    path = f"/api/v1/definitions/{made['task_def_id']}"
    assert (await http.get(path)).json()["warnings"] == [nobody("g")]
    assert (await http.post(f"{path}/pause")).json()["warnings"] == [nobody("g")]
    assert "warnings" not in (await http.get(f"/tasks/{made['task_def_id']}")).json()
    assert "warnings" not in (await http.post("/tasks", json=body)).json()
    await worker_starts(store, "w", version(warned=None), "g")

    async def silent() -> bool:
        return "warnings" not in (await http.get(path)).json()

    await eventually(silent, because="a worker takes its tasks")
    await workers_are_gone(store, "w")
    assert (await http.post(f"{path}/cancel")).json().get("warnings") is None


async def test_the_workers_are_read_for_many_submissions_together(store: TaskStore) -> None:
    reads = 0
    living = store.workers

    async def counted() -> Any:
        nonlocal reads
        reads += 1
        return await living()

    store.workers = counted  # type: ignore[method-assign]
    await worker_starts(store, "w", version(warned=None), "g")
    warnings = Warnings(store)
    warnings.prepare()
    assert await warnings.of("g", "warned", "") == ()
    for _ in range(1000):
        warnings.prepare()
        assert warnings.known("g", "warned", "") == ()
    assert reads == 1
