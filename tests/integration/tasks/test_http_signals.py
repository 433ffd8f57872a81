"""Signals over HTTP: who may send one, what fits, which one counts; waits, and the types that need no worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.settings import Settings
from celeriac.store.audit import AuditLog
from celeriac.store.suspension import WaitForSignal
from celeriac.store.task_store import TaskStore
from tests.kit.api.access import client_of, header, settings_of
from tests.kit.api.http_serving import claim, submit
from tests.kit.waiting import eventually

DECISION = {
    "type": "object",
    "properties": {"approve": {"type": "boolean"}, "note": {"type": "string", "maxLength": 10}},
    "required": ["approve"],
    "additionalProperties": False,
}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


async def make_wait(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **payload: Any) -> str:
    """Submit a task of the type `wait`; returns its id."""
    task = {"type": "wait", "payload": {"signal": "approval", **payload}}
    answer = await client.post("/api/v1/tasks", json=task, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting"), answer.text
    return str(answer.json()["task_id"])


async def send(client: httpx.AsyncClient, task_id: str, value: Any, *, name: str = "approval", **headers: str) -> Any:
    kind = {"Content-Type": "application/json"}
    path = f"/api/v1/tasks/{task_id}/signals/{name}"
    # httpx takes `json=None` for no body at all.
    return await client.post(path, content=json.dumps(value), headers={**kind, **headers})


async def record(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/tasks/{task_id}")).json())


async def test_the_first_signal_counts_and_ends_the_wait(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await make_wait(client, title="Refund 120 €", schema=DECISION, timeout="3d")
    (shown,) = (await record(client, task_id))["waiting_for"]
    assert shown["signal"] == "approval"
    assert (shown["title"], shown["schema"]) == ("Refund 120 €", DECISION)
    assert shown["expires_at"] is not None

    answer = await send(client, task_id, {"approve": True})
    assert answer.status_code == 202
    assert answer.json() == {"task_id": task_id, "signal": "approval", "received_at": answer.json()["received_at"]}
    done = await record(client, task_id)
    assert (done["status"], done["result"], done["waiting_for"]) == ("completed", {"approve": True}, None)
    assert (done["attempt"], done["worker"]) == (0, None)

    again = await send(client, task_id, {"approve": False})
    assert (again.status_code, again.json()["code"]) == (409, "signal_already_received")
    assert again.json()["received_at"] == answer.json()["received_at"]
    other = await send(client, task_id, 1, name="other")
    assert (other.status_code, other.json()["code"]) == (409, "task_ended")
    assert (await record(client, task_id))["result"] == {"approve": True}
    noted = [entry for entry in await AuditLog(store).page() if entry["action"] == "task.signal"]
    assert [entry["status"] for entry in noted] == ["409", "409", "202"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "approve"),
        ({"approve": "yes"}, "approve"),
        ({"approve": True, "note": "x" * 11}, "note"),
        ({"approve": True, "more": 1}, "more"),
        (True, "value"),
        (None, "value"),
    ],
)
async def test_a_value_that_does_not_fit_names_the_field_and_leaves_the_task_waiting(
    client: httpx.AsyncClient, value: Any, field: str
) -> None:
    task_id = await make_wait(client, schema=DECISION)
    answer = await send(client, task_id, value)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_submission")
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert (await record(client, task_id))["status"] == "waiting"


async def test_what_is_not_json_is_refused(client: httpx.AsyncClient) -> None:
    task_id = await make_wait(client)
    path = f"/api/v1/tasks/{task_id}/signals/approval"
    for body, kind, code in (
        (b"{", "application/json", "malformed_json"),
        (b"", "application/json", "malformed_json"),
        (b"NaN", "application/json", "malformed_json"),
        (b"a=1", "application/x-www-form-urlencoded", "unsupported_media_type"),
    ):
        answer = await client.post(path, content=body, headers={"Content-Type": kind})
        assert answer.json()["code"] == code, body
    for value in (None, 0, "", [], {}, "text"):
        task_id = await make_wait(client)
        assert (await send(client, task_id, value)).status_code == 202
        assert (await record(client, task_id))["result"] == value


async def test_a_signal_is_limited_in_size_number_and_name(client: httpx.AsyncClient) -> None:
    task_id = await make_wait(client)
    large = await send(client, task_id, "x" * (64 * 1024 - 1))
    assert large.status_code == 422
    for name in ("a b", "ä", "-x", "x" * 129, "a/b"):
        answer = await client.post(f"/api/v1/tasks/{task_id}/signals/{name.replace('/', '%2F')}", json=1)
        assert answer.status_code in (404, 422), name
    for number in range(100):
        assert (await send(client, task_id, number, name=f"early-{number}")).status_code == 202
    full = await send(client, task_id, True)
    assert full.status_code == 422
    assert "100 signals" in full.json()["detail"]
    unknown = await send(client, "nobody", 1)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")


async def test_a_repeated_request_with_its_key_is_one_signal(client: httpx.AsyncClient) -> None:
    task_id = await make_wait(client)
    first = await send(client, task_id, 1, **{"Idempotency-Key": "k-1"})
    again = await send(client, task_id, 1, **{"Idempotency-Key": "k-1"})
    assert (again.status_code, again.json()) == (202, first.json())
    assert (await send(client, task_id, 1, **{"Idempotency-Key": "k-2"})).status_code == 409


async def test_a_signal_that_comes_before_the_wait_is_kept(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    assert (await send(client, task_id, {"approve": 1})).status_code == 202
    assert (await send(client, task_id, 2)).status_code == 409
    running = await claim(store, task_id)
    assert await store.suspend(running, [WaitForSignal("approval", "approval")]) is None
    assert (await store.signals(task_id, "approval"))["approval"].value == '{"approve":1}'


async def test_the_type_wait_begins_to_wait_when_its_parents_have_ended(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    parent = await submit(client)
    task = {"type": "wait", "payload": {"signal": "approval", "schema": {"type": "boolean"}, "timeout": "1h"}}
    answer = await client.post("/api/v1/tasks", json={**task, "depends_on": [parent]})
    child = answer.json()["task_id"]
    assert (await record(client, child))["waiting_for"] == [{"task": parent, "when": "completed"}]
    assert (await client.get("/api/v1/waits")).json()["items"] == []
    # It is known what it will ask.
    assert (await send(client, child, "yes")).status_code == 422
    await store.complete(await claim(store, parent), "1")
    (wait,) = (await client.get("/api/v1/waits")).json()["items"]
    assert wait["task_id"] == child
    assert (await send(client, child, True)).status_code == 202
    assert (await record(client, child))["result"] is True


async def test_an_early_answer_ends_the_wait_as_soon_as_it_begins(client: httpx.AsyncClient, store: TaskStore) -> None:
    parent = await submit(client)
    task = {"type": "wait", "payload": {"signal": "approval"}, "depends_on": [parent]}
    child = (await client.post("/api/v1/tasks", json=task)).json()["task_id"]
    assert (await send(client, child, "early")).status_code == 202
    await store.complete(await claim(store, parent), "1")
    await store.promote()
    done = await record(client, child)
    assert (done["status"], done["result"]) == ("completed", "early")


async def test_a_wait_whose_time_is_over_has_its_default_or_fails(client: httpx.AsyncClient, store: TaskStore) -> None:
    failing = await make_wait(client, timeout="50ms")
    default = await make_wait(client, timeout="50ms", default={"approve": False})
    nothing = await make_wait(client, timeout="50ms", default=None)
    asleep = await client.post("/api/v1/tasks", json={"type": "sleep", "payload": {"for": "50ms"}})
    assert asleep.json()["status"] == "waiting"

    async def all_ended() -> bool:
        await store.promote()
        tasks = [await record(client, one) for one in (failing, default, nothing, asleep.json()["task_id"])]
        return all(task["status"] in ("completed", "failed") for task in tasks)

    await eventually(all_ended, because="their time is over")
    failed = await record(client, failing)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "wait_timeout")
    assert failed["error"]["retryable"] is False
    for task_id, result in ((default, {"approve": False}), (nothing, None), (asleep.json()["task_id"], None)):
        task = await record(client, task_id)
        assert (task["status"], task["result"]) == ("completed", result)
    assert (await send(client, failing, 1)).json()["code"] == "task_ended"
    assert (await client.get("/api/v1/waits")).json()["items"] == []


async def test_a_sleep_until_a_past_moment_is_over_at_once(client: httpx.AsyncClient, store: TaskStore) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    answer = await client.post("/api/v1/tasks", json={"type": "sleep", "payload": {"until": past}})
    assert answer.status_code == 202
    await store.promote()
    assert (await record(client, answer.json()["task_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("wait", {}, "signal"),
        ("wait", {"signal": "a b"}, "signal"),
        ("wait", {"signal": "a", "timeout": 0}, "timeout"),
        ("wait", {"signal": "a", "default": 1}, "means nothing without a timeout"),
        ("wait", {"signal": "a", "default": "x", "timeout": 1, "schema": {"type": "integer"}}, "schema: must be"),
        ("wait", {"signal": "a", "schema": {"$ref": "http://x/y"}}, "which is not in it"),
        ("wait", {"signal": "a", "schema": {"type": "bool"}}, 'payload.schema: has "bool" as a type'),
        ("wait", {"signal": "a", "schema": 5}, "payload.schema: must be a JSON schema, which is an object"),
        ("wait", {"signal": "a", "users": ["7"] * 101}, "users"),
        ("wait", {"signal": "a", "titel": "x"}, "titel"),
        ("sleep", {}, "either for or until"),
        ("sleep", {"for": 1, "until": "2030-01-01T00:00:00Z"}, "either for or until"),
        ("sleep", {"for": "-1s"}, "for"),
    ],
)
async def test_a_wait_that_cannot_be_is_refused(
    client: httpx.AsyncClient, kind: str, payload: dict[str, Any], words: str
) -> None:
    answer = await client.post("/api/v1/tasks", json={"type": kind, "payload": payload})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


async def test_a_wait_cannot_have_references_because_nobody_would_put_the_results_in(
    client: httpx.AsyncClient,
) -> None:
    parent = await submit(client)
    payload = {"signal": "approval", "title": {"$result": parent}}
    answer = await client.post("/api/v1/tasks", json={"type": "wait", "payload": payload, "depends_on": [parent]})
    assert answer.status_code == 422
    assert "cannot have results of other tasks" in answer.json()["detail"]


async def test_a_waiting_task_is_cancelled_and_retried(client: httpx.AsyncClient) -> None:
    task_id = await make_wait(client)
    assert (await client.post(f"/api/v1/tasks/{task_id}/cancel")).json()["status"] == "cancelled"
    assert (await client.get("/api/v1/waits")).json()["items"] == []
    other = await client.post(f"/api/v1/tasks/{task_id}/retry", json={"payload": {"signal": "other"}})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "payload")
    assert (await client.post(f"/api/v1/tasks/{task_id}/retry")).status_code == 202
    assert (await record(client, task_id))["status"] == "waiting"
    assert [one["task_id"] for one in (await client.get("/api/v1/waits")).json()["items"]] == [task_id]
    assert (await send(client, task_id, 5)).status_code == 202
    assert (await record(client, task_id))["result"] == 5


async def test_waits_are_listed_page_by_page_each_once(client: httpx.AsyncClient) -> None:
    # Many of them begin in the same millisecond.
    ids = await asyncio.gather(*(make_wait(client, title=str(number)) for number in range(60)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 7, **({} if cursor is None else {"cursor": cursor})}
        page = (await client.get("/api/v1/waits", params=query)).json()
        seen += [one["task_id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # The last one of the page is answered meanwhile.
        await send(client, seen[-1], 1)
    assert sorted(seen) == sorted(ids)
    wait = (await client.get("/api/v1/waits")).json()["items"][0]
    assert set(wait) == {"task_id", "type", "signal", "title", "schema", "since", "expires_at"}
    assert (wait["type"], wait["signal"], wait["schema"], wait["expires_at"]) == ("wait", "approval", None, None)
    for cursor in ("x", "!!", "W10"):
        assert (await client.get("/api/v1/waits", params={"cursor": cursor})).status_code == 422


async def test_a_type_of_a_project_takes_the_place_of_one_that_needs_no_worker(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    await store.announce_types({"sleep": {"group": "loud", "schema": {"type": "object"}, "description": "Ours."}})

    async def is_theirs() -> bool:
        answer = await client.post("/api/v1/tasks", json={"type": "sleep", "payload": {"hours": 8}})
        return answer.status_code == 202 and answer.json()["status"] == "pending"

    await eventually(is_theirs, because="the API hears of it")
    types = {one["name"]: one for one in (await client.get("/api/v1/task-types")).json()["task_types"]}
    assert (types["sleep"]["description"], types["wait"]["queue"]) == ("Ours.", "default")


class TestWithUsers:
    """With authentication: the owner, the users that are named, and admins."""

    @pytest.fixture
    def api_settings(self, valkey_url: str, tmp_path: Path) -> Settings:
        return settings_of(valkey_url, tmp_path)

    @pytest.fixture
    async def client(self, api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
        async with client_of(api_settings) as connected:
            yield connected

    async def test_only_the_owner_named_users_and_admins_may_signal(
        self, client: httpx.AsyncClient, api_settings: Settings
    ) -> None:
        def who(user: str, *scopes: Scope) -> dict[str, str]:
            return header(api_settings, user, *(scopes or (Scope.SUBMIT, Scope.READ)))

        async def listed(user: str, *scopes: Scope) -> list[str]:
            page = (await client.get("/api/v1/waits", headers=who(user, *scopes))).json()
            return [one["task_id"] for one in page["items"]]

        ids = [await make_wait(client, who("7"), users=["8", "9"]) for _ in range(3)]
        assert await listed("7") == await listed("8") == await listed("9") == await listed("1", Scope.ADMIN) == ids
        assert await listed("6") == []
        stranger = await send(client, ids[0], 1, **who("6"))
        assert (stranger.status_code, stranger.json()["code"]) == (404, "task_not_found")
        # The task itself is not theirs to see.
        assert (await client.get(f"/api/v1/tasks/{ids[0]}", headers=who("8"))).status_code == 404
        for user, task_id in (("8", ids[0]), ("7", ids[1])):
            assert (await send(client, task_id, 1, **who(user))).status_code == 202
            assert task_id not in await listed("9")
        assert (await send(client, ids[2], 1, **who("1", Scope.ADMIN))).status_code == 202
        assert await listed("7") == await listed("9") == []
        # The answer of a stranger does not tell that the task has been answered.
        assert (await send(client, ids[2], 1, **who("6"))).status_code == 404
        assert (await send(client, ids[2], 1, **who("7"))).status_code == 409
        assert (await send(client, ids[2], 1, **who("7", Scope.READ))).status_code == 403
        assert (await send(client, ids[2], 1)).status_code == 401
