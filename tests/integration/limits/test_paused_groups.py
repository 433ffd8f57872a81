"""A paused group accepts tasks and runs none; resumed, all of them run, in their order, each once."""

from __future__ import annotations

import httpx
import pytest
import redis as redis_sync

from celeriac.model import Claim, Delivery, Failure, Refusal, Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.life_cycle_state import assert_consistent, take_message
from tests.kit.life_cycle_state import submit_all as submit


def names(client: redis_sync.Redis, group: str = "g") -> list[str]:
    """Take all messages of a group, in the order in which a worker gets them; returns the ids."""
    found = []
    while (message := take_message(client, group)) is not None:
        found.append(message["headers"]["id"])
    return found


async def test_a_paused_group_refuses_claims_and_burns_no_attempt(store: TaskStore, client: redis_sync.Redis) -> None:
    await submit(store, "before")
    await store.pause("g", "the bank is down")
    await submit(store, "after")
    await submit(store, "elsewhere", group="h")
    assert await store.claim("before", worker="w") == Refusal("before", "paused")
    assert await store.claim("after", worker="w") == Refusal("after", "paused")
    assert isinstance(await store.claim("elsewhere", worker="w"), Claim)
    task = await store.get("before")
    assert (task.status, task.attempt) == (Status.PENDING, 0)
    group = await store.group("g")
    assert (group.waiting, group.pause.note if group.pause else None) == (2, "the bank is down")
    assert_consistent(client)


async def test_what_waits_goes_out_in_order_when_the_group_goes_on(store: TaskStore, client: redis_sync.Redis) -> None:
    await submit(store, "a", "b")
    await store.pause("g")
    assert names(client) == ["a", "b"]
    for task_id in ("a", "b"):
        assert await store.claim(task_id, worker="w") == Refusal(task_id, "paused")
    await submit(store, "c", "d")
    await submit(store, "urgent", priority=9)
    assert names(client) == []
    assert await store.resume("g") is True
    assert names(client) == ["urgent", "a", "b", "c", "d"]
    assert await store.resume("g") is False
    for task_id in ("urgent", "a", "b", "c", "d"):
        await store.complete(await claim(store, task_id), "1")
    assert_consistent(client)


async def test_a_resumption_that_is_left_half_done_is_finished_by_a_sweeper(
    store: TaskStore, client: redis_sync.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.store.task_store._RESUMED_AT_ONCE", 3)
    await store.pause("g")
    await submit(store, *(f"t{n}" for n in range(7)))
    await store.resume("g", steps=1)
    assert names(client) == ["t0", "t1", "t2"]
    # It must not overtake those whose turn has not come.
    await submit(store, "late")
    assert names(client) == []
    await Sweeper(store=store).step()
    assert names(client) == ["t3", "t4", "t5", "t6", "late"]
    await submit(store, "next")
    assert names(client) == ["next"]
    assert client.exists(keys.PAUSED, keys.RESUMING) == 0


async def test_no_message_is_sent_again_while_the_group_is_paused(valkey_url: str, client: redis_sync.Redis) -> None:
    async with TaskStore(valkey_url, Settings(hint_grace=0.5).store) as store:
        await submit(store, "a")
        await store.pause("g")
        assert names(client) == ["a"]
        client.hset(keys.task("a"), "hinted_ms", "0")
        assert await store.sweep("g") == []
        await store.resume("g")
        # Its message is lost, not spent: that is the sweeper's.
        assert await store.sweep("g") == ["a"]


async def test_what_comes_back_to_a_paused_group_waits_there(store: TaskStore, client: redis_sync.Redis) -> None:
    await submit(store, "released", "failing", "failed")
    claims = {task_id: await claim(store, task_id) for task_id in ("released", "failing", "failed")}
    names(client)
    await store.pause("g")
    assert await store.release(claims["released"]) is Status.PENDING
    assert await store.fail(claims["failing"], Failure("x", "x", True), 0) is Status.RETRYING
    assert await store.fail(claims["failed"], Failure("x", "x", False), 0) is Status.FAILED
    await store.promote()
    await store.retry("failed")
    assert names(client) == []
    await store.resume("g")
    assert names(client) == ["released", "failing", "failed"]
    assert_consistent(client)


async def test_a_task_that_waits_in_a_paused_group_can_be_cancelled(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.pause("g")
    await submit(store, "a", "b")
    assert await store.cancel("a") is Status.CANCELLED
    await store.resume("g")
    assert names(client) == ["b"]


async def test_external_processors_are_handed_nothing_of_a_paused_group(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await store.pause("g")
    await submit(store, "a", delivery=Delivery.EXTERNAL)
    assert client.llen(keys.EXTERNAL) == 0
    await store.resume("g")
    assert client.lrange(keys.EXTERNAL, 0, -1) == ["a"]


async def test_groups_are_paused_and_resumed_over_http(valkey_url: str) -> None:
    settings = Settings(redis_url=valkey_url)
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as http:
        paused = await http.post("/api/v1/groups/default/pause", json={"note": "until Monday"})
        assert (paused.status_code, paused.json()["paused"]["note"]) == (200, "until Monday")
        assert (await http.get("/api/v1/groups/default")).json()["paused"]["at"]
        again = await http.post("/api/v1/groups/default/pause")
        assert again.json()["paused"]["at"] == paused.json()["paused"]["at"]
        resumed = await http.post("/api/v1/groups/default/resume")
        assert (resumed.status_code, resumed.json()["paused"]) == (200, None)
        unknown = await http.post("/api/v1/groups/defualt/pause")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "group_not_found")
