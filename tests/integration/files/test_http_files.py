"""Files over HTTP: streamed in, handed to a task, downloaded again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.files.handoff import Handoff
from celeriac.files.sweeping import HandoffSweeper, UploadSweeper
from celeriac.files.uploads import UploadArea
from celeriac.model import Claim
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.file_services import content, file_settings
from tests.kit.waiting import eventually

DATA = os.urandom(3_000_000)
FORM = "multipart/form-data; boundary=b"
SHA256 = hashlib.sha256(DATA)


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    # Its limit on ordinary bodies is far below what is uploaded here.
    files = {
        "max_upload_bytes": 4_000_000,
        "upload_quota": 9_000_000,
        "upload_types": ["video/*", "image/png", "text/*"],
    }
    return file_settings(tmp_path, redis_url=valkey_url, max_body_bytes=100_000, files=files)


def uploads_of(folder: Path) -> dict[str, bytes]:
    """Return what is in the upload area, the lock file apart."""
    found = content(folder / "data" / "uploads") if (folder / "data").exists() else {}
    return {name: data for name, data in found.items() if not name.endswith("lock")}


async def upload(
    client: httpx.AsyncClient, name: str = "clip.mp4", data: bytes = DATA, **options: Any
) -> dict[str, Any]:
    answer = await client.post("/api/v1/files", params={"filename": name}, content=data, **options)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def process(client: httpx.AsyncClient, payload: dict[str, Any], **options: Any) -> httpx.Response:
    document = {"type": "file_process", "payload": {"processor": "checksum", **payload}}
    return await client.post("/api/v1/tasks", json=document, **options)


async def test_the_name_may_be_the_last_part_of_the_path(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await client.put("/api/v1/files/My%20Clip.MP4", content=DATA)
    assert answer.status_code == 201, answer.text
    facts = (await client.get(answer.headers["location"])).json()
    assert (facts["filename"], facts["size"], facts["sha256"]) == ("My Clip.MP4", len(DATA), SHA256.hexdigest())
    assert list(uploads_of(tmp_path).values())[-1] == DATA


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_bare_body_is_streamed_to_the_disk(client: httpx.AsyncClient, tmp_path: Path, method: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 70_000):
            yield DATA[start : start + 70_000]

    answer = await client.request(method, "/api/v1/files", params={"filename": "Clip.MP4"}, content=chunks())
    assert answer.status_code == 201, answer.text
    stored = answer.json()
    assert set(stored) == {"file_id", "path", "size", "sha256"}
    assert (stored["size"], stored["sha256"]) == (len(DATA), SHA256.hexdigest())
    assert stored["path"].endswith(".mp4")
    assert list(uploads_of(tmp_path).values())[-1] == DATA
    facts = (await client.get(answer.headers["location"])).json()
    assert (facts["filename"], facts["media_type"], facts["sha256"]) == ("Clip.MP4", "video/mp4", SHA256.hexdigest())


async def test_a_multipart_form_is_streamed_to_the_disk(client: httpx.AsyncClient, tmp_path: Path) -> None:
    files = {"file": ('../../näive "q".mp4', DATA, "video/mp4")}
    answer = await client.post("/api/v1/files", files=files, data={"note": "hello", "more": "x" * 10_000})
    assert answer.status_code == 201, answer.text
    stored = answer.json()
    assert list(uploads_of(tmp_path).values())[-1] == DATA
    assert stored["sha256"] == SHA256.hexdigest()
    facts = (await client.get(f"/api/v1/files/{stored['file_id']}")).json()
    assert "näive" in facts["filename"]
    assert "/" not in facts["filename"]


@pytest.mark.parametrize(
    "header",
    [
        lambda d: {"X-Checksum-Sha256": d.hex()},
        lambda d: {"Content-Digest": f"sha-256=:{base64.b64encode(d).decode()}:"},
        lambda d: {"Repr-Digest": f"md5=:AAAA:, sha-256=:{base64.b64encode(d).decode()}:"},
        lambda d: {"Digest": f"SHA-256={base64.b64encode(d).decode()}"},
    ],
)
async def test_a_digest_sent_along_is_checked(client: httpx.AsyncClient, tmp_path: Path, header: Any) -> None:
    await upload(client, headers=header(SHA256.digest()))
    files = {"file": ("a.mp4", DATA)}
    assert (await client.post("/api/v1/files", files=files, headers=header(SHA256.digest()))).status_code == 201
    before = uploads_of(tmp_path)
    wrong = header(hashlib.sha256(b"else").digest())
    for options in ({"content": DATA, "params": {"filename": "a.mp4"}}, {"files": files}):
        answer = await client.post("/api/v1/files", headers=wrong, **options)
        assert (answer.status_code, answer.json()["code"]) == (422, "checksum_mismatch")
    assert uploads_of(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": b"x" * 4_000_001, "params": {"filename": "a.mp4"}}, 413, "too_large"),
        ({"content": b"x", "params": {"filename": "a.exe"}}, 415, "unsupported_media_type"),
        ({"content": b"x", "params": {"filename": "a.mp4"}, "headers": {"Content-Type": "text/csv"}}, 201, None),
        ({"content": b"x", "params": {"filename": "a.mp4"}, "headers": {"Content-Type": "audio/aac"}},
         415, "unsupported_media_type"),
        ({"content": b"x"}, 422, "invalid_request"),
        ({"content": b"x", "params": {"filename": "a.mp4"}, "headers": {"X-Checksum-Sha256": "?"}},
         400, "invalid_header"),
        ({"files": {"other": ("a.mp4", b"x")}}, 422, "invalid_request"),
        ({"files": [("file", ("a.mp4", b"x")), ("file", ("b.mp4", b"x"))]}, 422, "invalid_request"),
        ({"content": b"garbage", "headers": {"Content-Type": FORM}}, 400, "bad_request"),
        ({"content": b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\ncut',
          "headers": {"Content-Type": FORM}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_request"),
    ],
)  # fmt: skip
async def test_what_is_not_taken_is_a_problem_and_leaves_nothing(
    client: httpx.AsyncClient, tmp_path: Path, options: dict[str, Any], status: int, code: str | None
) -> None:
    answer = await client.post("/api/v1/files", **options)
    assert answer.status_code == status, answer.text
    if code is not None:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code
        assert uploads_of(tmp_path) == {}


async def test_a_body_without_a_length_stops_at_the_limit(client: httpx.AsyncClient, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    try:
        answer = await client.post("/api/v1/files", params={"filename": "a.mp4"}, content=endless())
        assert answer.status_code == 413
    except (httpx.WriteError, httpx.ReadError):
        pass  # the server had had enough before the client came to read
    await eventually(lambda: uploads_of(tmp_path) == {}, because="nothing of it is kept")


async def test_all_uploads_together_stay_within_the_quota(client: httpx.AsyncClient, tmp_path: Path) -> None:
    first = await upload(client)
    await upload(client)
    await upload(client, data=DATA[:2_900_000])
    answer = await client.post("/api/v1/files", params={"filename": "a.mp4"}, content=DATA)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert (await client.delete(f"/api/v1/files/{first['file_id']}")).status_code == 204
    assert (await client.get(f"/api/v1/files/{first['file_id']}")).status_code == 404
    await upload(client)


async def test_a_client_that_hangs_up_leaves_nothing(client: httpx.AsyncClient, tmp_path: Path) -> None:
    _reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = "POST /api/v1/files?filename=a.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n"
    writer.write(head.encode() + DATA[:2_000_000])
    await eventually(lambda: any(n.endswith(".part") for n in uploads_of(tmp_path)), because="it has begun")
    writer.close()
    await eventually(lambda: uploads_of(tmp_path) == {}, because="what came of it is removed")


# --- handed to a task


async def test_a_task_takes_an_upload_over(client: httpx.AsyncClient, tmp_path: Path, valkey_url: str) -> None:
    stored = await upload(client, "holiday clip.mp4")
    answer = await process(client, {"file_id": stored["file_id"]})
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["task_id"]
    original = tmp_path / "storage" / "videos" / task_id / "original.mp4"
    assert original.read_bytes() == DATA
    assert uploads_of(tmp_path) == {}
    assert (await client.get(f"/api/v1/files/{stored['file_id']}")).status_code == 404
    again = await process(client, {"file_id": stored["file_id"]})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "payload.file_id")
    async with TaskStore(valkey_url, Settings().store) as store:
        assert (await store.get(task_id)).original_file_path == str(original)
    download = await client.get(f"/api/v1/tasks/{task_id}/original")
    assert download.content == DATA
    assert download.headers["content-disposition"] == 'attachment; filename="holiday clip.mp4"'


async def test_the_path_of_an_upload_is_as_good_as_its_id(client: httpx.AsyncClient, tmp_path: Path) -> None:
    stored = await upload(client, "data.txt")
    task_id = (await process(client, {"path": stored["path"]})).json()["task_id"]
    assert (tmp_path / "storage" / "videos" / task_id / "original.txt").read_bytes() == DATA
    assert uploads_of(tmp_path) == {}


async def test_another_file_on_the_server_is_read_where_it_is(client: httpx.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "temp" / "a.mp4"
    path.write_bytes(DATA)
    answer = await process(client, {"path": str(path)})
    assert answer.status_code == 202
    assert path.exists()
    assert (await client.get(f"/api/v1/tasks/{answer.json()['task_id']}/original")).content == DATA


@pytest.mark.parametrize(
    "payload",
    [{}, {"file_id": "x"}, {"file_id": "../../etc/passwd"}, {"path": "/etc/passwd"}, {"path": "TEMP/none"},
     {"path": "TEMP"}, {"path": "TEMP/../secret"}, {"path": ""}],
)  # fmt: skip
async def test_a_file_that_cannot_be_had_is_422_and_the_field_is_named(
    client: httpx.AsyncClient, tmp_path: Path, payload: dict[str, str]
) -> None:
    payload = {name: value.replace("TEMP", str(tmp_path / "temp")) for name, value in payload.items()}
    answer = await process(client, payload)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith("payload.")


async def test_an_idempotency_key_answers_the_first_task_though_its_file_is_gone(client: httpx.AsyncClient) -> None:
    stored = await upload(client)
    answers = [
        await process(client, {"file_id": stored["file_id"]}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json()["task_id"] == answers[1].json()["task_id"]


async def test_a_key_whose_first_submission_may_be_undone_is_not_answered_with_its_task(
    client: httpx.AsyncClient, tmp_path: Path, valkey_url: str
) -> None:
    """The store was stalled: the file was given back or is about to be, and the record arrived nevertheless."""
    stored = await upload(client)

    async def ask() -> httpx.Response:
        return await process(client, {"file_id": stored["file_id"]}, headers={"Idempotency-Key": "k"})

    task_id = (await ask()).json()["task_id"]
    journal = tmp_path / "storage" / ".handoff" / task_id
    for entry in (journal, journal.with_name(f"{task_id}.void")):
        entry.write_bytes(b"")
        answer = await ask()
        assert (answer.status_code, answer.json()["code"]) == (409, "file_busy")
        if entry == journal:
            entry.unlink()  # the handoff is done
            # No worker runs here, so there is a warning too.
            answer = (await ask()).json()
            assert (answer["task_id"], answer["status"]) == (task_id, "pending")
    async with TaskStore(valkey_url, Settings().store) as store:
        await HandoffSweeper(store=store, handoff=Handoff(tmp_path / "storage"), grace_s=0).step()
    assert (await ask()).json() == {"task_id": task_id, "status": "cancelled"}


async def test_of_many_tasks_for_one_upload_one_gets_it(client: httpx.AsyncClient, tmp_path: Path) -> None:
    stored = await upload(client)
    answers = await asyncio.gather(*(process(client, {"file_id": stored["file_id"]}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers)[0] == 202
    assert sum(answer.status_code == 202 for answer in answers) == 1
    assert len(os.listdir(tmp_path / "storage" / "videos")) == 1
    assert not os.listdir(tmp_path / "storage" / ".handoff")


# --- downloads


@pytest.fixture
async def finished(client: httpx.AsyncClient, tmp_path: Path, valkey_url: str) -> str:
    """The URL of a task with a result file."""
    stored = await upload(client)
    task_id = str((await process(client, {"file_id": stored["file_id"]})).json()["task_id"])
    url = f"/api/v1/tasks/{task_id}"
    assert (await client.get(f"{url}/file")).status_code == 404
    result = tmp_path / "storage" / "videos" / task_id / "result.mp4"
    result.write_bytes(DATA)
    async with TaskStore(valkey_url, Settings().store) as store:
        claim = await store.claim(task_id, worker="tester")
        assert isinstance(claim, Claim)
        await store.complete(claim, "{}", str(result))
    return url


async def test_a_result_is_downloaded_whole_in_part_and_not_again(client: httpx.AsyncClient, finished: str) -> None:
    url = f"{finished}/file"
    whole = await client.get(url)
    assert whole.content == DATA
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == 'attachment; filename="result.mp4"'
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in whole.headers["content-security-policy"]
    etag = whole.headers["etag"]
    head = await client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))

    part = await client.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, DATA[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(DATA)}"
    assert (await client.get(url, headers={"Range": "bytes=-5"})).content == DATA[-5:]
    several = await client.get(url, headers={"Range": "bytes=0-1,10-11"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert several.content.count(b"Content-Range:") == 2

    for known, status in ((etag, 206), ('"other"', 200)):
        answer = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": known})
        assert answer.status_code == status
    assert (await client.get(url, headers={"If-None-Match": f'"x", {etag}'})).status_code == 304
    assert (await client.get(url, headers={"If-Modified-Since": whole.headers["last-modified"]})).status_code == 304
    beyond = await client.get(url, headers={"Range": "bytes=99999999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert beyond.json()["code"] == "range_not_satisfiable"
    assert (await client.get(url, params={"inline": "1"})).headers["content-disposition"].startswith("inline")


async def test_a_page_of_a_stranger_is_never_shown(client: httpx.AsyncClient) -> None:
    for name, text in (("a.html", b"<script>alert(1)</script>"), ("a.txt", b"plain")):
        stored = await upload(client, name, text)
        task_id = (await process(client, {"file_id": stored["file_id"]})).json()["task_id"]
        answer = await client.get(f"/api/v1/tasks/{task_id}/original", params={"inline": "1"})
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"].startswith("application/octet-stream" if "html" in name else "text/plain")


async def test_a_path_outside_is_not_sent_whatever_the_record_says(
    client: httpx.AsyncClient, tmp_path: Path, valkey_url: str
) -> None:
    async with TaskStore(valkey_url, Settings().store) as store:
        (tmp_path / "storage" / "videos" / "x").mkdir(parents=True)
        link = tmp_path / "storage" / "videos" / "x" / "link"
        link.symlink_to("/etc/passwd")
        for n, path in enumerate(["/etc/passwd", str(link), str(tmp_path / "storage" / "videos" / "x"), "relative"]):
            await store.redis.hset(f"task:t{n}", mapping={"status": "COMPLETED", "result_file_path": path})
            assert (await client.get(f"/api/v1/tasks/t{n}/file")).status_code in (404, 422), path


# --- abandoned


@pytest.fixture
def area(tmp_path: Path) -> UploadArea:
    settings = file_settings(tmp_path, files={"upload_ttl": "1h"})
    return UploadArea(settings.upload_folder(), settings.files)


async def test_abandoned_uploads_are_removed_and_others_stay(area: UploadArea, tmp_path: Path) -> None:
    old, fresh, dead = [area.begin(name="a.mp4", media_type="", length=None) for _ in range(3)]
    for info in (old, fresh):
        with area.open(info.file_id) as writer:
            writer.write(b"x")
            writer.finish()
    (area.folder / "placed-by-hand.mp4").write_bytes(b"x")
    for file_id, age_s in ((old.file_id, 4000), (dead.file_id, 100)):
        for path in (area._info(file_id), area._part(file_id)):
            if path.exists():
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_s))
    await UploadSweeper(uploads=area).step()
    assert area.every_id() == [fresh.file_id]
    assert sorted(name for name in os.listdir(area.folder) if name != ".incoming") == sorted(
        [f"{fresh.file_id}.mp4", "placed-by-hand.mp4"]
    )
