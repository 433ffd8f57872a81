"""`/api/v1/limits`: rules are set, read, listed and deleted, and say how much of what they cover waits and runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.limits.rules import group_rule
from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.settings.limits import LimitSettings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.tokens import token_of

PATH = "/api/v1/limits"
#: A rule of which nothing is given but what is required.
PLAIN = {
    "group": None,
    "type": None,
    "by": "all",
    "max_running": None,
    "rate": None,
    "fair": False,
    "ordered": False,
    "max_waiting": None,
    "note": None,
    "waiting": 0,
    "running": 0,
    "parked": 0,
}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url, limits=LimitSettings(max_rules=6))


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


def known(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without its time, which it must have."""
    assert record["at"].endswith("Z")
    return {name: value for name, value in record.items() if name != "at"}


async def submit(store: TaskStore, task_id: str, key: str | None = None, user: str | None = None) -> None:
    await store.submit(Submission(task_id=task_id, type="report", group="mail", payload="{}", key=key, user_id=user))


async def test_a_rule_is_set_replaced_read_and_deleted(http: httpx.AsyncClient) -> None:
    wanted = {"group": "mail", "by": "key", "max_running": 2, "rate": "10/s", "fair": True, "max_waiting": 50}
    made = await http.put(f"{PATH}/customers", json={**wanted, "note": "as agreed"})
    assert (made.status_code, made.headers["location"]) == (201, f"{PATH}/customers")
    assert known(made.json()) == {**PLAIN, **wanted, "name": "customers", "note": "as agreed"}
    assert (await http.get(f"{PATH}/customers")).json() == made.json()
    # It is replaced as a whole: what is not given is not limited any more.
    replaced = await http.put(f"{PATH}/customers", json={"type": "report", "by": "user", "ordered": True})
    assert (replaced.status_code, "location" in replaced.headers) == (200, False)
    assert known(replaced.json()) == {**PLAIN, "name": "customers", "type": "report", "by": "user", "ordered": True}
    assert (await http.get(PATH)).json() == {"items": [replaced.json()]}
    gone = await http.delete(f"{PATH}/customers")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await http.get(PATH)).json() == {"items": []}


async def test_an_unknown_name_is_not_found(http: httpx.AsyncClient) -> None:
    await http.put(f"{PATH}/customers", json={"group": "mail", "max_running": 1})
    for answer in (
        await http.get(f"{PATH}/custmers"),
        await http.get(f"{PATH}/custmers/keys"),
        await http.delete(f"{PATH}/custmers"),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["limit"]) == (404, "limit_not_found", "custmers")
        assert problem["known"] == ["customers"]


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("group", {"max_running": 1}),
        ("group", {"group": "", "max_running": 1}),
        ("group", {"group": "a" * 129, "max_running": 1}),
        ("group", {"group": "a\nb", "max_running": 1}),
        ("group", {"group": "celeriac:x", "max_running": 1}),
        ("group", {"group": 7, "max_running": 1}),
        ("type", {"type": "", "max_running": 1}),
        ("by", {"group": "mail", "by": "customer", "max_running": 1}),
        *(("max_running", {"group": "mail", "max_running": value}) for value in (0, -1, 1.5, "2", True, 100_001)),
        ("max_running", {"group": "mail"}),
        ("max_running", {"group": "mail", "note": "only this"}),
        *(("rate", {"group": "mail", "rate": value}) for value in ("5/w", "0/m", "m", 10, "999999/s")),
        ("fair", {"group": "mail", "fair": True}),
        ("fair", {"type": "report", "by": "key", "fair": True}),
        ("fair", {"group": "mail", "by": "key", "fair": "yes"}),
        ("ordered", {"group": "mail", "ordered": True}),
        ("max_waiting", {"group": "mail", "max_waiting": 10}),
        ("max_waiting", {"group": "mail", "by": "key", "max_waiting": 0}),
        ("note", {"group": "mail", "max_running": 1, "note": "x" * 2001}),
        ("max_runing", {"group": "mail", "max_runing": 1}),
    ],
)
async def test_a_rule_that_cannot_be_names_the_field(
    http: httpx.AsyncClient, field: str, rule: dict[str, object]
) -> None:
    answer = await http.put(f"{PATH}/customers", json=rule)
    assert answer.status_code == 422, answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert (await http.get(PATH)).json() == {"items": []}


@pytest.mark.parametrize("name", ["a/b", "a%3Fb", "a%23b", "a%25b", "a%09b", "a" * 129, "group:other"])
async def test_a_name_that_cannot_be_is_refused(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.put(f"{PATH}/{name}", json={"group": "mail", "max_running": 1})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")


async def test_a_fifth_rule_for_a_task_and_one_rule_too_many_are_conflicts(http: httpx.AsyncClient) -> None:
    four = [{"group": "mail"}, {"type": "report"}, {"group": "mail", "type": "report"}, {"group": "mail", "by": "key"}]
    for n, rule in enumerate(four):
        assert (await http.put(f"{PATH}/r{n}", json={**rule, "max_running": 1})).status_code == 201
    fifth = await http.put(f"{PATH}/r4", json={"type": "report", "by": "user", "max_running": 1})
    assert (fifth.status_code, fifth.json()["code"]) == (409, "too_many_rules")
    assert "r0, r1, r2, r3, r4" in fifth.json()["detail"]
    # The limits of a group are a rule like others.
    await http.put(f"{PATH}/other", json={"group": "default", "max_running": 1})
    of_group = await http.put("/api/v1/groups/default/limits", json={"max_running": 1})
    assert of_group.status_code == 200
    seventh = await http.put(f"{PATH}/seventh", json={"group": "else", "max_running": 1})
    assert (seventh.status_code, seventh.json()["code"]) == (409, "too_many_rules")
    assert "limits.max_rules" in seventh.json()["detail"]
    assert (await http.put(f"{PATH}/other", json={"group": "default", "max_running": 2})).status_code == 200


async def test_the_limits_of_a_group_are_its_rule(http: httpx.AsyncClient) -> None:
    name = group_rule("default")
    of_group = (await http.put("/api/v1/groups/default/limits", json={"max_running": 5, "rate": "100/m"})).json()
    rule = (await http.get(f"{PATH}/{name}")).json()
    assert known(rule) == {**PLAIN, "name": name, "group": "default", "max_running": 5, "rate": "100/m"}
    assert rule["at"] == of_group["limits"]["at"]
    changed = await http.put(f"{PATH}/{name}", json={"group": "default", "max_running": 7, "note": "more"})
    assert changed.status_code == 200
    limits = (await http.get("/api/v1/groups/default")).json()["limits"]
    assert limits == {"max_running": 7, "rate": None, "at": changed.json()["at"], "note": "more"}
    assert (await http.delete(f"{PATH}/{name}")).status_code == 204
    assert (await http.get("/api/v1/groups/default")).json()["limits"] is None


async def test_a_group_of_celery_with_a_slash_has_its_rule_too(http: httpx.AsyncClient, store: TaskStore) -> None:
    await store.submit(Submission(task_id="t1", type="report", group="a/b", payload="{}"))
    assert (await http.put("/api/v1/groups/a%2Fb/limits", json={"max_running": 5})).status_code == 200
    assert (await http.get(f"{PATH}/group:a%2Fb")).json()["group"] == "a/b"
    assert (await http.put(f"{PATH}/group:a%2Fb", json={"group": "a/b", "max_running": 6})).status_code == 200
    assert (await http.delete(f"{PATH}/group:a%2Fb")).status_code == 204


async def test_a_rule_counts_what_it_covers_and_its_keys(http: httpx.AsyncClient, store: TaskStore) -> None:
    await http.put(f"{PATH}/customers", json={"group": "mail", "by": "key", "max_running": 1})
    for n in range(3):
        await submit(store, f"a{n}", "a")
    for n in range(2):
        await submit(store, f"b{n}", "b")
    await submit(store, "without")
    await claim(store, "b0")
    rule = (await http.get(f"{PATH}/customers")).json()
    assert (rule["waiting"], rule["running"], rule["parked"]) == (4, 1, 3)
    a, b = {"key": "a", "waiting": 3, "running": 0}, {"key": "b", "waiting": 1, "running": 1}
    assert (await http.get(f"{PATH}/customers/keys")).json() == {"items": [a, b]}
    assert (await http.get(f"{PATH}/customers/keys?sort=running")).json() == {"items": [b, a]}
    assert (await http.get(f"{PATH}/customers/keys?limit=1")).json() == {"items": [a]}
    for bad in ("sort=name", "limit=0", "limit=1001"):
        assert (await http.get(f"{PATH}/customers/keys?{bad}")).status_code == 422
    # A rule that counts all together has one entry.
    await http.put(f"{PATH}/all", json={"group": "mail", "max_running": 10})
    assert (await http.get(f"{PATH}/all/keys")).json() == {"items": [{"key": None, "waiting": 5, "running": 1}]}


async def test_the_largest_of_very_many_keys_are_found(http: httpx.AsyncClient, store: TaskStore) -> None:
    await http.put(f"{PATH}/customers", json={"group": "mail", "by": "key", "max_running": 2})
    names = [f"c{n:04}" for n in range(1203)]
    several = {"c0007": 3, "c0500": 2, "c0999": 4, "c1202": 5}
    tasks = [(f"{name}-{n}", name) for name in names for n in range(several.get(name, 1))]
    for begin in range(0, len(tasks), 500):
        await asyncio.gather(*(submit(store, *task) for task in tasks[begin : begin + 500]))
    await claim(store, "c0000-0")
    await claim(store, "c1202-0")
    await claim(store, "c1202-1")

    async def largest(sort: str) -> list[tuple[str, int, int]]:
        answer = await http.get(f"{PATH}/customers/keys", params={"sort": sort, "limit": 5})
        return [(one["key"], one["waiting"], one["running"]) for one in answer.json()["items"]]

    waiting = [("c0999", 4, 0), ("c0007", 3, 0), ("c1202", 3, 2), ("c0500", 2, 0), ("c0001", 1, 0)]
    assert await largest("waiting") == waiting
    assert await largest("running") == [("c1202", 3, 2), ("c0000", 0, 1), *((f"c000{n}", 1, 0) for n in (1, 2, 3))]
    all_of_them = (await http.get(f"{PATH}/customers/keys", params={"limit": 1000})).json()["items"]
    assert len({one["key"] for one in all_of_them}) == 1000


async def test_a_changed_rule_applies_to_the_next_start(http: httpx.AsyncClient, store: TaskStore) -> None:
    for n in range(3):
        await submit(store, f"t{n}", "c7")
    await claim(store, "t0")
    await claim(store, "t1")
    await http.put(f"{PATH}/customers", json={"group": "mail", "by": "key", "max_running": 1})
    rule = (await http.get(f"{PATH}/customers")).json()
    assert (rule["running"], rule["waiting"]) == (2, 1), "what runs goes on, and counts"
    assert (await store.claim("t2", worker="w")).reason == "limited"  # type: ignore[union-attr]
    await http.delete(f"{PATH}/customers")
    await claim(store, "t2")


async def test_changes_need_the_scope_admin_and_are_in_the_audit(valkey_url: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=valkey_url, data_dir=tmp_path, access={"jwt_secret": "s" * 32})  # type: ignore[arg-type]
    rule = {"group": "mail", "max_running": 1}

    def headers(*scopes: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(settings, user_id='7', scopes=scopes)}"}

    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as http:
        user, admin = headers(Scope.READ, Scope.SUBMIT), headers(Scope.ADMIN)
        assert (await http.put(f"{PATH}/r", json=rule)).status_code == 401
        assert (await http.put(f"{PATH}/r", json=rule, headers=user)).status_code == 403
        assert (await http.put(f"{PATH}/r", json=rule, headers=admin)).status_code == 201
        assert (await http.get(PATH, headers=user)).json()["items"][0]["name"] == "r"
        assert (await http.get(f"{PATH}/r", headers=user)).status_code == 200
        # The keys of a rule are those of all users.
        assert (await http.get(f"{PATH}/r/keys", headers=user)).status_code == 403
        assert (await http.delete(f"{PATH}/r", headers=user)).status_code == 403
        assert (await http.delete(f"{PATH}/r", headers=admin)).status_code == 204
        entries = (await http.get("/api/v1/audit", headers=admin)).json()["items"]
    found = [(entry["action"], entry["target"], entry["status"]) for entry in reversed(entries)]
    assert [one for one in found if one[2] not in ("401", "403")] == [
        ("limit.set", f"{PATH}/r", "201"),
        ("limit.delete", f"{PATH}/r", "204"),
    ]
