"""Failures that are alike are one group: in the history, over HTTP, after a retry and from older rows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, update

from celeriac.database.task_tables import error_groups, tasks
from celeriac.history.error_grouper import ErrorGrouper
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Claim, Failure
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import TaskFilter
from tests.kit.history import claimed, failed, record_all

Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "database_url": database_url})


async def errors(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/errors", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(document: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    return [(one["type"], one["message"], one["failures"], one["dead"]) for one in document["items"]]


async def test_failures_that_differ_in_values_are_one_group(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    # The groups are listed by their last failures, so each fails in a millisecond of its own.
    for n in range(3):
        await failed(store, f"a-{n}", f"order {n} not found", type="mail", user_id="ada")
        await asyncio.sleep(0.002)
    await failed(store, "b", "order 7 not found", type="report", group="media")
    await asyncio.sleep(0.002)
    await failed(store, "c", "cannot read '/tmp/x'", type="mail", key="k")
    await record_all(kept[0], store)
    found = await errors(client)
    assert shown(found) == [
        ("mail", "cannot read <value>", 1, 1),
        ("report", "order <n> not found", 1, 1),
        ("mail", "order <n> not found", 3, 3),
    ]
    assert found["total"] == {"groups": 3, "failures": 5, "dead": 5}
    assert found["next_cursor"] is None
    orders = found["items"][2]
    assert (orders["code"], orders["last_task_id"], sum(orders["counts"])) == ("broken", "a-2", 3)
    assert orders["first_seen"] <= orders["last_seen"]
    start, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    assert end - start >= timedelta(days=1)

    for query, number in (
        ({"type": "mail"}, 2),
        ({"queue": "media"}, 1),
        ({"user_id": "ada"}, 1),
        ({"key": "k"}, 1),
        ({"q": "NOT FOUND"}, 2),
        ({"q": "broke"}, 3),
        ({"q": "100%"}, 0),
        ({"error_group": orders["error_group"]}, 1),
        (
            {
                "to": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
                "from": (datetime.now(UTC) - timedelta(days=900)).isoformat(),
            },
            0,
        ),
    ):
        some = await errors(client, **query)
        assert (len(some["items"]), some["total"]["groups"]) == (number, number), query

    listed = await client.get("/api/v1/tasks", params={"error_group": orders["error_group"]})
    assert [item["task_id"] for item in listed.json()["items"]] == ["a-2", "a-1", "a-0"]
    wanted = {"action": "retry", "filter": {"error_group": orders["error_group"]}, "dry_run": True}
    assert (await client.post("/api/v1/bulk", json=wanted)).json() == {"matched": 3}


async def test_groups_are_read_page_by_page_in_both_orders(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    for group in range(5):
        for n in range(group + 1):
            await failed(store, f"{group}-{n}", f"it broke in way {'abcde'[group]}")
        await asyncio.sleep(0.002)
    await record_all(kept[0], store)
    for sort in ("-failures", "-last_seen"):
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await errors(client, sort=sort, limit=2, **cursor)
            assert page["total"] == {"groups": 5, "failures": 15, "dead": 15}
            seen += [one["message"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == [f"it broke in way {letter}" for letter in "edcba"]
    other = await client.get("/api/v1/errors", params={"sort": "-failures", **cursor})
    assert other.status_code == 422
    assert "belongs to a list sorted by -last_seen" in other.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=101", "limit"),
        ("from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z", "from"),
        ("sort=type", "sort"),
        ("cursor=x", "cursor"),
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "from"),
        ("q=", "q"),
    ],
)
async def test_what_a_list_of_errors_cannot_mean_names_the_field(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    answer = await client.get(f"/api/v1/errors?{query}")
    assert answer.status_code == 422, answer.text
    assert field in [error["field"].split(".")[-1] for error in answer.json()["errors"]]


async def test_a_retried_task_stays_in_its_group_but_is_no_dead_letter(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await failed(store, "again", "it broke")
    await failed(store, "still", "it broke")
    await record_all(kept[0], store)
    assert (await client.post("/api/v1/tasks/again/retry")).status_code == 202
    await record_all(kept[0], store)
    assert shown(await errors(client)) == [("demo", "it broke", 2, 1)]
    claim = await store.claim("again", worker="w")
    assert isinstance(claim, Claim)
    await store.complete(claim, "1")
    await record_all(kept[0], store)
    found = await errors(client)
    assert shown(found) == [("demo", "it broke", 2, 1)]
    assert found["items"][0]["last_task_id"] == "still", "the example is a task that is failed now"
    # It fails in another way: then it belongs there.
    assert (await client.post("/api/v1/tasks/still/retry")).status_code == 202
    claim = await store.claim("still", worker="w")
    assert isinstance(claim, Claim)
    await store.fail(claim, Failure("other", "it burnt", False), 0)
    await record_all(kept[0], store)
    assert sorted(shown(await errors(client))) == [("demo", "it broke", 1, 0), ("demo", "it burnt", 1, 1)]


async def test_an_attempt_that_is_tried_again_is_no_error_yet(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    claim = await claimed(store, "t", max_retries=3)
    await store.fail(claim, Failure("broken", "it broke", True), 60_000)
    await record_all(kept[0], store)
    assert (await errors(client))["items"] == []


async def test_older_failures_get_their_groups_afterwards_and_empty_groups_go(store: TaskStore, kept: Kept) -> None:
    recorder, history = kept
    for n in range(3):
        await failed(store, f"a-{n}", f"row {n} is bad")
    await record_all(recorder, store)
    async with history.engine.begin() as connection:
        before = (await connection.execute(select(tasks.c.task_id, tasks.c.error_group, tasks.c.failed_ms))).all()
        first = (await connection.execute(select(error_groups))).mappings().one()
        # As a version without groups has left it.
        await connection.execute(update(tasks).values(error_group=None, failed_ms=None))
        await connection.execute(delete(error_groups))
    assert await history.count(TaskFilter(error_group=first["error_group"])) == 0
    grouper = ErrorGrouper(engine=history.engine)
    assert await grouper.step() < 1, "there may be more"
    async with history.engine.begin() as connection:
        after = (await connection.execute(select(tasks.c.task_id, tasks.c.error_group, tasks.c.failed_ms))).all()
        assert sorted(after) == sorted(before)
        assert (await connection.execute(select(error_groups))).mappings().one() == first
    assert await grouper.step() > 1
    async with history.engine.begin() as connection:
        assert len((await connection.execute(select(error_groups))).all()) == 1, "a group with failures stays"
        await connection.execute(delete(tasks))
    await grouper.step()
    async with history.engine.begin() as connection:
        assert (await connection.execute(select(error_groups))).all() == []
