"""The log of a task over HTTP, on a real server and a real Valkey; the test is the worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from celeriac.model import Claim, Failure, LogLine, Status, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import SentEvent, claim, read_events, submit
from tests.kit.waiting import eventually


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    # Nobody renews the claims of these tests, however slow the machine.
    return Settings.model_validate(
        {"redis_url": valkey_url, "sse_keepalive": 0.3, "lease": 600, "task_log": {"lines": 20}, "retention": "1h"}
    )


async def say(store: TaskStore, mine: Claim, *numbers: int, level: str = "info") -> None:
    """Log a line for each number, which is its message."""
    for number in numbers:
        assert await store.log(mine, number, LogLine(level, str(number), {"n": number}, 1_896_076_800_000)) == "ok"


async def read(client: httpx.AsyncClient, task_id: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/tasks/{task_id}/log", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def said(client: httpx.AsyncClient, task_id: str, **query: Any) -> list[str]:
    return [line["message"] for line in (await read(client, task_id, **query))["items"]]


async def follow(
    client: httpx.AsyncClient, task_id: str, received: list[SentEvent], last_event_id: str = "", query: str = ""
) -> None:
    url = f"/api/v1/tasks/{task_id}/log/stream{query}"
    async with client.stream("GET", url, headers={"Last-Event-ID": last_event_id}) as response:
        assert response.status_code == 200, await response.aread()
        async for event in read_events(response):
            received.append(event)


async def test_lines_are_read_in_their_order_with_all_that_was_said(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    assert await read(client, task_id) == {"items": [], "next_cursor": None}
    await say(store, await claim(store, task_id), 1, 2)
    first, second = (await read(client, task_id))["items"]
    expected = {"at": "2030-01-31T08:00:00.000Z", "attempt": 1, "level": "info", "message": "1", "data": {"n": 1}}
    assert first == {"id": first["id"], **expected}
    assert second["message"] == "2"
    assert "log_seq" not in json.dumps((await client.get(f"/api/v1/tasks/{task_id}")).json())


async def test_pages_and_levels(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await say(store, mine, 1, 2, 3)
    await say(store, mine, 4, 5, level="error")
    page = await read(client, task_id, limit=2)
    assert [line["message"] for line in page["items"]] == ["1", "2"]
    page = await read(client, task_id, limit=3, cursor=page["next_cursor"])
    assert ([line["message"] for line in page["items"]], page["next_cursor"]) == (["3", "4", "5"], None)
    assert await said(client, task_id, level="warning") == ["4", "5"]
    page = await read(client, task_id, level="warning", limit=1)
    assert await said(client, task_id, level="warning", cursor=page["next_cursor"]) == ["5"]
    for query, field in (({"level": "loud"}, "level"), ({"limit": 0}, "limit"), ({"cursor": "x"}, "cursor")):
        answer = await client.get(f"/api/v1/tasks/{task_id}/log", params=query)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_a_line_that_is_sent_again_is_there_once(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await say(store, mine, 1, 2, 2, 1, 3)
    assert await said(client, task_id) == ["1", "2", "3"]


async def test_each_attempt_adds_its_lines_and_one_that_lost_its_claim_adds_none(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client, max_retries=3)
    zombie = await claim(store, task_id)
    await say(store, zombie, 1)
    await store.release(zombie)
    assert await store.log(zombie, 2, LogLine("info", "too late")) == "stale:PENDING"
    mine = await claim(store, task_id)
    assert await store.log(zombie, 3, LogLine("info", "too late")) == "stale:PROCESSING"
    await say(store, mine, 1, 2)
    await store.complete(mine, "1")
    items = (await read(client, task_id))["items"]
    assert [(line["attempt"], line["message"]) for line in items] == [(1, "1"), (1, "1"), (1, "2")]
    assert await store.log(mine, 1, LogLine("info", "to nobody")) == "ok"  # a repeat
    unknown = Claim("nobody", "f", "t", "g", "{}", 1, 0, 1, None, {}, None, {})
    assert await store.log(unknown, 1, LogLine("info", "to nobody")) == "stale:"


async def test_the_oldest_lines_go_first(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    await say(store, await claim(store, task_id), *range(1, 31))
    assert await said(client, task_id) == [str(n) for n in range(11, 31)]


async def test_an_attempt_whose_worker_died_has_a_line_that_says_so(valkey_url: str, store: TaskStore) -> None:
    short = Settings.model_validate({"redis_url": valkey_url, "lease": 1})
    await store.submit(Submission("lost", "t", max_retries=1))
    async with TaskStore(valkey_url, short.store) as killed:
        for attempt in (1, 2):
            mine = await claim(killed, "lost")
            if attempt == 2:
                await say(killed, mine, 1)
            await eventually(lambda: no_longer_runs(store), because="its lease ends")
    lines = await store.log_lines("lost")
    assert [(line.attempt, line.level, line.message) for line in lines] == [
        (1, "warning", "attempt failed"),
        (2, "info", "1"),
        (2, "error", "attempt failed"),
    ]
    assert lines[0].data["code"] == "worker_lost"
    assert "died or was cut off during attempt 1" in lines[0].data["error"]
    assert await store.redis.pttl(keys.log("lost")) > 0
    assert (await store.get("lost")).status is Status.FAILED


async def no_longer_runs(store: TaskStore) -> bool:
    return sum(await store.reap()) > 0


async def test_where_no_lines_are_kept_a_lost_worker_leaves_none(valkey_url: str) -> None:
    none = Settings.model_validate({"redis_url": valkey_url, "lease": 1, "task_log": {"lines": 0}})
    async with TaskStore(valkey_url, none.store) as store:
        await store.submit(Submission("lost", "t", max_retries=0))
        await claim(store, "lost")
        await eventually(lambda: no_longer_runs(store), because="its lease ends")
        assert await store.log_lines("lost") == []
        assert not await store.redis.exists(keys.log("lost"))


async def test_secrets_in_what_is_said_are_blanked_and_what_is_too_long_is_cut_with_a_mark(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    data = {"deep": {"er": ["redis://:pw1@host", 'api_key="pw2" (old)']}, "plain": "a=b"}
    await store.log(mine, 1, LogLine("info", "login with password=pw3&user=x, Bearer pw4-pw4-pw4", data))
    await store.log(mine, 2, LogLine("info", "x" * 10_000))
    said, long = (await read(client, task_id))["items"]
    assert said["message"] == "login with password=***&user=x, Bearer ***"
    assert said["data"] == {"deep": {"er": ["redis://:***@host", 'api_key="***" (old)']}, "plain": "a=b"}
    assert (len(long["message"]), long["message"][-2:]) == (8192, "x…")


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "settle_cancelled"])
async def test_the_log_lives_as_long_as_the_record(client: httpx.AsyncClient, store: TaskStore, end: str) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await say(store, mine, 1)
    assert await store.redis.pttl(keys.log(task_id)) == -1
    match end:
        case "complete":
            await store.complete(mine, "1")
        case "fail":
            await store.fail(mine, Failure("broken", "", False), 0)
        case "cancel":
            await store.release(mine)
            await store.cancel(task_id)
        case "settle_cancelled":
            await store.settle_cancelled(mine)
    left_ms = await store.redis.pttl(keys.log(task_id))
    assert 0 < left_ms <= 3_600_000
    if end != "cancel":
        # What was under way when it ended is kept no longer.
        await say(store, mine, 2)
        assert 0 < await store.redis.pttl(keys.log(task_id)) <= left_ms
        assert await said(client, task_id) == ["1", "2"]
    if end != "complete":
        await store.retry(task_id)
        assert await store.redis.pttl(keys.log(task_id)) == -1


async def test_a_line_that_comes_first_after_the_end_does_not_stay_for_ever(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await store.complete(mine, "1")
    await say(store, mine, 1)
    assert 0 < await store.redis.pttl(keys.log(task_id)) <= 3_600_000


async def test_what_is_not_json_or_too_large_is_kept_as_far_as_it_can_be(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    odd = [
        {"of": {1, 2}},
        {"deep": deep},
        {"long": "x" * 100_000},
        {7: float("nan")},
        {"half": "\ud800"},
        {"big": 2**70},
    ]
    for seq, data in enumerate(odd, 1):
        assert await store.log(mine, seq, LogLine("info", "m" * 20_000, data)) == "ok"
    items = (await read(client, task_id))["items"]
    assert all(len(line["message"]) == 8192 for line in items)
    of, nested, long, nan, half, big = [line["data"] for line in items]
    assert of == {"of": "{1, 2}"}
    assert json.dumps(nested["deep"]).startswith("[[[")
    assert (long["left_out"], long["bytes"] > 100_000) == (["long"], True)
    assert nan == {"7": "nan"}
    assert half["half"] == ascii("\ud800")
    assert big == {"big": 2**70}


async def test_a_stream_replays_goes_on_live_and_ends_with_the_task(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await say(store, mine, 1, 2)
    received: list[SentEvent] = []
    following = asyncio.create_task(follow(client, task_id, received))
    await eventually(lambda: len(received) == 2, because="what was said before is replayed")
    await say(store, mine, 3)
    await eventually(lambda: len(received) == 3, because="a new line comes live")
    assert [event.data["message"] for event in received] == ["1", "2", "3"]
    assert received[0].data["task_id"] == task_id
    assert not following.done()
    await store.complete(mine, "1")
    await following
    assert (received[-1].name, received[-1].data) == ("done", {"task_id": task_id, "status": "completed"})

    again: list[SentEvent] = []
    await follow(client, task_id, again, received[0].id or "")
    assert [event.data.get("message") for event in again] == ["2", "3", None]
    again.clear()
    await follow(client, task_id, again, received[-1].id or "")
    assert [event.name for event in again] == ["done"]
    again.clear()
    await follow(client, task_id, again, query="?level=warning")
    assert [event.name for event in again] == ["done"]


async def test_each_of_many_lines_comes_once_and_in_order_to_who_comes_back_all_the_time(
    client: httpx.AsyncClient, store: TaskStore, settings: Settings
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    wide = settings.model_copy(update={"task_log": settings.task_log.model_copy(update={"lines": 10_000})})
    async with TaskStore(str(settings.redis_url), wide.store) as writer:
        writing = asyncio.gather(*(writer.log(mine, n, LogLine("info", str(n))) for n in range(1, 2001)))
        seen: list[SentEvent] = []
        while len(seen) < 2000:
            headers = {"Last-Event-ID": seen[-1].id or ""} if seen else {}
            async with client.stream("GET", f"/api/v1/tasks/{task_id}/log/stream", headers=headers) as response:
                async for event in read_events(response):
                    seen.append(event)
                    if len(seen) % 190 == 0 or len(seen) == 2000:
                        break
        await writing
    assert [int(event.data["message"]) for event in seen] == list(range(1, 2001))


async def test_a_stream_of_nothing_is_refused(client: httpx.AsyncClient, store: TaskStore) -> None:
    for path in ("/api/v1/tasks/nobody/log", "/api/v1/tasks/nobody/log/stream", "/api/v1/tasks/pending/log"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
    task_id = await submit(client)
    answer = await client.get(f"/api/v1/tasks/{task_id}/log/stream", headers={"Last-Event-ID": "yesterday"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")


async def test_a_removed_task_leaves_no_log(client: httpx.AsyncClient, store: TaskStore) -> None:
    await store.submit(Submission(task_id="t", type="http_test.echo", user_id="7"))
    mine = await claim(store, "t")
    await say(store, mine, 1)
    await store.complete(mine, "1")
    await store.remove("t", user_id="7")
    assert await store.redis.exists(keys.log("t"), keys.task("t")) == 0
