"""A rolling deploy with schedules in the code: real workers of two versions, real beats, and kills."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from celeriac.model import Status
from celeriac.schedules.connection import connected_schedules
from celeriac.schedules.definition import Definition
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, Workers, workers_on

OLD = """
from celeriac import every, task

@task(schedule=every("500ms"))
def tick() -> str:
    return "old"

@task(schedule=every("500ms"))
def dropped() -> str:
    return "old"
"""
NEW = """
from celeriac import every, task

@task(schedule=every("750ms"))
def tick() -> str:
    return "new"
"""


async def definitions(schedules: Schedules) -> dict[str, Definition]:
    return {str(d.name): d for d in await schedules.definitions.all_from("code")}


async def runs_of(schedules: Schedules, name: str) -> list[Any]:
    """Return slot and result of each instance that has completed."""
    definition = (await definitions(schedules)).get(name)
    if definition is None:
        return []
    found, _ = await schedules.instances(definition.definition_id, limit=500)
    return [(task.scheduled_at, task.result) for task in found if task.status is Status.COMPLETED]


def written(folder: Path, code: str) -> Path:
    """Return a folder with a version of the code."""
    folder.mkdir()
    (folder / "ticking.py").write_text(code)
    return folder


async def worker_of(workers: Workers, store: TaskStore, folder: Path) -> WorkerProcess:
    """Start a worker of the version in a folder."""
    environment = {**workers.environment(imports=["ticking"]), "PYTHONPATH": str(folder)}
    return await workers.start_command(store, [sys.executable, "-m", "celeriac", "worker"], environment)


@pytest.mark.timeout(240)
async def test_schedules_follow_the_workers_through_a_rolling_deploy(
    valkey_url: str, store: TaskStore, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(redis_url=valkey_url, database_url=database_url)
    async with workers_on(tmp_path, valkey_url) as workers, connected_schedules(settings, valkey_url) as schedules:
        beat = [sys.executable, "-m", "celeriac", "beat"]
        # Beats need none of the project's modules.
        environment = workers.environment(database_url=database_url, schedule__code_grace=10, imports=[])
        beats = [WorkerProcess(tmp_path, beat, environment) for _ in range(2)]
        workers.all += beats
        old = await worker_of(workers, store, written(tmp_path / "old", OLD))

        async def ran(name: str, result: str) -> bool:
            return len([1 for _, found in await runs_of(schedules, name) if found == result]) >= 3

        for name in ("tick", "dropped"):
            await eventually(lambda name=name: ran(name, "old"), because="it fires", timeout_s=60)  # type: ignore[misc]

        await worker_of(workers, store, written(tmp_path / "new", NEW))

        async def interval() -> float:
            return float((await definitions(schedules))["tick"].spec.trigger_args["interval"])

        async def follows_the_new() -> bool:
            return await interval() == 0.75

        await eventually(follows_the_new, because="the worker that started last decides", timeout_s=60)
        assert (await definitions(schedules))["dropped"].status == "ACTIVE", "a worker that lives still has it"
        old.kill()
        beats[0].kill()
        await eventually(lambda: ran("tick", "new"), because="the new version runs it", timeout_s=60)

        async def is_dropped() -> bool:
            return (await definitions(schedules))["dropped"].status == "CANCELLED"

        await eventually(is_dropped, because="no worker knows it any more", timeout_s=60)
        assert await interval() == 0.75
        for name in ("tick", "dropped"):
            slots = [slot for slot, _ in await runs_of(schedules, name)]
            assert len(slots) == len(set(slots)), "no slot ran twice"
