"""Ids to come back with: one strict form at every door. What is malformed is refused or leads to a snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.errors import StoreRefusedError
from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.store.patience import until_back
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.api.notification_client import listening, token


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url, data_dir=tmp_path)


@pytest.fixture
async def url(settings: Settings, store: TaskStore) -> AsyncIterator[str]:
    async with serving(settings) as address:
        yield address


#: Ids that no message has. Some of them `int()` would read, and Redis would refuse.
MALFORMED = [
    "1_0-0", "1--1", "1", "-", "1-", "-1", "1-1-1", "+1-1", " 1-1", "1-1 ", "１-１", "٣-٣", "1-1%0d%0a", "1.0-0",
    "0x1-0",
    "$", "*", "1e3-0", "9" * 23 + "-0", f"{2**64}-0", f"0-{2**64}", "a-b", "NaN-0", "9" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("by_message", [False, True])
async def test_a_malformed_id_leads_to_a_snapshot(
    url: str, settings: Settings, by_message: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shown = token(settings, 7)
    for seen in MALFORMED:
        query = "?auth=message" if by_message else f"?token={shown}&last_event_id={quote(seen)}"
        async with listening(url, 7, query) as listener:
            if by_message:
                await listener.say(type="auth", token=shown, last_event_id=seen)
            assert (await listener.next("connected"))["recovered"] is False, seen
            position = (await listener.next("snapshot_complete"))["id"]
            await listener.say(type="ping")
            assert (await listener.next("pong"))["id"] == position, seen
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_malformed_id_of_a_single_task_is_refused(url: str, settings: Settings, store: TaskStore) -> None:
    await store.submit(Submission(task_id="theirs", type="demo", user_id="8"))
    async with listening(url, 9, f"?token={token(settings, 9, Scope.ADMIN)}") as admin:
        for after in (*MALFORMED, 5, ["1-1"], {"a": 1}, True):
            await admin.say(type="subscribe", task_id="theirs", last_event_id=after)
            assert (await admin.next("error"))["code"] == "invalid_request", after
        await admin.say(type="subscribe", task_id="theirs", last_event_id="1-1")
        await admin.say(type="ping")
        await admin.next("pong")


async def test_a_malformed_id_of_an_event_stream_is_refused(url: str, store: TaskStore) -> None:
    await store.submit(Submission(task_id="own", type="demo", user_id="7"))
    async with httpx.AsyncClient(base_url=url) as client:
        for path in ("/api/v1/tasks/own/progress/stream", "/api/v1/tasks/own/log/stream", "/api/v1/live"):
            for seen in MALFORMED:
                answer = await client.get(path, params={"last_event_id": seen})
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header"), (path, seen)


async def test_what_the_store_refuses_for_good_is_not_asked_again(store: TaskStore) -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        await store.events("a", after="not an id", count=1)

    with pytest.raises(StoreRefusedError):
        await until_back(ask, what="a test")
    assert asked == 1
