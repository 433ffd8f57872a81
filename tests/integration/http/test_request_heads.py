"""The head of a request is bounded: its bytes, its fields, each field and the URL, whatever comes in which pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from celeriac.settings import ServerSettings
from tests.kit.api.access import client_of, settings_of
from tests.kit.api.raw_http import HANDSHAKE, ask, is_closed, read_answer

LIMITS = ServerSettings()
HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


def fields(count: int, size: int = 1) -> bytes:
    return b"".join(b"X-%d: %s\r\n" % (i, b"a" * size) for i in range(count))


#: What is sent, the status and the code of the answer.
HEADS = {
    "many fields": (GET + fields(LIMITS.max_head_fields) + b"\r\n", 431, "head_too_large"),
    "fields without a value": (GET + b"X:\r\n" * 100_000 + b"\r\n", 431, "head_too_large"),
    "fields without an end": (GET + fields(100_000), 431, "head_too_large"),
    "one large field": (GET + b"X: " + b"a" * LIMITS.max_field_bytes + b"\r\n\r\n", 431, "head_too_large"),
    "one field without an end": (GET + b"X: " + b"a" * 1_000_000, 431, "head_too_large"),
    "a name without an end": (GET + b"a" * 1_000_000, 431, "head_too_large"),
    "a large cookie": (GET + b"Cookie: a=" + b'"\\1' * 10_000 + b"\r\n\r\n", 431, "head_too_large"),
    "large in sum": (GET + fields(70, 1000) + b"\r\n", 431, "head_too_large"),
    "a long URL": (b"GET /" + b"a" * LIMITS.max_url_bytes + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "a long query": (b"GET /healthz?" + b"&" * 50_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "uri_too_long"),
    "a URL without an end": (b"GET /" + b"a" * 1_000_000, 414, "uri_too_long"),
    "a handshake with many fields": (GET + HANDSHAKE + fields(130) + b"\r\n", 431, "head_too_large"),
    "a handshake with a large field": (GET + HANDSHAKE + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431, "head_too_large"),
    "a handshake with a long URL": (
        b"GET /api/task/ws/task/1?token=" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + HANDSHAKE + b"\r\n",
        414,
        "uri_too_long",
    ),
    "empty lines": (b"\r\n" * 500_000, 431, "head_too_large"),
    "trailers": (
        b"POST /sign-in HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + fields(10_000) + b"\r\n",
        431,
        "head_too_large",
    ),
    "a trailer without an end": (
        b"POST /sign-in HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 1_000_000,
        431,
        "head_too_large",
    ),
    "the extension of a chunk without an end": (
        b"POST /sign-in HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;x=" + b"a" * 1_000_000,
        431,
        "head_too_large",
    ),
    "not HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "bad_request"),
    "a handshake with a body": (GET + HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400, "bad_request"),
}


@pytest.fixture
async def client(valkey_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(settings_of(valkey_url, tmp_path)) as client:
        yield client


@pytest.mark.parametrize("piece", [1000, 10_000, 10_000_000])
@pytest.mark.parametrize("head", HEADS)
async def test_a_head_that_is_too_large_is_answered_and_the_connection_is_closed(
    client: httpx.AsyncClient, head: str, piece: int
) -> None:
    sent, status, code = HEADS[head]
    pieces = [sent[at : at + piece] for at in range(0, len(sent), piece)]
    answer = await ask(client.base_url.port, pieces, pause=piece < 10_000)
    assert (answer.status, answer.problem["code"], answer.problem["status"]) == (status, code, status)
    assert answer.headers["connection"] == "close"
    assert answer.problem["detail"]
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        GET + fields(LIMITS.max_head_fields - 1) + b"\r\n",
        GET + b"X: " + b"a" * (LIMITS.max_field_bytes - 10) + b"\r\n\r\n",
        GET + fields(60, 1000) + b"\r\n",
        b"GET /healthz?" + b"&" * (LIMITS.max_url_bytes - 20) + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\n" + GET + b"\r\n",
    ],
    ids=["fields", "one field", "in sum", "URL", "an empty line first"],
)
@pytest.mark.parametrize("piece", [1, 1000, 10_000_000])
async def test_a_head_within_the_limits_is_served(client: httpx.AsyncClient, sent: bytes, piece: int) -> None:
    pieces = [sent[at : at + piece] for at in range(0, len(sent), piece)]
    assert (await ask(client.base_url.port, pieces)).status == 200


async def test_a_head_that_follows_a_large_body_at_once_is_served(client: httpx.AsyncClient) -> None:
    body = b"a" * 200_000
    first = b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    small = b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n" + b"a" * 60_000
    writer.write(small + GET + fields(60, 1000) + b"\r\n")
    assert [(await read_answer(reader)).status for _ in range(2)] == [401, 200], "both on one connection"
    writer.write(first + body + GET + b"\r\n")
    refused = await read_answer(reader)
    assert (refused.status, refused.headers["connection"]) == (401, "close"), "the rest of a large body is not read"
    assert await is_closed(reader)
    writer.close()


async def test_requests_that_do_not_wait_for_answers_are_bounded(client: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write((GET + b"\r\n") * 50)
    assert [(await read_answer(reader)).status for _ in range(50)] == [200] * 50
    writer.write((GET + b"\r\n") * 5000)
    answers = []
    while not answers or answers[-1].status == 200:
        answers.append(await asyncio.wait_for(read_answer(reader), 30))
    assert LIMITS.max_pipelined <= len(answers) <= LIMITS.max_pipelined + 10, "those before it are answered"
    assert (answers[-1].status, answers[-1].problem["code"]) == (429, "rate_limited")
    assert await is_closed(reader)
    writer.close()


async def test_a_client_that_stops_in_between_is_disconnected(valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of(valkey_url, tmp_path, header_timeout=0.5)
    unfinished = b"POST /api/v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{"
    async with client_of(settings) as client:
        for sent in (unfinished, GET + b"\r\n\r\n", GET + b"\r\nGET"):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(sent)
            assert (await read_answer(reader)).status in (200, 401)
            writer.write(b"\r\n" if sent.endswith(b"\n") else b" ")
            assert await is_closed(reader), sent
            writer.close()
