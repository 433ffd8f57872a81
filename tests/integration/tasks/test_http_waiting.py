"""Requests with `wait`: they are answered the moment the task ends. The test is the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.model import Failure
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving, submit
from tests.kit.tokens import token_of
from tests.kit.waiting import PATIENCE_S, eventually

ECHO = "http_test.echo"
TASKS = "/api/v1/tasks"
#: Longer than any test may take: an answer that comes was not the end of the time.
LONG = {"wait": "60"}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


def bearer(settings: Settings, user_id: str) -> dict[str, str]:
    token = token_of(settings, user_id=user_id, scopes=[Scope.SUBMIT, Scope.READ])
    return {"Authorization": f"Bearer {token}"}


async def complete(store: TaskStore, task_id: str, result: str = '{"n":1}') -> None:
    await store.complete(await claim(store, task_id), result)


async def waiting(store: TaskStore, task_id: str, count: int = 1) -> None:
    """Wait until the process listens for the task."""

    async def heard() -> bool:
        return bool((await store.redis.execute_command("PUBSUB", "NUMSUB", keys.live(task_id)))[1])

    await eventually(heard, because="somebody waits for the task")


@pytest.mark.parametrize("path", ["", "/result"])
async def test_a_request_that_waits_is_answered_when_the_task_completes(
    client: httpx.AsyncClient, store: TaskStore, path: str
) -> None:
    task_id = await submit(client)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}{path}", params=LONG))
    await waiting(store, task_id)
    await complete(store, task_id)
    answer = await asyncio.wait_for(asking, PATIENCE_S)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("task_id", "status", "result", "error")} == {
        "task_id": task_id, "status": "completed", "result": {"n": 1}, "error": None,
    }  # fmt: skip
    if not path:
        assert answer.json() == (await client.get(f"{TASKS}/{task_id}")).json()

    async def nobody() -> bool:
        return not (await store.redis.execute_command("PUBSUB", "NUMSUB", keys.live(task_id)))[1]

    await eventually(nobody, because="nobody listens any more")


@pytest.mark.parametrize("path", ["", "/result"])
async def test_after_its_time_the_answer_is_the_state_without_wait(client: httpx.AsyncClient, path: str) -> None:
    task_id = await submit(client)
    waited = await client.get(f"{TASKS}/{task_id}{path}", params={"wait": "0.05"})
    at_once = await client.get(f"{TASKS}/{task_id}{path}")
    assert waited.status_code == at_once.status_code == 200
    assert waited.json() == at_once.json()
    assert waited.json()["status"] == "pending"


async def test_failures_and_cancellations_answer_with_their_error(client: httpx.AsyncClient, store: TaskStore) -> None:
    failed, cancelled = await submit(client, max_retries=0), await submit(client)
    asking = [asyncio.create_task(client.get(f"{TASKS}/{i}/result", params=LONG)) for i in (failed, cancelled)]
    await waiting(store, failed)
    await waiting(store, cancelled)
    await store.fail(await claim(store, failed), Failure("no_luck", "it did not work", False), 0)
    await store.cancel(cancelled)
    first, second = [(await asyncio.wait_for(one, PATIENCE_S)).json() for one in asking]
    assert (first["status"], first["error"]["code"]) == ("failed", "no_luck")
    assert (second["status"], second["error"]["code"]) == ("cancelled", "cancelled")


async def test_a_retry_is_not_the_end(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client, max_retries=1)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}", params=LONG))
    await waiting(store, task_id)
    await store.fail(await claim(store, task_id), Failure("no_luck", "not now", True), 1)
    await eventually(lambda: _promoted(store, task_id), because="the retry is due")
    assert not asking.done()
    await complete(store, task_id)
    assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["status"] == "completed"


async def _promoted(store: TaskStore, task_id: str) -> bool:
    await store.promote(10)
    return (await store.get(task_id)).status == "pending"


async def test_what_has_ended_or_is_unknown_is_answered_at_once(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    await complete(store, task_id)
    for path in ("", "/result"):
        async with asyncio.timeout(PATIENCE_S):
            assert (await client.get(f"{TASKS}/{task_id}{path}", params=LONG)).json()["status"] == "completed"
            unknown = await client.get(f"{TASKS}/no-such-task{path}", params=LONG)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")


async def test_a_record_that_goes_away_ends_the_wait(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}", params=LONG))
    await waiting(store, task_id)
    await store.redis.delete(keys.task(task_id))
    await store.redis.publish(keys.live(task_id), "")
    assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["code"] == "task_not_found"


@pytest.mark.parametrize("wrong", ["soon", "-1", "61", "nan", "inf", ""])
async def test_a_wrong_wait_is_refused_everywhere_with_the_same_words(
    client: httpx.AsyncClient, store: TaskStore, wrong: str
) -> None:
    task_id = await submit(client)
    answers = [
        await client.get(f"{TASKS}/{task_id}?wait={wrong}"),
        await client.get(f"{TASKS}/{task_id}/result?wait={wrong}"),
        await client.post(f"{TASKS}?wait={wrong}", json={"type": ECHO, "payload": {}}),
    ]
    told = [(answer.status_code, answer.json()["code"], answer.json()["errors"]) for answer in answers]
    assert told[0][:2] == (422, "invalid_request")
    assert told[0][2][0]["field"] == "wait"
    assert told == [told[0]] * 3
    assert await store.redis.zcard(keys.waiting("default")) == 1, "nothing was submitted"


async def test_a_submission_that_waits_is_answered_with_the_result(client: httpx.AsyncClient, store: TaskStore) -> None:
    asking = asyncio.create_task(client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}}))
    task_id = await waiting_one(store)
    await complete(store, task_id, '{"text":"ü\\n\\n"}')
    answer = await asyncio.wait_for(asking, PATIENCE_S)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{TASKS}/{task_id}"
    found = answer.json()
    found.pop("warnings", None)
    assert found == {"task_id": task_id, "status": "completed", "result": {"text": "ü\n\n"}, "error": None}


async def waiting_one(store: TaskStore) -> str:
    """Return the id of the only task that waits for a worker."""
    await eventually(lambda: store.redis.zcard(keys.waiting("default")), because="it is submitted")
    (task_id,) = await store.redis.zrange(keys.waiting("default"), 0, -1)
    return str(task_id)


async def test_a_submission_whose_time_is_over_is_answered_with_the_state(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{TASKS}?wait=0.05", json={"type": ECHO, "payload": {}, "delay": "1h"})
    assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (201, "scheduled", None)
    # Without a wait, nothing is new.
    for query in ("", "?wait=0"):
        plain = await client.post(f"{TASKS}{query}", json={"type": ECHO, "payload": {}, "delay": "1h"})
        assert plain.status_code == 202
        assert {"result", "error"}.isdisjoint(plain.json())


async def test_large_results_and_failures_of_a_submission_come_from_the_record(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    asking = asyncio.create_task(client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}}))
    await complete(store, await waiting_one(store), '"' + 100_000 * "x" + '"')
    assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["result"] == 100_000 * "x"
    asking = asyncio.create_task(client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}, "max_retries": 0}))
    await store.fail(await claim(store, await waiting_one(store)), Failure("no_luck", "two\nlines", False), 0)
    found = (await asyncio.wait_for(asking, PATIENCE_S)).json()
    assert found["error"] == {"code": "no_luck", "message": "two\nlines", "retryable": False}
    asking = asyncio.create_task(client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}}))
    await store.cancel(await waiting_one(store), "not wanted")
    assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["status"] == "cancelled"


async def test_a_repeated_submission_waits_for_the_first_task(client: httpx.AsyncClient, store: TaskStore) -> None:
    key = {"Idempotency-Key": "only-once"}
    body = {"type": ECHO, "payload": {}}
    first = (await client.post(TASKS, json=body, headers=key)).json()["task_id"]
    again = asyncio.create_task(client.post(TASKS, params=LONG, json=body, headers=key))
    await waiting(store, first)
    await complete(store, first)
    answer = await asyncio.wait_for(again, PATIENCE_S)
    assert (answer.status_code, answer.json()["task_id"], answer.json()["result"]) == (200, first, {"n": 1})
    once_more = await client.post(TASKS, params=LONG, json=body, headers=key)
    assert (once_more.status_code, once_more.json()["result"]) == (200, {"n": 1})


async def test_a_unique_submission_waits_for_the_task_that_holds_the_key(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    body = {"type": ECHO, "payload": {}, "once": {"key": "c7"}}
    first = (await client.post(TASKS, json=body)).json()["task_id"]
    again = asyncio.create_task(client.post(TASKS, params=LONG, json=body))
    await waiting(store, first)
    await complete(store, first)
    answer = await asyncio.wait_for(again, PATIENCE_S)
    assert (answer.status_code, answer.json()["deduplicated"], answer.json()["result"]) == (200, True, {"n": 1})


async def test_a_refused_submission_leaves_nobody_waiting(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.post(TASKS, params=LONG, json={"type": "no-such-type", "payload": {}})
    assert answer.json()["code"] == "invalid_submission"


async def test_too_many_waiters_are_refused_before_anything_is_submitted(valkey_url: str, store: TaskStore) -> None:
    few = Settings.model_validate({"redis_url": valkey_url, "server": {"max_waiters": 1}})
    async with serving(few) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        task_id = await submit(client)
        asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}", params=LONG))
        await waiting(store, task_id)
        refused = [
            await client.get(f"{TASKS}/{task_id}/result", params=LONG),
            await client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}}),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_waiters")
            assert "server.max_waiters" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "1"
        assert await store.redis.zcard(keys.waiting("default")) == 1
        await complete(store, task_id)
        assert (await asyncio.wait_for(asking, PATIENCE_S)).status_code == 200
        ended = await client.get(f"{TASKS}/{task_id}", params=LONG)
        assert ended.status_code == 200, "the place is free again"


async def test_places_of_one_caller_do_not_take_those_of_others(valkey_url: str, store: TaskStore) -> None:
    settings = Settings.model_validate(
        {
            "redis_url": valkey_url,
            "access": {"enabled": True, "jwt_secret": "x" * 32},
            "server": {"max_waiters_per_caller": 1},
        }
    )
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        client.headers = httpx.Headers(bearer(settings, "ann"))
        task_id = await submit(client)
        asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}", params=LONG))
        await waiting(store, task_id)
        assert (await client.get(f"{TASKS}/{task_id}", params=LONG)).json()["code"] == "too_many_waiters"
        bob = bearer(settings, "bob")
        foreign = await client.get(f"{TASKS}/{task_id}", params=LONG, headers=bob)
        assert foreign.status_code == 404
        own = await client.post(f"{TASKS}?wait=0.05", json={"type": ECHO, "payload": {}}, headers=bob)
        assert own.status_code == 201
        await store.cancel(task_id)
        assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["status"] == "cancelled"


async def test_a_client_that_hangs_up_waits_no_longer(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    for ask in (
        lambda: client.get(f"{TASKS}/{task_id}", params=LONG),
        lambda: client.get(f"{TASKS}/{task_id}/result", params=LONG),
    ):
        asking = asyncio.create_task(ask())
        await waiting(store, task_id)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

        async def nobody() -> bool:
            return not (await store.redis.execute_command("PUBSUB", "NUMSUB", keys.live(task_id)))[1]

        await eventually(nobody, because="the process does not listen any more")


async def test_a_server_that_stops_answers_those_who_wait_with_the_present_state(
    settings: Settings, store: TaskStore
) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        async with serving(settings) as url:
            client.base_url = httpx.URL(url)
            task_id = await submit(client)
            asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}", params=LONG))
            later = {"type": ECHO, "payload": {}, "delay": "1h"}
            submitting = asyncio.create_task(client.post(TASKS, params=LONG, json=later))
            await waiting(store, task_id)
            await eventually(lambda: store.redis.zcard(keys.DELAYED), because="it is submitted")
        assert (await asking).json()["status"] == "pending"
        assert ((await submitting).status_code, (await submitting).json()["status"]) == (201, "scheduled")


@pytest.fixture
async def crowd(url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        yield client


async def test_many_requests_wait_on_one_subscription(
    client: httpx.AsyncClient, crowd: httpx.AsyncClient, store: TaskStore
) -> None:
    ids = [await submit(client) for _ in range(5)]

    def ask(times: int) -> list[asyncio.Task[httpx.Response]]:
        return [asyncio.create_task(crowd.get(f"{TASKS}/{i}/result", params=LONG)) for i in ids for _ in range(times)]

    first = ask(1)
    for task_id in ids:
        await waiting(store, task_id)
    connections = await _pubsub_connections(store)
    asking = ask(12)
    await asyncio.sleep(0.2)
    assert await _pubsub_connections(store) == connections
    for task_id in ids:
        await complete(store, task_id, f'"{task_id}"')
    answers = [(await one).json() for one in asking]
    assert [one["result"] for one in answers] == [i for i in ids for _ in range(12)]
    assert [(await one).json()["result"] for one in first] == ids


async def _pubsub_connections(store: TaskStore) -> int:
    clients: list[dict[str, Any]] = await store.redis.client_list()
    # Tests before this one may have left subscribers in other databases.
    mine = str(store.redis.connection_pool.connection_kwargs["db"])
    return sum(int(one["sub"]) > 0 and one["db"] == mine for one in clients)


async def test_a_foreign_end_without_a_message_is_found(client: httpx.AsyncClient, store: TaskStore) -> None:
    """A program that writes the record by itself, or a message that was lost."""
    task_id = await submit(client)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}/result", params=LONG))
    await waiting(store, task_id)
    await store.redis.hset(keys.task(task_id), mapping={"status": "COMPLETED", "result": "7"})
    assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["result"] == 7


async def test_the_record_does_not_show_who_waits(client: httpx.AsyncClient, store: TaskStore) -> None:
    answer = await client.post(f"{TASKS}?wait=0.05", json={"type": ECHO, "payload": {}})
    task_id = answer.json()["task_id"]
    assert await store.redis.hget(keys.task(task_id), "reply_to")
    plain = await submit(client)
    shown = [(await client.get(f"{TASKS}/{one}")).json().keys() for one in (task_id, plain)]
    assert shown[0] == shown[1]
    assert (await store.get(task_id)).extra == {}


async def test_waits_work_under_a_prefix(valkey_url: str) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "key_prefix": "{tenant}:"})
    async with (
        TaskStore(valkey_url, settings.store) as store,
        serving(settings) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        asking = asyncio.create_task(client.post(TASKS, params=LONG, json={"type": ECHO, "payload": {}}))
        task_id = await waiting_one(store)
        second = asyncio.create_task(client.get(f"{TASKS}/{task_id}/result", params=LONG))
        await asyncio.sleep(0.2)
        await complete(store, task_id)
        assert (await asyncio.wait_for(asking, PATIENCE_S)).json()["result"] == {"n": 1}
        assert (await asyncio.wait_for(second, PATIENCE_S)).json()["result"] == {"n": 1}
