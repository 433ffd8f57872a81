"""Secrets in payloads: the worker gets them, nobody else sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from celeriac.model import Submission
from celeriac.secret_fields import masked, secret_paths
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.record import task_record
from celeriac.tasks.registry import registry
from celeriac.tasks.task_type import TaskType
from tests.kit.api.access import client_of, settings_of
from tests.kit.api.http_serving import claim


class Login(BaseModel):
    name: str
    password: SecretStr


class Import(BaseModel):
    login: Login
    keys: list[SecretStr] = []
    pin: int | None = Field(None, json_schema_extra={"writeOnly": True})


registry.add(TaskType("secrets_test.import", TypeAdapter(Import)))
PAYLOAD = {"login": {"name": "ann", "password": "hunter2"}, "keys": ["k1-hunter2", "k2-hunter2"], "pin": 4711}
SHOWN = {"login": {"name": "ann", "password": "***"}, "keys": ["***", "***"], "pin": "***"}


async def messages_of(store: TaskStore) -> str:
    lists = [key async for key in store.redis.scan_iter("*", _type="list")]
    return "".join([message for key in lists for message in await store.redis.lrange(key, 0, -1)])


def test_secrets_are_found_in_the_schema_and_masked_where_they_are() -> None:
    paths = secret_paths(Import.model_json_schema())
    assert set(paths) == {"login.password", "keys.*", "pin"}
    assert masked(PAYLOAD, paths) == SHOWN
    assert masked({"login": None, "keys": "x"}, paths) == {"login": None, "keys": "x"}
    assert PAYLOAD["pin"] == 4711


async def test_a_secret_reaches_the_worker_and_no_answer_list_or_message(
    valkey_url: str, tmp_path: Path, store: TaskStore
) -> None:
    async with client_of(settings_of(valkey_url, tmp_path, jwt_secret=None)) as client:
        document = {"type": "secrets_test.import", "payload": PAYLOAD}
        task_id = (await client.post("/api/v1/tasks", json=document)).json()["task_id"]
        messages = await messages_of(store)
        assert task_id in messages
        assert "hunter2" not in messages
        assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["payload"] == SHOWN
        wrong = {**document, "payload": {**PAYLOAD, "login": {"password": "hunter2"}}}
        assert "hunter2" not in (await client.post("/api/v1/tasks", json=wrong)).text
        claimed = await claim(store, task_id)
        assert '"password":"hunter2"' in claimed.payload


async def test_a_task_that_an_earlier_version_marked_with_a_space_still_hides_its_payload(store: TaskStore) -> None:
    # Instances of definitions had only the space, all others the field beside it.
    for task_id, fields in (("instance", ()), ("task", ("secret_fields", "password"))):
        await store.submit(Submission(task_id, "secrets_test.import", payload=' {"password":"hunter2"}', delay_ms=1))
        if fields:
            await store.redis.hset(keys.task(task_id), *fields)
    while (await store.promote())[1] is not None:
        await asyncio.sleep(0.001)
    messages = await messages_of(store)
    assert '"id":"instance"' in messages
    assert '"id":"task"' in messages
    assert "hunter2" not in messages
    assert (await claim(store, "instance")).payload == ' {"password":"hunter2"}'
    assert task_record(await store.get("task"))["payload"] == {"password": "***"}


async def test_a_retry_with_another_payload_hides_what_its_type_says_now(store: TaskStore) -> None:
    await store.submit(Submission("t", "secrets_test.import", payload='{"password":"hunter2"}'))
    await store.cancel("t")
    for key in [key async for key in store.redis.scan_iter("*", _type="list")]:
        await store.redis.delete(key)
    await store.retry("t", payload='{"password":"hunter3"}', secret_fields=["password"])
    assert "hunter" not in await messages_of(store)
    assert task_record(await store.get("t"))["payload"] == {"password": "***"}
    await claim(store, "t")
