"""What the dispatch API does in short ways does what the long ways do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from celeriac.limits.rules import By, LimitRule
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.remote.remote_workers import worker
from tests.kit.waiting import eventually

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "dispatch": {"min_task_timeout_ms": 100}})


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def test_an_end_is_published_only_if_the_caller_waits_elsewhere(
    settings: Settings, url: str, http: httpx.AsyncClient, store: TaskStore
) -> None:
    heard: list[str] = []
    async with store.redis.pubsub() as messages:
        await messages.psubscribe("celeriac:replies:*")

        async def listen() -> None:
            async for message in messages.listen():
                if message["type"] == "pmessage":
                    heard.append(message["data"].partition("\n")[0])

        listening = asyncio.create_task(listen())
        async with (
            serving(settings) as other,
            httpx.AsyncClient(base_url=other, timeout=30) as elsewhere,
            worker(url) as one,
        ):
            ends = []
            for client in (http, elsewhere):
                calling = asyncio.create_task(client.post("/api/openai", json=HELLO))
                task = await one.take()
                await one.say(type="task_complete", taskId=task["taskId"], result=len(ends))
                ends.append((await calling).json())
        await eventually(lambda: ends[1]["taskId"] in heard, because="who listens is told as the caller is")
        listening.cancel()
    assert [end["result"] for end in ends] == [0, 1]
    assert heard == [ends[1]["taskId"]]
    here, there = [await store.get(end["taskId"]) for end in ends]
    assert (here.status, here.result) == ("completed", 0)
    assert (there.status, there.result) == ("completed", 1)
    shown = [[(e.kind, e.fields["status"]) for e in await store.events(end["taskId"])] for end in ends]
    assert shown[0] == shown[1], "the history is the same"


async def test_the_calls_of_one_moment_share_a_claim_and_keep_the_limits(
    url: str, http: httpx.AsyncClient, store: TaskStore
) -> None:
    await store.set_rule(LimitRule("one-at-a-time", group="default", by=By.KEY, max_running=1))
    running: dict[str, int] = {}
    most: dict[str, int] = {}

    async def work(one: Any) -> None:
        while True:
            task = await one.take()
            key = task["payload"]["data"]["key"]
            running[key] = running.get(key, 0) + 1
            most[key] = max(most.get(key, 0), running[key])
            await asyncio.sleep(0.01)
            running[key] -= 1
            await one.say(type="task_complete", taskId=task["taskId"], result=task["payload"]["data"])

    async def call(number: int) -> None:
        data = {"key": f"k{number % 3}", "number": number}
        answer = await http.post("/api/openai", json={"data": data, "key": data["key"]})
        assert (answer.status_code, answer.json()["result"]) == (200, data)

    async with worker(url) as first, worker(url) as second, worker(url, concurrency=4) as third:
        working = [asyncio.create_task(work(one)) for one in (first, second, third)]
        await asyncio.gather(*map(call, range(40)))
        for task in working:
            task.cancel()
    assert most == {"k0": 1, "k1": 1, "k2": 1}


async def test_a_message_in_pieces_is_heard_once_and_in_its_place(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        transport = one.connection.transport
        for size in (10, 5_000, 100_000):
            calling = asyncio.create_task(http.post("/api/openai", json=HELLO))
            task_id = (await one.take())["taskId"]
            end = json.dumps({"type": "task_complete", "taskId": task_id, "result": "x" * size})
            middle = len(end) // 2
            await one.say(type="progress", taskId=task_id, percentage=10)
            # As several frames of one message, with a ping between them; the last one in two packets.
            one.connection.protocol.send_text(end[:middle].encode(), fin=False)
            one.connection.protocol.send_ping(b"between")
            one.connection.protocol.send_continuation(end[middle:].encode(), fin=True)
            data = b"".join(one.connection.protocol.data_to_send())
            transport.write(data[:-3])
            await asyncio.sleep(0.02)
            transport.write(data[-3:])
            answer = await calling
            assert (answer.status_code, answer.json()["result"]) == (200, "x" * size)
            assert (await http.get(f"/api/v1/tasks/{task_id}")).json()["progress"]["percentage"] == 10


async def test_short_and_long_answers_have_the_same_headers(url: str, http: httpx.AsyncClient) -> None:
    async with worker(url) as one:
        working = asyncio.create_task(one.work(lambda payload: payload["messages"]))
        # A header that the server has to look at takes the long way.
        for body in (HELLO, {}, {**HELLO, "async": True}):
            short = await http.post("/api/openai", json=body)
            long = await http.post("/api/openai", json=body, headers={"Authorization": "Bearer of-somebody-else"})
            assert short.status_code == long.status_code
            left_out = {"date", "content-length"}
            assert {k: v for k, v in short.headers.items() if k not in left_out} == {
                k: v for k, v in long.headers.items() if k not in left_out
            }
        working.cancel()


async def test_requests_on_one_connection_are_answered_in_their_order(url: str) -> None:
    async with worker(url, concurrency=3) as one:
        working = asyncio.create_task(one.work(lambda payload: payload["data"]))
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        bodies = [json.dumps({"data": {"n": n}}).encode() for n in range(3)]
        for n, body in enumerate(bodies):
            closing = b"Connection: close\r\n" if n == 2 else b""
            writer.write(
                b"POST /api/openai HTTP/1.1\r\nHost: localhost\r\n%sContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (closing, len(body), body)
            )
        async with asyncio.timeout(20):
            said = (await reader.read()).decode()
        places = [said.index(f'"result":{{"n":{n}}}') for n in range(3)]
        assert places == sorted(places)
        assert said.count("HTTP/1.1 200 OK") == 3
        writer.close()
        working.cancel()
