"""Both Python clients against the real API: one list of tests. The test is the worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from celeriac import Client
from celeriac.client.http.calls import LostConnectionError
from celeriac.errors import (
    ApiError,
    ApiUnavailableError,
    BatchRefusedError,
    HistoryMissingError,
    IllegalTransitionError,
    InvalidSubmissionError,
    PayloadTooLargeError,
    QueueFullError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFoundError,
    WaitTimeoutError,
)
from celeriac.model import Failure, LogLine, Progress, Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.record import task_record
from tests.kit.api.either_client import AnyClient, collect, connected, run
from tests.kit.api.http_serving import claim, serving
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S, Load, eventually, in_time

ECHO = "http_test.echo"


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    # Nobody renews the claims of these tests, however slow the machine.
    return Settings.model_validate(
        {
            "redis_url": valkey_url,
            "max_body_bytes": 6_000_000,
            "groups": {"tiny": {"max_queue_length": 2}},
            "lease": 600,
        }
    )


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, url: str) -> AsyncIterator[AnyClient]:
    async with connected(kind, url, retries=0) as made:
        yield made


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[FlakyProxy]:
    async with FlakyProxy(url) as between:
        yield between


@pytest.fixture
async def patient(kind: str, proxy: FlakyProxy) -> AsyncIterator[AnyClient]:
    """A client with all its retries, behind the proxy."""
    async with connected(kind, proxy.url) as made:
        yield made


class Order(BaseModel):
    path: str
    due: datetime


async def test_a_task_is_submitted_with_all_it_may_say(client: AnyClient, store: TaskStore) -> None:
    due = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
    handle = await run(
        client.submit,
        "http_test.thumbnail",
        Order(path="a.png", due=due),
        queue="media",
        max_retries=1,
        priority=7,
        delay=timedelta(minutes=10),
        expires=due,
        timeout="30s",
        user_id="ada",
        metadata={"order": 7},
        tags=["red"],
        run_at=None,
    )
    assert handle.status is Status.SCHEDULED
    task = await store.get(handle.id)
    assert (task.type, task.payload) == ("http_test.thumbnail", {"path": "a.png", "due": "2040-01-02T03:04:05Z"})
    assert (task.group, task.max_retries, task.priority, task.user_id) == ("media", 1, 7, "ada")
    assert (task.metadata, task.tags, task.expires_at) == ({"order": 7}, ("red",), due)
    read = await run(client.get, handle.id)
    assert read.title == "path a.png · due 2040-01-02T03:04:05Z"
    assert task_record(replace(read, title=None)) == task_record(task), "what the client reads is what the store holds"
    assert handle.id in repr(handle)


async def test_a_task_is_submitted_to_start_after_others(client: AnyClient, store: TaskStore) -> None:
    first, second, third = [await run(client.submit, ECHO) for _ in range(3)]
    depends_on = [first, second.id, {"task": third, "when": "ended"}]
    payload = {"n": {"$result": first.id}}
    handle = await run(client.submit, ECHO, payload, depends_on=depends_on, on_unmet="fail")
    assert handle.status is Status.WAITING
    (many,) = await run(client.submit_many, [{"type": ECHO, "depends_on": depends_on, "on_unmet": None}])
    assert [(one.task_id, one.when) for one in (await store.get(handle.id)).depends_on] == [
        (first.id, "completed"),
        (second.id, "completed"),
        (third.id, "ended"),
    ]
    waits = (await run(client.get, handle.id)).waiting_for
    assert waits == (await store.get(handle.id)).waiting_for
    assert len(waits) == 3
    await store.complete(await claim(store, first.id), "5")
    await run(second.cancel)
    failed, cancelled = [await run(client.get, one.id) for one in (handle, many)]
    assert (failed.status, cancelled.status) == (Status.FAILED, Status.CANCELLED)
    assert failed.error.code == cancelled.error.code == "dependency_failed"
    with pytest.raises(InvalidSubmissionError, match=r"depends_on.1: there is no task 'nobody'"):
        await run(client.submit, ECHO, depends_on=[first, "nobody"])


async def test_a_result_is_waited_for(client: AnyClient, store: TaskStore) -> None:
    handle = await run(client.submit, ECHO, {"n": 1})
    waiting = asyncio.create_task(run(handle.result, PATIENCE_S))
    mine = await claim(store, handle.id)
    await store.progress(mine, 1, Progress(50.0, "half", "way", 1234))
    record = await run(handle.record)
    assert (record.status, handle.status) == (Status.PROCESSING, Status.PROCESSING)
    assert record.progress == Progress(50.0, "half", "way", 1234)
    await store.complete(mine, '{"n":2}')
    assert await asyncio.wait_for(waiting, PATIENCE_S) == {"n": 2}
    assert handle.status is Status.COMPLETED
    again = await run(client.task, handle.id)
    assert (again.status, await run(again.result)) == (Status.COMPLETED, {"n": 2})


async def test_many_threads_share_one_client(url: str, store: TaskStore) -> None:
    def submit(n: int) -> tuple[str, int]:
        handle = client.submit(ECHO, {"n": n})
        return handle.id, client.get(handle.id).payload["n"]

    with Client(url) as client:
        answers = await asyncio.gather(*(asyncio.to_thread(submit, n) for n in range(50)))
    assert len({task_id for task_id, _ in answers}) == 50
    assert [n for _, n in answers] == list(range(50))
    assert await count(store, "default") == 50


async def test_a_failure_says_code_and_message(client: AnyClient, store: TaskStore) -> None:
    handle = await run(client.submit, ECHO, {}, max_retries=0)
    await store.fail(await claim(store, handle.id), Failure("disk_full", "no room", True), 0)
    with pytest.raises(TaskFailedError) as failed:
        await run(handle.result, 5)
    assert (failed.value.code, failed.value.message, failed.value.task_id) == ("disk_full", "no room", handle.id)
    assert (await run(handle.wait)).status is Status.FAILED, "waiting itself does not mind how it ended"
    assert await run(handle.retry) is Status.PENDING
    assert (await store.get(handle.id)).status is Status.PENDING
    with pytest.raises(IllegalTransitionError) as refused:
        await run(handle.retry)
    assert (refused.value.status, refused.value.wanted) == ("pending", "retry")


async def test_a_cancelled_task_has_no_result(client: AnyClient) -> None:
    handle = await run(client.submit, ECHO)
    assert await run(handle.cancel) is Status.CANCELLED
    assert await run(handle.cancel) is Status.CANCELLED
    with pytest.raises(TaskCancelledError, match="cancelled before it ran"):
        await run(handle.result, 5)


async def test_waiting_ends_in_time_and_the_task_goes_on(client: AnyClient) -> None:
    handle = await run(client.submit, ECHO)
    began = asyncio.get_running_loop().time()
    load = Load()
    load.look()
    with pytest.raises(WaitTimeoutError) as late:
        await run(handle.result, 0.3)
    load.look()
    assert 0.3 <= asyncio.get_running_loop().time() - began < load.allowance_s(3)
    assert isinstance(late.value, TimeoutError)
    assert late.value.status == "pending"


async def test_refusals_are_the_errors_of_the_core(client: AnyClient) -> None:
    with pytest.raises(InvalidSubmissionError) as invalid:
        await run(client.submit, "http_test.thumbnail", {"width": "wide"})
    assert {violation.field for violation in invalid.value.violations} == {"payload.path", "payload.width"}
    with pytest.raises(TaskNotFoundError) as unknown:
        await run(client.get, "no such?täsk")
    assert unknown.value.task_id == "no such?täsk"
    with pytest.raises(TaskNotFoundError):
        await run(client.task, "nobody")
    with pytest.raises(PayloadTooLargeError):
        await run(client.submit, ECHO, {"text": "x" * 6_000_001})
    for _ in range(2):
        await run(client.submit, ECHO, queue="tiny")
    with pytest.raises(QueueFullError) as full:
        await run(client.submit, ECHO, queue="tiny")
    assert (full.value.group, full.value.limit) == ("tiny", 2)
    with pytest.raises(InvalidSubmissionError, match="cannot be written as JSON"):
        await run(client.submit, ECHO, {"what": object()})
    with pytest.raises(InvalidSubmissionError, match="idempotency_key"):
        await run(client.submit, ECHO, idempotency_key="ä b")


async def test_an_answer_that_is_not_the_apis_says_so(kind: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(kind, f"http://127.0.0.1:{port}", retries=0) as client:
            with pytest.raises(ApiError, match="is the address right"):
                await run(client.get, "x")


async def test_an_api_that_is_away_is_an_error_after_the_retries(kind: str) -> None:
    async with connected(kind, f"http://127.0.0.1:{free_port()}", retries=2) as client:
        with pytest.raises(ApiUnavailableError) as away:
            await run(client.submit, ECHO)
    assert isinstance(away.value, ConnectionError)
    assert isinstance(away.value.__cause__, LostConnectionError)


async def test_an_api_without_a_history_says_so_at_once(patient: AnyClient) -> None:
    with pytest.raises(HistoryMissingError, match="DATABASE_URL"):
        await in_time(collect(patient.list()), 5, because="it is not tried again")
    with pytest.raises(HistoryMissingError):
        await run(patient.bulk_count, "retry", type=ECHO)


# --- many


async def test_many_tasks_are_few_requests(patient: AnyClient, proxy: FlakyProxy, store: TaskStore) -> None:
    tasks = ({"type": ECHO, "payload": {"n": n}} for n in range(1200))
    handles = await run(patient.submit_many, tasks)
    assert len({handle.id for handle in handles}) == 1200
    for n in (0, 499, 500, 1199):
        assert (await store.get(handles[n].id)).payload == {"n": n}
    assert await run(patient.submit_many, []) == []
    large = await run(patient.submit_many, [{"type": ECHO, "payload": {"t": "x" * 1_500_000}} for _ in range(5)])
    assert len(large) == 5, "batches are bounded by their size too"


async def test_refused_tasks_of_a_batch_are_named_and_the_others_run(client: AnyClient, store: TaskStore) -> None:
    tasks: list[dict[str, Any]] = [{"type": ECHO, "payload": {"n": n}} for n in range(3)]
    tasks[1] = {"type": "http_test.thumbnail", "payload": {}}
    tasks += [{"type": ECHO, "queue": "tiny"} for _ in range(3)]
    tasks.append({"type": ECHO, "payload": {"what": object()}})
    with pytest.raises(BatchRefusedError, match="3 of 7 tasks were refused; the first one is number 1") as refused:
        await run(client.submit_many, tasks)
    assert list(refused.value.refused) == [1, 5, 6]
    assert isinstance(refused.value.refused[1], InvalidSubmissionError)
    assert isinstance(refused.value.refused[5], QueueFullError)
    assert list(refused.value.accepted) == [0, 2, 3, 4]
    assert (await store.get(refused.value.accepted[2])).payload == {"n": 2}


async def test_what_a_full_queue_refused_is_sent_again(patient: AnyClient, store: TaskStore) -> None:
    async def worker() -> None:
        done = 0
        while done < 6:
            for (task_id,) in [await store.redis.zrange("celeriac:waiting:tiny", 0, 0) or [""]]:
                if task_id:
                    await store.complete(await claim(store, task_id), "null")
                    done += 1
            await asyncio.sleep(0.01)

    working = asyncio.create_task(worker())
    handles = await run(patient.submit_many, [{"type": ECHO, "payload": {}, "queue": "tiny"} for _ in range(6)])
    assert len(handles) == 6
    await asyncio.wait_for(working, PATIENCE_S)


# --- what a bad connection must not do


async def count(store: TaskStore, group: str) -> int:
    stats = await store.group(group)
    return stats.waiting + stats.running


async def test_lost_answers_do_not_double_tasks(patient: AnyClient, proxy: FlakyProxy, store: TaskStore) -> None:
    for n in range(10):
        proxy.lose_answers = n % 3
        await run(patient.submit, ECHO, {"n": n}, queue="once")
    assert await count(store, "once") == 10
    proxy.lose_answers = 2
    handles = await run(patient.submit_many, [{"type": ECHO, "queue": "batch"} for _ in range(700)])
    assert len({handle.id for handle in handles}) == 700
    assert await count(store, "batch") == 700
    proxy.lose_answers = 2
    assert await run(handles[0].cancel) is Status.CANCELLED


async def test_a_retry_whose_answer_is_lost_is_one_retry(
    patient: AnyClient, proxy: FlakyProxy, store: TaskStore
) -> None:
    handle = await run(patient.submit, ECHO, {}, max_retries=0)
    await store.fail(await claim(store, handle.id), Failure("broken", "broken", True), 0)
    proxy.lose_answers = 2
    assert await run(handle.retry) is Status.PENDING
    statuses = [e.fields["status"] for e in await store.events(handle.id) if e.kind == "status"]
    assert statuses == ["PENDING", "PROCESSING", "FAILED", "PENDING"]


async def test_progress_is_whole_over_a_connection_that_breaks_all_the_time(
    patient: AnyClient, proxy: FlakyProxy, store: TaskStore
) -> None:
    handle = await run(patient.submit, ECHO)
    mine = await claim(store, handle.id)
    proxy.cut_all()
    # Each connection is cut a little later: in its head, between events, inside of one, in its end.
    proxy.cut_after = iter(range(1, 4000, 97))
    seen: list[Progress] = []
    following = asyncio.create_task(collect(handle.progress(), seen))
    for n in range(200):
        await store.progress(mine, n + 1, Progress(n / 2, "stage", str(n), 1000 + n))
        if n % 50 == 0:
            await eventually(lambda n=n: len(seen) >= n / 2, because="reports arrive live")  # type: ignore[misc]
            proxy.cut_all()
    await store.complete(mine, json.dumps({"done": True}))
    await asyncio.wait_for(following, PATIENCE_S)
    assert [report.message for report in seen] == [str(n) for n in range(200)]
    assert seen[3] == Progress(1.5, "stage", "3", 1003)
    assert handle.status is Status.COMPLETED
    assert proxy.connections > 10


async def test_progress_goes_on_after_the_api_was_restarted(kind: str, settings: Settings, store: TaskStore) -> None:
    async with FlakyProxy("http://127.0.0.1:1") as proxy, connected(kind, proxy.url) as client:
        async with serving(settings) as url:
            proxy.upstream = url
            handle = await run(client.submit, ECHO)
            mine = await claim(store, handle.id)
            seen: list[Progress] = []
            following = asyncio.create_task(collect(handle.progress(), seen))
            await store.progress(mine, 1, Progress(1.0))
            await eventually(lambda: len(seen) == 1, because="the first report arrives")
        await store.progress(mine, 2, Progress(2.0))  # while no API runs
        async with serving(settings) as url:
            proxy.upstream = url
            await store.progress(mine, 3, Progress(3.0))
            await eventually(lambda: len(seen) == 3, because="the others arrive")
            await store.complete(mine, "null")
            await asyncio.wait_for(following, PATIENCE_S)
    assert [report.percentage for report in seen] == [1, 2, 3]


async def test_progress_of_an_ended_and_of_an_unknown_task(client: AnyClient, store: TaskStore) -> None:
    handle = await run(client.submit, ECHO)
    mine = await claim(store, handle.id)
    await store.progress(mine, 1, Progress(40.0))
    await store.complete(mine, "null")
    assert [report.percentage for report in await collect(handle.progress())] == [40]
    await store.redis.delete(f"task:{handle.id}")
    with pytest.raises(TaskNotFoundError):
        await collect(handle.progress())


async def test_leaving_the_iteration_closes_the_stream(kind: str, url: str, store: TaskStore) -> None:
    async with FlakyProxy(url) as proxy, connected(kind, proxy.url) as client:
        handle = await run(client.submit, ECHO)
        await store.progress(await claim(store, handle.id), 1, Progress(40.0))
        reports = handle.progress()
        if kind == "asyncio":
            assert (await anext(reports)).percentage == 40
            await reports.aclose()
        else:
            assert (await asyncio.to_thread(next, reports)).percentage == 40
            await asyncio.to_thread(reports.close)
        await eventually(lambda: len(proxy._open) <= 1, because="only the kept connection is left")


async def test_the_token_is_shown_and_not_told(kind: str) -> None:
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(kind, f"http://127.0.0.1:{port}/below/", token="s3cret", retries=0) as client:
            with pytest.raises(ApiError):
                await run(client.get, "x")
            assert "s3cret" not in repr(vars(client))
    assert heads[0].startswith("GET /below/api/v1/tasks/x ")
    assert "authorization: bearer s3cret" in heads[0].lower()


def test_the_loopback_needs_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client("http://localhost:9") as near, Client("http://example.org") as far:
        for client, mounts in ((near, 0), (far, 1)):
            http: httpx.AsyncClient = client._client._api._wire._http
            assert len(http._mounts) >= mounts
            assert bool(http._mounts) == bool(mounts)


async def test_the_log_of_a_task_is_read_page_by_page(client: AnyClient, store: TaskStore) -> None:
    handle = await run(client.submit, ECHO)
    assert await collect(handle.log()) == []
    mine = await claim(store, handle.id)
    lines = [LogLine("error" if n % 500 == 0 else "info", str(n), {"n": n}, 1_896_076_800_000) for n in range(1, 1001)]
    await asyncio.gather(*(store.log(mine, n, line) for n, line in enumerate(lines, 1)))
    await store.log(mine, 1001, LogLine("critical", "the end"))
    found = await collect(handle.log())
    assert [line.message for line in found] == [*(str(n) for n in range(2, 1001)), "the end"]
    assert replace(found[0], id="", attempt=0) == lines[1]
    assert [line.message for line in await collect(handle.log("warning"))] == ["500", "1000", "the end"]
    with pytest.raises(InvalidSubmissionError, match="level"):
        await collect(handle.log("loud"))
