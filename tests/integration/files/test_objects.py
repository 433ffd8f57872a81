"""Storage that several machines share: one conformance suite for a folder and for a real S3 server."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.errors import FileMissingError, FileNotAllowedError, SettingsError
from celeriac.files.objects import ObjectStore, object_store
from celeriac.files.service import Files
from celeriac.files.sweeping import HandoffSweeper
from celeriac.model import Status
from celeriac.settings import FilesSettings, Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.file_services import content, file_settings
from tests.kit.api.http_serving import serving
from tests.kit.servers import free_port
from tests.kit.waiting import threading_pause
from tests.kit.workers.engine_workers import ended, submit, workers_on

DATA = os.urandom(12 * 1024**2 + 17)  # above the size from which S3 gets it in parts


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A real server that speaks S3."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, "the S3 server ended at its start"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            threading_pause()
    endpoint = f"http://127.0.0.1:{port}"
    httpx.put(f"{endpoint}/bucket").raise_for_status()
    yield endpoint
    process.kill()
    process.wait()


@pytest.fixture(params=["file", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a storage, empty at first."""
    if request.param == "file":
        return {"storage_url": (tmp_path / "shared folder").as_uri()}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    endpoint = request.getfixturevalue("s3_endpoint")
    return {
        "storage_url": f"s3://bucket/{tmp_path.name}/{os.urandom(4).hex()}",
        "s3": {"endpoint": endpoint, "region": "us-east-1"},
    }


@pytest.fixture
def objects(files: dict[str, Any]) -> ObjectStore:
    found = object_store(FilesSettings.model_validate(files))
    assert found is not None
    return found


def test_an_object_is_what_was_put(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    objects.put("videos/a b/original.mp4", source)
    facts = objects.stat("videos/a b/original.mp4")
    assert facts.size == len(DATA)
    assert abs(facts.modified.timestamp() - time.time()) < 60
    assert b"".join(objects.read("videos/a b/original.mp4")) == DATA
    assert b"".join(objects.read("videos/a b/original.mp4", 5, 10)) == DATA[5:10]
    assert b"".join(objects.read("videos/a b/original.mp4", len(DATA) - 3)) == DATA[-3:]
    assert b"".join(objects.read("videos/a b/original.mp4", 5, 5)) == b""
    objects.fetch("videos/a b/original.mp4", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == DATA
    source.write_bytes(b"other")
    objects.put("videos/a b/original.mp4", source)
    assert objects.stat("videos/a b/original.mp4").etag != facts.etag


def test_objects_are_listed_and_deleted(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    keys = ["videos/1/original.mp4", "videos/1/result.mp4", "videos/2/original.mp4"]
    for key in keys:
        objects.put(key, source)
    assert sorted(objects.list("videos/1")) == keys[:2]
    objects.delete(keys[0])
    objects.delete(keys[0])
    assert list(objects.list("videos/1")) == keys[1:2]
    assert list(objects.list("none")) == []


def test_what_is_not_there_is_missing(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        objects.stat("none")
    with pytest.raises(FileMissingError):
        list(objects.read("none"))
    with pytest.raises(FileMissingError):
        objects.fetch("none", tmp_path / "none")
    assert not list(tmp_path.glob("*none*"))


def test_a_url_is_a_key_only_in_this_storage(objects: ObjectStore) -> None:
    assert objects.key_of(objects.url_of("videos/1/a")) == "videos/1/a"
    for url in ("s3://other/videos/1/a", f"{objects.url}/../x", f"{objects.url}/a//b", objects.url, "/etc/passwd"):
        with pytest.raises(FileNotAllowedError):
            objects.key_of(url)


def test_another_scheme_is_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError, match="neither"):
        object_store(FilesSettings(storage_url="ftp://x/y"))


# --- the whole way


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str, files: dict[str, Any]) -> Settings:
    return file_settings(tmp_path, redis_url=valkey_url, files=files)


@pytest.fixture
async def intake(store: TaskStore, settings: Settings) -> AsyncIterator[Files]:
    made = Files(store=store, settings=settings)
    yield made
    await made.stop()


async def test_an_original_goes_to_the_storage_and_nothing_stays_behind(
    intake: Files, objects: ObjectStore, tmp_path: Path
) -> None:
    temp = tmp_path / "temp" / "a.mp4"
    temp.write_bytes(DATA)
    task = await intake.store.get((await intake.create(str(temp))).task_id)
    assert task.original_file_path == objects.url_of(f"videos/{task.task_id}/original.mp4")
    assert objects.stat(f"videos/{task.task_id}/original.mp4").size == len(DATA)
    assert content(tmp_path / "storage") == {}
    assert content(tmp_path / "temp") == {}


async def test_a_storage_that_is_away_leaves_the_file_where_it_was(store: TaskStore, tmp_path: Path) -> None:
    (tmp_path / "not-a-folder").write_text("x")
    files = {"storage_url": (tmp_path / "not-a-folder" / "deeper").as_uri()}
    intake = Files(store=store, settings=file_settings(tmp_path, files=files))
    temp = tmp_path / "temp" / "a.mp4"
    temp.write_bytes(DATA)
    with pytest.raises(ConnectionError):
        await intake.create(str(temp))
    assert content(tmp_path / "temp") == {"a.mp4": DATA}
    assert content(tmp_path / "storage") == {}
    await intake.stop()


async def test_what_a_dead_process_had_stored_without_a_task_is_removed(
    intake: Files, objects: ObjectStore, tmp_path: Path
) -> None:
    temp = tmp_path / "temp" / "a.mp4"
    temp.write_bytes(DATA)
    task_id = "0f0fb8a4-8a8e-4c0a-9d5b-3f8a4c0a9d5b"
    intake.handoff.prepare()
    handed = intake.handoff.take(intake.roots.open(str(temp)), task_id, "original.mp4")
    objects.put(f"videos/{task_id}/original.mp4", handed.target)
    for lock in handed.locks:  # as the end of the process does
        os.close(lock)
    sweeper = HandoffSweeper(store=intake.store, handoff=intake.handoff, objects=objects, grace_s=0)
    await sweeper.step()
    assert content(tmp_path / "temp") == {"a.mp4": DATA}
    assert list(objects.list("videos")) == []


async def test_a_result_in_the_storage_is_downloaded_whole_and_in_part(
    settings: Settings, objects: ObjectStore, store: TaskStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    objects.put("videos/t/result.mp4", source)
    record = {"status": "COMPLETED", "result_file_path": objects.url_of("videos/t/result.mp4")}
    await store.redis.hset("task:t", mapping=record)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        path = "/api/v1/tasks/t/file"
        whole = await client.get(path)
        assert (whole.status_code, whole.content) == (200, DATA)
        assert whole.headers["content-type"] == "video/mp4"
        head = await client.head(path)
        assert (head.headers["content-length"], head.content) == (str(len(DATA)), b"")
        for text, expected in (
            ("bytes=3-9", DATA[3:10]),
            ("bytes=-4", DATA[-4:]),
            ("bytes=12582900-", DATA[12582900:]),
        ):
            part = await client.get(path, headers={"Range": text})
            assert (part.status_code, part.content) == (206, expected)
        assert (await client.get(path, headers={"Range": "bytes=99999999-"})).status_code == 416
        assert (await client.get(path, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
        answer = await client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        assert answer.status_code == 200
        await store.redis.hset("task:t", "result_file_path", "s3://elsewhere/secret")
        assert (await client.get(path)).status_code == 422


async def test_a_worker_elsewhere_fetches_the_original_and_puts_the_result(
    store: TaskStore, valkey_url: str, files: dict[str, Any], objects: ObjectStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    objects.put("videos/t/original.bin", source)
    async with workers_on(tmp_path, valkey_url) as workers:
        await workers.start(store, files={**files, "storage_path": str(tmp_path / "of the worker")})
        good, gone = [
            await submit(
                store,
                "file_process",
                {"processor": "compress", "options": {"algorithm": "gzip"}},
                original_file_path=objects.url_of(f"videos/t/{name}"),
            )
            for name in ("original.bin", "none.bin")
        ]
        task = await ended(store, good, timeout_s=60)
        assert task.status is Status.COMPLETED, task.error
        [key] = objects.list(f"videos/{good}")
        assert task.result_file_path == task.result["result_file_path"] == objects.url_of(key)
        assert gzip.decompress(b"".join(objects.read(key))) == DATA
        failed = await ended(store, gone, timeout_s=60)
        assert failed.status is Status.FAILED
        assert content(tmp_path / "of the worker") == {}
