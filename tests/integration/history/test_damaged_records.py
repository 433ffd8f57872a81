"""A record that cannot be read shows itself as damaged, with its id and a sentence, and never breaks a list."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import LogLine
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving, watch
from tests.kit.command_line import celeriac
from tests.kit.history import claimed, forget, record_all, recording

Kept = tuple[Recorder, History]

#: Field of the record, what a foreign program or another version left there, and what is said of it.
GARBAGE = [
    ("payload", '{"a":', "payload is not JSON: "),
    ("payload", '{"a":[NaN]}', "a[0] is NaN; JSON has no such number"),
    ("result", r'"half \ud83d"', "result holds half of a surrogate pair"),
    ("result", "1e400", "result is 1e400; the largest number"),
    ("result", b"\xff\xfe\x00", "result is not JSON: "),
    ("metadata", "[1]", "metadata is of the wrong type (list)"),
    ("tags", "7", "tags is of the wrong type (int)"),
    ("attempt", "many", "attempt is 'many', which is not a number"),
    ("max_retries", "9" * 5000, "max_retries is '999"),
    ("percentage", "nan", "percentage is 'nan', which is not a number"),
    ("timestamp_ms", "soon", "timestamp_ms is 'soon', which is not a number"),
    ("status", "HALF DONE", "status is 'HALF DONE', which is not a status"),
    ("finished_at", "yesterday", "finished_at is 'yesterday', which is not a moment in RFC 3339"),
    ("created_at", "0001-01-01T00:00:00+14:00", "created_at is '0001-01-01T00:00:00+14:00', which is not a moment"),
]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings(redis_url=valkey_url, database_url=database_url)


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture
async def kept(store: TaskStore, database_url: str, settings: Settings) -> AsyncIterator[Kept]:
    async with recording(store, database_url, settings) as parts:
        yield parts


async def read(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)


async def damage(store: TaskStore, task_id: str, field: str, garbage: str | bytes) -> None:
    """Let a foreign program write into a record, and tell the recorder."""
    rev = int((await store.record(task_id))["rev"]) + 1
    await store.redis.hset(keys.task(task_id), mapping={field: garbage, "rev": rev})
    await store.redis.xadd(keys.EVENTS, {"task_id": task_id, "kind": "note", "rev": rev})


async def test_garbage_in_the_store_is_shown_in_the_store_and_in_history(
    http: httpx.AsyncClient, store: TaskStore, kept: Kept, settings: Settings, tmp_path: Path
) -> None:
    said = {}
    for number, (field, garbage, words) in enumerate(GARBAGE):
        task_id = f"damaged-{number}"
        claim = await claimed(store, task_id)
        await store.complete(claim, "1")
        await damage(store, task_id, field, garbage)
        said[task_id] = words
    await store.complete(await claimed(store, "whole"), "1")
    await record_all(kept[0], store)

    for _ in range(2):
        listed = {task["task_id"]: task for task in (await read(http, "/api/v1/tasks"))["items"]}
        assert listed.keys() == {*said, "whole"}
        assert "damaged" not in listed["whole"]
        for task_id, words in said.items():
            assert words in listed[task_id].get("damaged", ""), task_id
            alone = await read(http, f"/api/v1/tasks/{task_id}")
            assert words in alone["damaged"], task_id
            # Of an unknown status nobody knows whether the task goes on.
            if alone["status"] == "completed":
                assert (await watch(http, task_id))[-1].name == "done"
        # The history alone.
        await forget(store, *said)

    addresses = {"REDIS_URL": str(settings.redis_url), "DATABASE_URL": str(settings.database_url)}
    code, out, err = await celeriac("list", "--limit", "0", cwd=tmp_path, **addresses)
    assert code == 0, err
    assert "whole" in out
    assert out.count("damaged: ") == len(said)
    code, out, err = await celeriac("status", "damaged-0", cwd=tmp_path, **addresses)
    assert code == 0, err
    assert "payload is not JSON" in out


async def test_garbage_in_a_running_task_is_shown_to_who_watches(http: httpx.AsyncClient, store: TaskStore) -> None:
    await claimed(store, "whole")
    await claimed(store, "damaged")
    await store.redis.hset(keys.task("damaged"), mapping={"attempt": "many", "tags": "7", "percentage": "nan"})
    running = {task["task_id"]: task for task in (await read(http, "/api/v1/running"))["tasks"]}
    assert running.keys() == {"whole", "damaged"}
    assert "attempt is 'many'" in running["damaged"]["damaged"]
    assert (running["damaged"]["attempt"], running["damaged"]["progress"]["percentage"]) == (0, 0)
    progress = await read(http, "/api/v1/tasks/damaged/progress")
    assert progress["percentage"] == 0


async def test_garbage_in_sql_breaks_neither_list_nor_timeline(
    http: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    recorder, history = kept
    for task_id in ("extra", "payload", "status", "events", "whole"):
        claim = await claimed(store, task_id)
        await store.log(claim, 1, LogLine("info", "one", {"a": 1}, 1))
        await store.complete(claim, "1")
    await record_all(recorder, store)
    await forget(store, "extra", "payload", "status", "events", "whole")
    async with history.engine.begin() as connection:
        for statement in (
            "UPDATE celeriac_tasks SET extra = '{' WHERE task_id = 'extra'",
            "UPDATE celeriac_tasks SET payload = 'NaN' WHERE task_id = 'payload'",
            "UPDATE celeriac_tasks SET status = 'WEIRD' WHERE task_id = 'status'",
            "UPDATE celeriac_events SET fields = '[' WHERE task_id = 'events'",
        ):
            await connection.execute(text(statement))
    listed = {task["task_id"]: task.get("damaged") for task in (await read(http, "/api/v1/tasks"))["items"]}
    assert listed.keys() == {"extra", "payload", "status", "events", "whole"}
    assert (listed["whole"], listed["events"]) == (None, None)
    for task_id in ("extra", "payload", "status"):
        assert task_id in str(listed[task_id])
        assert (await read(http, f"/api/v1/tasks/{task_id}"))["damaged"] == listed[task_id]
    events = (await read(http, "/api/v1/tasks/events/events"))["items"]
    assert [event["damaged"].startswith("the event is not JSON") for event in events] == [True] * 3
    assert (await watch(http, "events"))[-1].name == "done"


async def test_a_damaged_log_line_and_notes_of_another_version_break_nothing(
    http: httpx.AsyncClient, store: TaskStore
) -> None:
    claim = await claimed(store, "t")
    await store.log(claim, 1, LogLine("info", "whole", {"a": 1}, 1))
    await store.redis.xadd(keys.log("t"), {"message": "damaged", "data": "{", "timestamp_ms": "soon"})
    whole, damaged = (await read(http, "/api/v1/tasks/t/log"))["items"]
    assert (whole["data"], damaged["message"]) == ({"a": 1}, "damaged")
    assert "data is not JSON" in damaged["data"]["damaged"]
    assert "timestamp_ms is 'soon'" in damaged["data"]["damaged"]
    await store.redis.hset(keys.PAUSED, "default", "{")
    await store.redis.hset(keys.RULES, "group:default", "[]")
    await store.redis.hset(keys.TYPES, "broken", "{")
    await store.redis.zadd(keys.WORKERS, {"w": 9e15})
    await store.redis.hset(keys.worker("w"), mapping={"pid": "x", "started_ms": "9" * 18, "models": "{"})
    (group,) = [one for one in (await read(http, "/api/v1/groups"))["groups"] if one["name"] == "default"]
    assert "damaged" in json.dumps(group["paused"])
    assert "damaged" in json.dumps(group["limits"])
    # It holds nobody up, and goes away like any other.
    await store.limit("others", max_running=1)
    assert await store.unlimit("default")
    assert await store.unlimit("others")
    assert [one["worker_id"] for one in (await read(http, "/api/v1/workers"))["workers"]] == ["w"]
