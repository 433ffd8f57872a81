"""The steps of a task over HTTP: from the store while it has the task, from the history afterwards."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from celeriac import json_text
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Claim, Failure
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.history import forget, record_all

Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "database_url": database_url, "max_page_bytes": "64KiB"})


async def page(client: httpx.AsyncClient, task_id: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tasks/{task_id}/steps", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def names(client: httpx.AsyncClient, task_id: str) -> list[str]:
    return [step["name"] for step in (await page(client, task_id))["items"]]


async def note(store: TaskStore, running: Claim, *steps: str) -> None:
    for name in steps:
        await store.note_step(running, f"step:{name}", json_text.write({"of": name}), took_ms=20)


async def let_go(store: TaskStore, task_id: str) -> None:
    await forget(store, task_id)
    await store.redis.delete(keys.steps(task_id), keys.signals(task_id))


async def test_steps_are_read_in_the_order_of_their_ends_and_outlive_the_store(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client)
    assert await page(client, task_id) == {"items": [], "next_cursor": None}
    running = await claim(store, task_id)
    await note(store, running, "zeta", "alpha", "ü #2")
    await store.note_step(running, "sleep:nap", "", took_ms=1)
    found = await page(client, task_id)
    assert [step["name"] for step in found["items"]] == ["zeta", "alpha", "ü #2"]
    first = found["items"][0]
    assert (first["result"], first["size"]) == ({"of": "zeta"}, len('{"of":"zeta"}'))
    assert first["started_at"] < first["finished_at"]

    await store.complete(running, "1")
    await record_all(kept[0], store)
    await let_go(store, task_id)
    assert await page(client, task_id) == found
    # They are no part of the timeline, nor of the log.
    events = (await client.get(f"/api/v1/tasks/{task_id}/events")).json()["items"]
    assert {event["kind"] for event in events} == {"status"}
    assert (await client.get(f"/api/v1/tasks/{task_id}/log")).json()["items"] == []


@pytest.mark.parametrize("forgotten", [False, True])
async def test_steps_are_read_page_by_page(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept, forgotten: bool
) -> None:
    task_id = await submit(client)
    running = await claim(store, task_id)
    await note(store, running, *map(str, range(7)))
    await store.note_step(running, "step:large", json.dumps("x" * 60_000))
    await store.note_step(running, "step:larger", json.dumps("x" * 70_000))
    await store.complete(running, "1")
    await record_all(kept[0], store)
    if forgotten:
        await let_go(store, task_id)
    seen, cursor, pages = [], None, 0
    while True:
        found = await page(client, task_id, limit=3, **({} if cursor is None else {"cursor": cursor}))
        seen += [step["name"] for step in found["items"]]
        pages += 1
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert seen == [*map(str, range(7)), "large", "larger"]
    # The last two do not fit into one page.
    assert pages == 4
    for query in ({"cursor": "x"}, {"cursor": "-1"}, {"limit": 0}, {"limit": 1001}):
        assert (await client.get(f"/api/v1/tasks/{task_id}/steps", params=query)).status_code == 422
    assert (await client.get("/api/v1/tasks/nobody/steps")).status_code == 404


async def test_a_retry_from_a_step_forgets_it_and_the_later_ones_in_the_history_too(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client)
    running = await claim(store, task_id)
    await note(store, running, "one", "two", "three")
    path = f"/api/v1/tasks/{task_id}/retry"
    assert (await client.post(path, json={"from_step": "two"})).status_code == 409
    await store.fail(running, Failure("broken", "it broke", retryable=False), 0)
    await record_all(kept[0], store)
    unknown = await client.post(path, json={"from_step": "four"})
    assert unknown.status_code == 422
    assert [one["field"] for one in unknown.json()["errors"]] == ["from_step"]

    assert (await client.post(path, json={"from_step": "two"})).status_code == 202
    assert await names(client, task_id) == ["one"]
    again = await claim(store, task_id)
    await note(store, again, "new")
    await store.complete(again, "1")
    await record_all(kept[0], store)
    assert await names(client, task_id) == ["one", "new"]
    # A completed task runs again only from a step.
    assert (await client.post(path)).status_code == 409
    assert (await client.post(path, json={"from_step": "new"})).status_code == 202
    await store.complete(await claim(store, task_id), "2")
    await record_all(kept[0], store)
    await let_go(store, task_id)
    assert await names(client, task_id) == ["one"]


async def test_plain_retries_keep_the_steps(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    running = await claim(store, task_id)
    await note(store, running, "one")
    await store.fail(running, Failure("broken", "it broke", retryable=False), 0)
    assert (await client.post(f"/api/v1/tasks/{task_id}/retry")).status_code == 202
    assert await names(client, task_id) == ["one"]


async def test_a_task_that_only_the_history_has_comes_back_with_its_steps(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client)
    running = await claim(store, task_id)
    await note(store, running, "one", "two", "three")
    before = (await page(client, task_id))["items"]
    await store.fail(running, Failure("broken", "it broke", retryable=False), 0)
    await record_all(kept[0], store)
    await let_go(store, task_id)
    path = f"/api/v1/tasks/{task_id}/retry"
    assert (await client.post(path, json={"from_step": "four"})).status_code == 422
    assert (await client.post(path, json={"from_step": "three"})).status_code == 202
    assert (await page(client, task_id))["items"] == before[:2]
    again = await claim(store, task_id)
    assert again.has_kept
    # What it notes from now on comes after that.
    await note(store, again, "new")
    assert await names(client, task_id) == ["one", "two", "new"]
    # The step that was kept counts.
    noted, _ = await store.note_step(again, "step:one", '"other"')
    assert json.loads(noted.value) == {"of": "one"}
    await store.complete(again, "1")
    await record_all(kept[0], store)
    await let_go(store, task_id)
    assert await names(client, task_id) == ["one", "two", "new"]
