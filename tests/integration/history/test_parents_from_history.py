"""Tasks that depend on others which have left the store: the history has them, and so they count."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.errors import HistoryUnavailableError
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Dependency, Failure, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.history import completed, failed, forget, record_all
from tests.kit.tokens import token_of

Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    access = {"jwt_secret": "0123456789abcdef0123456789abcdef"}
    return Settings.model_validate({"redis_url": valkey_url, "database_url": database_url, "access": access})


@pytest.fixture
async def client(url: str, settings: Settings) -> Any:
    token = token_of(settings, user_id="ops", scopes=[Scope.ADMIN])
    async with httpx.AsyncClient(base_url=url, timeout=60, headers={"authorization": f"Bearer {token}"}) as connected:
        yield connected


async def record(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/tasks/{task_id}")).json())


async def gone(store: TaskStore, recorder: Recorder, *task_ids: str) -> None:
    await record_all(recorder, store)
    await forget(store, *task_ids)


async def test_a_parent_that_only_the_history_has_counts_with_its_end_and_its_result(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await completed(store, "fine", '{"n": 5}')
    await failed(store, "broken")
    await gone(store, kept[0], "fine", "broken")
    ready = await submit(client, depends_on=["fine"], payload={"n": {"$result": "fine", "path": "/n"}})
    assert (await record(client, ready))["status"] == "pending"
    unmet = await record(client, await submit(client, depends_on=["fine", "broken"]))
    assert (unmet["status"], unmet["error"]["code"]) == ("cancelled", "dependency_failed")
    assert "broken" in unmet["error"]["message"]
    mine = await claim(store, ready)
    parents = await store.parents(mine.depends_on)
    assert (parents["fine"].status, parents["fine"].result) == ("completed", {"n": 5})
    assert await store.redis.ttl("task:fine") == -1, "it stays as long as a task depends on it"
    await store.complete(mine, "1")
    assert 0 < await store.redis.ttl("task:fine") <= store.settings.retention
    assert (await record(client, "fine"))["result"] == {"n": 5}


async def test_the_history_keeps_what_a_task_depended_on(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await completed(store, "fine")
    child = await submit(client, depends_on=[{"task": "fine", "when": "ended"}])
    await store.complete(await claim(store, child), "1")
    await gone(store, kept[0], child, "fine")
    assert not (await store.known([child]))[0]
    expected = [{"task": "fine", "when": "ended"}]
    assert (await record(client, child))["depends_on"] == expected
    listed = (await client.get("/api/v1/tasks")).json()["items"]
    assert {one["task_id"]: one["depends_on"] for one in listed} == {child: expected, "fine": None}


async def test_a_batch_finds_them_too_and_an_unknown_one_is_still_refused(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await completed(store, "fine")
    await gone(store, kept[0], "fine")
    task = {"type": "http_test.echo", "payload": {}}
    tasks = [{**task, "depends_on": ["fine", "nobody"]}, {**task, "depends_on": ["fine"]}]
    results = (await client.post("/api/v1/tasks/batch", json={"tasks": tasks})).json()["results"]
    assert [result["status"] for result in results] == [422, 202]
    assert results[0]["error"]["errors"][0]["field"] == "depends_on.1"


async def test_a_task_that_the_store_lost_before_its_end_does_not_come_back(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    lost = await submit(client)
    await gone(store, kept[0], lost)
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "depends_on": [lost]})
    assert answer.status_code == 422, answer.text
    assert not (await store.known([lost]))[0]


async def test_a_user_cannot_depend_on_another_users_task_in_the_history(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept, settings: Settings
) -> None:
    await completed(store, "anns", user_id="ann")
    await completed(store, "bobs", user_id="bob")
    await gone(store, kept[0], "anns", "bobs")
    ann = {"authorization": f"Bearer {token_of(settings, user_id='ann', scopes=[Scope.SUBMIT])}"}
    body = {"type": "http_test.echo", "payload": {}}
    answer = await client.post("/api/v1/tasks", json={**body, "depends_on": ["anns", "bobs"]}, headers=ann)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "depends_on.1")
    assert not (await store.known(["bobs"]))[0], "nothing of another user comes back"
    assert await store.redis.ttl("task:anns") > 0, "what came back for a task that was refused leaves again"
    assert (await client.post("/api/v1/tasks", json={**body, "depends_on": ["anns"]}, headers=ann)).status_code == 202


async def test_a_task_that_is_retried_finds_its_parents_again(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    for child, leaves in (("stays", False), ("leaves", True)):
        await completed(store, f"parent-{child}", "7")
        parent = f"parent-{child}"
        payload = f'{{"n": {{"$result": "{parent}"}}}}'
        await store.submit(
            Submission(child, "http_test.echo", payload=payload, depends_on=[Dependency(parent)], max_retries=0)
        )
        await store.fail(await claim(store, child), Failure("broken", "it broke", retryable=False), 0)
        await gone(store, kept[0], parent, *([child] if leaves else []))
        assert (await client.post(f"/api/v1/tasks/{child}/retry")).status_code == 202
        mine = await claim(store, child)
        assert (await store.parents(mine.depends_on))[parent].result == 7


async def test_while_the_history_is_away_nobody_says_that_there_is_no_such_task(
    client: httpx.AsyncClient, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise HistoryUnavailableError("the database is away")

    monkeypatch.setattr(History, "get", away)
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "depends_on": ["nobody"]})
    assert answer.status_code == 503, answer.text
