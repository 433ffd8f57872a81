"""The platform's own files, its secrets above all, are not a task's file, however a caller names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from celeriac.errors import TaskError
from celeriac.files.roots import AllowedRoots
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.api.file_services import content, file_settings, rpc_serving
from tests.kit.files.file_runs import FileRun

#: Files below the folder that a careless operator allows as a whole.
OWN = [
    *("data/token_secret", "data/up.lock", "data/run.json", "data/valkey/valkey.conf", "data/valkey/password"),
    *("data/celeriac.db", "data/celeriac.db-wal", "data/celeriac.db-journal", "data/.run.json.1234", "data/other"),
    *("data/uploads/.incoming/a.json", "storage/videos/1234/original.mp4", "storage/.handoff/1234"),
    *("celeriac.yaml", "secrets/jwt", "history.db", "history.db-wal", "executor.key"),
]
ALLOWED = ["data/uploads/film.mp4", "temp/film.mp4", "storage/elsewhere/film.mp4", "celeriac.yaml.txt"]


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in (*OWN, *ALLOWED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a secret")
    monkeypatch.setenv("CELERIAC_CONFIG", str(tmp_path / "celeriac.yaml"))
    monkeypatch.setenv("JWT_SECRET_FILE", str(tmp_path / "secrets" / "jwt"))
    executor = {"address": "h:1", "tls": {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "executor.key"}}
    return file_settings(
        tmp_path,
        redis_url=valkey_url,
        database_url=f"sqlite:///{tmp_path / 'history.db'}",
        files={"allowed_roots": [tmp_path, tmp_path / "data"]},
        grpc_services={"services": {"x": executor}},
    )


def spellings(folder: Path, name: str) -> Iterator[str]:
    """Yield the ways to name a file: directly, by dots, and by links to it and to its folder."""
    yield str(folder / name)
    yield f"{folder}/temp/../{name}"
    link = folder / "temp" / "link.mp4"
    link.unlink(missing_ok=True)
    link.symlink_to(folder / name)
    yield str(link)
    above = folder / "temp" / "folder"
    above.unlink(missing_ok=True)
    above.symlink_to((folder / name).parent)
    yield str(above / Path(name).name)


def test_no_spelling_of_an_own_file_is_inside_the_roots(tmp_path: Path, settings: Settings) -> None:
    roots = AllowedRoots.of(settings, configuration=[tmp_path / "celeriac.yaml", tmp_path / "secrets" / "jwt"])
    found = [path for name in OWN for path in spellings(tmp_path, name) if roots.contain(os.path.realpath(path))]
    assert found == []
    assert all(roots.contain(str(tmp_path / name)) for name in ALLOWED)


def test_the_folder_itself_as_a_root_opens_nothing_but_the_upload_area(tmp_path: Path) -> None:
    for root in ("data", ".", "data/valkey", "data/../data", "/"):
        settings = file_settings(tmp_path, files={"allowed_roots": [tmp_path / root]})
        roots = AllowedRoots.of(settings)
        assert not roots.contain(str(tmp_path / "data" / "token_secret")), root
        assert not roots.contain(str(tmp_path / "data" / "valkey" / "password")), root
        assert roots.contain(str(tmp_path / "data" / "uploads" / "x.mp4")) is (root != "data/valkey"), root


def test_the_key_of_the_server_is_not_inside(tmp_path: Path) -> None:
    tls = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    roots = AllowedRoots.of(file_settings(tmp_path, files={"allowed_roots": [tmp_path]}, access={"tls": tls}))
    assert not roots.contain(str(tmp_path / "key.pem"))


def test_a_root_inside_of_the_data_folder_is_one(tmp_path: Path) -> None:
    settings = file_settings(tmp_path, files={"allowed_roots": [tmp_path / "data" / "inbox"]})
    roots = AllowedRoots.of(settings)
    assert roots.contain(str(tmp_path / "data" / "inbox" / "x.mp4"))
    assert not roots.contain(str(tmp_path / "data" / "inbox.mp4"))
    assert not roots.contain(str(tmp_path / "data" / "uploads" / "x.mp4"))


async def test_no_door_takes_an_own_file(
    tmp_path: Path, settings: Settings, client: httpx.AsyncClient, store: TaskStore
) -> None:
    before = content(tmp_path / "data")
    # An admin's task may read the file of another task, where it lies.
    for name in (name for name in OWN if "/videos/" not in name):
        path = str(tmp_path / name)
        document = {"type": "file_process", "payload": {"processor": "checksum", "path": path}}
        answer = await client.post("/api/v1/tasks", json=document)
        if answer.status_code == 202:  # a path is looked at when the task runs
            with pytest.raises(TaskError) as failed:
                await FileRun(settings=settings)("checksum", path=path)
            assert failed.value.code == "invalid_input", name
        else:
            assert answer.status_code in (400, 422), (name, answer.text)
    async with rpc_serving(store, settings) as (_, channel, _):
        stub = task_pb2_grpc.TaskServiceStub(channel)
        for name in OWN:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(tmp_path / name)))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
    assert content(tmp_path / "data") == before
