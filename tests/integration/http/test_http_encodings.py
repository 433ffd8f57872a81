"""Bodies that come compressed: no route takes them, and each says so in its own shape."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.settings import Settings
from tests.kit.api.file_services import content, file_settings
from tests.kit.api.http_serving import ROUTES

TASK: dict[str, Any] = {"type": "celeriac.demo", "payload": {}}
BODY = json.dumps(TASK).encode()
JSON = {"Content-Type": "application/json"}
SAID = "the body is compressed (Content-Encoding: {}): send it uncompressed, without that header"


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return file_settings(tmp_path, redis_url=valkey_url)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip"])
async def test_a_compressed_submission_is_told_to_come_uncompressed(client: httpx.AsyncClient, encoding: str) -> None:
    packed = zlib.compress(BODY) if encoding == "deflate" else gzip.compress(BODY)
    answer = await client.post("/api/v1/tasks", content=packed, headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    assert answer.headers["accept-encoding"] == "identity"
    problem = answer.json()
    told = encoding.lower().removeprefix("identity, ")
    assert (problem["code"], problem["detail"]) == ("unsupported_media_type", SAID.format(told))
    assert problem["instance"] == "/api/v1/tasks"


async def test_what_is_said_to_be_as_it_is_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/tasks", content=BODY, headers={**JSON, "Content-Encoding": "identity"})
    assert answer.status_code == 202
    # Some clients say it with every request, also where there is nothing to compress.
    habit = await client.get("/api/v1/groups", headers={"Content-Encoding": "gzip"})
    assert habit.status_code == 200


async def test_every_route_refuses_a_compressed_body_in_its_own_shape(client: httpx.AsyncClient) -> None:
    for line, access in ROUTES.items():
        method, _, path = line.partition(" ")
        if method not in ("POST", "PUT", "PATCH"):
            continue
        url = path.replace("{", "").replace(":path}", "").replace("}", "")
        answer = await client.request(
            method, url, content=gzip.compress(BODY), headers={**JSON, "Content-Encoding": "gzip"}
        )
        if access.plain_errors:
            told = {"error": f"Invalid request: {SAID.format('gzip')}"}
            assert (answer.status_code, answer.json()) == (400, told), line
        elif access.openai_errors:
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (415, "unsupported_media_type"), line
            assert error["message"] == SAID.format("gzip"), line
        else:
            assert (answer.status_code, answer.json()["detail"]) == (415, SAID.format("gzip")), line
        assert answer.headers["accept-encoding"] == "identity", line


async def test_an_upload_is_not_stored_compressed_in_silence(client: httpx.AsyncClient, tmp_path: Path) -> None:
    packed = gzip.compress(b"one,two\n" * 500_000, compresslevel=0)
    sent = {"Content-Encoding": "gzip", "Content-Type": "text/csv"}
    answer = await client.put("/api/v1/files/numbers.csv", content=packed, headers=sent)
    assert answer.status_code == 415
    said = f"{SAID.format('gzip')}; if the file itself is compressed, leave the header out too"
    assert answer.json()["detail"] == said
    assert not [name for name in content(tmp_path / "data") if "uploads" in name and not name.endswith("lock")]
    # A compressed file is a file like any other.
    kept = await client.put("/api/v1/files/numbers.csv.gz", content=packed, headers={"Content-Type": "text/csv"})
    assert (kept.status_code, kept.json()["size"]) == (201, len(packed))
