"""Task control as its users meet it: `celeriac up`, HTTP, Python, the command line; and what a restart leaves."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac import TaskControlService, TaskTriggerType
from celeriac.errors import DefinitionNotFoundError, IllegalDefinitionMoveError, InvalidSubmissionError
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

TYPES = """
from celeriac import task

@task("greet")
def greet(payload: dict) -> str:
    return "hello " + payload["name"]
"""

GREET = {"type": "greet", "payload": {"name": "ann"}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "greeting.py").write_text(TYPES)
    (tmp_path / "celeriac.yaml").write_text("imports: [greeting]\n")
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CELERIAC_", "REDIS_", "DATABASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(project)


def slots(items: list[dict[str, Any]]) -> list[str]:
    return [item["scheduled_at"] for item in items if item["trigger"] == "schedule"]


@pytest.mark.usefixtures("elsewhere")
async def test_definitions_from_every_side_and_across_a_restart(project: Path) -> None:
    data_dir = project / ".celeriac"
    service = TaskControlService()
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        definition_id = await asyncio.to_thread(
            service.create_task,
            user_id=7,
            trigger_type=TaskTriggerType.LOOP,
            trigger_args={"interval": 1},
            task=GREET,
        )

        async def completed() -> list[dict[str, Any]]:
            items = await asyncio.to_thread(service.get_task_instances, definition_id)
            done = [item for item in items if item["status"] == "completed"]
            return done if len(done) >= 2 else []

        items = await eventually(completed, because="a worker of `up` runs instances")
        assert items[0]["result"] == "hello ann"
        assert [d["task_def_id"] for d in await asyncio.to_thread(service.get_user_tasks, 7)] == [definition_id]
        assert (await asyncio.to_thread(service.pause_schedule, definition_id))["status"] == "PAUSED"
        task_id = await asyncio.to_thread(service.trigger_immediately, definition_id)
        assert task_id in [i["task_id"] for i in await asyncio.to_thread(service.get_task_instances, definition_id)]
        await asyncio.to_thread(service.resume_schedule, definition_id)
        for refused, error in (
            (lambda: service.get_task_definition("nobody"), DefinitionNotFoundError),
            (
                lambda: service.create_task(user_id=1, content="x", trigger_type="LOOP", trigger_args={"interval": 0}),
                InvalidSubmissionError,
            ),
        ):
            with pytest.raises(error):
                await asyncio.to_thread(refused)

        async with httpx.AsyncClient(timeout=60, base_url=up.run_json["http"]) as client:
            shown = (await client.get(f"/tasks/{definition_id}")).json()
            assert shown["status"] in ("ACTIVE", "RUNNING")
        code, out, _ = await up.cli("definitions", "list", "--json")
        assert code == 0
        assert json.loads(out.splitlines()[0])["task_def_id"] == definition_id
        # A beat that dies is started again, and goes on.
        before = up.pid("beat")
        up.kill("beat")
        await eventually(lambda: up.pid("beat") not in (0, before), because="`up` starts another beat")
        await asyncio.to_thread(service.close)
        assert await up.stop() == 0

    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        earlier = slots(await asyncio.to_thread(service.get_task_instances, definition_id))

        async def later() -> bool:
            items = await asyncio.to_thread(service.get_task_instances, definition_id)
            return len(set(slots(items)) - set(earlier)) >= 2

        await eventually(later, because="the definition goes on after a restart")
        everything = slots(await asyncio.to_thread(service.get_task_instances, definition_id))
        assert len(everything) == len(set(everything))
        assert len({slot[-4:] for slot in everything}) == 1, "the phase is the same, to the millisecond"
        assert (await asyncio.to_thread(service.cancel_task, definition_id))["status"] == "CANCELLED"
        with pytest.raises(IllegalDefinitionMoveError):
            await asyncio.to_thread(service.resume_schedule, definition_id)
        await asyncio.to_thread(service.close)
        await up.stop()
