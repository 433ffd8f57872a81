"""Bulk operations: exact counts, each task once, whatever ends an attempt in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from celeriac.errors import TaskError
from celeriac.handlers.context import Context
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Claim, Failure, Status, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.types.bulk import BulkPayload
from celeriac_tasks.bulk import BulkHandler
from tests.kit.api.http_serving import serving
from tests.kit.history import claimed, completed, failed, forget, record_all
from tests.kit.waiting import eventually

Kept = tuple[Recorder, History]


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    return Settings.model_validate(
        {"redis_url": valkey_url, "database_url": database_url, "groups": {"tiny": {"max_queue_length": 3}}}
    )


class Sink:
    """Takes progress reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        self.reports.append(message)
        return asyncio.sleep(0)


class Bulk:
    """A bulk operation's task, of which the test is the worker."""

    def __init__(self, settings: Settings, claim: Claim, payload: BulkPayload) -> None:
        self.sink = Sink()
        self._payload = payload
        self._context = Context(claim, self.sink)
        self._handler = BulkHandler(settings)

    @classmethod
    async def claimed(cls, store: TaskStore, settings: Settings, action: str, **conditions: Any) -> Bulk:
        payload = BulkPayload.model_validate({"action": action, "filter": conditions})
        claim = await claimed(store, f"bulk-{action}", type="celeriac.bulk")
        return cls(settings, claim, payload)

    async def run(self) -> dict[str, Any]:
        return await self._handler(self._payload, self._context)


async def test_all_that_match_are_retried_and_nothing_else(store: TaskStore, settings: Settings, kept: Kept) -> None:
    for number in range(450):
        await failed(store, f"f{number}", tags=("mine",))
    await failed(store, "not mine")
    await completed(store, "fine", tags=("mine",))
    await forget(store, "f7")  # only its events are left of it
    await record_all(kept[0], store)
    await forget(store, "f0", "f1")
    await store.retry("f2")  # somebody was faster, and the history does not know yet
    bulk = await Bulk.claimed(store, settings, "retry", tag="mine")
    await record_all(kept[0], store)
    await store.retry("f3")
    await failed(store, "too late", tags=("mine",))
    result = await bulk.run()
    assert result == {"matched": 448, "done": 447, "skipped": 1, "failed": 0, "errors": []}
    assert bulk.sink.reports[-1] == "448 of 448"
    for number in range(450):
        if number not in (7,):
            assert (await store.get(f"f{number}")).status is Status.PENDING
    for task_id, status in (("not mine", Status.FAILED), ("fine", Status.COMPLETED), ("too late", Status.FAILED)):
        assert (await store.get(task_id)).status is status


async def test_a_bulk_operation_waits_for_a_history_that_is_behind(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    await record_all(kept[0], store)
    for number in range(30):
        await store.submit(Submission(task_id=f"t{number}", type="demo"))
    bulk = await Bulk.claimed(store, settings, "cancel", type="demo")
    running = asyncio.create_task(bulk.run())
    await asyncio.sleep(0.3)
    assert not running.done()
    await record_all(kept[0], store)
    assert (await running)["done"] == 30


async def test_tasks_in_every_open_state_are_cancelled_but_not_the_operation_itself(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    await store.submit(Submission(task_id="waiting", type="demo"))
    await store.submit(Submission(task_id="scheduled", type="demo", delay_ms=60_000))
    retrying = await claimed(store, "retrying")
    await store.fail(retrying, Failure("broken", "boom", True), 60_000)
    await claimed(store, "running")
    await failed(store, "ended")
    bulk = await Bulk.claimed(store, settings, "cancel", created_after="2020-01-01T00:00:00Z")
    await record_all(kept[0], store)
    assert (await bulk.run())["done"] == 4
    for task_id in ("waiting", "scheduled", "retrying"):
        assert (await store.get(task_id)).status is Status.CANCELLED
    assert (await store.get("running")).cancel_requested
    assert not (await store.get("bulk-cancel")).cancel_requested
    assert (await store.get("ended")).status is Status.FAILED


async def test_an_operation_that_dies_anywhere_goes_on_where_it_was(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    """Each retried task runs at once and fails again: what was retried is not retried a second time."""
    numbers = range(700)
    for number in numbers:
        await failed(store, f"f{number}")
    bulk = await Bulk.claimed(store, settings, "retry", type="demo")
    await record_all(kept[0], store)
    stopping = asyncio.Event()

    async def fail_again() -> None:
        while not stopping.is_set():
            for task_id in (await store.redis.zrange("celeriac:waiting:default", 0, 200)) or ():
                claim = await store.claim(task_id, worker="w")
                if isinstance(claim, Claim):
                    await store.fail(claim, Failure("broken", "again", False), 0)
            await kept[0].step()
            await asyncio.sleep(0.005)

    failing = asyncio.create_task(fail_again())
    # Ever longer lives: on any machine some end before it has begun and some in the middle.
    lives_s = [0.01 * 1.4**n for n in range(12)]
    deaths = 0
    result = None
    while result is None:
        running = asyncio.create_task(bulk.run())
        await asyncio.wait([running], timeout=lives_s[deaths] if deaths < len(lives_s) else 60)
        if running.done():
            result = running.result()
        else:
            deaths += 1
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    assert deaths >= 3
    assert result == {"matched": 700, "done": 700, "skipped": 0, "failed": 0, "errors": []}

    async def all_failed() -> bool:
        return not await store.redis.zcard("celeriac:waiting:default")

    await eventually(all_failed, because="all retried tasks have run")
    stopping.set()
    await failing
    for number in numbers:
        told = [e.fields["status"] for e in await store.events(f"f{number}")]
        assert told == ["PENDING", "PROCESSING", "FAILED"] * 2, f"f{number}: {told}"


async def test_a_full_group_is_waited_for(store: TaskStore, settings: Settings, kept: Kept) -> None:
    for number in range(8):
        await failed(store, f"t{number}", group="tiny")
    bulk = await Bulk.claimed(store, settings, "retry", queue="tiny")
    await record_all(kept[0], store)
    running = asyncio.create_task(bulk.run())
    taken = 0

    async def take() -> bool:
        nonlocal taken
        waiting = await store.redis.zrange("celeriac:waiting:tiny", 0, -1)
        assert len(waiting) <= 3
        if len(waiting) == 3 or taken >= 6:
            for task_id in waiting:
                assert isinstance(await store.claim(task_id, worker="w"), Claim)
                taken += 1
        return taken == 8

    await eventually(take, because="all come through the three places")
    assert (await running)["done"] == 8


async def test_a_history_that_nobody_fills_ends_the_attempt_for_another(
    store: TaskStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac_tasks.bulk._CATCH_UP_S", 0.4)
    bulk = await Bulk.claimed(store, settings, "cancel", type="demo")
    with pytest.raises(TaskError, match="lags") as caught:
        await bulk.run()
    assert caught.value.retryable


async def test_over_http_a_dry_run_counts_and_a_real_one_is_a_task(
    store: TaskStore, settings: Settings, kept: Kept
) -> None:
    for number in range(3):
        await failed(store, f"t{number}")
    await record_all(kept[0], store)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:

        async def bulk(document: dict[str, Any], **headers: str) -> httpx.Response:
            return await client.post("/api/v1/bulk", json=document, headers=headers)

        wanted = {"action": "retry", "filter": {"type": "demo"}}
        dry = await bulk({**wanted, "dry_run": True})
        assert (dry.status_code, dry.json()) == (200, {"matched": 3})
        answer = await bulk(wanted, **{"Idempotency-Key": "k"})
        assert answer.status_code == 202
        record = (await client.get(answer.headers["location"])).json()
        assert (record["type"], record["payload"]) == ("celeriac.bulk", wanted)
        assert (await bulk(wanted, **{"Idempotency-Key": "k"})).json()["task_id"] == record["task_id"]
        for refused in (
            {"action": "retry", "filter": {}},
            {"action": "retry"},
            {"action": "delete", "filter": {"type": "x"}},
            {"action": "retry", "filter": {"status": "completed"}},
            {"action": "retry", "filter": {"typ": "x"}},
            {**wanted, "dry": True},
        ):
            answer = await bulk(refused)
            assert answer.status_code == 422, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
