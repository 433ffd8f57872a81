"""The HTTP v1 API on a real server and a real Valkey; the test is the worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from celeriac.model import Failure, Progress
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.app import create_app
from tests.kit.api.http_serving import ROUTES, claim, submit
from tests.kit.waiting import eventually

LIMIT = 100_000


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": valkey_url,
            "max_body_bytes": LIMIT,
            "groups": {"tiny": {"max_queue_length": 2}, "abroad": {"processor": "external"}},
            "grpc_services": {"services": {"demo": {"address": "127.0.0.1:1"}}},
        }
    )


async def post(client: httpx.AsyncClient, document: Any, **headers: str) -> httpx.Response:
    return await client.post("/api/v1/tasks", json=document, headers=headers)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the form of an RFC 9457 problem and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["type"] == f"urn:celeriac:problem:{code}"
    assert document["instance"] == answer.request.url.raw_path.split(b"?")[0].decode()
    return document


async def test_a_submission_is_accepted_stored_and_readable(client: httpx.AsyncClient) -> None:
    answer = await post(
        client,
        {
            "type": "http_test.thumbnail",
            "payload": {"path": "a\u0000ü.png"},
            "user_id": "ada",
            "metadata": {"order": 7},
            "priority": 5,
            "max_retries": 1,
        },
    )
    assert answer.status_code == 202
    # Nobody works here.
    assert list(answer.json()) == ["task_id", "status", "warnings"]
    task_id = answer.json()["task_id"]
    assert UUID(task_id).version == 4
    assert answer.headers["location"] == f"/api/v1/tasks/{task_id}"
    record = (await client.get(answer.headers["location"])).json()
    assert list(record)[:16] == [
        *("task_id", "type", "queue", "status", "payload", "progress", "result", "error", "attempt", "max_retries"),
        *("user_id", "worker", "created_at", "started_at", "finished_at", "updated_at"),
    ]
    assert record["queue"] == "media"
    assert record["status"] == answer.json()["status"] == "pending"
    assert record["payload"] == {"path": "a\u0000ü.png"}
    assert (record["user_id"], record["metadata"], record["priority"], record["max_retries"]) == (
        "ada",
        {"order": 7},
        5,
        1,
    )
    assert record["progress"]["percentage"] == 0
    assert (record["result"], record["error"], record["attempt"]) == (None, None, 0)


async def test_a_delayed_task_is_scheduled(client: httpx.AsyncClient) -> None:
    answer = await post(client, {"type": "http_test.echo", "payload": {}, "delay": "10m"})
    assert answer.json()["status"] == "scheduled"
    assert (await client.get(answer.headers["location"])).json()["run_at"]
    past = await post(client, {"type": "http_test.echo", "payload": {}, "run_at": "2001-01-01T00:00:00Z"})
    assert past.json()["status"] == "pending", "a moment in the past means now"


async def test_a_completed_task_shows_its_result_and_times(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await store.progress(mine, 1, Progress(40.0, "counting", "2 of 5", 1234))
    assert (await client.get(f"/api/v1/tasks/{task_id}/progress")).json() == {
        "task_id": task_id, "percentage": 40, "stage": "counting", "message": "2 of 5", "timestamp_ms": 1234,
        "status": "processing",
    }  # fmt: skip
    await store.complete(mine, '{"big":123456789012345678901234567890}')
    answer = await client.get(f"/api/v1/tasks/{task_id}")
    record = answer.json()
    assert record["status"] == "completed"
    assert "big" in record["result"]
    assert record["worker"] == "tester"
    assert record["finished_at"].endswith("Z")
    assert answer.headers["cache-control"] == "no-store"


async def test_the_progress_of_a_task_without_reports_is_zero(client: httpx.AsyncClient) -> None:
    task_id = await submit(client)
    answer = await client.get(f"/api/v1/tasks/{task_id}/progress")
    assert answer.text.startswith(f'{{"task_id":"{task_id}","percentage":0,"stage":"","message":"","timestamp_ms":1')
    assert answer.json()["status"] == "pending"


async def test_an_idempotency_key_that_repeats_names_the_first_task(client: httpx.AsyncClient) -> None:
    document = {"type": "http_test.echo", "payload": {"n": 1}}
    answers = await asyncio.gather(*(post(client, document, **{"Idempotency-Key": "order-7"}) for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [202]
    assert len({a.json()["task_id"] for a in answers}) == 1
    assert all(a.headers["location"].endswith(a.json()["task_id"]) for a in answers)
    changed = await post(client, {**document, "payload": {"n": 2}}, **{"Idempotency-Key": "order-7"})
    assert (changed.status_code, changed.json()["task_id"]) == (200, answers[0].json()["task_id"])
    other = await post(client, {**document, "user_id": "ada"}, **{"Idempotency-Key": "order-7"})
    assert other.status_code == 202, "keys of different users are different"


@pytest.mark.parametrize(
    "keys", [[b""], [b"two words"], [b"x" * 256], ["ü".encode()], [b"tab\there"], [b"one", b"two"], [b"one", b"one"]]
)
async def test_an_idempotency_key_that_is_none_is_400(client: httpx.AsyncClient, keys: list[bytes]) -> None:
    headers = [(b"Idempotency-Key", key) for key in keys]
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}}, headers=headers)
    problem(answer, 400, "invalid_header")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"type": "http_test.thumbnial"}, "type", "did you mean http_test.thumbnail"),
        ({"type": "http_test.thumbnail", "payload": {"path": 1}}, "payload.path", "string"),
        ({"type": "grpc_task", "payload": {"service": "nope", "method": "m"}}, "payload.service", "demo"),
        ({"payload": []}, "payload", "JSON object"),
        ({"priority": 10}, "priority", "less than"),
        ({"max_retires": 1}, "max_retires", "did you mean max_retries?"),
        ({"queue": "no spaces"}, "queue", "is not a name"),
        ({"metadata": {"a": "x" * 20000}}, "metadata", "16384"),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "", "exclude"),
    ],
)
async def test_a_field_that_does_not_fit_is_422_and_named(
    client: httpx.AsyncClient, fields: dict[str, Any], field: str, words: str
) -> None:
    found = problem(await post(client, {"type": "http_test.echo", "payload": {}, **fields}), 422, "invalid_submission")
    assert words in {e["field"]: e["message"] for e in found["errors"]}[field]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"{'a': 1}", b'{"type":"http_test.echo","payload":{"a":NaN}}',
        b'{"type":"http_test.echo","payload":{"a":-Infinity}}', b'{"type":"http_test.echo","payload":{"a":1e999}}',
        b'{"type":"\\ud800","payload":{}}', b"[" * 50_000, b"\xef\xbb\xbf{}", b"\x00",
    ],
)  # fmt: skip
async def test_what_is_no_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/api/v1/tasks", content=body, headers={"Content-Type": "application/json"})
    problem(answer, 400, "malformed_json")


@pytest.mark.parametrize("document", [[], 5, None, "text", {}])
async def test_json_that_is_no_submission_is_422(client: httpx.AsyncClient, document: Any) -> None:
    problem(
        await client.post("/api/v1/tasks", content=json.dumps(document), headers={"Content-Type": "application/json"}),
        422,
        "invalid_submission",
    )


async def test_json_nested_beyond_what_can_be_stored_is_refused(client: httpx.AsyncClient) -> None:
    for depth in (260, 900):
        body = b'{"type":"http_test.echo","payload":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        answer = await client.post("/api/v1/tasks", content=body, headers={"Content-Type": "application/json"})
        problem(answer, 422, "invalid_submission")
    deep = b"[" * 250 + b"]" * 250
    answer = await client.post(
        "/api/v1/tasks",
        content=b'{"type":"http_test.echo","payload":{"a":' + deep + b"}}",
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 202
    assert (await client.get(answer.headers["location"])).status_code == 200, "what was accepted can be read"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_only_json_can_submit(client: httpx.AsyncClient, kind: str) -> None:
    body = b'{"type":"http_test.echo","payload":{}}'
    answer = await client.post("/api/v1/tasks", content=body, headers={"Content-Type": kind})
    problem(answer, 415, "unsupported_media_type")


async def test_kinds_of_json_and_a_missing_type_submit_unless_a_browser_sends_it(client: httpx.AsyncClient) -> None:
    body = b'{"type":"http_test.echo","payload":{}}'
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json"):
        answer = await client.post("/api/v1/tasks", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 202, kind
    assert (await client.post("/api/v1/tasks", content=body)).status_code == 202
    problem(
        await client.post("/api/v1/tasks", content=body, headers={"Origin": str(client.base_url)}),
        415,
        "unsupported_media_type",
    )
    problem(
        await client.post("/api/v1/tasks", content=body, headers={"Origin": "http://elsewhere.example"}),
        403,
        "origin_not_allowed",
    )


async def test_a_body_above_the_limit_is_413_declared_or_chunked(client: httpx.AsyncClient) -> None:
    document = json.dumps({"type": "http_test.echo", "payload": {"a": "x" * (LIMIT + 1)}}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(document), 10_000):
            yield document[start : start + 10_000]

    headers = {"Content-Type": "application/json"}
    problem(await client.post("/api/v1/tasks", content=document, headers=headers), 413, "too_large")
    problem(await client.post("/api/v1/tasks", content=chunks(), headers=headers), 413, "too_large")
    problem(await client.post("/api/v1/tasks", content=b"x" * 20_000_000, headers=headers), 413, "too_large")
    problem(await client.post("/api/v1/tasks/x/cancel", content=document, headers=headers), 413, "too_large")
    just_fits = json.dumps({"type": "http_test.echo", "payload": {"a": "x" * (LIMIT - 100)}}).encode()
    assert (await client.post("/api/v1/tasks", content=just_fits, headers=headers)).status_code == 202


async def test_a_full_queue_is_429_and_leaves_nothing_behind(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await submit(client, queue="tiny")
    answer = await post(client, {"type": "http_test.echo", "payload": {}, "queue": "tiny"})
    found = problem(answer, 429, "queue_full")
    assert "tiny" in found["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    group = (await client.get("/api/v1/groups/tiny")).json()
    assert (group["waiting"], group["max_queue_length"]) == (2, 2)


async def test_cancel_of_a_waiting_a_running_and_an_ended_task(client: httpx.AsyncClient, store: TaskStore) -> None:
    waiting = await submit(client)
    for _ in range(2):
        answer = await client.post(f"/api/v1/tasks/{waiting}/cancel")
        assert (answer.status_code, answer.json()) == (200, {"task_id": waiting, "status": "cancelled"})

    running = await submit(client)
    mine = await claim(store, running)
    answer = await client.post(f"/api/v1/tasks/{running}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert (await client.get(f"/api/v1/tasks/{running}")).json()["cancel_requested"] is True
    await store.settle_cancelled(mine)

    ended = await submit(client)
    await store.complete(await claim(store, ended), "1")
    problem(await client.post(f"/api/v1/tasks/{ended}/cancel"), 409, "illegal_transition")


async def test_a_task_runs_now_instead_of_at_its_time(client: httpx.AsyncClient, store: TaskStore) -> None:
    later = (await post(client, {"type": "http_test.echo", "payload": {}, "delay": "1h"})).json()["task_id"]
    for _ in range(2):
        answer = await client.post(f"/api/v1/tasks/{later}/run-now")
        assert (answer.status_code, answer.json()) == (200, {"task_id": later, "status": "pending"})
    await store.complete(await claim(store, later), "1")
    problem(await client.post(f"/api/v1/tasks/{later}/run-now"), 409, "illegal_transition")


async def test_progress_is_folded_to_the_first_report_of_each_stage_and_the_latest(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    for number in range(30):
        stage = "reading" if number < 20 else "writing"
        await store.progress(mine, number + 1, Progress(number, stage, f"part {number}"))
    path = f"/api/v1/tasks/{task_id}/events"

    async def shown(**query: Any) -> list[tuple[str, str]]:
        items = (await client.get(path, params={"progress": "stages", **query})).json()["items"]
        return [(item["kind"], item.get("message") or item.get("status")) for item in items]

    first = [("status", "pending"), ("status", "processing"), ("progress", "part 0"), ("progress", "part 20")]
    assert await shown() == [*first, ("progress", "part 29")]
    assert await shown(kind="progress") == [("progress", "part 0"), ("progress", "part 20"), ("progress", "part 29")]
    assert await shown(kind="status") == first[:2]
    page = (await client.get(path, params={"progress": "stages", "limit": 3})).json()
    assert (len(page["items"]), page["next_cursor"]) == (3, page["items"][-1]["id"])
    assert len((await client.get(path)).json()["items"]) == 32
    problem(await client.get(path, params={"progress": "few"}), 422, "invalid_request")
    # Another attempt begins its stages anew.
    await store.fail(mine, Failure("broken", "it broke", True), 60_000)
    await store.run_now(task_id)
    mine = await claim(store, task_id)
    await store.progress(mine, 1, Progress(5, "writing", "part 5"))
    assert (await shown())[-1] == ("progress", "part 5")


async def test_retry_by_hand_is_for_what_failed_or_was_cancelled(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    problem(await client.post(f"/api/v1/tasks/{task_id}/retry"), 409, "illegal_transition")
    await store.fail(await claim(store, task_id), Failure("broken", "it broke", False), 0)
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["error"] == {
        "code": "broken",
        "message": "it broke",
        "retryable": False,
    }
    answer = await client.post(f"/api/v1/tasks/{task_id}/retry")
    assert (answer.status_code, answer.json()) == (202, {"task_id": task_id, "status": "pending"})
    await store.complete(await claim(store, task_id), "{}")
    problem(await client.post(f"/api/v1/tasks/{task_id}/retry"), 409, "illegal_transition")


@pytest.mark.parametrize("task_id", ["nope", "pending", "%00", "%ff", "%F0%9F%A5%AC", "x" * 5000, "%2e%2e", "a%0d%0ab"])
async def test_an_unknown_id_is_404_whatever_it_looks_like(
    client: httpx.AsyncClient, store: TaskStore, task_id: str
) -> None:
    await store.redis.lpush("task:pending", "some-id")
    for method, path in [
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/run-now"),
        ("GET", "/progress"),
        ("GET", "/events"),
        ("GET", "/file"),
        ("GET", "/original"),
    ]:
        answer = await client.request(method, f"/api/v1/tasks/{task_id}{path}")
        assert answer.status_code == 404, (path, answer.text)
        assert answer.json()["code"] in ("task_not_found", "not_found")
    answer = await client.get(f"/api/v1/tasks/{task_id}/progress/stream")
    assert answer.status_code == 404


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v1/nothing"), 404, "not_found")
    answer = await client.put("/api/v1/tasks")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    stream = await client.head("/api/v1/tasks/some-id/progress/stream")
    assert (stream.status_code, stream.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/api/v1/tasks/some-id/retry", "/api/v1/bulk", "/api/v1/groups/default/pause"])
async def test_a_body_that_nobody_can_read_is_refused_as_a_submission_is(client: httpx.AsyncClient, path: str) -> None:
    malformed = await client.post(path, content=b'{"note": ', headers={"Content-Type": "application/json"})
    found = problem(malformed, 400, "malformed_json")
    assert ("JSON" in found["detail"], "errors" in found) == (True, False)
    for number in (b"NaN", b"-Infinity", b"1e999"):
        content = b'{"payload": {"a": ' + number + b"}}"
        answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})
        problem(answer, 400, "malformed_json")
    text = await client.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
    assert "application/json" in problem(text, 415, "unsupported_media_type")["detail"]
    other = await client.post(path, content=b"[]", headers={"Content-Type": "application/json"})
    problem(other, 422, "invalid_request")


async def test_head_answers_what_get_answers_without_the_body(client: httpx.AsyncClient) -> None:
    submission = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}})
    task_id = submission.json()["task_id"]
    paths = [path.replace("{task_id}", task_id) for method, path in map(str.split, ROUTES) if method == "GET"]
    read = 0
    for path in paths:
        if path.endswith(("/stream", "/live")):
            continue
        # Of parameters that are left, `{name}` and the like, nothing is found, which is an answer too.
        head, got = await client.head(path), await client.get(path)
        about = ("content-type", "location", "etag", "allow")
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert [head.headers.get(name) for name in about] == [got.headers.get(name) for name in about], path
        assert "content-length" in head.headers or "location" in head.headers, path
        read += got.status_code == 200
    assert read >= 15
    assert (await client.head("/api/v1/nothing")).status_code == 404
    refused = await client.head("/api/v1/bulk")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_after_a_head_the_connection_goes_on(client: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    request = b"%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    writer.write(request % (b"HEAD /api/v1/task-types", b"") + request % (b"HEAD /healthz", b"Connection: close\r\n"))
    answers = (await reader.read()).split(b"\r\n\r\n")
    writer.close()
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b""]


async def test_the_api_description_has_no_operation_for_each_head(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert [path for path, item in paths.items() if "head" in item] == ["/api/v1/uploads/{file_id}"]


async def test_what_is_no_http_is_a_problem_too(client: httpx.AsyncClient) -> None:
    for request in (b"NONSENSE\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"application/problem+json" in head
        assert json.loads(body)["code"] == "bad_request"


async def test_a_client_that_hangs_up_in_the_body_leaves_nothing(client: httpx.AsyncClient) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await submit(client)
    assert (await client.get("/api/v1/groups/default")).json()["waiting"] == 1


async def test_groups_and_workers_are_listed(client: httpx.AsyncClient, store: TaskStore) -> None:
    await submit(client, queue="blue")
    await store.renew("w1", [], {"kind": "celery", "host": "h", "pid": "7", "groups": "blue,green", "concurrency": "4"})
    groups = {g["name"]: g for g in (await client.get("/api/v1/groups")).json()["groups"]}
    assert {"default", "tiny", "blue"} <= set(groups)
    assert (groups["blue"]["waiting"], groups["blue"]["workers"]) == (1, 1)
    [worker] = (await client.get("/api/v1/workers")).json()["workers"]
    assert (worker["worker_id"], worker["groups"], worker["pid"]) == ("w1", ["blue", "green"], 7)
    problem(await client.get("/api/v1/groups/nobody"), 404, "group_not_found")


async def test_a_group_says_what_waits_there_for_a_kind_of_worker_that_it_has_not(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    async def unserved() -> list[int]:
        groups = (await client.get("/api/v1/groups")).json()["groups"]
        named = [next(g for g in groups if g["name"] == name) for name in ("mixed", "abroad")]
        return [group["unserved"] for group in named]

    celery = {"kind": "celery", "host": "h", "pid": "7", "groups": "mixed", "concurrency": "4", "started_ms": "1"}
    for queue in ("mixed", "mixed", "abroad"):
        await submit(client, queue=queue)
    await submit(client, queue="mixed", type="remote", payload={"data": {"n": 1}})
    # A foreign program serves `abroad`: it announces itself to nobody.
    assert await unserved() == [3, 0]
    await store.renew("w1", [], celery)
    assert await unserved() == [1, 0]
    await store.renew("w2", [], {**celery, "kind": "remote"})
    assert await unserved() == [0, 0]


async def test_task_types_are_those_here_and_those_that_workers_announce(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    problem(await client.get("/api/v1/task-types/remote/render"), 404, "task_type_not_found")
    schema = {"type": "object", "required": ["scene"]}
    facts = {"group": "gpu", "max_retries": 9, "description": "Render it.", "schema": schema}
    await store.announce_types({"remote/render": facts})

    async def known() -> bool:
        return (await client.get("/api/v1/task-types/remote/render")).status_code == 200

    await eventually(known, because="the announcement is seen")
    types = {t["name"]: t for t in (await client.get("/api/v1/task-types")).json()["task_types"]}
    assert {"grpc_task", "http_test.thumbnail", "remote/render"} <= set(types)
    assert types["remote/render"]["payload_schema"] == schema
    assert types["http_test.thumbnail"]["payload_schema"]["required"] == ["path"]
    answer = await post(client, {"type": "remote/render", "payload": {"anything": 1}})
    record = (await client.get(answer.headers["location"])).json()
    assert (record["queue"], record["max_retries"]) == ("gpu", 9)


async def test_a_type_that_a_worker_just_announced_is_taken(client: httpx.AsyncClient, store: TaskStore) -> None:
    document = {"type": "fresh", "payload": {}}
    problem(await post(client, document), 422, "invalid_submission")
    await store.announce_types({"fresh": {}})

    async def taken() -> bool:
        return (await post(client, document)).status_code == 202

    await eventually(taken, because="an announcement is seen within a moment", timeout_s=2)


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["alive"] is True
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["parts"]["store"]["ok"]) == (200, True)


async def test_the_root_leads_to_the_dashboard(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/dashboard")


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = {(path, method): op for path, item in document["paths"].items() for method, op in item.items()}
    assert set(operations) >= {
        ("/metrics", "get"),
        ("/api/task/tasks", "get"),
        ("/api/task/task/{task_id}", "delete"),
        ("/api/task/task/{task_id}/status", "get"),
        ("/api/v1/tasks", "post"),
        ("/api/v1/tasks", "get"),
        ("/api/v1/tasks/batch", "post"),
        ("/api/v1/tasks/{task_id}/events", "get"),
        ("/api/v1/dead", "get"),
        ("/api/v1/bulk", "post"),
        ("/api/v1/errors", "get"),
        ("/api/v1/stats", "get"),
        ("/api/v1/tasks/{task_id}", "get"),
        ("/api/v1/tasks/{task_id}/cancel", "post"),
        ("/api/v1/tasks/{task_id}/retry", "post"),
        ("/api/v1/tasks/{task_id}/progress", "get"),
        ("/api/v1/tasks/{task_id}/progress/stream", "get"),
        ("/api/v1/tasks/{task_id}/file", "get"),
        ("/api/v1/tasks/{task_id}/original", "get"),
        ("/api/v1/files", "post"),
        ("/api/v1/files/{file_id}", "get"),
        ("/api/v1/files/{file_id}", "delete"),
        ("/api/v1/uploads", "options"),
        ("/api/v1/uploads", "post"),
        ("/api/v1/uploads/{file_id}", "head"),
        ("/api/v1/uploads/{file_id}", "patch"),
        ("/api/v1/uploads/{file_id}", "delete"),
        ("/api/openai", "post"),
        ("/v1/chat/completions", "post"),
        ("/v1/models", "get"),
        ("/v1/models/{model}", "get"),
        ("/api/task/{task_id}", "get"),
        ("/api/v1/groups", "get"),
        ("/api/v1/groups/{name}", "get"),
        ("/api/v1/groups/{name}/pause", "post"),
        ("/api/v1/groups/{name}/resume", "post"),
        ("/api/v1/workers", "get"),
        ("/api/v1/live", "get"),
        ("/api/v1/running", "get"),
        ("/api/v1/task-types", "get"),
        ("/api/v1/task-types/{name}", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
    }
    for where, operation in operations.items():
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        assert "HTTPValidationError" not in json.dumps(operation), where
    submission = operations["/api/v1/tasks", "post"]
    body = submission["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/SubmitRequest"}
    assert body["examples"]
    assert {"200", "202", "400", "413", "415", "422", "429", "503"} <= set(submission["responses"])
    schemas = document["components"]["schemas"]
    assert {"type", "payload", "run_at"} <= set(schemas["SubmitRequest"]["properties"])
    for name in {ref.split('"')[0] for ref in json.dumps(document).split("#/components/schemas/")[1:]}:
        assert name in schemas, f"{name} is referred to and not defined"


async def test_many_submissions_at_once_are_all_stored(client: httpx.AsyncClient) -> None:
    ids = await asyncio.gather(*(submit(client, queue="many") for _ in range(300)))
    assert len(set(ids)) == 300
    assert (await client.get("/api/v1/groups/many")).json()["waiting"] == 300


async def test_below_a_root_path_everything_is_the_same(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:

        async def started(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state}, receive, send)

        below = httpx.ASGITransport(started, root_path="/celeriac")
        async with httpx.AsyncClient(transport=below, base_url="http://localhost/celeriac") as client:
            answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}})
            assert answer.status_code == 202, answer.text
            assert answer.headers["location"] == f"/celeriac/api/v1/tasks/{answer.json()['task_id']}"
            big = json.dumps({"type": "http_test.echo", "payload": {"a": "x" * LIMIT}})
            headers = {"Content-Type": "application/json"}
            problem(await client.post("/api/v1/tasks", content=big, headers=headers), 413, "too_large")
            assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/celeriac"}]
            assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}
            assert (await client.get("/v1/models/one/more")).json()["error"]["code"] == "model_not_found"
