"""Task control (docs/schedules.md) over HTTP: `/tasks`, `/api/v1/definitions`. The test is worker and beat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from celeriac.access.principal import Scope
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.schedules.running_scheduler import scheduling
from celeriac.settings import AccessSettings, Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.openapi import definition_schemas as shapes
from celeriac_api.routes.definitions import PATH
from tests.kit.api.http_serving import claim, serving
from tests.kit.history import record_all
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

HOURLY = {"user_id": 7, "content": "look", "trigger_type": "LOOP", "trigger_args": {"interval": 3600}}


async def create(client: httpx.AsyncClient, path: str = "/tasks", **fields: Any) -> str:
    answer = await client.post(path, json={**HOURLY, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["task_def_id"])


async def test_the_life_of_a_definition(client: httpx.AsyncClient, store: TaskStore) -> None:
    definition_id = await create(client)
    shown = (await client.get(f"/tasks/{definition_id}")).json()
    assert (shown["status"], shown["user_id"], shown["content"]) == ("ACTIVE", 7, "look")
    next_run = datetime.fromisoformat(shown["next_run_at"])
    assert timedelta(minutes=59) < next_run - datetime.now(UTC) < timedelta(minutes=61)
    assert len(shown["next_runs"]) == 10

    for verb, status in (("pause", "PAUSED"), ("pause", "PAUSED"), ("resume", "ACTIVE"), ("resume", "ACTIVE")):
        answer = await client.post(f"/tasks/{definition_id}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    answer = await client.post(f"/tasks/{definition_id}/trigger")
    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    (instance,) = (await client.get(f"/tasks/{definition_id}/instances")).json()["items"]
    assert (instance["task_id"], instance["task_def_id"]) == (task_id, definition_id)
    assert (instance["trigger"], instance["status"]) == ("manual", "pending")
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["payload"]["data"]["content"] == "look"

    answer = await client.post(f"/tasks/{definition_id}/cancel", json={"note": "enough"})
    assert (answer.json()["status"], answer.json()["note"]) == ("CANCELLED", "enough")
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["status"] == "cancelled"
    for verb in ("pause", "resume", "cancel", "trigger"):
        answer = await client.post(f"/tasks/{definition_id}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (409, "illegal_definition_move")
    mine = (await client.get("/users/7/tasks")).json()
    assert [d["task_def_id"] for d in mine["items"]] == [definition_id]
    assert (await client.get("/users/8/tasks")).json() == {"items": [], "next_cursor": None}


async def test_a_beat_fires_and_the_instance_tells_its_definition(
    client: httpx.AsyncClient, store: TaskStore, settings: Settings
) -> None:
    task = {"type": "http_test.echo", "payload": {"n": 1}, "queue": "media"}
    # Slots that pass while the machine does other things fire too: the first two are 0.3 seconds apart.
    fields = {"trigger_args": {"interval": 0.3}, "max_runs": 2, "misfire": "fire_all"}
    definition_id = await create(client, task=task, **fields)
    async with scheduling(store, settings):

        async def fired() -> list[Any]:
            items: list[Any] = (await client.get(f"/tasks/{definition_id}/instances")).json()["items"]
            return items if len(items) == 2 else []

        items = await eventually(fired, because="two slots fire")
        running = await claim(store, items[1]["task_id"])
        assert (await client.get(f"/tasks/{definition_id}")).json()["status"] == "RUNNING"
        await store.complete(running, "42")
        await store.complete(await claim(store, items[0]["task_id"]), "43")
        shown = (await client.get(f"/tasks/{definition_id}")).json()
        assert shown["status"] == "COMPLETED"
        assert shown["last_outcome"]["status"] == "completed"
        assert shown["counters"]["fired"] == shown["counters"]["succeeded"] == 2
        assert [run["result"] for run in shown["last_runs"]] == [43, 42]
        first, second = (datetime.fromisoformat(run["scheduled_at"]) for run in shown["last_runs"])
        # On a slow machine both are fired in the same moment, and then neither is the newer one.
        assert abs(first - second) == timedelta(seconds=0.3)


BAD = [
    ({"trigger_args": {"interval": 0}}, "trigger_args.interval"),
    ({"trigger_args": {"interval": "soon"}}, "trigger_args.interval"),
    ({"trigger_args": {"interval": True}}, "trigger_args.interval"),
    ({"trigger_args": {}}, "trigger_args.interval"),
    ({"trigger_args": {"cron": "0 25 * * *"}}, "trigger_args.cron"),
    ({"trigger_args": {"cron": "* * * * *", "timezone": "Mars/Base"}}, "trigger_args.timezone"),
    ({"trigger_args": {"cron": "* * * * *", "interval": 3}}, "trigger_args.cron"),
    ({"trigger_type": "SCHEDULED", "trigger_args": {}}, "trigger_args.run_at"),
    ({"trigger_type": "SCHEDULED", "trigger_args": {"run_at": "2020-01-01T00:00:00Z"}}, "trigger_args.run_at"),
    ({"trigger_type": "SCHEDULED", "trigger_args": {"run_date": "2030-01-01T00:00:00"}}, "trigger_args.run_date"),
    ({"trigger_type": "SCHEDULED", "trigger_args": {"run_at": "tomorrow"}}, "trigger_args.run_at"),
    ({"trigger_type": "IMMEDIATE", "trigger_args": {"interval": 3}}, "trigger_args.interval"),
    ({"trigger_type": "SOMETIMES"}, "trigger_type"),
    ({"user_id": None}, "user_id"),
    ({"user_id": True}, "user_id"),
    ({"content": None}, "content"),
    ({"overlap": "perhaps"}, "overlap"),
    ({"tigger_args": {}}, "tigger_args"),
    ({"task": {"type": "no_such_type"}}, "task.type"),
    ({"task": {"type": "http_test.thumbnail", "payload": {}}}, "task.payload.path"),
    ({"task": {"type": "http_test.echo", "delay": 3}}, "task.delay"),
    ({"trigger_args": {"interval": 60, "exclude": [{"cron": "* * * * *"}]}}, "trigger_args"),
    ({"end_at": "2020-01-01T00:00:00Z"}, "end_at"),
]


async def test_a_bad_definition_names_the_field(client: httpx.AsyncClient) -> None:
    for fields, field in BAD:
        answer = await client.post("/tasks", json={**HOURLY, **fields})  # type: ignore[dict-item]
        assert answer.status_code == 422, answer.text
        assert field in [error["field"] for error in answer.json()["errors"]], answer.text
    assert (await client.get("/users/7/tasks")).json()["items"] == []


async def test_unknown_ids_and_bodies_that_are_none(client: httpx.AsyncClient) -> None:
    for path in ("/tasks/none", "/tasks/none/instances", "/api/v1/definitions/%00", "/api/v1/definitions/x/preview"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "definition_not_found"), path
    for verb in ("pause", "resume", "cancel", "trigger"):
        assert (await client.post(f"/tasks/none/{verb}")).status_code == 404
    assert (await client.post("/tasks", content=b"{")).json()["code"] == "malformed_json"
    assert (await client.post("/tasks", json=[1])).status_code == 422
    definition_id = await create(client)
    assert (await client.get(f"/tasks/{definition_id}/instances?cursor=nonsense")).status_code == 422
    assert (await client.get(f"/tasks/{definition_id}/instances?limit=501")).status_code == 422
    assert (await client.post(f"/tasks/{definition_id}/pause", json={"why": 1})).status_code == 422


async def test_a_list_has_the_runs_of_every_definition_if_it_is_asked_for_them(
    client: httpx.AsyncClient, store: TaskStore, kept: tuple[Recorder, History]
) -> None:
    one, paused, none = [await create(client, "/api/v1/definitions") for _ in range(3)]
    await client.post(f"/tasks/{paused}/pause")
    runs = [(await client.post(f"/tasks/{one}/trigger")).json()["task_id"] for _ in range(3)]
    runs += [(await client.post(f"/tasks/{paused}/trigger")).json()["task_id"]]
    await record_all(kept[0], store)

    async def listed(**query: int) -> dict[str, dict[str, Any]]:
        answer = await client.get("/api/v1/definitions", params=query)
        assert answer.status_code == 200, answer.text
        return {item["task_def_id"]: item for item in answer.json()["items"]}

    assert not {"next_runs", "last_runs"} & (await listed())[one].keys()
    found = await listed(next_runs=3, last_runs=2)
    detail = (await client.get(f"/api/v1/definitions/{one}")).json()
    assert found[one]["next_runs"] == detail["next_runs"][:3]
    assert found[paused]["next_runs"] == []
    assert {run["task_id"] for run in found[one]["last_runs"]} <= set(runs[:3])
    assert len(found[one]["last_runs"]) == 2
    assert [run["task_id"] for run in found[paused]["last_runs"]] == runs[3:]
    assert found[none]["last_runs"] == []
    assert found[one]["last_runs"][0].keys() == {"task_id", "status", "created_at", "started_at", "finished_at"}
    refused = await client.get("/api/v1/definitions", params={"last_runs": 51})
    assert refused.status_code == 422


async def test_lists_are_paged_and_filtered(client: httpx.AsyncClient) -> None:
    ids = [await create(client, "/api/v1/definitions", user_id="ann", group=f"g{n % 2}") for n in range(5)]
    await create(client, user_id="bob")
    await client.post(f"/tasks/{ids[0]}/pause")
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/users/ann/tasks", params=query)).json()
        assert len(page["items"]) <= 2
        found += [item["task_def_id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == ids[::-1]
    paused = (await client.get("/api/v1/definitions?status=PAUSED")).json()["items"]
    assert [item["task_def_id"] for item in paused] == [ids[0]]
    in_group = (await client.get("/api/v1/definitions?user_id=ann&group=g1")).json()["items"]
    assert [item["task_def_id"] for item in in_group] == [ids[3], ids[1]]

    for _ in range(5):
        await client.post(f"/tasks/{ids[0]}/trigger")
    first = (await client.get(f"/tasks/{ids[0]}/instances?limit=3")).json()
    second = (await client.get(f"/tasks/{ids[0]}/instances?limit=3&cursor={first['next_cursor']}")).json()
    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (3, 2, None)
    assert len({item["task_id"] for item in first["items"] + second["items"]}) == 5


async def test_a_page_of_what_runs_is_full_however_many_do_not(client: httpx.AsyncClient, store: TaskStore) -> None:
    task = {"type": "http_test.echo", "payload": {}}
    running = [await create(client, task=task) for _ in range(3)]
    idle = [await create(client, task=task) for _ in range(4)]
    # An instance that waits makes none of them run.
    await client.post(f"/tasks/{idle[0]}/trigger")
    for definition_id in running:
        answer = await client.post(f"/tasks/{definition_id}/trigger")
        await claim(store, answer.json()["task_id"])

    async def pages(status: str) -> list[list[str]]:
        found: list[list[str]] = []
        query = {"status": status, "limit": "2"}
        while True:
            page = (await client.get(PATH, params=query)).json()
            found.append([item["task_def_id"] for item in page["items"]])
            assert {item["status"] for item in page["items"]} <= {status}
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    assert await pages("RUNNING") == [running[:0:-1], running[:1]]
    assert await pages("ACTIVE") == [idle[:1:-1], idle[1::-1]]


async def test_a_repeated_request_with_a_key_is_one_definition(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "monday"}
    body = {**HOURLY, "trigger_type": "IMMEDIATE", "trigger_args": {}}
    first = await client.post("/tasks", json=body, headers=headers)
    second = await client.post("/tasks", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["task_def_id"] == second.json()["task_def_id"]
    instances = (await client.get(f"/tasks/{first.json()['task_def_id']}/instances")).json()["items"]
    assert len(instances) == 1


async def test_a_repeated_trigger_with_a_key_answers_the_first_instance(client: httpx.AsyncClient) -> None:
    path, headers = f"/tasks/{await create(client)}/trigger", {"Idempotency-Key": "monday"}
    first, second = [(await client.post(path, headers=headers)).json() for _ in range(2)]
    assert first == second


async def test_previews_edits_and_back_fills(client: httpx.AsyncClient) -> None:
    trigger = {
        "trigger_type": "LOOP",
        "trigger_args": {
            "rules": [{"cron": "0 8 * * 1-5"}, {"cron": "0 10 * * 0,6"}],
            "timezone": "Europe/Berlin",
            "exclude": [{"date": "2030-12-25"}],
        },
        "start_at": "2030-12-24T00:00:00+01:00",
    }
    items = (await client.post("/api/v1/definitions/preview?count=3", json=trigger)).json()["items"]
    assert [item["scheduled_at"] for item in items] == [
        "2030-12-24T07:00:00.000Z",
        "2030-12-26T07:00:00.000Z",
        "2030-12-27T07:00:00.000Z",
    ]
    answer = await client.post("/api/v1/definitions/preview", json={**trigger, "trigger_args": {"cron": "x"}})
    assert answer.json()["errors"][0]["field"] == "trigger_args.cron"

    definition_id = await create(client)
    path = f"/api/v1/definitions/{definition_id}"
    edited = await client.patch(path, json={"trigger_args": {"cron": "*/5 * * * *"}, "note": "faster"})
    assert edited.json()["trigger_args"] == {"cron": "*/5 * * * *"}
    assert len((await client.get(f"{path}/preview?count=25")).json()["items"]) == 25
    assert (await client.patch(f"{path}?rev=1", json={"name": "x"})).json()["code"] == "definition_changed"
    assert (await client.patch(path, json={"user_id": 9})).status_code == 422
    now = datetime.now(UTC)
    wanted = {"start": (now - timedelta(minutes=14)).isoformat(), "end": now.isoformat()}
    filled = await client.post(f"{path}/backfill", json=wanted)
    assert filled.status_code == 202
    assert 2 <= len(filled.json()["items"]) <= 3
    answer = await client.post(f"{path}/backfill", json={"start": "then"})
    assert {error["field"] for error in answer.json()["errors"]} == {"start", "end"}
    trail = (await client.get(f"{path}/changes")).json()["items"]
    assert [entry["action"] for entry in trail] == ["backfill", "edit", "create"]


async def test_an_edit_over_http_keeps_what_it_does_not_name(settings: Settings) -> None:
    guarded = settings.model_copy(update={"access": AccessSettings.model_validate({"jwt_secret": "s" * 40})})
    headers = {"Authorization": f"Bearer {token_of(guarded, user_id='7', scopes=[Scope.SUBMIT, Scope.READ])}"}
    task = {"type": "http_test.echo", "payload": {"n": 1}, "queue": "media"}
    berlin = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    async with serving(guarded) as url, httpx.AsyncClient(base_url=url, timeout=20, headers=headers) as connected:
        path = f"{PATH}/{await create(connected, task=task, trigger_args=berlin)}"
        for body, name, value in (
            ({"trigger_args": {"cron": "0 4 * * *"}}, "trigger_args", {**berlin, "cron": "0 4 * * *"}),
            ({"trigger_args": {"timezone": "UTC"}}, "trigger_args", {"cron": "0 4 * * *", "timezone": "UTC"}),
            ({"task": {"payload": {"n": 2}}}, "task", {**task, "payload": {"n": 2}}),
            ({"task": {"queue": None}}, "task", {"type": "http_test.echo", "payload": {"n": 2}}),
        ):
            answer = await connected.patch(path, json=body)
            assert (answer.status_code, answer.json().get(name)) == (200, value), answer.text
        refused = await connected.patch(path, json={"task": {"payload": 3}})
        assert refused.status_code == 422
        assert (await connected.get(path)).json()["task"]["payload"] == {"n": 2}


async def test_answers_have_the_fields_that_are_documented(client: httpx.AsyncClient) -> None:
    created = (await client.post(PATH, json=HOURLY)).json()
    path = f"{PATH}/{created['task_def_id']}"
    triggered = (await client.post(f"{path}/trigger")).json()
    wanted = {"start": "2025-01-01T00:00:00Z", "end": "2025-01-01T03:00:00Z"}
    (filled, *_) = (await client.post(f"{path}/backfill", json=wanted)).json()["items"]
    whole = (await client.get(path)).json()
    shown: list[tuple[dict[str, Any], type[BaseModel]]] = [
        (created, shapes.DefinitionRecord),
        (created["counters"], shapes.DefinitionCounters),
        (triggered, shapes.TriggeredInstance),
        (filled, shapes.BackfilledInstance),
        (whole, shapes.DefinitionDetail),
        (whole["next_runs"][0], shapes.ComingFiring),
        (whole["last_runs"][0], shapes.Instance),
        ((await client.get(PATH)).json(), shapes.DefinitionPage),
        ((await client.get(f"{path}/instances")).json(), shapes.InstancePage),
        ((await client.get(f"{path}/preview")).json(), shapes.Preview),
        ((await client.get(f"{path}/changes")).json(), shapes.DefinitionChanges),
        ((await client.get(f"{path}/changes")).json()["items"][0], shapes.DefinitionChange),
    ]
    for answer, shape in shown:
        assert set(answer) == set(shape.model_fields), shape
        shape.model_validate(answer)


async def test_a_user_sees_and_moves_only_own_definitions(settings: Settings) -> None:
    guarded = settings.model_copy(update={"access": AccessSettings.model_validate({"jwt_secret": "s" * 40})})

    def shown(user: str, *scopes: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(guarded, user_id=user, scopes=scopes)}"}

    ann, bob = shown("7", Scope.SUBMIT, Scope.READ), shown("8", Scope.SUBMIT, Scope.READ)
    boss = shown("1", Scope.ADMIN)
    async with serving(guarded) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert (await client.post("/tasks", json=HOURLY)).status_code == 401
        made = await client.post("/tasks", json={**HOURLY, "user_id": 99}, headers=ann)
        assert (made.status_code, made.json()["user_id"]) == (201, "7"), "it is the caller's own"
        definition_id = made.json()["task_def_id"]
        path = f"/api/v1/definitions/{definition_id}"
        assert (await client.get(path, headers=ann)).status_code == 200
        for method, what in (
            *(("GET", f"{path}{part}") for part in ("", "/instances", "/preview", "/changes")),
            *(("POST", f"{path}/{verb}") for verb in ("pause", "resume", "trigger", "cancel", "backfill")),
            ("PATCH", path),
            ("GET", f"/tasks/{definition_id}"),
            ("POST", f"/tasks/{definition_id}/cancel"),
        ):
            answer = await client.request(method, what, headers=bob)
            assert (answer.status_code, answer.json()["code"]) == (404, "definition_not_found"), what
        assert (await client.get("/users/7/tasks", headers=bob)).status_code in (403, 404)
        assert (await client.get("/api/v1/definitions?user_id=7", headers=bob)).json()["items"] == []
        assert len((await client.get("/users/7/tasks", headers=boss)).json()["items"]) == 1
        assert (await client.post(f"{path}/pause", headers=boss)).json()["status"] == "PAUSED"
        trail = (await client.get(f"{path}/changes", headers=ann)).json()["items"]
        assert [(entry["action"], entry["actor"]) for entry in trail] == [("pause", "user:1"), ("create", "user:7")]
        await client.post(f"{path}/resume", headers=ann)
        made = await client.post("/tasks", json={**HOURLY, "user_id": 99}, headers=boss)
        assert made.json()["user_id"] == 99, "an admin may do it for others"


async def test_with_authentication_ones_own_id_keeps_its_form_and_another_becomes_ones_own(settings: Settings) -> None:
    guarded = settings.model_copy(update={"access": AccessSettings.model_validate({"jwt_secret": "s" * 40})})
    headers = {"Authorization": f"Bearer {token_of(guarded, user_id='7', scopes=[Scope.SUBMIT])}"}
    async with serving(guarded) as url, httpx.AsyncClient(base_url=url, timeout=20, headers=headers) as connected:
        for said, kept in ((7, 7), ("7", "7"), (8, "7"), (None, "7")):
            answer = await connected.post("/tasks", json={**HOURLY, "user_id": said})
            assert (answer.status_code, answer.json()["user_id"]) == (201, kept)


@pytest.mark.parametrize("mode", ["return", "reject"])
async def test_a_deduplicated_trigger_makes_no_instance(client: httpx.AsyncClient, store: TaskStore, mode: str) -> None:
    asked = {"type": "http_test.echo", "once": {"key": "k", "on_conflict": mode}}
    path = f"/tasks/{await create(client, task=asked)}"
    holder = (await client.post(f"{path}/trigger")).json()["task_id"]
    for _ in range(2):
        answer = await client.post(f"{path}/trigger?key=same")
        if mode == "reject":
            assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")
        else:
            assert answer.status_code == 202
        assert answer.json()["task_id"] == holder
    shown = (await client.get(path)).json()
    assert (shown["counters"]["skipped"], shown["counters"]["missed"]) == (2, 0)
    assert [one["task_id"] for one in (await client.get(f"{path}/instances")).json()["items"]] == [holder]
    await store.complete(await claim(store, holder), "1")
    assert (await client.post(f"{path}/trigger")).json()["task_id"] != holder
