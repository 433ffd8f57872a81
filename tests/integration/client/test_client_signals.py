"""Signals, waits and steps with both Python clients against the real API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac.client import TaskStep, Wait
from celeriac.errors import InvalidSubmissionError, SignalReceivedError, TaskEndedError, TaskNotFoundError
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.either_client import AnyClient, collect, connected, run
from tests.kit.api.http_serving import claim
from tests.kit.flaky_proxy import FlakyProxy


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url})


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, url: str) -> AsyncIterator[AnyClient]:
    async with connected(kind, url, retries=0) as made:
        yield made


async def asked(client: AnyClient, **payload: Any) -> str:
    handle = await run(client.submit, "wait", {"signal": "approval", **payload})
    return str(handle.id)


async def test_a_wait_is_listed_and_answered(client: AnyClient) -> None:
    first = await asked(client, title="Refund 120 €", schema={"type": "boolean"}, timeout="1h")
    second = await asked(client)
    found: list[Wait] = await collect(client.waits())
    assert [wait.task_id for wait in found] == [first, second]
    assert [wait.task_id for wait in await collect(client.waits(limit=1))] == [first]
    wait = found[0]
    assert (wait.type, wait.signal, wait.title, wait.schema) == (
        "wait",
        "approval",
        "Refund 120 €",
        {"type": "boolean"},
    )
    assert wait.expires_at is not None
    assert timedelta(minutes=59) < wait.expires_at - wait.since < timedelta(minutes=61)

    with pytest.raises(InvalidSubmissionError, match="must be a boolean"):
        await run(client.signal, first, "approval", "yes")
    received = await run(client.signal, first, "approval", True)
    assert abs(received - datetime.now(UTC)) < timedelta(minutes=10)
    assert (await run(client.get, first)).result is True
    with pytest.raises(SignalReceivedError) as known:
        await run(client.signal, first, "approval", False)
    assert (known.value.task_id, known.value.signal, known.value.received_at) == (first, "approval", received)
    with pytest.raises(TaskEndedError):
        await run(client.signal, first, "other", False)
    with pytest.raises(TaskNotFoundError):
        await run(client.signal, "nobody", "approval")
    # Without a value it is null.
    await run(client.signal, second, "approval")
    assert (await run(client.get, second)).result is None
    assert await collect(client.waits()) == []


async def test_steps_are_read_in_order(client: AnyClient, store: TaskStore) -> None:
    handle = await run(client.submit, "http_test.echo", {})
    running = await claim(store, handle.id)
    for name in ("first", "second"):
        await store.note_step(running, f"step:{name}", f'"{name}"', took_ms=10)
    found: list[TaskStep] = await collect(client.steps(handle.id))
    assert [(step.name, step.size, step.result) for step in found] == [("first", 7, "first"), ("second", 8, "second")]
    assert found[0].started_at < found[0].finished_at <= found[1].finished_at
    with pytest.raises(TaskNotFoundError):
        await collect(client.steps("nobody"))


async def test_a_signal_whose_answer_is_lost_counts_once_and_is_no_error(kind: str, url: str) -> None:
    async with FlakyProxy(url) as proxy, connected(kind, proxy.url) as patient:
        task_id = await asked(patient)
        proxy.lose_answers = 1
        await run(patient.signal, task_id, "approval", {"n": 1})
        assert (await run(patient.get, task_id)).result == {"n": 1}
