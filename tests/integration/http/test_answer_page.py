"""`/a/TOKEN`: a question is shown to whoever has the link, and answered once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from celeriac.signals.links import SignalLink, SignalLinks, make_token
from celeriac.store.audit import AuditLog
from celeriac.store.link_secret import link_secret
from celeriac.store.task_store import TaskStore
from tests.kit.api.access import client_of, header, settings_of

SCHEMA = {
    "type": "object",
    "properties": {"approve": {"type": "boolean"}, "amount": {"type": "integer", "maximum": 500}},
    "required": ["approve", "amount"],
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def api_settings(valkey_url: str, tmp_path: Path) -> Settings:
    return settings_of(valkey_url, tmp_path)


@pytest.fixture
async def client(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    # Nobody signs in: the link is the permission.
    async with client_of(api_settings) as connected:
        yield connected


@pytest.fixture
def owner(api_settings: Settings) -> dict[str, str]:
    return header(api_settings, "7", Scope.SUBMIT, Scope.READ)


async def asked(client: httpx.AsyncClient, owner: dict[str, str], **payload: Any) -> str:
    task = {"type": "wait", "payload": {"signal": "approval", **payload}}
    return str((await client.post("/api/v1/tasks", json=task, headers=owner)).json()["task_id"])


async def link(store: TaskStore, task_id: str, valid_s: float = 60) -> str:
    return SignalLinks(await link_secret(store), "").url(task_id, "approval", valid_s)


async def record(client: httpx.AsyncClient, owner: dict[str, str], task_id: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/tasks/{task_id}", headers=owner)).json())


async def test_the_page_asks_and_takes_its_own_form_once(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    task_id = await asked(client, owner, schema=SCHEMA, title="Refund <b>120</b> €", timeout="3d")
    path = await link(store, task_id)
    for _ in range(3):
        shown = await client.get(path)
        assert shown.status_code == 200
        assert "Refund &lt;b&gt;120&lt;/b&gt; €" in shown.text
        assert 'name="approve"' in shown.text
        assert 'name="amount"' in shown.text
    assert "script" not in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert "unsafe" not in shown.headers["content-security-policy"]
    assert (await client.head(path)).status_code == 200
    assert (await record(client, owner, task_id))["status"] == "waiting"

    wrong = await client.post(path, data={"approve": "true", "amount": "501"})
    assert wrong.status_code == 422
    assert "must be at most 500" in wrong.text
    assert 'value="501"' in wrong.text
    answered = await client.post(path, data={"approve": "false", "amount": "120"})
    assert answered.status_code == 202
    assert "Thank you" in answered.text
    done = await record(client, owner, task_id)
    assert (done["status"], done["result"]) == ("completed", {"approve": False, "amount": 120})

    again = await client.post(path, data={"approve": "true", "amount": "1"})
    assert (again.status_code, "text/html" in again.headers["content-type"]) == (410, True)
    assert (await client.get(path)).status_code == 410
    assert (await record(client, owner, task_id))["result"] == {"approve": False, "amount": 120}


async def test_a_program_answers_with_json(client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]) -> None:
    task_id = await asked(client, owner, schema=SCHEMA)
    path = await link(store, task_id)
    misfit = await client.post(path, json={"approve": 1})
    assert (misfit.status_code, misfit.json()["code"]) == (422, "invalid_submission")
    malformed = await client.post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert (malformed.status_code, malformed.json()["code"]) == (400, "malformed_json")
    other = await client.post(path, content=b"x", headers={"Content-Type": "text/plain"})
    assert (other.status_code, other.json()["code"]) == (415, "unsupported_media_type")
    answer = await client.post(path, json={"approve": True, "amount": 3})
    assert answer.status_code == 202
    assert {**answer.json(), "received_at": ""} == {"task_id": task_id, "signal": "approval", "received_at": ""}
    again = await client.post(path, json={"approve": True, "amount": 3})
    assert (again.status_code, again.json()["code"]) == (410, "link_used")


async def test_a_link_ends_with_its_time_and_with_the_task(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    task_id = await asked(client, owner)
    over = await link(store, task_id, -0.001)
    for answer in (await client.get(over), await client.post(over, json=1)):
        assert answer.status_code == 410
    path = await link(store, task_id)
    assert (await client.get(path)).status_code == 200
    await client.post(f"/api/v1/tasks/{task_id}/cancel", headers=owner)
    for answer in (
        await client.get(path),
        await client.post(path, json=1),
        await client.post(path, data={"value": "1"}),
    ):
        assert answer.status_code == 410
    gone = await link(store, "a-task-that-has-left-the-store")
    for answer in (await client.get(gone), await client.post(gone, json=1)):
        assert answer.status_code == 410


async def test_an_unknown_token_is_not_found_whatever_it_looks_like(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    task_id = await asked(client, owner)
    valid = (await link(store, task_id)).rpartition("/")[2]
    until_ms = round(time.time() * 1000) + 60_000
    forged = make_token(b"x" * 32, SignalLink(task_id, "approval", until_ms))
    for token in (forged, valid[:-1], "A" + valid[1:], "x", "%00", "ä", "A" * 5000):
        for answer in (
            await client.get(f"/a/{token}"),
            await client.post(f"/a/{token}", json=1),
            await client.post(f"/a/{token}", data={"value": "1"}),
        ):
            assert answer.status_code == 404, token
            assert len(token) < 2 or token not in answer.text
    assert (await record(client, owner, task_id))["status"] == "waiting"


async def test_the_question_may_be_asked_later_than_the_link_is_sent(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    body = {"type": "http_test.echo", "payload": {}}
    task_id = (await client.post("/api/v1/tasks", json=body, headers=owner)).json()["task_id"]
    path = await link(store, task_id)
    early = await client.get(path)
    assert (early.status_code, "Not yet" in early.text) == (200, True)
    # Nobody knows how to read the form yet.
    assert (await client.post(path, data={"value": "1"})).status_code == 409
    assert (await client.post(path, json={"ok": 1})).status_code == 202
    assert (await client.get(path)).status_code == 410


async def test_pages_of_other_sites_cannot_answer(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    task_id = await asked(client, owner)
    path = await link(store, task_id)
    foreign = await client.post(path, data={"value": "1"}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert (await record(client, owner, task_id))["status"] == "waiting"


async def test_the_audit_and_problems_name_the_task_and_not_the_token(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    task_id = await asked(client, owner)
    path = await link(store, task_id)
    token = path.rpartition("/")[2]
    await client.post(path, json=1)
    refused = await client.post(path, json=1)
    assert token not in refused.text
    await client.post("/a/unknown-token", json=1)
    entries = [entry for entry in await AuditLog(store).page() if entry["action"] == "task.signal"]
    assert [(entry["status"], task_id in entry["target"]) for entry in entries] == [
        ("404", False),
        ("410", True),
        ("202", True),
    ]
    assert token not in str(entries)
    assert "unknown-token" not in str(entries)


async def test_all_processes_of_an_installation_share_the_secret(store: TaskStore) -> None:
    first = await link_secret(store)
    assert len(first) == 32
    assert await link_secret(store) == first


async def test_a_large_answer_is_refused(client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]) -> None:
    path = await link(store, await asked(client, owner))
    assert (await client.post(path, json="x" * 70_000)).status_code == 413
    assert (await client.post(path, data={"value": "x" * 70_000})).status_code == 413
    assert (await client.post(path, content="&".join(f"a{n}=1" for n in range(2000)), headers=FORM)).status_code == 400


async def test_a_person_chooses_the_language_of_the_page_and_keeps_it(
    client: httpx.AsyncClient, store: TaskStore, owner: dict[str, str]
) -> None:
    url = await link(store, await asked(client, owner, title="Approve invoice 7", schema=SCHEMA))
    here = await client.get(url, params={"language": "zh"})
    assert ('<html lang="zh">' in here.text, here.cookies["celeriac_language"]) == (True, "zh")
    kept = {"Cookie": "celeriac_language=zh"}
    again = await client.get(url, headers=kept)
    assert '<html lang="zh">' in again.text
    assert "set-cookie" not in again.headers
    unknown = await client.get(url, params={"language": "xx"}, headers=kept)
    assert ("set-cookie" in unknown.headers, '<html lang="zh">' in unknown.text) == (False, True)
