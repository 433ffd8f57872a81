"""Back up, destroy, restore, as docs/operations.md says: everything is there, and goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.command_line import REPOSITORY, celeriac
from tests.kit.servers import free_port
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

ENDED = ("completed", "failed", "cancelled")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "celeriac.yaml"
    path.write_text("imports: [tests.kit.up.pages_types]\n")
    return path


def running(data_dir: Path, config: Path) -> RunningUp:
    return RunningUp(data_dir, "--config", str(config), cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY))


async def back_up(data_dir: Path, target: Path) -> tuple[int, str, str]:
    return await celeriac("backup", str(target), "--data-dir", data_dir.name, cwd=data_dir.parent)


async def submit(api: httpx.AsyncClient, type: str, payload: dict[str, Any], **more: Any) -> str:
    answer = await api.post("tasks", json={"type": type, "payload": payload, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def record(api: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    answer = await api.get(f"tasks/{task_id}")
    return dict(answer.json()) if answer.status_code == 200 else {"status": "unknown"}


async def test_what_was_backed_up_is_there_after_everything_is_lost_and_goes_on(tmp_path: Path, config: Path) -> None:
    data_dir, backup = tmp_path / "data", tmp_path / "backups" / "today"
    mail = {"to": "ada@example.org"}
    with running(data_dir, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            done = [await submit(api, "mail.send", mail) for _ in range(20)]
            failed = await submit(api, "card.charge", {"amount": 1, "card": "4000"})
            for task_id in (*done, failed):

                async def ended(task_id: str = task_id) -> bool:
                    return (await record(api, task_id))["status"] in ENDED

                await eventually(ended, because=f"{task_id} ends")
            later = await submit(api, "mail.send", mail, delay="1h")
            runs = await submit(api, "report.render", {"customer": 7, "pause_s": 0.5, "pages": 16})
            definition = {"user_id": 7, "task": {"type": "mail.send", "payload": mail}, "trigger_type": "LOOP"}
            made = await api.post("definitions", json={**definition, "trigger_args": {"interval": 3600}})
            definition_id = made.json()["task_def_id"]
            code, key, _ = await up.cli("keys", "create", "ci", "--user", "7", "--json")
            assert code == 0

            async def started() -> bool:
                return bool((await record(api, runs))["progress"]["percentage"])

            await eventually(started, because="the report is being written")
            code, told, complaint = await back_up(data_dir, backup)
            assert code == 0, complaint
            assert told.endswith(f"Start it with: celeriac up --data-dir {backup}\n")
            assert os.listdir(backup.parent) == ["today"]
            code, _, complaint = await back_up(data_dir, backup)
            assert (code, complaint) == (
                2,
                f"celeriac: {backup} exists already and is not overwritten: name a new folder\n",
            )
            lost = await submit(api, "mail.send", mail)
        # Nothing is stopped in order: all of it is killed at the end of the block, and its folder is gone.
    shutil.rmtree(data_dir)

    shutil.copytree(backup, data_dir)
    with running(data_dir, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            for task_id in done:
                assert (await record(api, task_id))["result"]["to"] == "ada@example.org"
            assert (await record(api, failed))["error"]["code"] == "card_declined"
            assert (await record(api, later))["status"] == "scheduled"
            assert (await record(api, lost))["status"] == "unknown", "it came after the backup"

            async def finished() -> bool:
                return (await record(api, runs))["status"] == "completed"

            await eventually(finished, because="what ran is taken over", timeout_s=90)
            assert (await record(api, runs))["result"] == {"customer": 7, "pages": 16}
            restored = (await api.get(f"definitions/{definition_id}")).json()
            assert (restored["status"], restored["next_run_at"]) == ("ACTIVE", made.json()["next_run_at"])
            again = (await api.post(f"definitions/{definition_id}/trigger", json={})).json()["task_id"]

            async def listed() -> bool:
                page = (await api.get("tasks", params={"type": "mail.send", "limit": 100})).json()["items"]
                ids = {task["task_id"] for task in page if task["status"] == "completed"}
                return {*done, again} <= ids

            await eventually(listed, because="the history has what was, and what came since", timeout_s=30)
            code, keys, _ = await up.cli("keys", "list", "--json")
            assert json.loads(key)["id"] in keys
        assert await up.stop() == 0


async def test_a_platform_that_is_stopped_is_backed_up_too(tmp_path: Path, config: Path) -> None:
    data_dir, backup = tmp_path / "data", tmp_path / "backup"
    with running(data_dir, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            task_id = await submit(api, "mail.send", {"to": "ada@example.org"}, delay="1h")
        assert await up.stop() == 0
    assert (await back_up(data_dir, backup))[0] == 0
    with running(backup, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            assert (await record(api, task_id))["status"] == "scheduled"
        assert await up.stop() == 0


async def test_a_backup_of_a_platform_that_was_killed_has_what_it_kept(tmp_path: Path, config: Path) -> None:
    data_dir, backup = tmp_path / "data", tmp_path / "backup"
    with running(data_dir, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            task_id = await submit(api, "mail.send", {"to": "ada@example.org"}, delay="1h")
    assert (data_dir / "run.json").exists()
    code, _, complaint = await back_up(data_dir, backup)
    assert code == 0, complaint
    with running(backup, config) as up:
        await up.ready()
        async with httpx.AsyncClient(base_url=f"{up.run_json['http']}/api/v1/", timeout=20) as api:
            assert (await record(api, task_id))["status"] == "scheduled"


async def test_a_backup_that_cannot_be_made_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    code, _, complaint = await back_up(tmp_path / "data", tmp_path / "backup")
    assert (code, complaint) == (2, "celeriac: there is no data folder data: name the right one with --data-dir\n")
    (tmp_path / "data").mkdir()
    code, _, complaint = await back_up(tmp_path / "data", tmp_path / "data" / "backup")
    assert (code, "is inside the data folder data: name a folder outside of it" in complaint) == (2, True)
    (tmp_path / "data" / "broken.db").write_text("this is no database, however long it is " * 20)
    code, _, complaint = await back_up(tmp_path / "data", tmp_path / "backup")
    assert code == 2
    assert complaint.startswith(f"celeriac: cannot copy data to {tmp_path / 'backup'}: file is not a database")
    assert os.listdir(tmp_path) == ["data"]


async def test_no_backup_is_made_of_a_store_that_runs_and_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "data" / "valkey" / "appendonlydir").mkdir(parents=True)
    addresses = {"http": "", "grpc": "", "redis": f"redis://127.0.0.1:{free_port()}/0", "database": ""}
    about = {**addresses, "version": "", "pid": os.getpid(), "started_at": ""}
    (tmp_path / "data" / "run.json").write_text(json.dumps(about))
    code, _, complaint = await back_up(tmp_path / "data", tmp_path / "backup")
    assert (code, complaint.count("\n")) == (3, 1), complaint
    assert os.listdir(tmp_path) == ["data"]
