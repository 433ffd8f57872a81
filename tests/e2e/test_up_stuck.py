"""`celeriac up` and a process whose event loop is stuck: blocked, stopped, or on a machine that slept."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from celeriac.up.heartbeat import Silence
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually, serves

#: A type whose payload blocks whoever checks it, and one that runs until a file exists.
TYPES = """
import asyncio, os, time
from celeriac import task
from pydantic import BaseModel, field_validator

class Blocking(BaseModel):
    seconds: float

    @field_validator("seconds")
    @classmethod
    def wait_for_nothing(cls, value: float) -> float:
        time.sleep(value)
        return value

@task("stuck.block")
async def block(payload: Blocking) -> None:
    pass

@task("stuck.wait")
async def wait(payload: dict[str, str]) -> str:
    while not os.path.exists(payload["path"]):
        await asyncio.sleep(0.05)
    return "done"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stucktypes.py").write_text(TYPES)
    (tmp_path / "celeriac.yaml").write_text("imports: [stucktypes]\nup: {stuck_after: 3}\n")
    return tmp_path


async def _new_pid(up: RunningUp, role: str, old: int) -> int:
    await eventually(lambda: up.pid(role) not in (0, old), because=f"{role} is started again", timeout_s=60)
    return up.pid(role)


async def test_a_blocked_api_is_started_again_and_nothing_is_lost(project: Path) -> None:
    go = project / "go"
    with RunningUp(project / "data", cwd=project) as up:
        await up.ready()
        old = up.pid("api")
        async with httpx.AsyncClient(base_url=up.run_json["http"], timeout=60) as client:
            answer = await client.post("/api/v1/tasks", json={"type": "stuck.wait", "payload": {"path": str(go)}})
            task_id = answer.json()["task_id"]
            with pytest.raises(httpx.TransportError):
                await client.post("/api/v1/tasks", json={"type": "stuck.block", "payload": {"seconds": 3600}})
            await up.said("the event loop of api has been stuck for")
            await _new_pid(up, "api", old)
            await up.said("api was killed by SIGKILL: starting it again")
            assert "in wait_for_nothing" in up.text, "it says where it was stuck"
            await eventually(lambda: serves(client, "/readyz"), because="clients can connect again", timeout_s=30)
            go.touch()

            async def completed() -> bool:
                return (await client.get(f"/api/v1/tasks/{task_id}")).json()["status"] == "completed"

            await eventually(completed, because="the task is not lost", timeout_s=30)

            async def recorded() -> list[dict[str, str]]:
                return list((await client.get("/api/v1/tasks")).json()["items"])

            listed = await eventually(recorded, because="the history has it")
            assert [task["type"] for task in listed] == ["stuck.wait"], "nothing half-made is left"


@pytest.mark.parametrize("role", ["api", "beat"])
async def test_a_process_that_was_stopped_is_started_again(project: Path, role: str) -> None:
    with RunningUp(project / "data", cwd=project) as up:
        await up.ready()
        old, others = up.pid(role), {name: up.pid(name) for name in ("api", "beat", "worker") if name != role}
        os.kill(old, signal.SIGSTOP)
        await up.said(f"the event loop of {role} has been stuck for")
        await _new_pid(up, role, old)
        assert {name: up.pid(name) for name in others} == others


async def test_a_machine_that_slept_kills_nothing(project: Path) -> None:
    with RunningUp(project / "data", cwd=project) as up:
        await up.ready()
        pids = dict(up.run_json["pids"])
        everything = [up.process.pid, *pids.values()]
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(6)  # twice the limit
        for pid in everything:
            os.kill(pid, signal.SIGCONT)

        async with httpx.AsyncClient(base_url=up.run_json["http"], timeout=60) as client:
            await eventually(lambda: serves(client, "/healthz"), because="it goes on")
        await asyncio.sleep(2)
        assert "has been stuck" not in up.text
        assert up.run_json["pids"] == pids


def test_only_time_in_which_a_child_could_have_run_counts() -> None:
    silence = Silence()
    silence.tick(planned_s=1, passed_s=1, cpu_s=None)
    assert silence.seconds == 0, "it has not begun"
    silence.beat()
    silence.tick(planned_s=1, passed_s=1, cpu_s=None)
    silence.tick(planned_s=1, passed_s=1, cpu_s=0.25)
    assert silence.seconds == 1.25, "it waited for a second, and a busy machine gave it a quarter of the next one"
    silence.tick(planned_s=1, passed_s=3600, cpu_s=None)
    assert silence.seconds == 1.25, "the machine slept"
    silence.beat()
    assert silence.seconds == 0
