"""A handler of a real worker makes a link without waiting, and a person answers with the form of a real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from celeriac import Context, task
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.testing import run_task
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended, submit


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


@pytest.fixture
async def asking(store: TaskStore, workers: Workers, url: str) -> None:
    await workers.start(store, imports=["tests.kit.workers.link_types"], public_url=url)


@pytest.mark.parametrize("type_name", ["asks_by_link", "asks_by_link_sync"])
@pytest.mark.usefixtures("asking")
async def test_a_person_answers_with_the_form_of_the_link(
    client: httpx.AsyncClient, url: str, store: TaskStore, type_name: str
) -> None:
    task_id = await submit(store, type_name, {})

    async def link() -> str | None:
        record = (await client.get(f"/api/v1/tasks/{task_id}")).json()
        return str(record["progress"]["message"]) if record["status"] == "waiting" else None

    address: str = await eventually(link, because="the task asks")
    assert address.startswith(f"{url}/a/")
    shown = await client.get(address)
    assert shown.status_code == 200
    assert "Refund?" in shown.text
    assert (await client.post(address, data={"approve": "yes", "amount": "501"})).status_code == 422
    assert (await client.post(address, data={"approve": "yes", "amount": "120"})).status_code == 202
    done = await ended(store, task_id)
    assert (done.result, done.attempt) == ({"approve": "yes", "amount": 120}, 1)
    assert (await client.get(address)).status_code == 410
    assert (await client.post(address, json={"approve": "no", "amount": 1})).status_code == 410


@task("signal_links_test.makes", max_retries=0)
async def makes(payload: dict[str, Any], ctx: Context) -> list[str]:
    """Return links, valid for all sorts of times."""
    return [ctx.signal_link(payload.get("name", "a"), valid=valid) for valid in payload.get("valid", ["3d"])]


def test_a_test_of_a_handler_gets_links_too() -> None:
    outcome = run_task(makes, {"valid": ["3d", 60, 0.5, "1h30m"]})
    assert len({link.partition("/a/")[0] for link in outcome.result}) == 1
    assert all(link.startswith("http://127.0.0.1:8000/a/") for link in outcome.result)
    public = Settings.model_validate({"public_url": "https://tasks.example.com/"})
    assert run_task(makes, {}, settings=public).result[0].startswith("https://tasks.example.com/a/")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"name": "a b"}, "is not the name of a signal"),
        ({"name": ""}, "is not the name of a signal"),
        ({"valid": ["soon"]}, "is not a duration"),
        ({"valid": [0]}, "above zero"),
        ({"valid": ["4000d"]}, "at most ten years"),
    ],
)
def test_a_link_that_cannot_be_is_an_error_in_the_handler(payload: dict[str, Any], words: str) -> None:
    outcome = run_task(makes, payload)
    assert outcome.error is not None
    assert words in outcome.error.message


def test_the_address_follows_the_settings() -> None:
    def address(**settings: Any) -> str:
        return Settings.model_validate(settings).api_address

    assert address() == "http://127.0.0.1:8000"
    assert address(host="0.0.0.0", port=80) == "http://127.0.0.1:80"
    assert address(host="::", port=81) == "http://[::1]:81"
    assert address(host="::1") == "http://[::1]:8000"
    tls = {"cert_file": "c.pem", "key_file": "k.pem"}
    assert address(host="api.internal", access={"tls": tls}) == "https://api.internal:8000"
    assert address(public_url="https://tasks.example.com/base/") == "https://tasks.example.com/base"
