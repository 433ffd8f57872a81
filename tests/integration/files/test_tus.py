"""Resumable uploads: the stock Python client of tus, and the protocol's rules one by one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tusclient.client import TusClient

from celeriac.settings import Settings
from tests.kit.api.file_services import content, file_settings
from tests.kit.waiting import eventually

URL = "/api/v1/uploads"
DATA = os.urandom(1_000_000)
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return file_settings(
        tmp_path, redis_url=valkey_url, max_body_bytes=10_000, files={"max_upload_bytes": 2_000_000, "upload_ttl": "1h"}
    )


async def begin(client: httpx.AsyncClient, length: int = len(DATA), **headers: str) -> str:
    answer = await client.post(URL, headers={**TUS, "Upload-Length": str(length), **headers})
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-expires"].endswith("GMT")
    return str(answer.headers["location"])


async def patch(client: httpx.AsyncClient, url: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    return await client.patch(url, headers={**CHUNK, "Upload-Offset": str(offset), **headers}, content=data)


async def offset(client: httpx.AsyncClient, url: str) -> int:
    answer = await client.head(url, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


async def test_the_stock_client_uploads_in_chunks_with_checksums_and_goes_on_after_a_break(
    client: httpx.AsyncClient,
) -> None:
    def first_half(base_url: str) -> str:
        uploader = TusClient(base_url).uploader(
            file_stream=io.BytesIO(DATA), chunk_size=200_000, upload_checksum=True, metadata={"filename": "clip.mp4"}
        )
        uploader.upload_chunk()
        uploader.upload_chunk()
        return str(uploader.url)

    def second_half(base_url: str, url: str) -> int:
        uploader = TusClient(base_url).uploader(file_stream=io.BytesIO(DATA), url=url, chunk_size=300_000)
        resumed_at = int(uploader.offset)
        uploader.upload()
        return resumed_at

    base_url = f"{str(client.base_url).rstrip('/')}{URL}"
    url = await asyncio.to_thread(first_half, base_url)
    assert await asyncio.to_thread(second_half, base_url, url) == 400_000
    facts = (await client.get(f"/api/v1/files/{url.rsplit('/', 1)[-1]}")).json()
    assert (facts["size"], facts["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert facts["filename"] == "clip.mp4"
    assert facts["path"].endswith(".mp4")


async def test_options_say_what_is_supported(client: httpx.AsyncClient) -> None:
    answer = await client.options(URL)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    extensions = set(answer.headers["tus-extension"].split(","))
    assert extensions == {"creation", "creation-with-upload", "expiration", "checksum", "termination"}
    assert answer.headers["tus-max-size"] == "2000000"
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


async def test_a_first_chunk_may_come_with_the_creation(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, headers={**CHUNK, "Upload-Length": "10"}, content=b"12345")
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "5")
    answer = await patch(client, answer.headers["location"], 5, b"67890")
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "10")
    assert "upload-expires" not in answer.headers


async def test_an_empty_file_is_whole_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, headers={**TUS, "Upload-Length": "0"})
    assert answer.status_code == 201
    facts = await client.get(f"/api/v1/files/{answer.headers['location'].rsplit('/', 1)[-1]}")
    assert facts.json()["size"] == 0


async def test_a_finished_upload_becomes_the_input_of_a_task(client: httpx.AsyncClient, tmp_path: Path) -> None:
    metadata = (
        f"filename {base64.b64encode('fïlm.mp4'.encode()).decode()},filetype {base64.b64encode(b'video/mp4').decode()}"
    )
    url = await begin(client, **{"Upload-Metadata": metadata})
    assert (await client.head(url, headers=TUS)).headers["upload-metadata"] == metadata
    file_id = url.rsplit("/", 1)[-1]
    document = {"type": "file_process", "payload": {"processor": "checksum", "file_id": file_id}}
    assert (await client.post("/api/v1/tasks", json=document)).status_code == 422
    assert (await patch(client, url, 0, DATA)).status_code == 204
    assert await offset(client, url) == len(DATA)
    answer = await client.post("/api/v1/tasks", json=document)
    assert answer.status_code == 202
    assert (await client.head(url, headers=TUS)).status_code == 404
    original = await client.get(f"/api/v1/tasks/{answer.json()['task_id']}/original")
    assert original.content == DATA
    assert "filename*=UTF-8''f%C3%AFlm.mp4" in original.headers["content-disposition"]


async def test_a_wrong_offset_version_type_or_length_is_refused(client: httpx.AsyncClient) -> None:
    url = await begin(client)
    assert (await patch(client, url, 5, b"x")).status_code == 409
    wrong_type = await client.patch(url, headers={**TUS, "Upload-Offset": "0"}, content=b"x")
    assert wrong_type.status_code == 415
    for headers in ({}, {"Tus-Resumable": "0.2.2"}):
        answer = await client.head(url, headers=headers)
        assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    assert (await client.post(URL, headers=TUS)).status_code == 400
    assert (await client.post(URL, headers={**TUS, "Upload-Defer-Length": "1"})).status_code == 400
    too_long = await client.post(URL, headers={**TUS, "Upload-Length": "2000001"})
    assert (too_long.status_code, too_long.headers["tus-resumable"]) == (413, "1.0.0")
    assert (await patch(client, url, 0, DATA + b"more")).status_code == 413
    assert (await client.head(f"{URL}/unknown", headers=TUS)).status_code == 404
    assert (await patch(client, f"{URL}/../files", 0, b"x")).status_code in (404, 405)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
async def test_a_chunk_with_another_checksum_is_dropped(client: httpx.AsyncClient, algorithm: str) -> None:
    url = await begin(client)
    good, bad = DATA[:100_000], DATA[100_000:200_000]
    assert (await patch(client, url, 0, good, **{"Upload-Checksum": checksum(good, algorithm)})).status_code == 204
    answer = await patch(client, url, 100_000, bad, **{"Upload-Checksum": checksum(good, algorithm)})
    assert answer.status_code == 460
    assert await offset(client, url) == 100_000
    assert (await patch(client, url, 100_000, bad, **{"Upload-Checksum": "crc32 AAAA"})).status_code == 400
    assert (await patch(client, url, 100_000, DATA[100_000:])).status_code == 204
    facts = (await client.get(f"/api/v1/files/{url.rsplit('/', 1)[-1]}")).json()
    assert facts["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("checked", [False, True])
async def test_what_came_before_a_broken_connection_stays_unless_it_is_unverified(
    client: httpx.AsyncClient, tmp_path: Path, checked: bool
) -> None:
    url = await begin(client)
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    headers = {**CHUNK, "Host": "localhost", "Upload-Offset": "0", "Content-Length": str(len(DATA))}
    if checked:
        headers["Upload-Checksum"] = checksum(DATA)
    head = f"PATCH {url} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(head.encode() + b"\r\n" + DATA[:500_000])
    await writer.drain()
    await eventually(lambda: _locked(tmp_path, url), because="the server writes")
    # A second client has to wait, and goes on when the first one is gone.
    writer.close()
    expected = 0 if checked else 500_000
    await eventually(lambda: _is_at(client, url, expected), because="the upload keeps what it may keep")
    assert (await patch(client, url, expected, DATA[expected:])).status_code == 204


async def test_one_writer_at_a_time(client: httpx.AsyncClient, tmp_path: Path) -> None:
    url = await begin(client)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        await go_on.wait()
        yield DATA[1000:]

    writing = asyncio.create_task(patch(client, url, 0, slow()))
    await eventually(lambda: _locked(tmp_path, url), because="the first one writes")
    assert (await client.delete(url, headers=TUS)).status_code == 423
    go_on.set()
    assert (await writing).status_code == 204


async def test_a_terminated_upload_is_gone(client: httpx.AsyncClient, tmp_path: Path) -> None:
    url = await begin(client)
    await patch(client, url, 0, DATA[:1000])
    assert (await client.delete(url, headers=TUS)).status_code == 204
    assert (await client.head(url, headers=TUS)).status_code == 404
    assert [name for name in content(tmp_path / "data" / "uploads") if not name.endswith("lock")] == []


def _locked(tmp_path: Path, url: str) -> bool:
    """Whether somebody writes to an upload; to try it out would be in that writer's way."""
    part = tmp_path / "data" / "uploads" / ".incoming" / f"{url.rsplit('/', 1)[-1]}.part"
    return f":{part.stat().st_ino} " in Path("/proc/locks").read_text()


async def _is_at(client: httpx.AsyncClient, url: str, expected: int) -> bool:
    answer = await patch(client, url, 1_999_999, b"x")
    return answer.status_code == 409 and f"is at {expected}," in answer.json()["detail"]


async def override(client: httpx.AsyncClient, actual: str, meant: str, url: str, **options: Any) -> httpx.Response:
    headers = {**options.pop("headers", {}), "X-HTTP-Method-Override": meant}
    return await client.request(actual, url, headers=headers, **options)


@pytest.mark.parametrize("actual", ["POST", "PUT", "GET", "DELETE", "post"])
async def test_the_method_that_the_header_names_is_the_one_that_counts(client: httpx.AsyncClient, actual: str) -> None:
    answer = await override(client, actual, "POST", URL, headers={**TUS, "Upload-Length": "6"})
    assert answer.status_code == 201, answer.text
    url = answer.headers["location"]
    answer = await override(client, actual, "HEAD", url, headers=TUS)
    assert (answer.status_code, answer.headers["upload-offset"], answer.content) == (200, "0", b"")
    answer = await override(client, actual, "patch", url, headers={**CHUNK, "Upload-Offset": "0"}, content=b"abc")
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "3"), answer.text
    answer = await override(client, actual, "PATCH", url, headers={**CHUNK, "Upload-Offset": "0"}, content=b"abc")
    assert answer.status_code == 409
    assert await offset(client, url) == 3
    answer = await override(client, actual, "OPTIONS", url)
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert (await override(client, actual, "DELETE", url, headers=TUS)).status_code == 204
    assert (await client.head(url, headers=TUS)).status_code == 404


@pytest.mark.parametrize("meant", ["GET", "TRACE", "NONSENSE", "x" * 5000, "PATCH, DELETE"])
async def test_a_method_that_the_path_does_not_have_is_refused(client: httpx.AsyncClient, meant: str) -> None:
    url = await begin(client, 6)
    assert (await override(client, "POST", meant, url, headers=TUS)).status_code == 405
    assert await offset(client, url) == 0


async def test_other_routes_do_not_know_the_header(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/tasks", "/api/v1/uploadsX", "/healthz"):
        plain = await client.get(path)
        assert (await override(client, "GET", "DELETE", path)).status_code == plain.status_code
