"""The room of the upload area: it belongs to what has arrived, each user has a share, and promises hold nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.errors import StorageFullError
from celeriac.files.sweeping import UploadSweeper
from celeriac.files.upload_limits import ALLOWANCE, counted_size
from celeriac.files.uploads import UploadArea
from celeriac.settings import Settings
from tests.kit.api.file_services import file_settings
from tests.kit.tokens import token_of

DATA = os.urandom(2_500_000)
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    files = {
        "max_upload_bytes": 40_000_000,
        "upload_quota": 60_000_000,
        "upload_quota_per_user": 8_000_000,
        "max_uploads_per_user": 5,
        "max_uploads": 12,
        "empty_upload_ttl": "10s",
    }
    return file_settings(tmp_path, redis_url=valkey_url, files=files, access={"jwt_secret": "s" * 32})


@pytest.fixture
def users(settings: Settings) -> list[dict[str, str]]:
    """The headers of three users."""
    scopes = [Scope.SUBMIT, Scope.READ]
    return [{"Authorization": f"Bearer {token_of(settings, user_id=str(i), scopes=scopes)}"} for i in range(3)]


async def raw(client: httpx.AsyncClient, user: dict[str, str], size: int = 1_500_000) -> httpx.Response:
    return await client.post("/api/v1/files", params={"filename": "a.bin"}, content=DATA[:size], headers=user)


async def multipart(client: httpx.AsyncClient, user: dict[str, str], size: int = 1_500_000) -> httpx.Response:
    return await client.post("/api/v1/files", files={"file": ("a.bin", DATA[:size])}, headers=user)


async def tus(client: httpx.AsyncClient, user: dict[str, str], length: int) -> httpx.Response:
    return await client.post("/api/v1/uploads", headers={**user, **TUS, "Upload-Length": str(length)})


def refused(answer: httpx.Response, words: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full"), answer.text
    assert words in answer.json()["detail"]


async def test_promises_of_one_user_take_no_room_of_others(
    client: httpx.AsyncClient, users: list[dict[str, str]]
) -> None:
    mallory, alice, _ = users
    # Each promises nearly all that it may have; together they promise far more than there is.
    promises = [await tus(client, mallory, 5_000_000) for _ in range(8)]
    assert [answer.status_code for answer in promises[:3]] == [201] * 3
    assert {answer.status_code for answer in promises[3:]} == {507}
    for upload in (raw, multipart):
        assert (await upload(client, alice)).status_code == 201
    begun = await tus(client, alice, 1000)
    assert begun.status_code == 201
    answer = await client.patch(
        begun.headers["location"], headers={**alice, **CHUNK, "Upload-Offset": "0"}, content=b"x" * 1000
    )
    assert answer.status_code == 204


async def test_each_user_has_a_quota_of_bytes_by_every_kind_of_upload(
    client: httpx.AsyncClient, users: list[dict[str, str]]
) -> None:
    mallory, alice, _ = users
    for upload in (raw, multipart):
        assert (await upload(client, mallory)).status_code == 201
        assert (await upload(client, mallory, 2_500_000)).status_code == 201
        if upload is raw:
            refused(await tus(client, mallory, 5_000_000), "for one user")
    for upload in (raw, multipart):
        refused(await upload(client, mallory), "exceed the quota of 8000000 for one user")
    assert (await raw(client, alice)).status_code == 201


async def test_each_user_has_a_number_of_uploads(client: httpx.AsyncClient, users: list[dict[str, str]]) -> None:
    mallory, alice, third = users
    for _ in range(5):
        assert (await raw(client, mallory, 10)).status_code == 201
    refused(await raw(client, mallory, 10), "you have 5 uploads without a task")
    refused(await multipart(client, mallory, 10), "files.max_uploads_per_user")
    refused(await tus(client, mallory, 10), "files.max_uploads_per_user")
    for user in (alice, third):
        for _ in range(5):
            await raw(client, user, 10)
    refused(await raw(client, alice, 10), "files.max_uploads")


async def test_a_resumable_upload_that_grows_beyond_the_quota_is_refused_on_its_way(
    client: httpx.AsyncClient, users: list[dict[str, str]]
) -> None:
    mallory = users[0]
    places = [(await tus(client, mallory, 5_000_000)).headers["location"] for _ in range(2)]
    statuses = []
    for offset in (0, 2_500_000):
        for place in places:
            headers = {**mallory, **CHUNK, "Upload-Offset": str(offset)}
            statuses.append((await client.patch(place, headers=headers, content=DATA)).status_code)
    assert 507 in statuses
    assert statuses[0] == 204


async def test_an_upload_without_a_byte_lives_shortly_and_says_so(
    client: httpx.AsyncClient, users: list[dict[str, str]], settings: Settings
) -> None:
    user = users[0]
    empty, begun = [await tus(client, user, 1000) for _ in range(2)]
    place = begun.headers["location"]
    answer = await client.patch(place, headers={**user, **CHUNK, "Upload-Offset": "0"}, content=b"x")
    assert answer.status_code == 204
    assert answer.headers["upload-expires"] != empty.headers["upload-expires"]
    area = UploadArea(settings.upload_folder(), settings.files)
    for file_id in area.every_id():
        for path in (area._info(file_id), area._part(file_id)):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))
    await UploadSweeper(uploads=area).step()
    assert area.every_id() == [place.rsplit("/", 1)[-1]]


def test_an_unfinished_upload_counts_for_what_arrived_and_a_little_more() -> None:
    assert counted_size(0, 20 * 1024**3) == ALLOWANCE
    assert counted_size(5_000_000, 20 * 1024**3) == 5_000_000 + ALLOWANCE
    assert counted_size(10, 20) == 20
    assert counted_size(10, None) == 10


async def test_keys_without_a_user_have_one_share_together(tmp_path: Path) -> None:
    settings = file_settings(tmp_path, files={"max_uploads_per_user": 2})
    area = UploadArea(settings.upload_folder(), settings.files, known_callers=True)
    for _ in range(2):
        await asyncio.to_thread(area.begin, name="a", media_type="", length=1)
    with pytest.raises(StorageFullError, match="max_uploads_per_user"):
        await asyncio.to_thread(area.begin, name="a", media_type="", length=1)
    await asyncio.to_thread(area.begin, name="a", media_type="", length=1, owner="7")


async def test_callers_without_a_user_id_have_the_quota_of_the_installation(tmp_path: Path) -> None:
    settings = file_settings(tmp_path, files={"max_uploads_per_user": 1, "max_uploads": 3})
    area = UploadArea(settings.upload_folder(), settings.files)
    for _ in range(3):
        await asyncio.to_thread(area.begin, name="a", media_type="", length=1)
    assert area.usage() == area.usage(None)
    assert area.usage("1")[1] is not None
