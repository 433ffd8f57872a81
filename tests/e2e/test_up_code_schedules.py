"""`@task(schedule=...)` on a running `celeriac up`: deaths, restarts, edits of the code, and what people may change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

TYPES = """
from celeriac import every, task

@task(schedule=every("{interval}", payload={{"name": "ann"}}))
def greet(name: str) -> str:
    return "hello " + name
"""


def write(project: Path, interval: str) -> None:
    (project / "greeting.py").write_text(TYPES.format(interval=interval))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, "500ms")
    (tmp_path / "celeriac.yaml").write_text("imports: [greeting]\n")
    return tmp_path


@pytest.mark.timeout(240)
async def test_a_schedule_in_the_code_fires_through_deaths_and_edits(project: Path) -> None:
    data_dir = project / ".celeriac"
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        async with httpx.AsyncClient(timeout=60, base_url=up.run_json["http"]) as client:

            async def definition() -> dict[str, Any]:
                (found,) = (await client.get("/api/v1/definitions?source=code")).json()["items"] or [{}]
                return dict(found)

            async def instances() -> list[dict[str, Any]]:
                url = f"/api/v1/definitions/{(await definition())['task_def_id']}/instances?limit=500"
                return list((await client.get(url)).json()["items"])

            async def completed(more_than: int = 0) -> bool:
                done = [item for item in await instances() if item["status"] == "completed"]
                return len(done) > more_than + 2

            await eventually(definition, because="a beat reads what the worker has")
            await eventually(completed, because="its instances run", timeout_s=60)
            assert (await instances())[-1]["result"] == "hello ann"
            for process in ("beat", "worker"):
                before, pid = len(await instances()), up.pid(process)
                up.kill(process)
                await eventually(lambda p=process, old=pid: up.pid(p) not in (0, old), because="`up` starts another")
                await eventually(lambda n=before: completed(n), because="it goes on", timeout_s=60)
            slots = [item["scheduled_at"] for item in await instances()]
            assert len(slots) == len(set(slots))
            assert len({slot[-4:] for slot in slots}) <= 2, "the phase is the same, to the millisecond"

            shown = await definition()
            definition_id = shown["task_def_id"]
            assert (shown["name"], shown["source"], shown["read_only"]) == ("greet", "code", True)
            for refused in (
                await client.post(f"/api/v1/definitions/{definition_id}/cancel"),
                await client.patch(f"/api/v1/definitions/{definition_id}", json={"name": "x"}),
            ):
                assert refused.status_code == 409, refused.text
                assert "it follows the code: change `schedule=` of greeting.greet" in refused.text
            code, _, said = await up.cli("definitions", "cancel", definition_id)
            assert (code, "change `schedule=` of greeting.greet" in said) == (2, True), said
            assert (await client.post(f"/api/v1/definitions/{definition_id}/pause")).status_code == 200
        assert await up.stop() == 0

    write(project, "250ms")
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()

        async def changed() -> bool:
            _, out, _ = await up.cli("definitions", "show", definition_id, "--json")
            found = json.loads(out)
            return bool(found["trigger_args"] == {"interval": 0.25} and found["status"] == "PAUSED")

        await eventually(changed, because="the code has changed, and it stays paused", timeout_s=60)
        await up.stop()
