"""Odd values of JSON at every door: refused in words that name the place, or read back exactly by every reader."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Failure, LogLine
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.either_client import connected, run
from tests.kit.api.http_serving import claim, serving, submit, watch
from tests.kit.api.notification_client import listening, token
from tests.kit.databases import KINDS, MigratedDatabases
from tests.kit.history import forget, record_all, recording
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

Kept = tuple[Recorder, History]

#: What no reader of JSON should meet, as a sender writes it, and what it is told.
REFUSED = [
    ("NaN", "is NaN; JSON has no such number"),
    ("[1,-Infinity]", "is -Infinity; JSON has no such number"),
    ("1e400", "is 1e400; the largest number that every reader of JSON holds"),
    ("1" * 400, "the largest number that every reader of JSON holds"),
    (r'"done \ud83d"', "holds half of a surrogate pair"),
    (r'{"\udc00":1}', "has a key that holds half of a surrogate pair"),
]
#: What every reader has exactly as it was sent.
EXACT: list[Any] = [
    *(2**53 + 1, 2**63 - 1, 2**64 - 1, 2**64 + 1, -(2**63) - 1, 10**40, -(10**300)),
    *(0, -0.0, 0.1, 5e-324, 1.7976931348623157e308),
    *("", "\x00", "a\x00b", "\U0001f600", "\u2028</script>", "12345678901234567890"),
    *(None, [], {}, [[], {}], {"": {"\x00": []}}),
]

_ECHO = '"type":"http_test.echo"'
_CRON = '"user_id":1,"trigger_type":"LOOP","trigger_args":{"cron":"0 0 1 1 *"}'
#: Path, body, and what the place is called; `%s` is the value, `ID` a task that failed.
HTTP_DOORS = {
    "a submission's payload": ("/api/v1/tasks", f'{{{_ECHO},"payload":{{"x":%s}}}}', "payload.x"),
    "a submission's metadata": ("/api/v1/tasks", f'{{{_ECHO},"payload":{{}},"metadata":{{"x":%s}}}}', "metadata.x"),
    "a batch": ("/api/v1/tasks/batch", f'{{"tasks":[{{{_ECHO},"payload":{{"x":%s}}}}]}}', "tasks[0].payload.x"),
    "a retry": ("/api/v1/tasks/ID/retry", '{"payload":{"x":%s}}', "payload.x"),
    "a definition's payload": (
        "/api/v1/definitions", f'{{{_CRON},"task":{{{_ECHO},"payload":{{"x":%s}}}}}}', "task.payload.x",
    ),
    "a definition's metadata": (
        "/api/v1/definitions", f'{{{_CRON},"content":"c","metadata":{{"x":%s}}}}', "metadata.x",
    ),
    "a dispatch call's data": ("/api/openai", '{"async":true,"data":{"x":%s}}', "data.x"),
    "a dispatch call's messages": ("/api/openai", '{"async":true,"messages":[{"content":%s}]}', "messages[0].content"),
    "a chat's messages": ("/v1/chat/completions", '{"model":"m","messages":[{"content":%s}]}', "messages[0].content"),
    "a bulk operation": ("/api/v1/bulk", '{"action":"cancel","filter":{"q":%s}}', "filter.q"),
}  # fmt: skip


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, databases: MigratedDatabases, tmp_path: Path) -> str:
    """The URL of an empty database: of both kinds only where a test says so."""
    return databases.url(request.param, tmp_path)


@pytest.fixture
def settings(valkey_url: str, database_url: str, tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {"redis_url": valkey_url, "database_url": database_url, "data_dir": tmp_path, "ledger": {"log": "all"}}
    )


@pytest.fixture
async def url(settings: Settings) -> AsyncIterator[str]:
    async with serving(settings) as address:
        yield address


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
async def kept(store: TaskStore, database_url: str, settings: Settings) -> AsyncIterator[Kept]:
    async with recording(store, database_url, settings) as parts:
        yield parts


async def post(http: httpx.AsyncClient, path: str, body: str) -> httpx.Response:
    return await http.post(path, content=body.encode(), headers={"Content-Type": "application/json"})


async def record_of(http: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await http.get(f"/api/v1/tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.content)
    assert "damaged" not in found
    return found


async def failed_task(http: httpx.AsyncClient, store: TaskStore) -> str:
    task_id = await submit(http)
    await store.fail(await claim(store, task_id), Failure("broken", "it broke", False), 0)
    return task_id


@pytest.mark.parametrize("door", HTTP_DOORS)
async def test_what_has_no_form_in_json_is_refused_with_its_place(
    http: httpx.AsyncClient, store: TaskStore, door: str
) -> None:
    path, body, place = HTTP_DOORS[door]
    path = path.replace("ID", await failed_task(http, store) if "ID" in path else "")
    for text, words in REFUSED:
        answer = await post(http, path, body % text)
        assert answer.status_code == 400, answer.text
        said = answer.json()
        if path.startswith("/api/v1"):
            assert said["code"] == "malformed_json"
            detail = said["detail"]
        else:
            detail = said["error"]["message"] if path.startswith("/v1") else said["error"]
        assert f"{place}" in detail, (text, detail)
        assert words in detail, (text, detail)


@pytest.mark.parametrize("door", [door for door in HTTP_DOORS if "payload" in door or "metadata" in door])
async def test_what_is_long_or_strange_is_read_back_exactly(http: httpx.AsyncClient, door: str) -> None:
    path, body, place = HTTP_DOORS[door]
    answer = await post(http, path, body % json.dumps(EXACT))
    assert answer.status_code in (200, 201, 202), answer.text
    found: Any = json.loads(answer.content)
    if path == "/api/v1/tasks":
        found = await record_of(http, found["task_id"])
    for name in place.split("."):
        found = found[name]
    assert repr(found) == repr(EXACT)


@pytest.mark.parametrize("database_url", KINDS, indirect=True)
async def test_a_task_is_the_same_for_every_reader(
    http: httpx.AsyncClient, url: str, store: TaskStore, kept: Kept, settings: Settings
) -> None:
    """Claim, record, list, log, event stream, notification, and the history after the store has let the task go."""
    recorder, history = kept
    document = {"x": EXACT}
    text = json_text.write(document)

    def same(record: dict[str, Any]) -> bool:
        return repr([record["payload"], record["metadata"], record["result"]]) == repr([document] * 3)

    async with listening(url, 7, f"?token={token(settings, 7)}") as listener:
        body = f'{{{_ECHO},"user_id":"7","payload":{text},"metadata":{text}}}'
        task_id = str((await post(http, "/api/v1/tasks", body)).json()["task_id"])
        running = await claim(store, task_id)
        assert repr([json.loads(running.payload), running.metadata]) == repr([document] * 2)
        await store.log(running, 1, LogLine("info", "odd", document, 1))
        await store.complete(running, text)
        assert repr((await listener.until(task_id, "completed"))["result"]) == repr(document)
    assert same(await record_of(http, task_id))
    assert repr((await watch(http, task_id))[-1].data["result"]) == repr(document)
    await record_all(recorder, store)
    (listed,) = json.loads((await http.get("/api/v1/tasks", params={"q": task_id})).content)["items"]
    assert same(listed)
    assert "damaged" not in listed
    for _ in range(2):
        log = json.loads((await http.get(f"/api/v1/tasks/{task_id}/log")).content)
        assert repr(log["items"][0]["data"]) == repr(document)
        assert same(await record_of(http, task_id))
        assert repr((await watch(http, task_id))[-1].data["result"]) == repr(document)
        await forget(store, task_id)
    assert (await history.get(task_id)).task.damage is None


async def test_remote_workers_get_and_answer_long_numbers_exactly(http: httpx.AsyncClient, url: str) -> None:
    async with worker(url) as one:
        answer = await post(http, "/api/openai", f'{{"async":true,"data":{{"x":{json.dumps(EXACT)}}}}}')
        task_id = answer.json()["taskId"]
        given = await one.take()
        assert repr(given["payload"]["data"]["x"]) == repr(EXACT)
        await one.say(type="task_complete", taskId=task_id, result=given["payload"]["data"], duration=1)

        async def result() -> Any:
            state = json.loads((await http.get(f"/api/task/{task_id}")).content)
            return state if state["status"] == "completed" else None

        assert repr((await eventually(result, because="it completes"))["result"]) == repr({"x": EXACT})


async def test_a_remote_worker_s_odd_result_fails_its_task_and_says_why(http: httpx.AsyncClient, url: str) -> None:
    async with worker(url) as one:
        for text, words in REFUSED:
            task_id = (await post(http, "/api/openai", '{"async":true,"data":{}}')).json()["taskId"]
            await one.take()
            await one.connection.send(
                f'{{"type":"task_complete","taskId":"{task_id}","result":{{"x":{text}}},"duration":1}}'
            )
            told = await one.hear()
            assert (told["type"], told["taskId"]) == ("error", task_id)
            assert "result.x" in told["message"]
            assert words in told["message"]

            async def failed(task_id: str = task_id) -> Any:
                record = await record_of(http, task_id)
                return record if record["status"] == "failed" else None

            error = (await eventually(failed, because="it fails"))["error"]
            assert (error["code"], error["retryable"]) == ("bad_result", False)
            assert "result.x" in error["message"]
            assert words in error["message"]


@pytest.mark.parametrize(
    ("kind", "field"),
    [("progress", '"percentage"'), ("delta", '"content"'), ("log", '"message":"m","data"')],
)
async def test_a_remote_worker_s_odd_report_is_refused_and_its_task_goes_on(
    http: httpx.AsyncClient, url: str, kind: str, field: str
) -> None:
    async with worker(url) as one:
        task_id = (await post(http, "/api/openai", '{"async":true,"data":{}}')).json()["taskId"]
        await one.take()
        for text, words in REFUSED:
            await one.connection.send(f'{{"type":"{kind}","taskId":"{task_id}",{field}:{text}}}')
            told = await one.hear()
            assert told["type"] == "error"
            assert words in told["message"]
        assert (await record_of(http, task_id))["status"] == "processing"
        await one.connection.send(rf'{{"type":"task_error","taskId":"{task_id}","error":"half \ud800","duration":1}}')
        assert (await one.hear())["type"] == "error"

        async def failed() -> Any:
            record = await record_of(http, task_id)
            return record if record["status"] == "failed" else None

        assert (await eventually(failed, because="it fails"))["error"]["message"] == "half \ufffd"


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_a_client_sends_what_the_server_takes_and_reads_what_it_answers(url: str, kind: str) -> None:
    async with connected(kind, url) as client:
        handle = await run(client.submit, "http_test.echo", {"x": EXACT}, metadata={"x": EXACT})
        task = await run(client.get, handle.id)
        assert repr([task.payload, task.metadata]) == repr([{"x": EXACT}] * 2)
        for value, words in (
            (math.nan, "is NaN"),
            (math.inf, "is Infinity"),
            (10**400, "the largest number"),
            ("\ud800", "half of a surrogate pair"),
            (b"x", "bytes"),
        ):
            with pytest.raises(InvalidSubmissionError, match=words) as caught:
                await run(client.submit, "http_test.echo", {"x": [value]})
            assert caught.value.violations[0].field == "payload.x[0]"
