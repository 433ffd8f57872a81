"""Secrets in payloads: the worker gets them, nobody else sees them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from celeriac.live.store import TaskStore
from celeriac.registry import TaskType, registry
from celeriac.secret_fields import masked, secret_paths
from tests.integration.http_serving import claim
from tests.integration.test_access_routes import client_of, settings_of


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
        lists = [key async for key in store.redis.scan_iter("*", _type="list")]
        messages = [message for key in lists for message in await store.redis.lrange(key, 0, -1)]
        assert any(task_id in message for message in messages)
        assert "hunter2" not in "".join(messages)
        assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["payload"] == SHOWN
        wrong = {**document, "payload": {**PAYLOAD, "login": {"password": "hunter2"}}}
        assert "hunter2" not in (await client.post("/api/v1/tasks", json=wrong)).text
        claimed = await claim(store, task_id)
        assert '"password":"hunter2"' in claimed.payload
