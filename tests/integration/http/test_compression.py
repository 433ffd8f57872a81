"""Answers are compressed for callers that accept it: which ones, and what stays as it was."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from celeriac import json_text
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.http.compression import accepts_gzip
from tests.kit.api.http_serving import serving, submit

PLAIN = {"Accept-Encoding": "identity"}
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.model_validate({"redis_url": valkey_url, "server": {"compress_from": "4KiB"}})


async def both(client: httpx.AsyncClient, path: str) -> tuple[httpx.Response, httpx.Response]:
    """Return the answer to a caller that accepts gzip, and the one to a caller that does not: the same document."""
    small, plain = [await client.get(path, headers=headers) for headers in (GZIP, PLAIN)]
    assert small.status_code == plain.status_code == 200
    assert small.content == plain.content
    assert "content-encoding" not in plain.headers
    assert int(plain.headers["content-length"]) == len(plain.content)
    return small, plain


@pytest.mark.parametrize("size", [5_000, 1_000_000])
async def test_large_answers_are_compressed_for_those_who_accept_it(client: httpx.AsyncClient, size: int) -> None:
    task_id = await submit(client, payload={"words": "a word, " * (size // 8)})
    small, plain = await both(client, f"/api/v1/tasks/{task_id}")
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(small.content) / 4
    for answer in (small, plain):
        assert "accept-encoding" in answer.headers["vary"].lower()
        assert answer.headers["cache-control"] == "no-store"
    head = await client.head(f"/api/v1/tasks/{task_id}", headers=GZIP)
    assert head.content == b""
    for name in ("content-length", "content-encoding", "vary", "content-type"):
        assert head.headers.get_list(name) == small.headers.get_list(name)


async def test_small_answers_and_refusals_are_not_compressed(client: httpx.AsyncClient) -> None:
    task_id = await submit(client)
    small, _ = await both(client, f"/api/v1/tasks/{task_id}")
    assert "content-encoding" not in small.headers
    assert "vary" not in small.headers
    answer = await client.get(f"/api/v1/tasks/{'x' * 200}", headers=GZIP)
    assert answer.status_code == 404
    assert "content-encoding" not in answer.headers


async def test_streams_are_not_compressed(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client, payload={"words": "a word, " * 2000})
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream", headers=GZIP) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.headers
        async for chunk in stream.aiter_raw():
            assert chunk.startswith(b"retry: ")
            break


async def test_the_openapi_document_is_compressed_and_has_a_validator(client: httpx.AsyncClient) -> None:
    small, plain = await both(client, "/openapi.json")
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(small.content) / 5
    assert json_text.read(small.content)["openapi"].startswith("3.")
    assert small.headers["etag"] != plain.headers["etag"]
    for answer, headers in ((small, GZIP), (plain, PLAIN)):
        again = await client.get("/openapi.json", headers={**headers, "If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"]
        other = await client.get("/openapi.json", headers={**headers, "If-None-Match": '"another"'})
        assert other.content == plain.content
    head = await client.head("/openapi.json", headers=GZIP)
    assert (head.content, head.headers["etag"]) == (b"", small.headers["etag"])


async def test_compression_can_be_switched_off(valkey_url: str) -> None:

    settings = Settings.model_validate({"redis_url": valkey_url, "server": {"compress_from": 0}})
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        task_id = await submit(client, payload={"words": "a word, " * 2000})
        answer = await client.get(f"/api/v1/tasks/{task_id}", headers=GZIP)
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("GZip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("not-gzip", False),
        ("gzip;q=x", False),
        ("", False),
        (None, False),
    ],
)
def test_what_a_caller_accepts(header: str | None, accepted: bool) -> None:
    headers: list[Any] = [] if header is None else [(b"accept-encoding", header.encode())]
    assert accepts_gzip({"headers": headers}) is accepted
