"""Watching a task over server-sent events: nothing lost, nothing doubled, and one end."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from celeriac.model import Claim, Failure, Progress
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import SentEvent, claim, read_events, serving, submit, watch
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, Load, eventually


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    # Nobody renews the claims of these tests, however slow the machine.
    return Settings(redis_url=valkey_url, sse_keepalive=0.3, lease=600)


async def report(store: TaskStore, mine: Claim, *numbers: int) -> None:
    """Report progress; the number is its percentage, and its message."""
    for number in numbers:
        await store.progress(mine, number + 1, Progress(float(number % 101), "stage", str(number), 1000 + number))


async def finished(client: httpx.AsyncClient, store: TaskStore, reports: int = 3) -> str:
    """Return a task that reported 0, 1, … and completed with {"n": 1}."""
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await report(store, mine, *range(reports))
    await store.complete(mine, '{"n":1}')
    return task_id


def messages(events: list[SentEvent]) -> list[str]:
    return [event.data["message"] for event in events if event.name == "progress"]


async def open_stream(
    client: httpx.AsyncClient, task_id: str, received: list[SentEvent], comments: list[str] | None = None
) -> None:
    """Read a stream to its end into `received`, as it comes."""
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream") as response:
        async for event in read_events(response, comments=comments):
            received.append(event)


async def test_a_late_subscriber_gets_everything_from_the_beginning(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await finished(client, store)
    events = await watch(client, task_id)
    assert [e.name for e in events] == ["progress", "progress", "progress", "done"]
    assert events[0].data == {
        "task_id": task_id, "percentage": 0, "stage": "stage", "message": "0", "timestamp_ms": 1000,
    }  # fmt: skip
    assert events[-1].data == {"task_id": task_id, "status": "completed", "result": {"n": 1}, "error": None}
    assert events[-1].id == (await store.event_bounds(task_id))[1]
    assert len({e.id for e in events}) == 4


async def test_the_head_is_that_of_an_event_stream(client: httpx.AsyncClient, store: TaskStore) -> None:
    answer = await client.get(f"/api/v1/tasks/{await finished(client, store)}/progress/stream")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.startswith("retry: 1000\n\nevent: progress\nid: ")
    assert '"percentage":0,' in answer.text, "whole numbers are written as such, zero too"


async def test_a_subscriber_of_a_running_task_goes_from_history_to_live(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await report(store, mine, 0, 1)
    received: list[SentEvent] = []
    comments: list[str] = []
    watching = asyncio.create_task(open_stream(client, task_id, received, comments))
    await eventually(lambda: len(received) == 2, because="the history arrives")
    await report(store, mine, 2)
    await eventually(lambda: len(received) == 3, because="a live event arrives")
    await eventually(lambda: ": keep-alive" in comments, because="a quiet stream is kept open")
    await store.fail(mine, Failure("broken", "it broke\nbadly", False), 0)
    await asyncio.wait_for(watching, PATIENCE_S)
    assert messages(received) == ["0", "1", "2"]
    assert received[-1].data["status"] == "failed"
    assert received[-1].data["error"] == {"code": "broken", "message": "it broke\nbadly", "retryable": False}
    assert comments[0] == "retry: 1000"


async def test_a_retry_between_attempts_is_not_the_end(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client, max_retries=1)
    received: list[SentEvent] = []
    watching = asyncio.create_task(open_stream(client, task_id, received))
    mine = await claim(store, task_id)
    await report(store, mine, 5)
    await store.fail(mine, Failure("flaky", "again", True), 0)
    await eventually(lambda: store.promote(), because="the next attempt is due")
    again = await eventually(lambda: claim(store, task_id), because="it waits again")
    await report(store, again, 6)
    await store.complete(again, "null")
    await asyncio.wait_for(watching, PATIENCE_S)
    assert messages(received) == ["5", "6"]
    assert [e.name for e in received].count("done") == 1


async def test_status_events_come_when_they_are_asked_for(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await finished(client, store, reports=1)
    events = await watch(client, task_id, query="?include=status")
    assert [(e.name, e.data.get("status")) for e in events] == [
        ("status", "pending"), ("status", "processing"), ("progress", None), ("done", "completed"),
    ]  # fmt: skip
    assert events[1].data["worker"] == "tester"
    refused = await client.get(f"/api/v1/tasks/{task_id}/progress/stream?include=logs")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "include")


async def test_resuming_goes_on_after_the_last_event(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await finished(client, store, reports=5)
    events = await watch(client, task_id)
    assert messages(await watch(client, task_id, events[1].id)) == ["2", "3", "4"]
    by_query = await watch(client, task_id, query=f"?last_event_id={events[3].id}")
    assert [e.id for e in by_query] == [events[4].id, events[5].id]
    header_wins = await watch(client, task_id, events[4].id, query=f"?last_event_id={events[0].id}")
    assert [e.name for e in header_wins] == ["done"]
    assert len(await watch(client, task_id, "0-0")) == 6, "before the first event is the beginning"


async def test_nothing_follows_the_end_or_the_future(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await finished(client, store)
    done = (await watch(client, task_id))[-1].id
    running = await submit(client)
    for watched, seen in [(task_id, done), (task_id, "99999999999999-0"), (running, "99999999999999-0")]:
        answer = await client.get(f"/api/v1/tasks/{watched}/progress/stream", headers={"Last-Event-ID": str(seen)})
        assert (answer.status_code, answer.content) == (204, b"")


async def test_what_a_failover_has_lost_is_made_good_by_the_present_state(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await report(store, mine, 1, 2, 3)
    received: list[SentEvent] = []
    watching = asyncio.create_task(open_stream(client, task_id, received))
    await eventually(lambda: messages(received) == ["1", "2", "3"], because="the history arrives")
    # What the new primary does not have, and the connections to the old one.
    lost = str(received[-1].id)
    await store.redis.xdel(f"celeriac:events:{task_id}", lost)
    await store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: len(received) == 4, because="the present state arrives")
    assert (received[3].data["snapshot"], received[3].data["recovered"]) == (True, False)
    await report(store, mine, 4)
    await eventually(lambda: len(received) == 5, because="it goes on")
    # A client that comes back with what is lost gets the same.
    await store.redis.xdel(f"celeriac:events:{task_id}", str(received[4].id))
    headers = {"Last-Event-ID": str(received[4].id)}
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream", headers=headers) as response:
        events = read_events(response)
        first = await anext(events)
        assert (first.name, first.data["snapshot"], first.data["recovered"]) == ("progress", True, False)
        await store.complete(mine, "null")
        assert [event.name async for event in events] == ["done"]
    await asyncio.wait_for(watching, PATIENCE_S)
    assert received[-1].name == "done"


@pytest.mark.parametrize(
    "seen", ["x", "1", "1-", "-1-0", "1-0-0", "1.5-0", f"{2**64}-0", "١-٠", "1-0 ", "9" * 30 + "-0"]
)
async def test_a_malformed_last_event_id_is_400(client: httpx.AsyncClient, store: TaskStore, seen: str) -> None:
    task_id = await submit(client)
    answer = await client.get(f"/api/v1/tasks/{task_id}/progress/stream", params={"last_event_id": seen})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")


async def test_an_unknown_task_is_404_before_the_stream(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/tasks/nope/progress/stream")
    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")


async def trimmed_task(client: httpx.AsyncClient, store: TaskStore) -> tuple[str, Claim, str]:
    """Return a running task whose first events are gone, its claim, and the id of one that is gone."""
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await report(store, mine, 0, 1)
    gone = (await store.events(task_id))[2].id
    # The creation is far enough behind to be told from the first event that is held.
    await eventually(lambda: asyncio.sleep(0.2, True), because="time passes")
    await report(store, mine, *range(2, 6))
    await store.redis.xtrim(f"celeriac:events:{task_id}", maxlen=2, approximate=False)
    return task_id, mine, gone


async def test_an_id_that_was_trimmed_away_starts_from_a_snapshot_that_says_so(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id, mine, gone = await trimmed_task(client, store)
    last = (await store.event_bounds(task_id))[1]
    received: list[SentEvent] = []

    async def follow() -> None:
        received.extend(await watch(client, task_id, gone))

    watching = asyncio.create_task(follow())
    await report(store, mine, 6)
    await store.complete(mine, "7")
    await asyncio.wait_for(watching, PATIENCE_S)
    first = received[0]
    assert (first.name, first.data["snapshot"], first.data["recovered"]) == ("progress", True, False)
    assert first.data["task_id"] == task_id
    assert first.id is None or first.id >= str(last)
    assert received[-1].name == "done"
    assert [e.name for e in received].count("done") == 1
    assert messages(received)[-1] == "6"


async def test_a_snapshot_of_an_ended_task_has_its_end_too(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id, mine, gone = await trimmed_task(client, store)
    await store.complete(mine, "7")
    events = await watch(client, task_id, gone)
    assert [e.name for e in events] == ["progress", "done"]
    assert (events[0].data["message"], events[0].data["snapshot"], events[0].id) == ("5", True, None)
    new = await watch(client, task_id)
    assert "snapshot" not in new[0].data, "a new subscriber gets what is held"


async def test_an_old_id_of_a_task_that_lost_nothing_is_the_beginning(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await finished(client, store)
    assert messages(await watch(client, task_id, "1-0")) == ["0", "1", "2"]


async def test_the_old_end_of_a_task_retried_by_hand_is_not_its_end(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    await report(store, mine, 1)
    await store.fail(mine, Failure("broken", "", False), 0)
    old_end = (await watch(client, task_id))[-1]
    assert old_end.data["status"] == "failed"
    assert (await client.post(f"/api/v1/tasks/{task_id}/retry")).status_code == 202

    received: list[SentEvent] = []
    watching = asyncio.create_task(open_stream(client, task_id, received))
    await eventually(lambda: received, because="the history arrives")
    again = await claim(store, task_id)
    await report(store, again, 2)
    await store.complete(again, "1")
    await asyncio.wait_for(watching, PATIENCE_S)
    assert [e.name for e in received] == ["progress", "progress", "done"]
    assert received[-1].data["status"] == "completed"
    resumed = await watch(client, task_id, old_end.id)
    assert [e.name for e in resumed] == ["progress", "done"], "who saw the old end sees what followed"
    with_status = await watch(client, task_id, query="?include=status")
    assert [e.data["status"] for e in with_status if e.name == "status"] == [
        "pending", "processing", "failed", "pending", "processing",
    ]  # fmt: skip


async def test_an_end_that_no_event_tells_of_is_noticed(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    received: list[SentEvent] = []
    watching = asyncio.create_task(open_stream(client, task_id, received))
    await store.redis.hset(f"task:{task_id}", mapping={"status": "COMPLETED"})
    await asyncio.wait_for(watching, PATIENCE_S)
    assert [e.data["status"] for e in received] == ["completed"]


async def test_a_stream_ends_when_the_record_is_gone(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    received: list[SentEvent] = []
    comments: list[str] = []
    watching = asyncio.create_task(open_stream(client, task_id, received, comments))
    await eventually(lambda: comments, because="the stream is open")
    await store.redis.delete(f"task:{task_id}")
    await asyncio.wait_for(watching, PATIENCE_S)
    assert received == []


async def test_every_one_of_10000_events_arrives_once_late_and_with_20_reconnections(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    count = 10_000
    task_id = await submit(client)
    mine = await claim(store, task_id)
    stream = f"/api/v1/tasks/{task_id}/progress/stream"
    breaks = sorted(random.Random(7).sample(range(1, count), 20))

    async def reconnecting() -> list[SentEvent]:
        """Hang up in the middle of the stream 20 times, and come back with the last id each time."""
        received: list[SentEvent] = []
        for limit in [*breaks, None]:
            headers = {"Last-Event-ID": received[-1].id or ""} if received else {}
            async with client.stream("GET", stream, headers=headers) as response:
                async for event in read_events(response):
                    received.append(event)
                    if limit is not None and len(received) >= limit:
                        break
        return received

    watching = asyncio.create_task(reconnecting())
    for start in range(0, count, 200):
        await asyncio.gather(
            *(store.progress(mine, n + 1, Progress(n % 101, "s", str(n), 1000 + n)) for n in range(start, start + 200))
        )
    await store.complete(mine, '"end"')
    wanted = [str(n) for n in range(count)]
    for received in (await asyncio.wait_for(watching, 60), await watch(client, task_id)):
        assert messages(received) == wanted
        assert [e.name for e in received].count("done") == 1
        assert received[-1].data["result"] == "end"


async def listening(store: TaskStore, count: int) -> bool:
    """Return whether so many connections listen. One that an earlier test has closed may be there a moment longer."""
    return len(await store.redis.client_list(_type="pubsub")) == count


async def test_many_watchers_share_one_connection_to_the_store(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    clients_before = len(await store.redis.client_list())
    watchers: list[list[SentEvent]] = [[] for _ in range(60)]
    async with httpx.AsyncClient(base_url=client.base_url, timeout=60, limits=httpx.Limits()) as many:
        tasks = [asyncio.create_task(open_stream(many, task_id, received)) for received in watchers]
        await report(store, mine, 1)
        await eventually(lambda: all(watchers), because="every watcher sees it")
        await eventually(lambda: listening(store, 1), because="one connection listens for all of them")
        await report(store, mine, 2)
        await store.complete(mine, "1")
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    assert all(messages(received) == ["1", "2"] for received in watchers)
    assert len(await store.redis.client_list()) <= clients_before + 64


async def test_a_client_that_hangs_up_is_let_go(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)

    def streams() -> list[Any]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "event-stream"]

    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream") as response:
        await eventually(streams, because="the stream is open")
        assert response.status_code == 200
    await eventually(lambda: not streams(), because="the stream is closed")

    channel = f"celeriac:live:{task_id}"

    async def unsubscribed() -> bool:
        name_and_count = await store.redis.execute_command("PUBSUB", "NUMSUB", channel)
        return int(name_and_count[1]) == 0

    await eventually(unsubscribed, because="nobody listens any more")


async def test_a_client_that_does_not_read_costs_no_memory(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    text = "x" * 8000
    await store.progress(mine, 1, Progress(1, "s", text, 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1024)
    writer.write(f"GET /api/v1/tasks/{task_id}/progress/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    process = psutil.Process(os.getpid())
    for start in range(2, 1002, 100):
        await asyncio.gather(*(store.progress(mine, n, Progress(1, "s", text, 1)) for n in range(start, start + 100)))
    before = process.memory_info().rss
    for start in range(1002, 5002, 100):
        await asyncio.gather(*(store.progress(mine, n, Progress(1, "s", text, 1)) for n in range(start, start + 100)))
    assert process.memory_info().rss - before < 16 * 1024**2, "32 MB were reported and not read"
    writer.close()
    await store.complete(mine, "1")
    assert len(await watch(client, task_id)) == 5002


async def test_streams_end_promptly_when_the_server_stops(settings: Settings, store: TaskStore) -> None:
    received: list[SentEvent] = []
    async with httpx.AsyncClient(timeout=60) as client:
        async with serving(settings) as url:
            client.base_url = httpx.URL(url)
            task_id = await submit(client)
            watching = asyncio.create_task(open_stream(client, task_id, received))
            await report(store, await claim(store, task_id), 1)
            await eventually(lambda: received, because="the stream is open")
            stopped_at, load = asyncio.get_running_loop().time(), Load()
            load.look()
        await asyncio.wait_for(watching, PATIENCE_S)
        load.look()
        assert asyncio.get_running_loop().time() - stopped_at < load.allowance_s(3)
    assert messages(received) == ["1"]


async def test_the_store_may_be_killed_and_come_back(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    settings = Settings(redis_url=server.url(), sse_keepalive=0.3, store_timeout=2, lease=600)
    try:
        async with (
            serving(settings) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as client,
            TaskStore(server.url(), settings.store) as store,
        ):
            task_id = await submit(client)
            mine = await claim(store, task_id)
            received: list[SentEvent] = []
            watching = asyncio.create_task(open_stream(client, task_id, received))
            await report(store, mine, 0, 1)
            await eventually(lambda: len(received) == 2, because="the stream is open")

            server.kill()
            answer = await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}})
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert ready.json()["parts"]["store"]["ok"] is False
            paths = (f"/api/v1/tasks/{task_id}", f"/api/v1/tasks/{task_id}/progress/stream")
            assert [answer.status_code for answer in await asyncio.gather(*map(client.get, paths))] == [503] * 2
            assert (await client.get("/healthz")).status_code == 200
            assert not watching.done()

            server.start()

            async def ready_again() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(ready_again, because="the API finds the store again")
            assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["progress"]["message"] == "1"
            await submit(client)
            await report(store, mine, 2, 3)
            await store.complete(mine, "1")
            await asyncio.wait_for(watching, PATIENCE_S)
            assert messages(received) == ["0", "1", "2", "3"]
            assert received[-1].name == "done"
    finally:
        server.kill()
