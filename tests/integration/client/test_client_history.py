"""What both Python clients read from the history, against the real API, recorder and database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from celeriac.database.migrating import migrate
from celeriac.errors import InvalidSubmissionError
from celeriac.model import Failure, Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.either_client import AnyClient, collect, connected, run
from tests.kit.api.http_serving import claim, serving
from tests.kit.history import completed, failed, forget, record_all, recording


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=valkey_url, database_url=f"sqlite:///{tmp_path}/history.db")


@pytest.fixture(params=["blocking", "asyncio"])
async def client(request: pytest.FixtureRequest, settings: Settings, store: TaskStore) -> AsyncIterator[AnyClient]:
    """A client of an API whose history has 450 completed tasks and 2 failed ones."""
    assert settings.database_url is not None
    migrate(settings.database_url)
    for n in range(450):
        await completed(store, f"good-{n:03}", tags=["even"] if n % 2 == 0 else [], type="demo")
    for n in range(2):
        await failed(store, f"bad-{n}", type="http_test.echo", payload='{"n": 1}')
    async with recording(store, settings.database_url, settings) as (recorder, _):
        await record_all(recorder, store)
    async with serving(settings) as url, connected(request.param, url, retries=0) as made:
        yield made


async def test_a_list_goes_over_all_pages(client: AnyClient) -> None:
    tasks = await collect(client.list(status=Status.COMPLETED, sort="created_at"))
    assert [task.task_id for task in tasks] == [f"good-{n:03}" for n in range(450)]
    assert (tasks[0].status, tasks[0].result, tasks[1].tags, tasks[2].tags) == (Status.COMPLETED, 1, (), ("even",))
    assert len(await collect(client.list(limit=201))) == 201
    assert await collect(client.list(limit=0)) == []
    newest = await collect(client.list(status=["failed", "cancelled"]))
    assert [task.task_id for task in newest] == ["bad-1", "bad-0"]
    assert len(await collect(client.list(tag="even", created_after=datetime.now(UTC) - timedelta(hours=1)))) == 225
    assert await collect(client.list(created_before=datetime.now(UTC) - timedelta(hours=1))) == []
    with pytest.raises(InvalidSubmissionError, match="sort"):
        await collect(client.list(sort="size"))


async def test_dead_letters_are_found_and_run_again(client: AnyClient, store: TaskStore) -> None:
    dead = await collect(client.dead(q="it broke"))
    assert [task.task_id for task in dead] == ["bad-1", "bad-0"]
    assert dead[0].error == Failure("broken", "it broke", False)
    await forget(store, "bad-0")
    handle = await run(client.task, "bad-0")
    assert handle.status is Status.FAILED, "the history answers for the store"
    assert await run(handle.retry, {**dead[1].payload, "n": 2}) is Status.PENDING
    assert (await claim(store, "bad-0")).payload == '{"n":2}'


async def test_many_are_counted_and_acted_on(client: AnyClient, store: TaskStore) -> None:
    assert await run(client.bulk_count, "retry", status=["failed"]) == 2
    assert await run(client.bulk_count, "cancel", tag="even") == 0
    handle = await run(client.bulk, "retry", type="http_test.echo", tag=["even"])
    task = await store.get(handle.id)
    assert task.type == "celeriac.bulk"
    assert task.payload == {"action": "retry", "filter": {"type": "http_test.echo", "tag": ["even"]}}
    with pytest.raises(InvalidSubmissionError, match="at least one condition"):
        await run(client.bulk, "retry")


async def test_charts_count_and_time(client: AnyClient) -> None:
    chart = await run(client.stats)
    assert (chart.total.submitted, chart.total.completed, chart.total.failed) == (452, 450, 2)
    assert chart.total.run is not None
    assert 0 <= chart.total.run.p50_ms <= chart.total.run.max_ms
    assert sum(bucket.submitted for bucket in chart.buckets) == 452
    assert chart.buckets[0].at == chart.start < chart.end
    assert (chart.by, chart.slowest) == ({}, ())
    divided = await run(client.stats, by=["type", "queue"], slowest=2)
    for parts in divided.by.values():
        assert [sum(part.completed for part in parts), sum(part.failed for part in parts)] == [450, 2]
        assert sum(sum(part.counts) for part in parts) == 452
        assert parts[0].run is not None
        assert parts[0].cancelled == 0
    assert {part.name for part in divided.by["type"]} >= {"http_test.echo"}
    first, second = divided.slowest
    assert first.run_ms >= second.run_ms
    assert first.status.final
    assert first.finished_at <= datetime.now(UTC)
    assert set((await run(client.stats, by="type")).by) == {"type"}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    empty = await run(client.stats, start=tomorrow, end=tomorrow + timedelta(hours=6), bucket="1h", queue="none")
    assert (empty.bucket, empty.total.submitted, empty.total.wait) == ("1h", 0, None)
    assert 6 <= len(empty.buckets) <= 7
