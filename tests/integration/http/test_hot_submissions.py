"""Whole submissions are answered by the server's protocol, as the usual way answers them and whatever comes how."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.app import create_app
from celeriac_api.routes.tasks.hot_submit import HotSubmissions
from celeriac_api.server import ApiServer, bind
from tests.kit.api.http_serving import serving
from tests.kit.api.raw_http import is_closed
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, eventually

#: The path of the hot route, and of the same route the usual way.
HOT: Final = "/api/v1/tasks"
USUAL: Final = "/api/v1/tasks?"
ECHO: Final = {"type": "http_test.echo", "payload": {"a": [1, None, "ü"]}}
THUMBNAIL: Final = {"type": "http_test.thumbnail", "payload": {"path": "a.png", "width": 7}}


def request(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def written(document: object) -> bytes:
    return json.dumps(document).encode()


class Wire:
    """A connection, and the bytes of its answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.02)

    async def answer(self) -> bytes:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        if head.startswith(b"HTTP/1.1 100 "):
            return head + await self.answer()
        size = re.search(rb"content-length: (\d+)", head)
        assert size is not None, head
        return head + await self.reader.readexactly(int(size[1]))

    async def ask(self, *pieces: bytes) -> bytes:
        await self.send(*pieces)
        return await self.answer()


def shown(answer: bytes) -> bytes:
    """Return an answer without what differs from one to the next."""
    answer = re.sub(rb"\r\ndate: [^\r]*", b"", answer)
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", b"ID", answer)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "data_dir": tmp_path, "max_body_bytes": 100_000})


@pytest.fixture
async def url(settings: Settings) -> AsyncIterator[str]:
    async with serving(settings) as url:
        yield url


@pytest.fixture
def hot(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that came to the hot route was taken."""
    taken: list[bool] = []
    begin = HotSubmissions.begin

    def noted(self: HotSubmissions, *arguments: Any) -> bool:
        taken.append(begin(self, *arguments))
        return taken[-1]

    monkeypatch.setattr(HotSubmissions, "begin", noted)
    return taken


async def test_a_plain_submission_is_answered_as_the_usual_way_answers_it_and_has_the_same_record(
    url: str, hot: list[bool], store: TaskStore
) -> None:
    async with wire_to(url) as wire:
        for document in (ECHO, THUMBNAIL, ECHO):
            answers = [await wire.ask(request(path, written(document))) for path in (HOT, USUAL)]
            assert shown(answers[0]) == shown(answers[1])
            tasks = [await store.get(json.loads(answer.partition(b"\r\n\r\n")[2])["task_id"]) for answer in answers]
            fields = ("type", "group", "status", "payload", "priority", "max_retries", "timeout_ms", "user_id", "key")
            assert len({repr([getattr(task, name, None) for name in fields]) for task in tasks}) == 1
            records = [await store.redis.hgetall(f"task:{task.task_id}") for task in tasks]
            own = {"nonce", "life"}
            assert len({repr({k: v for k, v in one.items() if k not in own}) for one in records}) == 1
    assert hot == [True] * 3


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", ()),
        (b"[]", ()),
        (b'{"type": "http_test.echo", "payload": {"a": NaN}}', ()),
        (b'{"type": "http_test.echo", "payload": {"a": "\\ud800"}}', ()),
        (written({"type": "nothing", "payload": {}}), ()),
        (written({"type": ["x"], "payload": {}}), ()),
        (written({"type": "http_test.echo", "payload": []}), ()),
        (written({"type": "http_test.thumbnail", "payload": {}}), ()),
        (written({**ECHO, "queue": "g", "priority": 4, "tags": ["t"]}), ()),
        (written({**ECHO, "unknown": 1}), ()),
        (written({"type": "http_test.echo", "payload": {"$result": "x"}}), ()),
        (written({"type": "http_test.echo", "payload": {"a": "x" * 200_000}}), ()),
        (written(ECHO), ("Idempotency-Key: a b",)),
        (written(ECHO), ("Content-Type: text/plain",)),
        (written(ECHO), ("Content-Type: application/json; charset=utf-8", "X-Other: 1")),
        (written(ECHO), ("Origin: http://elsewhere.example",)),
        (written(ECHO), ("Authorization: Bearer nonsense",)),
        (written(ECHO), ("Connection: keep-alive", "traceparent: 00-1-2-3")),
        (written(ECHO), ("Content-Encoding: gzip",)),
        (written(ECHO), ("Expect: 100-continue", "Cookie: a=b")),
    ],
)
async def test_whatever_is_sent_is_answered_as_the_usual_way_answers_it(
    url: str, body: bytes, headers: tuple[str, ...]
) -> None:
    for _ in range(2):
        answers = []
        for path in (HOT, USUAL):
            async with wire_to(url) as wire:
                answers.append(shown(await wire.ask(request(path, body, *headers))))
        assert answers[0] == answers[1]


async def test_a_request_may_come_in_any_pieces_and_several_at_once(url: str, hot: list[bool]) -> None:
    one = request(HOT, written(ECHO))
    head = one.index(b"\r\n\r\n") + 4
    async with wire_to(url) as wire:
        for at in (1, 10, head - 2, head, head + 1, len(one) - 1):
            assert b" 202 " in (await wire.ask(one[:at], one[at:]))[:20]
        assert b" 202 " in (await wire.ask(one[:head], one[head : head + 5], one[head + 5 :]))[:20]
        taken = len(hot)
        assert taken >= 3, "a body may come after its head"
        await wire.send(one * 5)
        assert all([b" 202 " in (await wire.answer())[:20] for _ in range(5)])
        await wire.send(one, one, one[:head], one[head:] + one[:head], one[head:])
        assert all([b" 202 " in (await wire.answer())[:20] for _ in range(4)])
        get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await wire.send(one + get)
        assert b" 202 " in (await wire.answer())[:20]
        assert b" 200 " in (await wire.answer())[:20]
        assert b" 202 " in (await wire.ask(one))[:20]
    assert hot[-1], "after others, a request is taken again"


async def test_an_idempotency_key_is_that_of_its_request_alone(url: str, hot: list[bool]) -> None:
    async with wire_to(url) as wire:
        first = await wire.ask(request(HOT, written(ECHO), 'Idempotency-Key: k"1\\'))
        again = await wire.ask(request(HOT, written(ECHO), 'Idempotency-Key: k"1\\'))
        usual = await wire.ask(request(USUAL, written(ECHO), 'Idempotency-Key: k"1\\'))
        other = await wire.ask(request(HOT, written(ECHO), "Idempotency-Key: k2"))
        assert (b" 202 " in first[:20], b" 200 " in again[:20]) == (True, True)
        assert again.partition(b"\r\ncontent-type")[2] == usual.partition(b"\r\ncontent-type")[2]
        ids = [json.loads(answer.partition(b"\r\n\r\n")[2])["task_id"] for answer in (first, again, other)]
        assert ids[0] == ids[1] != ids[2]
    assert hot == [True] * 3


async def test_a_refusal_of_the_store_is_the_usual_problem(settings: Settings, hot: list[bool]) -> None:
    settings = settings.model_copy(update={"max_queue_length": 1})
    async with serving(settings) as url, wire_to(url) as wire:
        await wire.ask(request(HOT, written(ECHO)))
        refused = [shown(await wire.ask(request(path, written(ECHO)))) for path in (HOT, USUAL)]
        assert b" 429 " in refused[0][:20]
        assert refused[0] == refused[1]
    assert hot == [True] * 2


async def test_a_client_that_stops_in_a_body_is_disconnected_and_one_that_rests_is_not(settings: Settings) -> None:
    settings = settings.model_copy(
        update={"access": settings.access.model_copy(update={"header_timeout": 1.0, "body_timeout": 1.0})}
    )
    one = request(HOT, written(ECHO))
    async with serving(settings) as url, wire_to(url) as stuck, wire_to(url) as resting:
        assert b" 202 " in (await resting.ask(one))[:20]
        await stuck.send(one[:-3])
        assert await is_closed(stuck.reader)
        assert b" 202 " in (await resting.ask(one))[:20]


async def test_a_connection_without_requests_is_closed_after_the_time_for_it(settings: Settings) -> None:
    settings = settings.model_copy(update={"keep_alive": 5.0})
    async with serving(settings) as url, wire_to(url) as wire:
        began = asyncio.get_running_loop().time()
        for _ in range(2):
            assert b" 202 " in (await wire.ask(request(HOT, written(ECHO))))[:20]
            await asyncio.sleep(0.6)
        assert await is_closed(wire.reader)
        assert asyncio.get_running_loop().time() - began > 5.5, "each request begins the time anew"


async def test_a_stopping_server_answers_what_it_has_begun_and_closes(settings: Settings) -> None:
    server = ApiServer(create_app(settings), settings)
    with bind("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started, because="the server starts")
        async with wire_to(f":{listener.getsockname()[1]}") as wire, wire_to(f":{listener.getsockname()[1]}") as idle:
            one = request(HOT, written(ECHO))
            assert b" 202 " in (await idle.ask(one))[:20]
            await wire.send(one[:-1])
            await asyncio.sleep(0.1)
            server.should_exit = True
            assert await is_closed(idle.reader)
            answer = await wire.ask(one[-1:])
            assert b" 202 " in answer[:20]
            assert b"\r\nconnection: close\r\n" in answer
            assert await is_closed(wire.reader)
        await running


async def test_while_the_store_is_away_requests_wait_and_then_are_told(tmp_path: Path) -> None:
    valkey = ValkeyServer(tmp_path / "valkey")
    valkey.start()
    try:
        settings = Settings.model_validate({"redis_url": valkey.url(), "data_dir": tmp_path, "store_timeout": 1.0})
        async with serving(settings) as url, wire_to(url) as wire, wire_to(url) as other:
            one = request(HOT, written(ECHO))
            assert b" 202 " in (await wire.ask(one))[:20]
            valkey.kill()
            await other.send(one)
            other.writer.close()  # nobody hears this answer
            answer = await wire.ask(one)
            assert b" 503 " in answer[:20]
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "store_unavailable"
            valkey.start()

            async def taken() -> bool:
                return b" 202 " in (await wire.ask(one))[:20]

            await eventually(taken, because="the store is there again")
    finally:
        valkey.kill()


async def test_what_too_few_replicas_have_is_refused_with_the_id_of_its_task(tmp_path: Path, hot: list[bool]) -> None:
    valkey = ValkeyServer(tmp_path / "valkey")
    valkey.start()
    try:
        settings = Settings.model_validate(
            {"redis_url": valkey.url(), "data_dir": tmp_path, "store_timeout": 0.3, "durability": "replicated"}
        )
        async with serving(settings) as url, wire_to(url) as wire:
            for path in (HOT, USUAL):
                answer = await wire.ask(request(path, written(ECHO), f"Idempotency-Key: {len(path)}"))
                assert b" 503 " in answer[:20]
                told = json.loads(answer.partition(b"\r\n\r\n")[2])
                async with TaskStore(valkey.url(), settings.store) as store:
                    assert (await store.get(told["task_id"])).payload == ECHO["payload"]
    finally:
        valkey.kill()
    assert hot == [True]
