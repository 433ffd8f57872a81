"""History over HTTP: lists, tasks that the store let go, dead letters, charts, retention."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from celeriac.history.history import History
from celeriac.history.pruner import Pruner
from celeriac.history.recorder import Recorder
from celeriac.model import Failure, LogLine, Progress, Status, Submission, ms_from_utc
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import TaskFilter
from tests.kit.api.http_serving import claim, submit, watch
from tests.kit.history import claimed, completed, failed, forget, record_all

Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": valkey_url,
            "database_url": database_url,
            "types": {"short": {"retention": "60s", "ledger_retention": 0}},
            "groups": {"tiny": {"max_queue_length": 1}},
        }
    )


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]], answer.text


async def ids(client: httpx.AsyncClient, path: str, **query: Any) -> list[str]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [item["task_id"] for item in answer.json()["items"]]


async def test_tasks_are_listed_by_filter_and_page(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    first = await submit(client, tags=["nightly", "eu"], user_id="ada")
    second = await submit(client, queue="media", tags=["nightly"])
    third = await submit(client, delay="1h")
    await failed(store, "dead")
    await record_all(kept[0], store)
    assert await ids(client, "/api/v1/tasks") == ["dead", third, second, first]
    assert await ids(client, "/api/v1/tasks", sort="created_at", limit=2) == [first, second]
    assert await ids(client, "/api/v1/tasks", status="scheduled,failed") == ["dead", third]
    assert await ids(client, "/api/v1/tasks", status=["scheduled", "pending"], sort="created_at") == [
        first,
        second,
        third,
    ]
    assert await ids(client, "/api/v1/tasks", tag="nightly", queue="media") == [second]
    assert await ids(client, "/api/v1/tasks", user_id="ada") == [first]
    assert await ids(client, "/api/v1/tasks", q=first[:8]) == [first]
    assert await ids(client, "/api/v1/tasks", q="BROKE") == ["dead"]
    assert await ids(client, "/api/v1/tasks", created_after="2999-01-01T00:00:00Z") == []

    page = (await client.get("/api/v1/tasks", params={"limit": 3})).json()
    assert len(page["items"]) == 3
    rest = (await client.get("/api/v1/tasks", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert ([item["task_id"] for item in rest["items"]], rest["next_cursor"]) == ([first], None)
    record = (await client.get(f"/api/v1/tasks/{first}")).json()
    assert rest["items"] == [{**record, "omitted": []}]
    assert record["tags"] == ["nightly", "eu"]


async def test_a_list_has_the_fields_that_are_asked_for(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client, payload={"words": "x" * 70_000}, metadata={"from": "test"}, tags=["big"])
    await failed(store, "dead")
    await record_all(kept[0], store)

    async def listed(path: str, **query: Any) -> list[dict[str, Any]]:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    whole = {item["task_id"]: item for item in await listed("/api/v1/tasks")}
    assert whole[task_id]["omitted"] == ["payload"]
    for query in ("status,tags", ["status", "tags"], "tags,status,tags,task_id"):
        items = await listed("/api/v1/tasks", fields=query, tag="big")
        assert items == [{"task_id": task_id, "status": "pending", "tags": ["big"]}]
    # What a field of its own would say is not lost: the payload was too long for a list.
    assert await listed("/api/v1/tasks", fields="payload", tag="big") == [
        {"task_id": task_id, "payload": None, "omitted": ["payload"]}
    ]
    every = ",".join(whole[task_id])
    assert {item["task_id"]: item for item in await listed("/api/v1/tasks", fields=every)} == whole
    for name in set(whole[task_id]) - {"task_id", "omitted", "payload"}:
        for item in await listed("/api/v1/tasks", fields=name):
            assert item == {"task_id": item["task_id"], name: whole[item["task_id"]][name]}
    (dead,) = await listed("/api/v1/dead", fields="error,type")
    assert dead == {name: whole["dead"][name] for name in ("task_id", "type", "error")}

    for wrong in ("colour", "status,colour", "status,colour,size"):
        answer = await client.get("/api/v1/tasks", params={"fields": wrong})
        assert_problem(answer, 422, "invalid_request", "fields")
        assert "records have no field 'colour'; they have: task_id, type, queue, status" in answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=gone", "status"),
        ("state=failed", "state"),
        ("limit=501", "limit"),
        ("limit=0", "limit"),
        ("sort=type", "sort"),
        ("cursor=xyz", "cursor"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2030-01-31T08:00:00", "created_before"),
    ],
)
async def test_what_a_list_cannot_mean_is_a_problem_that_names_the_field(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    for path in ("/api/v1/tasks", "/api/v1/dead"):
        answer = await client.get(f"{path}?{query}")
        assert answer.status_code == 422, answer.text
        assert_problem(answer, 422, "invalid_request")
        assert any(field in error["field"] for error in answer.json()["errors"]), answer.text


async def test_what_is_wrong_with_a_list_is_said_in_words_of_the_api(client: httpx.AsyncClient) -> None:
    for query, field, text in (
        ("status=failed,gone", "status", "there is no status 'gone'; known are: waiting, scheduled, pending, "),
        ("state=failed", "state", "there is no such field"),
        ("limit=501", "limit", "less than or equal to 500"),
    ):
        answer = await client.get(f"/api/v1/tasks?{query}")
        (error,) = answer.json()["errors"]
        assert error["field"] == field
        assert text in error["message"]


async def test_a_task_answers_the_same_from_the_store_and_from_the_history(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client, payload={"x": 1}, metadata={"m": [1]}, tags=["a"], timeout="5s", priority=3)
    mine = await claim(store, task_id)
    for number in (1, 2, 3):
        await store.progress(mine, number, Progress(number * 10, "count", f"{number}", number))
    await store.fail(mine, Failure("broken", "boom", True), 0)
    await store.promote()
    mine = await claim(store, task_id)
    await store.progress(mine, 1, Progress(99, "nearly", "", 9))
    await store.complete(mine, '{"y":[1.5,"ü"]}')
    await record_all(kept[0], store)
    paths = [
        f"/api/v1/tasks/{task_id}",
        f"/api/v1/tasks/{task_id}/progress",
        f"/api/v1/tasks/{task_id}/events?kind=status",
    ]
    live = [(await client.get(path)).json() for path in paths]
    all_events = (await client.get(f"/api/v1/tasks/{task_id}/events")).json()
    live_stream = await watch(client, task_id)
    await forget(store, task_id)
    assert [(await client.get(path)).json() for path in paths] == live
    assert [event["status"] for event in live[2]["items"]] == [
        *("pending", "processing", "retrying", "pending", "processing", "completed")
    ]
    assert [event["percentage"] for event in all_events["items"] if event["kind"] == "progress"] == [10, 20, 30, 99]
    kept_events = (await client.get(f"/api/v1/tasks/{task_id}/events")).json()
    assert [event for event in all_events["items"] if event in kept_events["items"]] == kept_events["items"]
    assert [event["percentage"] for event in kept_events["items"] if event["kind"] == "progress"] == [30, 99]

    replayed = await watch(client, task_id)
    assert [event.id for event in replayed] == [
        event.id for event in live_stream if event.data.get("percentage") not in (10, 20)
    ]
    assert (replayed[-1].name, replayed[-1].data) == ("done", live_stream[-1].data)
    with_status = await watch(client, task_id, query="?include=status")
    assert [event.name for event in with_status].count("status") == 5
    resumed = await watch(client, task_id, last_event_id=live_stream[0].id)
    assert [event.name for event in resumed] == ["progress", "done"]
    assert resumed[0].data["snapshot"] is True
    after = await client.get(
        f"/api/v1/tasks/{task_id}/progress/stream", headers={"Last-Event-ID": str(live_stream[-1].id)}
    )
    assert after.status_code == 204


async def test_a_timeline_is_paged(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    mine = await claimed(store, "t")
    for number in range(1, 8):
        await store.progress(mine, number, Progress(number, "", "", number))
    await record_all(kept[0], store)
    seen, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/api/v1/tasks/t/events?limit=3{cursor and f'&cursor={cursor}'}")).json()
        seen += [event["id"] for event in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [event.id for event in await store.events("t")]
    assert_problem(await client.get("/api/v1/tasks/t/events?cursor=1"), 422, "invalid_request", "cursor")
    assert_problem(await client.get("/api/v1/tasks/nobody/events"), 404, "task_not_found")


async def test_what_nobody_knows_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("", "/progress", "/progress/stream", "/events"):
        assert_problem(await client.get(f"/api/v1/tasks/nobody{path}"), 404, "task_not_found")
    for action in ("cancel", "retry"):
        assert_problem(await client.post(f"/api/v1/tasks/nobody/{action}"), 404, "task_not_found")


async def test_dead_letters_are_listed_changed_and_run_again(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client, payload={"n": 1})
    await store.fail(await claim(store, task_id), Failure("broken", "boom", False), 0)
    await completed(store, "fine")
    await failed(store, "other")
    await record_all(kept[0], store)
    assert await ids(client, "/api/v1/dead") == ["other", task_id]
    assert await ids(client, "/api/v1/dead", type="http_test.echo") == [task_id]
    assert_problem(await client.get("/api/v1/dead?status=pending"), 422, "invalid_request", "status")
    answer = await client.post(f"/api/v1/tasks/{task_id}/retry", json={"payload": {"n": 2}})
    assert (answer.status_code, answer.json()) == (202, {"task_id": task_id, "status": "pending"})
    assert (await store.get(task_id)).payload == {"n": 2}
    assert (await claim(store, task_id)).payload == '{"n":2}'
    assert_problem(await client.post(f"/api/v1/tasks/{task_id}/retry"), 409, "illegal_transition")
    await record_all(kept[0], store)
    assert await ids(client, "/api/v1/dead") == ["other"]


async def test_another_payload_is_checked_by_its_type(client: httpx.AsyncClient, store: TaskStore) -> None:
    answer = await client.post("/api/v1/tasks", json={"type": "http_test.thumbnail", "payload": {"path": "a"}})
    task_id = answer.json()["task_id"]
    await store.fail(await claim(store, task_id), Failure("broken", "boom", False), 0)
    path = f"/api/v1/tasks/{task_id}/retry"
    assert_problem(await client.post(path, json={"payload": {"width": 1}}), 422, "invalid_submission", "payload.path")
    assert_problem(await client.post(path, json={"pay": {}}), 422, "invalid_request")
    assert (await store.get(task_id)).status == "failed"
    await failed(store, "plain", celery_message="{}")
    assert_problem(await client.post("/api/v1/tasks/plain/retry", json={"payload": {}}), 422, "invalid_submission")


async def test_a_dead_letter_that_only_history_has_comes_back_under_its_id(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    task_id = await submit(client, payload={"n": 1}, tags=["x"], max_retries=2, timeout="7s", queue="tiny")
    await store.fail(await claim(store, task_id), Failure("broken", "boom", False), 0)
    await completed(store, "fine")
    await record_all(kept[0], store)
    before = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    await forget(store, task_id, "fine")
    assert_problem(await client.post("/api/v1/tasks/fine/retry"), 409, "illegal_transition")
    assert_problem(await client.post(f"/api/v1/tasks/{task_id}/cancel"), 409, "illegal_transition")
    assert not (await store.known([task_id]))[0], "what was refused leaves nothing behind"

    blocking = await submit(client, queue="tiny")
    assert_problem(await client.post(f"/api/v1/tasks/{task_id}/retry"), 429, "queue_full")
    assert not (await store.known([task_id]))[0]
    await store.cancel(blocking)
    answers = await asyncio.gather(
        *(client.post(f"/api/v1/tasks/{task_id}/retry", headers={"Idempotency-Key": "one"}) for _ in range(5))
    )
    assert [answer.status_code for answer in answers] == [202] * 5
    after = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    assert {
        **before,
        **{name: after[name] for name in ("status", "error", "worker", "finished_at", "updated_at")},
    } == after
    again = await claim(store, task_id)
    assert (again.attempt, again.attempts_allowed, again.timeout_ms) == (2, 4, 7000)
    await store.complete(again, '"at last"')
    await record_all(kept[0], store)
    events = (await client.get(f"/api/v1/tasks/{task_id}/events")).json()["items"]
    assert [e["status"] for e in events] == ["pending", "processing", "failed", "pending", "processing", "completed"]
    await forget(store, task_id)
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["result"] == "at last"


async def test_charts_count_what_came_and_ended(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    for number in range(5):
        await completed(store, f"t{number}", group="media")
    await failed(store, "dead")
    await store.submit(Submission(task_id="waits", type="demo"))
    await record_all(kept[0], store)
    chart = (await client.get("/api/v1/stats")).json()
    assert chart["bucket"] == "1m"
    assert 60 <= len(chart["buckets"]) <= 61
    total = chart["total"]
    assert {name: total[name] for name in ("submitted", "completed", "failed", "cancelled")} == {
        "submitted": 7, "completed": 5, "failed": 1, "cancelled": 0,
    }  # fmt: skip
    assert total["run"]["max_ms"] >= total["run"]["p95_ms"] >= total["run"]["p50_ms"] >= 0
    assert sum(bucket["submitted"] for bucket in chart["buckets"]) == 7
    assert [bucket["at"] for bucket in chart["buckets"]] == sorted(bucket["at"] for bucket in chart["buckets"])
    media = (await client.get("/api/v1/stats", params={"queue": "media", "type": "demo"})).json()
    assert (media["total"]["completed"], media["total"]["failed"]) == (5, 0)
    long = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    assert len((await client.get("/api/v1/stats", params={**long, "bucket": "1d"})).json()["buckets"]) == 365
    assert_problem(await client.get("/api/v1/stats", params={**long, "bucket": "1m"}), 422, "invalid_request", "bucket")
    assert_problem(
        await client.get("/api/v1/stats", params={"from": long["to"], "to": long["from"]}),
        422,
        "invalid_request",
        "from",
    )


async def test_charts_are_divided_by_type_and_group(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    for number in range(3):
        await completed(store, f"t{number}", group="media", user_id="ada")
    await failed(store, "dead")
    await completed(store, "other", type="report")
    await record_all(kept[0], store)
    chart = (await client.get("/api/v1/stats", params={"by": ["type", "queue"], "slowest": 2})).json()
    by_type = {part["name"]: part for part in chart["by"]["type"]}
    assert [part["name"] for part in chart["by"]["type"]] == ["demo", "report"], "the largest first"
    assert (by_type["demo"]["completed"], by_type["demo"]["failed"], sum(by_type["demo"]["counts"])) == (3, 1, 4)
    assert len(by_type["report"]["counts"]) == len(chart["buckets"])
    assert by_type["report"]["run"]["max_ms"] >= by_type["report"]["run"]["p95_ms"] >= 0
    assert by_type["report"]["wait"] is not None
    assert {part["name"]: part["completed"] for part in chart["by"]["queue"]} == {"media": 3, "default": 1}
    assert len(chart["slowest"]) == 2
    assert chart["slowest"][0]["run_ms"] >= chart["slowest"][1]["run_ms"]
    one = (await client.get("/api/v1/stats", params={"by": "type", "most": 1, "user_id": "ada"})).json()
    assert [(part["name"], part["completed"]) for part in one["by"]["type"]] == [("demo", 3)]
    assert "slowest" not in one
    for query, field in (("by=user", "by"), ("most=201", "most"), ("slowest=21", "slowest")):
        assert_problem(await client.get(f"/api/v1/stats?{query}"), 422, "invalid_request")
        assert field in (await client.get(f"/api/v1/stats?{query}")).text


async def test_tasks_are_counted_by_status(client: httpx.AsyncClient, store: TaskStore, kept: Kept) -> None:
    await submit(client, tags=["nightly"], user_id="ada")
    await submit(client, delay="1h")
    for name in ("one", "two"):
        await failed(store, name)
    await record_all(kept[0], store)
    everything = (await client.get("/api/v1/task-counts")).json()
    assert {name: number for name, number in everything["counts"].items() if number} == {
        "pending": 1,
        "scheduled": 1,
        "failed": 2,
    }
    assert (everything["total"], everything["more"]) == (4, [])
    assert set(everything["counts"]) == {status.wire for status in Status}
    for query, counts in (
        ({"status": "failed,pending"}, {"failed": 2, "pending": 1}),
        ({"tag": "nightly"}, {"pending": 1}),
        ({"user_id": "ada", "status": "failed"}, {}),
        ({"q": "BROKE"}, {"failed": 2}),
        ({"created_before": "2001-01-01T00:00:00Z"}, {}),
    ):
        found = (await client.get("/api/v1/task-counts", params=query)).json()
        assert ({name: number for name, number in found["counts"].items() if number}, found["more"]) == (counts, [])
        assert found["total"] == sum(counts.values())
    assert_problem(await client.get("/api/v1/task-counts", params={"colour": "red"}), 422, "invalid_request", "colour")


async def test_counts_stop_at_their_bound_and_say_so(store: TaskStore, kept: Kept) -> None:
    for number in range(5):
        await failed(store, f"task-{number}")
    await completed(store, "done")
    await record_all(kept[0], store)
    alone = await kept[1].counts(TaskFilter(), most=3)
    assert (alone.counts, alone.more) == ({Status.FAILED: 3, Status.COMPLETED: 1}, (Status.FAILED,))
    narrowed = await kept[1].counts(TaskFilter(type="demo", status=(Status.FAILED,)), most=3)
    assert (sum(narrowed.counts.values()), narrowed.more) == (4, (Status.FAILED,))
    assert (await kept[1].counts(TaskFilter(type="demo"), most=6)).more == ()


async def test_a_histogram_says_when_tasks_were_created(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    empty = (await client.get("/api/v1/task-histogram")).json()
    assert (sum(len(bucket["counts"]) for bucket in empty["buckets"]), empty["more"]) == (0, False)
    first = await submit(client, user_id="ada")
    await failed(store, "dead")
    await record_all(kept[0], store)

    def total(found: dict[str, Any]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for bucket in found["buckets"]:
            counts.update(bucket["counts"])
        return dict(counts)

    found = (await client.get("/api/v1/task-histogram")).json()
    assert total(found) == {"pending": 1, "failed": 1}
    assert found["from"] <= (await client.get(f"/api/v1/tasks/{first}")).json()["created_at"] < found["to"]
    assert total((await client.get("/api/v1/task-histogram", params={"status": "failed"})).json()) == {"failed": 1}
    asked = {"created_after": "2020-01-01T00:00:00Z", "created_before": "2040-01-01T00:00:00Z", "buckets": 10}
    found = (await client.get("/api/v1/task-histogram", params=asked)).json()
    assert total(found) == {"pending": 1, "failed": 1}
    assert len(found["buckets"]) <= 10
    assert found["from"] <= asked["created_after"] <= found["buckets"][1]["at"]
    assert_problem(await client.get("/api/v1/task-histogram", params={"buckets": 1}), 422, "invalid_request", "buckets")
    newest = await kept[1].histogram(TaskFilter(), now_ms=ms_from_utc(datetime.now(UTC)), buckets=10, most=1)
    assert (newest.more, sum(sum(counts.values()) for counts in newest.buckets)) == (True, 1)


async def test_readiness_tells_how_far_history_is_behind(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    await submit(client)
    part = (await client.get("/readyz")).json()["parts"]["ledger"]
    assert (part["ok"], part["behind_events"]) == (False, 1)
    assert "celeriac beat" in part["detail"]
    await record_all(kept[0], store)
    await submit(client)
    part = (await client.get("/readyz")).json()["parts"]["ledger"]
    assert (part["ok"], part["behind_events"]) == (True, 1)
    assert part["behind_s"] < 10


async def test_each_type_leaves_store_and_history_at_its_own_time(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    recorder, history = kept
    for number in range(3):
        await completed(store, f"s{number}", type="short", retention_ms=60_000, tags=("x",))
        await completed(store, f"l{number}", type="long")
    assert 0 < await store.redis.pttl("task:s0") <= 60_000
    assert await store.redis.pttl("task:l0") > 80_000_000
    await record_all(recorder, store)
    pruner = Pruner(engine=history.engine, store=store, retentions=settings.retentions)
    assert await pruner.step() < 1
    assert await pruner.step() == 60
    assert await history.count(TaskFilter()) == 3
    assert await history.count(TaskFilter(tag=("x",))) == 0
    assert not await history.events("s0")
    assert await history.events("l0")


async def test_open_tasks_that_the_store_lost_are_pruned_in_the_end(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    recorder, history = kept
    for number in range(3):
        await store.submit(Submission(task_id=f"t{number}", type="demo"))
    await record_all(recorder, store)
    await forget(store, "t0", "t1")
    at_once = settings.model_copy(update={"ledger_retention": -1.0})
    pruner = Pruner(engine=history.engine, store=store, retentions=at_once.retentions)
    await pruner.step()
    assert [k.task.task_id for k in (await history.find(TaskFilter())).tasks] == ["t2"]


async def test_the_log_of_a_failed_task_is_there_when_the_store_has_let_it_go(
    client: httpx.AsyncClient, store: TaskStore, kept: Kept
) -> None:
    async def said(**query: Any) -> list[str]:
        answer = await client.get("/api/v1/tasks/t/log", params=query)
        assert answer.status_code == 200, answer.text
        return [line["message"] for line in answer.json()["items"]]

    mine = await claimed(store, "t", max_retries=0)
    for seq, (level, text) in enumerate((("info", "a"), ("error", "b"), ("info", "c")), 1):
        await store.log(mine, seq, LogLine(level, text, {"n": seq}))
    await store.fail(mine, Failure("broken", "boom", False), 0)
    before = (await client.get("/api/v1/tasks/t/log")).json()
    await record_all(kept[0], store)
    await forget(store, "t")
    assert (await client.get("/api/v1/tasks/t/log")).json() == before
    assert (await said(level="error"), await said(limit=2)) == (["b"], ["a", "b"])
    # Run again, it goes on where it was.
    assert (await client.post("/api/v1/tasks/t/retry")).status_code in (200, 202)
    again = await claim(store, "t")
    await store.log(again, 1, LogLine("warning", "d"))
    assert await said() == ["a", "b", "c", "d"]
    assert await said(cursor=before["items"][1]["id"]) == ["c", "d"]
