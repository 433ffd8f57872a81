"""`file_process` at the front door: what its processor cannot take is refused before a worker sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from celeriac.settings import Settings
from tests.kit.api.http_serving import serving


@pytest.fixture
async def client(valkey_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate({"redis_url": valkey_url})
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as connected:
        yield connected


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"processor": "thumbnails", "path": "/tmp/x"}, "payload.processor"),
        ({"processor": "thumbnail", "options": {"with": 3}, "path": "/tmp/x"}, "payload.options.with"),
        ({"options": {"transcode": {"crf": 99}}, "path": "/tmp/x"}, "payload.options.transcode.crf"),
    ],
)
async def test_a_wrong_option_is_422_and_named(client: httpx.AsyncClient, payload: dict[str, Any], field: str) -> None:
    answer = await client.post("/api/v1/tasks", json={"type": "file_process", "payload": payload})
    assert answer.status_code == 422, answer.text
    assert field in answer.text


async def test_the_options_of_each_processor_are_in_the_schema(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/task-types")
    [schema] = [known["payload_schema"] for known in answer.json()["task_types"] if known["name"] == "file_process"]
    assert {branch["if"]["properties"]["processor"]["const"] for branch in schema["allOf"]} >= {"transcode", "image"}
