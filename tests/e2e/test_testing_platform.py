"""`celeriac.testing.platform`: the real thing for a while, and the outcomes of `run_task` held against it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from celeriac import AsyncClient, Progress, Status, Task, TaskType
from celeriac.errors import InvalidSubmissionError, PlatformStartError, SettingsError
from celeriac.testing import Platform, platform, run_task
from tests.kit.children import children_with
from tests.kit.up import platform_types as kit
from tests.kit.up.running_up import alive
from tests.kit.waiting import eventually


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with pytest.MonkeyPatch.context() as patch:
        # Settings of whoever runs the tests: none of them may count.
        patch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        patch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        patch.setenv("JWT_SECRET", "x" * 40)
        patch.setenv("CELERIAC_BROKER_URL", "amqp://127.0.0.1:1")
        # Nor these of a project: all but what it says of types.
        folder = tmp_path_factory.mktemp("project")
        config = folder / "celeriac.yaml"
        config.write_text(
            "imports: [tests.kit.up.platform_types]\nredis_url: redis://127.0.0.1:1/0\nport: 1\n"
            "access: {enabled: true}\n"
            "files: {storage_url: 's3://nobody/nothing'}\nmax_result_bytes: 100000\n"
        )
        with platform(config=config) as started:
            yield started


def ends_alike(task: Task, outcome: Any) -> None:
    assert task.status is outcome.status
    assert task.result == outcome.result
    assert task.error == outcome.error
    if outcome.progress:
        last = outcome.progress[-1]
        assert (task.progress.percentage, task.progress.stage, task.progress.message) == (
            last.percentage,
            last.stage,
            last.message,
        )


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        (kit.report, {"customer": 7}),
        (kit.plain, {"customer": 7}),
        (kit.bare, {}),
        (kit.skips, {"customer": 0}),
        (kit.final, {}),
        (kit.unsayable, {}),
        (kit.returns_bytes, {}),
        (kit.exits, {}),
        (kit.gives_up, {}),
        (kit.login, {"password": "hunter2"}),
    ],
    ids=lambda value: value.name if isinstance(value, TaskType) else "",
)
def test_a_task_ends_on_the_platform_as_run_task_says(
    running: Platform, handler: TaskType, payload: dict[str, Any]
) -> None:
    task = running.client.submit(handler.name, payload, user_id="ann", metadata={"a": [1]}).wait(60)
    outcome = run_task(handler, payload, user_id="ann", metadata={"a": [1]})
    ends_alike(task, outcome)


@pytest.mark.parametrize("handler", [kit.sleeps, kit.spins], ids=["async", "plain"])
def test_a_time_limit_ends_a_task_as_run_task_says(running: Platform, handler: TaskType) -> None:
    # Both run at once, and have time to report before it is over.
    handle = running.client.submit(handler.name, timeout=5)
    outcome = run_task(handler, timeout=5)
    ends_alike(handle.wait(60), outcome)


@pytest.mark.parametrize("handler", [kit.sleeps, kit.spins, kit.tidies], ids=["async", "plain", "tidy"])
def test_a_cancellation_ends_a_task_as_run_task_says(running: Platform, handler: TaskType) -> None:
    handle = running.client.submit(handler.name)
    assert next(handle.progress()).percentage == 10
    handle.cancel()

    def at_ten(report: Progress) -> bool:
        return report.percentage == 10

    ends_alike(handle.wait(60), run_task(handler, cancel_when=at_ten))


@pytest.mark.parametrize(("handler", "longest"), [(kit.raises, 1.2), (kit.later, 1.0)], ids=["policy", "named"])
async def test_a_task_waits_for_its_next_attempt_as_run_task_says(
    running: Platform, handler: TaskType, longest: float
) -> None:
    async with AsyncClient(running.url) as client:
        handle = await client.submit(handler.name)

        async def waiting() -> Task | None:
            task = await handle.record()
            return task if task.status is Status.RETRYING else None

        task = await eventually(waiting, because="it waits for its next attempt", timeout_s=60)
    outcome = await asyncio.to_thread(run_task, handler)
    ends_alike(task, outcome)
    assert outcome.would_retry_in_s is not None
    delay_s = (task.run_at - task.updated_at).total_seconds()
    assert outcome.would_retry_in_s <= delay_s <= outcome.would_retry_in_s * longest


def test_both_refuse_the_same_payload_in_the_same_words(running: Platform) -> None:
    calls: list[Callable[[], object]] = [
        lambda: running.client.submit(kit.report.name, {"customer": "x"}),
        lambda: run_task(kit.report, {"customer": "x"}),
    ]
    words = []
    for call in calls:
        with pytest.raises(InvalidSubmissionError) as caught:
            call()
        words.append(caught.value.violations)
    assert words[0] == words[1]


def test_it_stands_on_ports_and_files_of_its_own(running: Platform) -> None:
    there = running.installation
    assert there.database.startswith("sqlite:///")
    assert there.redis.startswith("redis://:")
    assert ":8000" not in running.url
    assert set(there.pids) == {"valkey-server", "api", "worker", "beat"}
    assert "is ready" in running.output()
    assert len(running.output(3).splitlines()) == 3


class BoomError(Exception):
    pass


async def test_nothing_is_left_after_the_block_however_it_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    processes: list[psutil.Process] = []

    def test() -> None:
        with platform(["tests.kit.up.platform_types"], settings={"access": {"jwt_secret": "s" * 40}}) as one:
            # Signed in, where the settings ask for that.
            handle = one.client.submit(kit.spins.name)
            next(handle.progress())
            up = psutil.Process(one.installation.pid)
            processes.extend([up, *up.children(recursive=True)])
            assert list(tmp_path.iterdir()) != []
            raise BoomError

    with pytest.raises(BoomError):
        # Any thread may start one; this one is gone by the time it is looked for.
        await asyncio.to_thread(test)
    assert len(processes) >= 5
    await eventually(lambda: not [one for one in processes if alive(one)], because="its processes end")
    assert os.listdir(tmp_path) == []


PROGRAM = """
import sys
from celeriac.testing import platform
with platform() as running:
    print(running.installation.pid, flush=True)
    sys.stdin.read()
"""


async def test_it_ends_with_the_process_of_the_test_also_by_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # its folder stays
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as test:
        assert test.stdout is not None
        up = psutil.Process(int(await asyncio.to_thread(test.stdout.readline)))
        processes = [up, *up.children(recursive=True)]
        test.send_signal(signal.SIGKILL)
    await eventually(lambda: not [one for one in processes if alive(one)], because="all end", timeout_s=40)


def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean"), platform(settings={"max_batsh": 1}):
        pass
    with pytest.raises(SettingsError, match="no_such_module_of_types"), platform(["no_such_module_of_types"]):
        pass


def test_a_platform_that_starts_too_slowly_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = ups()
    with pytest.raises(PlatformStartError, match=r"is not ready after 0\.1 s"), platform(start_timeout_s=0.1):
        pass
    assert ups() == before
    assert list(tmp_path.iterdir()) == []


def ups() -> list[psutil.Process]:
    return children_with(" up ")


CONFTEST = """
import pytest
pytest_plugins = ["celeriac.testing.pytest_plugin"]

@pytest.fixture(scope="session")
def celeriac_settings():
    return {"max_batch": 7}
"""

TESTS = """
def test_one(celeriac_client, request):
    assert celeriac_client.submit("hello", {"name": "Ann"}).result(60) == "hello Ann"

def test_two(celeriac_platform, celeriac_client):
    assert celeriac_platform.client is celeriac_client
    assert celeriac_client.submit("hello", {}).wait(60).error is None, "it wants a name"
"""

TYPES = """
from celeriac import task

@task("hello", max_retries=0)
def hello(payload: dict[str, str]) -> str:
    print("greeting")
    return "hello " + payload["name"]
"""


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_the_plugin_gives_a_session_one_platform_and_a_failed_test_its_output(tmp_path: Path) -> None:
    (tmp_path / "greetings.py").write_text(TYPES)
    (tmp_path / "celeriac.yaml").write_text("imports: [greetings]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_greetings.py").write_text(TESTS)
    done = pytest_run(tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "celeriac platform" in done.stdout
    assert "KeyError" in done.stdout  # what the worker said
    assert done.stdout.count("is ready.") == 1


@pytest.mark.fresh_python
def test_without_being_asked_the_plugin_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_nothing():\n    assert not [name for name in sys.modules if 'celeriac' in name]\n"
    )
    done = pytest_run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout
    code = "import json, sys, celeriac.testing; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"pytest", "celery", "fastapi", "sqlalchemy", "httpx", "grpc"} & set(loaded)
