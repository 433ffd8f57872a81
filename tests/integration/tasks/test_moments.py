"""Extreme moments and durations at every door: refused with a sentence, and nothing of them is stored."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from celeriac.cli.filters import read_moment, read_options
from celeriac.database.engine import create_engine, writing
from celeriac.errors import InvalidSubmissionError
from celeriac.model import LAST_MS, Delivery, percentage_of, rfc3339, utc_from_ms
from celeriac.moments import bounded
from celeriac.schedules.running_scheduler import scheduling
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.retry import RetryPolicy
from celeriac_tasks.engine.calls.messages import celery_call
from celeriac_tasks.engine.calls.published_call import PublishedCall
from tests.kit.databases import MigratedDatabases
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

#: Moments outside 1970 to 2999, in the spellings that made trouble somewhere.
OUTSIDE = [
    *("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59+23:59", "9999-12-31T00:00:00Z"),
    *("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00-23:59"),
    *("3000-01-01T00:00:00Z", "2999-12-31T23:59:59.9999Z", "2999-12-31T23:59:59-00:01"),
    *("1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00+00:01", "1900-01-01T00:00:00Z"),
]
#: What is not a moment at all.
ODD: list[Any] = ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2030-13-01T00:00:00Z", "now", "", [], {}, True, -1]

_ECHO: dict[str, Any] = {"type": "http_test.echo", "payload": {}}
_LOOP: dict[str, Any] = {"user_id": 1, "content": "c", "trigger_type": "LOOP", "trigger_args": {"interval": 86400}}


def _loop(**changed: Any) -> dict[str, Any]:
    return {**_LOOP, **changed}


def _trigger(**args: Any) -> dict[str, Any]:
    return {**_LOOP, "trigger_args": {"interval": 86400, **args}}


def _once(moment: Any, name: str = "run_at", **changed: Any) -> dict[str, Any]:
    return _loop(trigger_type="SCHEDULED", trigger_args={name: moment}, **changed)


def _bare(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("user_id", "content")}


#: Name, method and path, and the body of a moment. `ID` is a definition.
BODIES: list[tuple[str, str, Any]] = [
    ("a submission's run_at", "POST /api/v1/tasks", lambda at: {**_ECHO, "run_at": at}),
    ("a submission's expires", "POST /api/v1/tasks", lambda at: {**_ECHO, "expires": at}),
    *(
        (f"{name} at {path}", f"POST {path}", body)
        for path in ("/tasks", "/api/v1/definitions")
        for name, body in (
            ("start_at", lambda at: _loop(start_at=at)),
            ("end_at", lambda at: _loop(end_at=at)),
            ("start_at of IMMEDIATE", lambda at: _loop(trigger_type="IMMEDIATE", trigger_args={}, start_at=at)),
            ("run_at", _once),
            ("run_date", lambda at: _once(at, "run_date")),
            ("run_at with jitter", lambda at: _once(at, jitter=86400)),
            ("exclude.from", lambda at: _trigger(exclude=[{"from": at, "to": "2031-01-01T00:00:00Z"}])),
            ("exclude.to", lambda at: _trigger(exclude=[{"from": "2029-01-01T00:00:00Z", "to": at}])),
            ("task.expires", lambda at: _loop(task={**_ECHO, "expires": at})),
        )
    ),
    ("a preview's start_at", "POST /api/v1/definitions/preview", lambda at: _bare(_loop(start_at=at))),
    ("a preview's end_at", "POST /api/v1/definitions/preview", lambda at: _bare(_loop(end_at=at))),
    ("a preview's run_at", "POST /api/v1/definitions/preview", lambda at: _bare(_once(at))),
    ("an edit's end_at", "PATCH /api/v1/definitions/ID", lambda at: {"end_at": at}),
    ("an edit's start_at", "PATCH /api/v1/definitions/ID", lambda at: {"start_at": at}),
    ("a backfill's start", "POST /api/v1/definitions/ID/backfill", lambda at: {"start": at, "end": at}),
    (
        "a backfill's end",
        "POST /api/v1/definitions/ID/backfill",
        lambda at: {"start": "2020-01-01T00:00:00Z", "end": at},
    ),
    *(
        (f"a bulk operation's {name}", "POST /api/v1/bulk", lambda at, n=name: {"action": "cancel", "filter": {n: at}})
        for name in ("created_after", "created_before", "finished_after", "finished_before")
    ),
]
QUERIES = [
    *(
        (path, name)
        for path in ("/api/v1/tasks", "/api/v1/dead")
        for name in ("created_after", "created_before", "finished_after", "finished_before")
    ),
    *((path, name) for path in ("/api/v1/stats", "/api/v1/errors") for name in ("from", "to")),
]
#: Durations that no door takes, as JSON writes them.
DURATIONS = ["1e308", "-1", "true", '"1e308"', '"-5s"', "99999999999", "[]", '"NaN"', "1" * 300]


@pytest.fixture
def database_url(databases: MigratedDatabases, tmp_path: Path) -> str:
    return databases.url("sqlite", tmp_path)


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings(redis_url=valkey_url, database_url=database_url)


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def stored(store: TaskStore) -> int:
    """Return how many entries the store's indexes of tasks have."""
    counts = await store.read(("ZCARD", keys.DELAYED), ("ZCARD", keys.EXPIRING), ("XLEN", keys.EVENTS))
    return sum(counts)


async def definition(http: httpx.AsyncClient) -> str:
    answer = await http.post("/api/v1/definitions", json=_LOOP)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["task_def_id"])


async def test_every_door_refuses_moments_outside_1970_to_2999_and_stores_nothing(
    http: httpx.AsyncClient, store: TaskStore
) -> None:
    definition_id = await definition(http)
    before = (await http.get(f"/api/v1/definitions/{definition_id}")).json()["rev"]
    for name, route, body in BODIES:
        method, path = route.replace("ID", definition_id).split()
        for moment in [*OUTSIDE, *ODD]:
            answer = await http.request(method, path, json=body(moment))
            assert answer.status_code == 422, (name, moment, answer.status_code, answer.text)
            if moment in OUTSIDE and "task.expires" not in name:
                assert "is not between 1970-01-01T00:00:00Z and 2999-12-31T23:59:59.999Z" in answer.text, (name, moment)
    for path, name in QUERIES:
        for moment in OUTSIDE:
            answer = await http.get(path, params={name: moment})
            assert answer.status_code == 422, (path, name, moment, answer.text)
            assert "is not between 1970" in answer.text, (path, name, moment)
    assert await stored(store) == 0
    kept = (await http.get("/api/v1/definitions")).json()["items"]
    assert [(one["task_def_id"], one["rev"]) for one in kept] == [(definition_id, before)]


async def test_the_first_and_the_last_moment_are_taken_and_shown(http: httpx.AsyncClient) -> None:
    first, last = "1970-01-01T00:00:00.000Z", "2999-12-31T23:59:59.999Z"
    task = await http.post("/api/v1/tasks", json={**_ECHO, "run_at": last})
    assert task.status_code == 202
    assert (await http.get(f"/api/v1/tasks/{task.json()['task_id']}")).json()["run_at"] == last
    assert (await http.post("/api/v1/tasks", json={**_ECHO, "run_at": first})).status_code == 202
    late = await http.post("/api/v1/definitions", json=_once(last, jitter=10 * 366 * 86400))
    assert late.status_code == 201, late.text
    bounds = await http.post("/api/v1/definitions", json=_loop(start_at=first, end_at=last))
    assert (bounds.status_code, bounds.json()["start_at"], bounds.json()["end_at"]) == (201, first, last)
    preview = await http.post("/api/v1/definitions/preview", json=_bare(_once(last, jitter=86400)))
    assert preview.json()["items"][0]["scheduled_at"] == last
    for path, name in QUERIES:
        for moment in (first, last):
            answer = await http.get(path, params={name: moment})
            assert answer.status_code in (200, 422), (path, answer.text)
            assert "1970-01-01T00:00:00Z" not in answer.text
    assert len((await http.get("/api/v1/definitions")).json()["items"]) == 2


async def test_every_door_refuses_durations_that_are_no_durations(http: httpx.AsyncClient, store: TaskStore) -> None:
    template = '{"type":"http_test.echo","payload":{},"%s":%s}'
    for field in ("delay", "expires", "timeout"):
        for value in DURATIONS:
            body = template % (field, value)
            answer = await http.post("/api/v1/tasks", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), (field, value, answer.text)
    for field in ("jitter", "misfire_grace", "catchup_window", "max_runs", "pause_on_failure"):
        for value in DURATIONS:
            if (field, value) == ("pause_on_failure", "true"):
                continue
            body = f'{json.dumps(_LOOP)[:-1]},"{field}":{value}}}'
            answer = await http.post("/api/v1/definitions", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), (field, value, answer.text)
    for value in DURATIONS:
        body = json.dumps(_LOOP).replace("86400", value)
        answer = await http.post("/tasks", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), (value, answer.text)
    assert await stored(store) == 0
    assert (await http.get("/api/v1/definitions")).json()["items"] == []


async def test_calls_for_remote_workers_refuse_timeouts_that_are_no_durations(http: httpx.AsyncClient) -> None:
    calls = {
        "/api/openai": '{"data":{},"async":true,"timeout":%s}',
        "/v1/chat/completions": '{"model":"m","messages":[{"role":"user","content":"x"}],"timeout":%s}',
    }
    for path, template in calls.items():
        for value in [*DURATIONS, "0", "4999", "600001", "null.5", "5e3000"]:
            body = template % value
            answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (path, value, answer.status_code, answer.text)


async def test_a_remote_workers_odd_progress_is_bounded_or_refused(
    url: str, http: httpx.AsyncClient, store: TaskStore
) -> None:
    async with worker(url, "gpu") as one:
        asked = await http.post("/api/openai", json={"data": {}, "group": "gpu", "async": True})
        task_id = (await one.take())["taskId"]
        assert asked.json()["taskId"] == task_id
        odd = ["9" * 400, "1e308", "-1e308", "1e400", "NaN", "true", '"50"', "[]", "9" * 308, "-" + "9" * 308]
        for percentage in odd:
            message = f'{{"type":"progress","taskId":"{task_id}","percentage":{percentage},"message":"m"}}'
            await one.connection.send(message)
        await one.say(type="progress", taskId=task_id, percentage=42)

        async def reported() -> bool:
            shown = (await http.get(f"/api/v1/tasks/{task_id}")).json()
            assert 0 <= shown["progress"]["percentage"] <= 100
            return bool(shown["progress"]["percentage"] == 42)

        await eventually(reported, because="the connection goes on")
        await one.say(type="task_complete", taskId=task_id, result=1)

        async def ended() -> bool:
            return bool((await http.get(f"/api/v1/tasks/{task_id}")).json()["status"] == "completed")

        await eventually(ended, because="the task ends as any other")
        events = (await http.get(f"/api/v1/tasks/{task_id}/progress/stream")).text
        assert "42" in events


async def test_a_definition_that_cannot_be_read_breaks_no_list_and_stops_no_beat(
    http: httpx.AsyncClient, store: TaskStore, settings: Settings, database_url: str
) -> None:
    broken = [await definition(http) for _ in range(3)]
    whole = await http.post(
        "/api/v1/definitions", json={**_LOOP, "task": _ECHO, "content": None, "trigger_args": {"interval": 1}}
    )
    assert whole.status_code == 201, whole.text
    engine = create_engine(database_url)
    async with writing(engine) as connection:
        for definition_id, changes in zip(
            broken, ("spec = '{'", "trigger_type = 'NEVER'", "spec = replace(spec, 'interval', 'inter')"), strict=True
        ):
            change = f"UPDATE celeriac_definitions SET {changes}, next_ms = 1, next_slot_ms = 1"
            await connection.execute(text(f"{change} WHERE definition_id = :id"), {"id": definition_id})
    await engine.dispose()
    shown = await http.get("/api/v1/definitions")
    assert shown.status_code == 200, shown.text
    assert whole.json()["task_def_id"] in [one["task_def_id"] for one in shown.json()["items"]]
    pages = await http.get("/api/v1/definitions", params={"limit": 1})
    assert pages.status_code == 200
    async with scheduling(store, settings):

        async def fired() -> bool:
            answer = await http.get(f"/tasks/{whole.json()['task_def_id']}/instances")
            return bool(answer.json()["items"])

        await eventually(fired, because="the other definition still fires")


def _call(**headers: Any) -> Any:
    call = PublishedCall(
        {"id": "1", "task": "t", **headers}, b"[[], {}, {}]", "application/json", "utf-8", {"priority": 9}
    )
    return celery_call(
        call, group="default", delivery=Delivery.CELERY, max_retries=0, registered=False, accept=["json"]
    )


@pytest.mark.parametrize("moment", OUTSIDE)
def test_a_celery_call_and_the_command_line_refuse_the_same_moments(moment: str) -> None:
    for name in ("eta", "expires"):
        with pytest.raises(InvalidSubmissionError, match=f"{name}.*is not between 1970"):
            _call(**{name: moment})
    now = datetime.now(UTC)
    with pytest.raises(InvalidSubmissionError, match="1970 to 2999"):
        read_moment("since", moment, now)
    with pytest.raises(InvalidSubmissionError, match="is not between 1970"):
        read_options({"created_after": moment}, now)


@pytest.mark.parametrize("limit", [math.nan, math.inf, -1, 1e308, True])
def test_a_celery_call_refuses_time_limits_that_are_no_durations(limit: Any) -> None:
    with pytest.raises(InvalidSubmissionError, match="time_limit"):
        _call(timelimit=[limit, None])
    assert _call(timelimit=[3, None]).timeout_ms == 3000


def test_a_naive_moment_of_celery_is_utc() -> None:
    assert _call(eta="2999-12-31T23:59:59.999").run_at_ms == LAST_MS


@pytest.mark.parametrize("ms", [math.nan, math.inf, -math.inf, -1, 1e308, 10**400, -(10**400), LAST_MS + 1, 2**63])
def test_every_number_has_a_moment_that_can_be_shown(ms: float) -> None:
    shown = rfc3339(utc_from_ms(ms))
    assert shown in ("1970-01-01T00:00:00.000Z", "2999-12-31T23:59:59.999Z")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**308, -5, True])
def test_a_percentage_is_within_0_and_100(value: float) -> None:
    assert 0 <= percentage_of(value) <= 100


def test_a_retry_waits_ten_years_at_most() -> None:
    endless = RetryPolicy(delay_s=1e308, max_delay_s=1e308, backoff=1e3)
    assert endless.delay_ms(5, 0.0) == 10 * 366 * 86_400_000


def test_a_moment_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        bounded(datetime(2030, 1, 1))
    assert bounded(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=1)).day == 2
