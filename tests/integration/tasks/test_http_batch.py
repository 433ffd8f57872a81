"""Many submissions in one request: each has its own outcome, and the store is asked a few times only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac.model import Failure, Status
from celeriac.settings import Settings
from celeriac.store.server.scripts import script
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually

LIMIT = 1_000_000
ECHO = {"type": "http_test.echo", "payload": {}}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": valkey_url,
            "max_body_bytes": LIMIT,
            "store_timeout": 0.3,
            "groups": {"tiny": {"max_queue_length": 2}},
        }
    )


async def post(client: httpx.AsyncClient, *tasks: Any, **headers: str) -> list[dict[str, Any]]:
    answer = await client.post("/api/v1/tasks/batch", json={"tasks": tasks}, headers=headers)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(tasks)
    return results


async def test_each_task_has_its_own_outcome_in_order(client: httpx.AsyncClient, store: TaskStore) -> None:
    results = await post(
        client,
        {**ECHO, "payload": {"n": 0}},
        {"type": "http_test.thumbnail", "payload": {}},
        {**ECHO, "delay": "10m"},
        "nonsense",
        {**ECHO, "queu": "x"},
        {"type": "nobody.knows", "payload": {}},
        {**ECHO, "payload": {"n": 6}},
    )
    assert [result["status"] for result in results] == [202, 422, 202, 422, 422, 422, 202]
    assert results[2]["task_status"] == "scheduled"
    assert (await store.get(results[6]["task_id"])).payload == {"n": 6}
    refused = results[1]["error"]
    assert refused["code"] == "invalid_submission"
    assert refused["errors"][0]["field"] == "payload.path"
    assert refused["instance"] == "/api/v1/tasks/batch#/tasks/1"
    assert "did you mean queue?" in results[4]["error"]["detail"]


@pytest.mark.parametrize("others", [0, 1])
async def test_the_tasks_of_a_batch_wait_in_its_order_whatever_they_have(
    client: httpx.AsyncClient, store: TaskStore, others: int
) -> None:
    tasks = [{**ECHO, "payload": {"n": n}, **({"tags": ["t"]} if n % 2 < others else {})} for n in range(150)]
    results = await post(client, *tasks, "nonsense", **{"Idempotency-Key": "k"})
    again = await post(client, *tasks, "nonsense", **{"Idempotency-Key": "k"})
    ids = [result["task_id"] for result in results[:-1]]
    assert [result["task_id"] for result in again[:-1]] == ids
    assert {(first["status"], second["status"]) for first, second in zip(results, again, strict=True)} == {
        (202, 200),
        (422, 422),
    }
    assert await store.redis.zrange("celeriac:waiting:default", 0, -1) == ids


async def commands_until(monitor: Any, marker: str) -> AsyncIterator[str]:
    async for seen in monitor.listen():
        if marker in seen["command"]:
            return
        yield seen["command"]


def submits(command: str) -> bool:
    return command.startswith(f"FCALL {script('submit').function}")


async def test_a_thousand_tasks_are_one_round_trip_to_the_store(client: httpx.AsyncClient, store: TaskStore) -> None:
    await post(client, ECHO)  # the store knows the scripts now
    # Roles in the background call other scripts meanwhile, the more the slower the machine is.
    async with store.redis.monitor() as monitor:
        results = await post(client, *({**ECHO, "payload": {"n": n}} for n in range(1000)))
        await store.redis.echo("that was the batch")
        calls = [command async for command in commands_until(monitor, "that was the batch") if submits(command)]
    assert {result["status"] for result in results} == {202}
    assert len({result["task_id"] for result in results}) == 1000
    assert len(calls) == 8, "128 submissions share a call, all calls a pipeline"
    assert [(await store.get(results[n]["task_id"])).payload for n in (0, 500, 999)] == [
        {"n": n} for n in (0, 500, 999)
    ]


async def test_a_full_queue_refuses_only_what_does_not_fit(client: httpx.AsyncClient) -> None:
    results = await post(client, *({**ECHO, "queue": "tiny"} for _ in range(3)), ECHO)
    assert [result["status"] for result in results] == [202, 202, 429, 202]
    assert (results[2]["error"]["group"], results[2]["error"]["limit"]) == ("tiny", 2)


async def test_a_repeated_key_answers_the_first_task(client: httpx.AsyncClient) -> None:
    first, second, other = await post(
        client, {**ECHO, "idempotency_key": "a"}, {**ECHO, "idempotency_key": "a"}, {**ECHO, "idempotency_key": "b"}
    )
    assert (first["status"], second["status"], other["status"]) == (202, 200, 202)
    assert first["task_id"] == second["task_id"] != other["task_id"]
    alone = await client.post("/api/v1/tasks", json=ECHO, headers={"Idempotency-Key": "b"})
    assert (alone.status_code, alone.json()["task_id"]) == (200, other["task_id"])
    (refused,) = await post(client, {**ECHO, "idempotency_key": "not one"})
    assert refused["error"]["errors"][0]["field"] == "idempotency_key"


async def test_a_key_for_the_whole_lets_it_be_sent_again(client: httpx.AsyncClient) -> None:
    first = await post(client, ECHO, ECHO, **{"Idempotency-Key": "k"})
    again = await post(client, ECHO, ECHO, ECHO, **{"Idempotency-Key": "k"})
    assert [result["task_id"] for result in again[:2]] == [result["task_id"] for result in first]
    assert [result["status"] for result in again] == [200, 200, 202]


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        ([], 422, "tasks"),
        ({}, 422, "tasks"),
        ({"tasks": {}}, 422, "tasks"),
        ({"tasks": [], "task": []}, 422, "task"),
        ({"tasks": [ECHO] * 1001}, 422, "tasks"),
        ({"tasks": [{**ECHO, "payload": {"text": "x" * LIMIT}}]}, 413, None),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(
    client: httpx.AsyncClient, document: Any, status: int, field: str | None
) -> None:
    answer = await client.post("/api/v1/tasks/batch", json=document)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert answer.json()["errors"][0]["field"] == field


async def test_a_batch_is_json(client: httpx.AsyncClient) -> None:
    malformed = await client.post("/api/v1/tasks/batch", content=b"{", headers={"Content-Type": "application/json"})
    assert (malformed.status_code, malformed.json()["code"]) == (400, "malformed_json")
    form = await client.post("/api/v1/tasks/batch", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    assert await post(client) == []


async def test_a_store_that_is_away_is_said_of_the_whole(
    settings: Settings, valkey: ValkeyServer, tmp_path: Any
) -> None:
    own = ValkeyServer(tmp_path / "valkey")
    own.start()
    try:
        alone = settings.model_copy(update={"redis_url": own.url()})
        async with serving(alone) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
            own.kill()
            answer = await client.post("/api/v1/tasks/batch", json={"tasks": [ECHO, "nonsense"]})
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert answer.headers["retry-after"] == "1"
            own.start()
            await eventually(lambda: post(client, ECHO), because="it is back")
    finally:
        own.kill()


async def test_others_are_served_while_a_batch_is_checked(client: httpx.AsyncClient) -> None:
    done: list[str] = []

    async def batch() -> None:
        await post(client, *({**ECHO, "payload": {"n": n}} for n in range(1000)))
        done.append("batch")

    async def one() -> None:
        assert (await client.get("/healthz")).status_code == 200
        done.append("one")

    await one()  # its connection stands
    done.clear()
    await asyncio.gather(batch(), one())
    assert done == ["one", "batch"]


async def test_the_batch_is_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/api/v1/tasks/batch"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["$ref"] == "#/components/schemas/BatchRequest"
    schema = document["components"]["schemas"]["BatchRequest"]
    assert schema["properties"]["tasks"]["items"]["$ref"] == "#/components/schemas/BatchItem"
    assert "idempotency_key" in document["components"]["schemas"]["BatchItem"]["properties"]
    assert "BatchResults" in document["components"]["schemas"]


async def post_with_then(client: httpx.AsyncClient, then: Any, *tasks: Any, **headers: str) -> httpx.Response:
    return await client.post("/api/v1/tasks/batch", json={"tasks": tasks, "then": then}, headers=headers)


async def test_what_follows_a_batch_starts_when_its_tasks_have_ended(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    answer = await post_with_then(client, {**ECHO, "tags": ["last"]}, ECHO, {"type": "nobody.knows"}, ECHO, ECHO)
    assert answer.status_code == 200, answer.text
    done, _, failed, cancelled = answer.json()["results"]
    last = answer.json()["then"]
    assert (last["status"], last["task_status"]) == (202, "waiting")
    await store.complete(await claim(store, done["task_id"]), '"r"')
    await store.fail(await claim(store, failed["task_id"]), Failure("broken", "it broke", retryable=False), 0)
    assert (await store.get(last["task_id"])).status is Status.WAITING
    await store.cancel(cancelled["task_id"])
    claimed = await claim(store, last["task_id"])
    parents = await store.parents(claimed.depends_on)
    assert {one.status.wire for one in parents.values()} == {"completed", "failed", "cancelled"}
    assert parents[done["task_id"]].result == "r"


@pytest.mark.parametrize(
    ("then", "field"),
    [
        ({"type": "nobody.knows"}, "then.type"),
        ({**ECHO, "depends_on": ["x"]}, "then.depends_on"),
        ({**ECHO, "on_unmet": "run"}, "then.on_unmet"),
        ({**ECHO, "queu": "x"}, "then.queu"),
        ("nonsense", "then"),
    ],
)
async def test_what_cannot_follow_refuses_the_whole_batch(
    client: httpx.AsyncClient, store: TaskStore, then: Any, field: str
) -> None:
    answer = await post_with_then(client, then, ECHO)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    assert [key async for key in store.redis.scan_iter("task:*")] == []


async def test_nothing_follows_a_batch_of_which_nothing_was_accepted(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    answer = await post_with_then(client, ECHO, {"type": "nobody.knows"})
    assert (answer.status_code, answer.json()["then"]) == (200, None)
    assert [key async for key in store.redis.scan_iter("task:*")] == []


async def test_a_repeated_batch_is_followed_once(client: httpx.AsyncClient, store: TaskStore) -> None:
    answers = [(await post_with_then(client, ECHO, ECHO, ECHO, **{"Idempotency-Key": "b"})).json() for _ in range(2)]
    assert answers[0]["then"]["task_id"] == answers[1]["then"]["task_id"]
    assert [answer["then"]["status"] for answer in answers] == [202, 200]
    assert len([key async for key in store.redis.scan_iter("task:*")]) == 3
