"""The terminal of `celeriac up` and of `celeriac worker`: one line for each task that ends."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_sync

from celeriac.store import keys
from tests.kit.command_line import CELERIAC, clean_environment
from tests.kit.remote.remote_workers import worker as remote_worker
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

TYPES = """
import asyncio
from celeriac import task
from celeriac_tasks.celery import app

@task
async def fine(): pass

@task(max_retries=1, retry_delay_s=0.01)
def broken(): raise ConnectionError("refused")

@task(max_retries=0)
async def long(): await asyncio.sleep(600)

@task(max_retries=0, timeout_s=0.05)
async def slow(): await asyncio.sleep(600)

@app.task
def add(a, b): return a + b

@app.task
def boom(): raise ValueError("no")

@app.task(bind=True, max_retries=1)
def again(self): raise self.retry(countdown=0.01)
"""

#: A Celery project that knows nothing of the platform.
PROJECT = """
import os
from celery import Celery

app = Celery("proj", broker=os.environ["REDIS_URL"])

@app.task
def add(a, b): return a + b

@app.task
def boom(): raise ValueError("no")

@app.task
def die(): os.kill(os.getpid(), 9)
"""
OWN_LOGGING = """
import logging
logging.getLogger("celery.app.trace").setLevel(logging.INFO)
"""

CALLS = "import mytasks as m; ids = [m.add.delay(1, 2).id, m.boom.delay().id, m.again.delay().id]; print(*ids)"
SHAPE = r"(?:\S+ +\| )?\d\d:\d\d:\d\d {group} {type} {id8} {said}"


def lines_of(lines: list[str], task_id: str) -> list[str]:
    return [line for line in lines if f" {task_id[:8]} " in line and ("✓" in line or "✗" in line)]


def shape(group: str, task_type: str, task_id: str, said: str) -> str:
    return SHAPE.format(group=group, type=re.escape(task_type), id8=task_id[:8], said=said)


def python(program: str, folder: Path, **environ: str) -> str:
    ran = subprocess.run(
        [*CELERIAC[:1], "-c", program], cwd=folder, env=clean_environment(**environ), capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mytasks.py").write_text(TYPES)
    (tmp_path / "celeriac.yaml").write_text("imports: [mytasks]\n")
    return tmp_path


async def submitted(up: RunningUp, *arguments: str) -> str:
    code, out, err = await up.cli("submit", *arguments, cwd=up.data_dir.parent)
    assert code == 0, err
    return out.strip()


#: How each task is made, by what its lines say in the order of its attempts.
WAYS: dict[str, tuple[list[str], list[str]]] = {
    "async": (["fine"], [r"✓ \d+ ms"]),
    "retried": (
        ["broken"],
        [
            r"✗ attempt 1 of 2: ConnectionError: refused — again (in [\d.]+ s|at once)",
            r"✗ attempt 2 of 2: ConnectionError: refused — failed",
        ],
    ),
    "timed out": (["slow"], [r"✗ attempt 1 of 1: timeout: .* — failed"]),
}


async def test_each_task_that_ends_has_one_line_whatever_ran_it(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", cwd=folder) as up:
        await up.ready()
        expected: dict[str, list[str]] = {}
        for made, said in WAYS.values():
            task_id = await submitted(up, *made)
            expected[task_id] = [shape("default", made[0], task_id, one) for one in said]
        added, boomed, retried = python(CALLS, folder).split()
        expected[added] = [shape("default", "mytasks.add", added, r"✓ \d+ ms")]
        expected[boomed] = [shape("default", "mytasks.boom", boomed, r"✗ attempt 1 of 4: ValueError: no — failed")]
        expected[retried] = [
            shape("default", "mytasks.again", retried, r"✗ attempt 1 of 2: .* — again (in [\d.]+ s|at once)"),
            shape("default", "mytasks.again", retried, r"✗ attempt 2 of 2: MaxRetriesExceededError: .* — failed"),
        ]
        waiting = await submitted(up, "fine", "--delay", "1h")
        expected[waiting] = [shape("default", "fine", waiting, "✗ cancelled before it ran")]
        await up.cli("cancel", waiting)
        running = await submitted(up, "long")
        expected[running] = [shape("default", "long", running, r"✗ cancelled after \d+ ms")]
        await eventually(lambda: _is_running(up, running), because="it runs")
        await up.cli("cancel", running)
        async with remote_worker(up.run_json["http"], "afar") as worker:
            afar = await submitted(up, "remote", "--payload", '{"data": {"n": 1}}', "--group", "afar")
            task = await worker.take()
            await worker.say(type="task_complete", taskId=task["taskId"], result={}, duration=1)
            expected[afar] = [shape("afar", "remote", afar, r"✓ \d+ ms")]
            await eventually(lambda: lines_of(up.lines, afar), because="the API shows it")
        for task_id, said in expected.items():
            count = len(said)
            await eventually(
                lambda i=task_id, n=count: len(lines_of(up.lines, i)) >= n, because=f"{said} in\n{up.text}"
            )
        assert await up.stop() == 0
        for task_id, said in expected.items():
            found = lines_of(up.lines, task_id)
            assert len(found) == len(said), found
            assert all(re.fullmatch(one, line) for one, line in zip(said, found, strict=True)), found
        assert "Traceback" not in up.text
        assert "celery.app.trace" not in up.text


async def _is_running(up: RunningUp, task_id: str) -> bool:
    _, out, _ = await up.cli("status", task_id, "--json")
    return '"processing"' in out


async def test_what_ends_without_an_attempt_is_shown_too(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", cwd=folder) as up:
        await up.ready()
        await up.cli("groups", "pause", "default")
        expired = await submitted(up, "fine", "--expires", "1s")
        await eventually(lambda: lines_of(up.lines, expired), because="it expires")
        assert re.fullmatch(shape("default", "fine", expired, "✗ expired: .* — failed"), lines_of(up.lines, expired)[0])
        await up.cli("groups", "resume", "default")
        lost = await submitted(up, "long")
        await eventually(lambda: _is_running(up, lost), because="it runs")
        up.kill("worker")
        with redis_sync.Redis.from_url(up.run_json["redis"]) as store:

            def told() -> list[str]:
                # Nobody renews the lease any more: it need not be waited for.
                store.zadd(keys.LEASES, {lost: 1}, xx=True)
                return lines_of(up.lines, lost)

            await eventually(told, because="its lease has run out", interval_s=0.1)
        said = shape("default", "long", lost, r"✗ attempt 1 of 1: worker_lost: .* — failed")
        assert [bool(re.fullmatch(said, line)) for line in lines_of(up.lines, lost)] == [True]


async def test_as_json_each_end_is_one_object(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", cwd=folder, CELERIAC_LOG_FORMAT="json") as up:
        await up.ready()
        task_id = await submitted(up, "fine")
        found = await eventually(lambda: _documents(up.lines, task_id), because="it ends")
        assert [set(document) for document in found] == [{"time", "group", "type", "task_id", "status", "took_ms"}]
        assert found[0]["status"] == "completed"


def _documents(lines: list[str], task_id: str) -> list[dict[str, Any]]:
    return [document for line in lines if "took_ms" in line and (document := json.loads(line))["task_id"] == task_id]


async def test_quiet_leaves_the_lines_out(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", "--quiet", cwd=folder) as up:
        await up.ready()
        for made in ("fine", "broken", "slow"):
            task_id = await submitted(up, made)
            await eventually(lambda i=task_id: _has_ended(up, i), because="it ends")
        await up.stop()
        assert not re.search("✓|✗|Traceback|refused", up.text)


async def _has_ended(up: RunningUp, task_id: str) -> bool:
    _, out, _ = await up.cli("status", task_id, "--json")
    return '"completed"' in out or '"failed"' in out


class Worker:
    """A `celeriac worker` of a Celery project, and what it has said."""

    def __init__(self, folder: Path, store: str, *arguments: str) -> None:
        self.folder, self.environ = folder, {"REDIS_URL": store, "CELERIAC_LOG_FORMAT": "console"}
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*CELERIAC, "worker", "-A", "proj", *arguments], cwd=folder, env=clean_environment(**self.environ),
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def call(self, name: str) -> str:
        return python(f"import proj; print(proj.{name}.id)", self.folder, **self.environ).strip()

    def end(self) -> None:
        children = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.terminate()
        self.process.wait(30)
        for child in children:
            if child.is_running():
                child.kill()


@pytest.mark.parametrize("arguments", [[], ["--pool", "celeriac"]])
async def test_an_adopted_app_has_the_same_lines_in_each_pool(
    tmp_path: Path, valkey_url: str, arguments: list[str]
) -> None:
    (tmp_path / "proj.py").write_text(PROJECT)
    worker = Worker(tmp_path, valkey_url, "--concurrency", "2", *arguments)
    try:
        added, boomed = worker.call("add.delay(1, 2)"), worker.call("boom.delay()")
        await eventually(lambda: lines_of(worker.lines, boomed), because="\n".join(worker.lines))
        await eventually(lambda: lines_of(worker.lines, added), because="it ends")
        assert re.fullmatch(shape("celery", "proj.add", added, r"✓ \d+ ms"), *lines_of(worker.lines, added))
        said = shape("celery", "proj.boom", boomed, r"✗ attempt 1 of 4: ValueError: no — failed")
        assert re.fullmatch(said, *lines_of(worker.lines, boomed))
        if not arguments:
            died = worker.call("die.delay()")
            await eventually(lambda: lines_of(worker.lines, died), because="its process is gone")
            said = shape("celery", "proj.die", died, r"✗ attempt 1 of 4: worker_lost: .* — again at once")
            assert re.fullmatch(said, lines_of(worker.lines, died)[0])
        text = "\n".join(worker.lines)
        assert "succeeded in" not in text
        assert "Traceback" not in text
    finally:
        worker.end()


async def test_what_a_project_has_set_for_celery_s_loggers_stays(tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "proj.py").write_text(PROJECT + OWN_LOGGING)
    worker = Worker(tmp_path, valkey_url)
    try:
        worker.call("add.delay(1, 2)")
        await eventually(lambda: "succeeded in" in "\n".join(worker.lines), because="the project has asked for it")
    finally:
        worker.end()
