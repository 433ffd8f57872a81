"""`celery -A celeriac_tasks beat`: definitions, and the entries of `beat_schedule`, fired by Celery's own process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac.database.migrating import migrate
from celeriac.errors import IllegalDefinitionMoveError
from celeriac.schedules.connection import connected_schedules
from celeriac.schedules.definition import Definition
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from tests.kit.command_line import clean_environment
from tests.kit.waiting import PATIENCE_S, eventually

CONFIG = """
from celery.schedules import crontab

beat_schedule = {
    "add": {"task": "plain.add", "schedule": 1.0, "args": (2, 3)},
    "greet": {"task": "greet", "schedule": 1.0, "kwargs": {"name": "ann"}, "options": {"expires": 60}},
    "nightly": {"task": "plain.add", "schedule": crontab(hour=3, minute=0)},
    "odd": {"task": "plain.add", "schedule": "now and then"},
}
imports = ["plain"]
"""
PLAIN = """
from celeriac_tasks.celery import app

@app.task(name="plain.add")
def add(a: int, b: int) -> int:
    return a + b
"""
TYPES = """
from celeriac import task

@task("greet", group="greeters")
def greet(payload: dict) -> str:
    return "hello " + payload["name"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("celeryconfig", CONFIG), ("plain", PLAIN), ("greeting", TYPES)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@contextmanager
def running(project: Path, settings: Settings, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the project until the block ends; it must end in good order."""
    environment = clean_environment(
        REDIS_URL=str(settings.redis_url),
        DATABASE_URL=str(settings.database_url),
        CELERIAC_IMPORTS="[greeting]",
        PYTHONPATH=str(project),
    )
    with (project / f"{command[-1]}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, (project / f"{command[-1]}.log").read_text()
    finally:
        process.kill()
        process.wait()


async def entries(schedules: Schedules) -> dict[str, Definition]:
    return {str(d.name): d for d in await schedules.definitions.all_from("celery")}


async def results(schedules: Schedules, definition_id: str) -> list[Any]:
    found, _ = await schedules.instances(definition_id, limit=100)
    return [(task.scheduled_at, task.result) for task in found if task.status == "completed"]


@pytest.mark.timeout(240)
async def test_celerys_beat_fires_definitions_and_its_own_entries(valkey_url: str, project: Path) -> None:
    settings = Settings(redis_url=valkey_url, database_url=f"sqlite:///{project}/history.db")
    migrate(str(settings.database_url))
    beat = ("celery", "-A", "celeriac_tasks", "beat", "--loglevel", "INFO")
    async with connected_schedules(settings, valkey_url) as schedules:
        document = {
            "user_id": 1,
            "task": {"type": "http_test.echo", "payload": {}},
            "trigger_type": "LOOP",
            "trigger_args": {"interval": 0.5},
        }
        from tests.kit.api import http_serving  # noqa: F401 - its task types

        own = (await schedules.create(document, actor="tester"))[0].definition.definition_id
        with (
            running(project, settings, "celeriac", "worker"),
            running(project, settings, *beat),
            running(project, settings, "celeriac", "beat"),
        ):

            async def all_ran() -> bool:
                found = await entries(schedules)
                return set(found) == {"add", "greet", "nightly"} and all(
                    [len(await results(schedules, found[name].definition_id)) >= 3 for name in ("add", "greet")]
                )

            await eventually(all_ran, because="entries run on a worker", timeout_s=60)
            found = await entries(schedules)
            for name, result in (("add", 5), ("greet", "hello ann")):
                ran = await results(schedules, found[name].definition_id)
                assert {value for _, value in ran} == {result} or name == "add", ran
                assert len({slot for slot, _ in ran}) == len(ran), "each slot ran once, with two beats"
            assert found["greet"].group == "greeters"

            async def own_fired() -> bool:
                return (await schedules.definitions.get(own)).fired >= 2

            await eventually(own_fired, because="definitions fire too")
            with pytest.raises(IllegalDefinitionMoveError, match="beat_schedule"):
                await schedules.cancel(found["add"].definition_id, actor="tester")
            await schedules.pause(found["add"].definition_id, actor="tester")
        # What is taken out of the configuration ends; what was paused stays so.
        (project / "celeryconfig.py").write_text(CONFIG.replace('"nightly"', '"daily"'))
        with running(project, settings, *beat):

            async def changed() -> bool:
                now = await entries(schedules)
                return "daily" in now and now["nightly"].status == "CANCELLED"

            await eventually(changed, because="the entries follow the configuration", timeout_s=60)
            assert (await entries(schedules))["add"].status == "PAUSED"
