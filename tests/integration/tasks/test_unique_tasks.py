"""Unique tasks and debounced ones through all doors that take submissions, on real servers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import pytest

from celeriac import AsyncClient, Client
from celeriac.access.principal import Scope
from celeriac.errors import DuplicateTaskError, SettingsError
from celeriac.handlers.context import Context
from celeriac.model import Status
from celeriac.settings import AccessSettings, Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import task
from tests.kit.api.http_serving import serving
from tests.kit.command_line import celeriac
from tests.kit.tokens import token_of

ECHO: Final = "http_test.echo"


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url)


@task("unique_test.path", once={"key": "order.customer", "until": "ended"})
async def by_path(order: dict[str, Any], ctx: Context) -> None: ...


@task("unique_test.function", once={"key": lambda payload: payload["customer"] or None, "on_conflict": "reject"})
async def by_function(customer: str, ctx: Context) -> None: ...


def without_warnings(answer: httpx.Response) -> dict[str, Any]:
    """Return an answer without the warnings that no worker is there."""
    return {name: value for name, value in answer.json().items() if name != "warnings"}


Door = Callable[[dict[str, Any]], Awaitable[tuple[str, Any]]]


async def test_every_door_answers_a_conflict_with_the_holder(client: httpx.AsyncClient, store: TaskStore) -> None:
    address = str(client.base_url)

    async def http(more: dict[str, Any]) -> tuple[str, Any]:
        answer = await client.post("/api/v1/tasks", json={"type": ECHO, **more})
        assert answer.headers["location"].endswith(answer.json()["task_id"])
        return answer.json()["task_id"], answer.status_code == 202

    async def batch(more: dict[str, Any]) -> tuple[str, Any]:
        answer = await client.post("/api/v1/tasks/batch", json={"tasks": [{"type": ECHO, **more}]})
        [result] = answer.json()["results"]
        assert result["status"] == (200 if "deduplicated" in result or "debounced" in result else 202)
        return result["task_id"], result["status"] == 202

    async def async_client(more: dict[str, Any]) -> tuple[str, Any]:
        async with AsyncClient(address) as connected:
            return (await connected.submit(ECHO, {}, **more)).id, None

    async def blocking_client(more: dict[str, Any]) -> tuple[str, Any]:
        def submit() -> str:
            with Client(address) as connected:
                return connected.submit(ECHO, {}, **more).id

        return await asyncio.to_thread(submit), None

    async def command_line(more: dict[str, Any]) -> tuple[str, Any]:
        once, debounced = more.get("once"), more.get("debounce")
        options = ["--once-key", once["key"]] if once else []
        if debounced:
            options += ["--debounce-key", debounced["key"], "--debounce-delay", debounced["delay"]]
        code, out, err = await celeriac("submit", ECHO, "--url", address, "--payload", "{}", "--json", *options)
        assert code == 0, err
        said = json.loads(out)
        assert said["created"] is not any(said.get(name) for name in ("deduplicated", "debounced"))
        return said["task_id"], said["created"]

    doors: list[Door] = [http, batch, async_client, blocking_client, command_line]
    for field in ({"once": {"key": "k"}}, {"debounce": {"key": "k", "delay": "10m"}}):
        holder, created = await http(field)
        assert created
        for door in doors:
            found, created = await door(field)
            assert found == holder, door
            assert created in (None, False), door
        # Each door can make the first one, too.
        for number, door in enumerate(doors):
            other = {name: {**value, "key": f"first {number}"} for name, value in field.items()}
            made, created = await door(other)
            assert created in (None, True), door
            assert (await http(other))[0] == made


async def test_a_conflict_is_on_the_timeline_and_refused_with_409_if_that_is_asked(client: httpx.AsyncClient) -> None:
    body = {"type": ECHO, "once": {"key": "k"}}
    holder = (await client.post("/api/v1/tasks", json=body)).json()["task_id"]
    answer = await client.post("/api/v1/tasks", json=body)
    known = {"task_id": holder, "status": "pending", "deduplicated": True}
    assert (answer.status_code, without_warnings(answer)) == (200, known)
    answer = await client.post("/api/v1/tasks", json={"type": ECHO, "once": {"key": "k", "on_conflict": "reject"}})
    assert (answer.status_code, answer.json()["code"], answer.json()["task_id"]) == (409, "duplicate", holder)
    new = (
        await client.post("/api/v1/tasks", json={"type": ECHO, "once": {"key": "k", "on_conflict": "replace"}})
    ).json()
    events = (await client.get(f"/api/v1/tasks/{holder}/events")).json()["items"]
    told = [(one["on_conflict"], one["next"]) for one in events if one["kind"] == "deduplicated"]
    assert told == [("return", None), ("reject", None), ("replace", new["task_id"])]
    old = (await client.get(f"/api/v1/tasks/{holder}")).json()
    assert old["error"]["code"] == "superseded"
    assert old["error"]["message"].endswith(new["task_id"])
    async with AsyncClient(str(client.base_url)) as connected:
        with pytest.raises(DuplicateTaskError) as caught:
            await connected.submit(ECHO, {}, once={"key": "k", "on_conflict": "reject"})
    assert caught.value.task_id == new["task_id"]


async def test_fifty_submitters_at_once_make_exactly_one_holder(client: httpx.AsyncClient, store: TaskStore) -> None:
    async def submit() -> tuple[int, str]:
        answer = await client.post("/api/v1/tasks", json={"type": ECHO, "once": {"key": "k"}})
        return answer.status_code, answer.json()["task_id"]

    answers = await asyncio.gather(*(submit() for _ in range(50)))
    assert Counter(status for status, _ in answers) == {202: 1, 200: 49}
    assert len({task_id for _, task_id in answers}) == 1


async def test_the_type_of_a_task_gives_it_a_key(client: httpx.AsyncClient) -> None:
    async def submit(kind: str, payload: dict[str, Any], **more: Any) -> httpx.Response:
        return await client.post("/api/v1/tasks", json={"type": f"unique_test.{kind}", "payload": payload, **more})

    first = await submit("path", {"order": {"customer": 7}})
    assert (await submit("path", {"order": {"customer": "7", "n": 2}})).json()["task_id"] == first.json()["task_id"]
    assert (await submit("path", {"order": {}})).status_code == 202
    assert (await submit("path", {"order": {"customer": 7}}, once={"key": "mine"})).status_code == 202
    refused = await submit("path", {"order": {"customer": ["7"]}})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "once.key")

    assert (await submit("function", {"customer": "c"})).status_code == 202
    assert (await submit("function", {"customer": "c"})).status_code == 409
    assert [(await submit("function", {"customer": ""})).status_code for _ in range(2)] == [202, 202]


@pytest.mark.parametrize("once", [{}, {"key": 7}, {"key": "a..b"}, {"key": "a", "until": "soon"}, {"key": "a", "x": 1}])
def test_a_type_says_what_is_wrong_with_its_key(once: Any) -> None:
    with pytest.raises(SettingsError, match="once"):
        task("unique_test.wrong", once=once)(lambda n: None)


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"once": {}}, "once", "key: is required"),
        ({"once": {"key": ""}}, "once", "key: "),
        ({"once": {"key": "k" * 129}}, "once", "128"),
        ({"once": {"key": "k", "until": "later"}}, "once", "until: must be ended, started, or a duration"),
        ({"once": {"key": "k", "on_conflict": "wait"}}, "once", "on_conflict"),
        ({"once": {"key": "k", "keys": 1}}, "once", "keys: there is no such field"),
        ({"debounce": {"key": "k"}}, "debounce", "delay: is required"),
        ({"debounce": {"key": "k", "delay": 0}}, "debounce", "delay"),
        ({"debounce": {"key": "k", "delay": "2m", "max_delay": "1m"}}, "debounce", "max_delay is shorter"),
        ({"debounce": {"key": "k", "delay": "2m"}, "delay": 5}, "", "debounce and delay exclude each other"),
        ({"debounce": {"key": "k", "delay": "2m"}, "expires": "1m"}, "", "would never run"),
    ],
)
async def test_what_does_not_fit_is_said(client: httpx.AsyncClient, more: Any, field: str, words: str) -> None:
    answer = await client.post("/api/v1/tasks", json={"type": ECHO, **more})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]


async def test_parts_of_workflows_and_what_waits_for_others_have_no_key_of_a_kind_that_cannot_work(
    client: httpx.AsyncClient,
) -> None:
    once, debounced = {"key": "k", "on_conflict": "latest"}, {"key": "k", "delay": "10m"}
    for field, value in (("once", once), ("debounce", debounced)):
        nodes = {"a": {"type": ECHO, field: value}}
        answer = await client.post("/api/v1/workflows", json={"name": "w", "nodes": nodes})
        assert (answer.status_code, field in answer.json()["errors"][0]["field"]) == (422, True), answer.text
        parent = (await client.post("/api/v1/tasks", json={"type": ECHO})).json()["task_id"]
        answer = await client.post("/api/v1/tasks", json={"type": ECHO, field: value, "depends_on": [parent]})
        assert answer.status_code == 422
        batch = {"tasks": [{"type": ECHO}], "then": {"type": ECHO, field: value}}
        answer = await client.post("/api/v1/tasks/batch", json=batch)
        assert answer.status_code == 422, answer.text
    # The key of a type does not count in a workflow, which decides itself what runs.
    node = {"type": "unique_test.path", "payload": {"order": {"customer": 7}}}
    answer = await client.post("/api/v1/workflows", json={"name": "w", "nodes": {"a": node, "b": node}})
    assert answer.status_code == 202, answer.text


async def test_with_authentication_users_have_keys_of_their_own(store: TaskStore, settings: Settings) -> None:
    guarded = settings.model_copy(update={"access": AccessSettings(jwt_secret="s" * 32)})
    made = []
    async with serving(guarded) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        for user in ("7", "8", "7"):
            token = token_of(guarded, user_id=user, scopes=[Scope.SUBMIT])
            answer = await client.post(
                "/api/v1/tasks",
                json={"type": ECHO, "once": {"key": "k"}},
                headers={"Authorization": f"Bearer {token}"},
            )
            made.append((answer.status_code, answer.json()["task_id"]))
    assert [status for status, _ in made] == [202, 202, 200]
    assert made[0][1] == made[2][1] != made[1][1]


async def test_a_key_and_an_idempotency_key_are_two_things(client: httpx.AsyncClient, store: TaskStore) -> None:
    body = {"type": ECHO, "once": {"key": "k"}}
    holder = (await client.post("/api/v1/tasks", json=body)).json()["task_id"]
    first = await client.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "i"})
    assert without_warnings(first) == {"task_id": holder, "status": "pending", "deduplicated": True}
    await store.cancel(holder)
    # The request that is sent again gets the same task, though the key is free.
    again = await client.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "i"})
    assert (again.status_code, again.json()["task_id"]) == (200, holder)
    assert (await store.get(holder)).status is Status.CANCELLED
    assert (await client.post("/api/v1/tasks", json=body)).status_code == 202
