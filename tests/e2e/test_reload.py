"""`--reload`: processes start anew when their code or the configuration has changed, and no task is lost by that."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.kit.command_line import CELERIAC, celeriac, clean_environment
from tests.kit.up.running_up import RunningUp, alive
from tests.kit.waiting import eventually

#: What is imported, and when, is the subject.
pytestmark = pytest.mark.fresh_python

TYPES = """
import asyncio
from celeriac import Context, task
import texts

@task
async def say() -> str:
    return texts.SAID

@task(max_retries=1, retry_delay_s=0.01)
async def long(ctx: Context) -> str:
    while texts.SAID == "old":
        await asyncio.sleep(0.05)
    return f"{texts.SAID}, attempt {ctx.attempt}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mytasks.py").write_text(TYPES)
    (tmp_path / "texts.py").write_text('SAID = "old"\n')
    (tmp_path / "unused.py").write_text("")
    (tmp_path / "celeriac.yaml").write_text("imports: [mytasks]\n")
    return tmp_path


def write_as_editors_do(file: Path, text: str) -> None:
    """Write a new file beside the old one, and put it in its place."""
    new = file.with_suffix(".swp")
    new.write_text(text)
    os.replace(new, file)


async def ready(up: RunningUp) -> None:
    """Wait until it is ready: each of its processes is an interpreter of its own here, which takes its time."""
    await up.said("is ready.", timeout_s=180)
    up.children()


async def answer(up: RunningUp, task_type: str) -> str:
    """Submit a task and return its result."""
    code, out, err = await up.cli("submit", task_type, "--watch", cwd=up.data_dir.parent)
    assert code == 0, err
    return out


async def status(up: RunningUp, task_id: str) -> str:
    _, out, _ = await up.cli("status", task_id, "--json")
    return out


async def said_again(up: RunningUp, text: str, times: int) -> None:
    await eventually(lambda: up.text.count(text) >= times, because=f"{text} {times} times in\n{up.text}")


async def test_a_change_of_code_is_used_and_a_running_task_pays_nothing_for_it(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        assert '"old"' in await answer(up, "say")
        _, running, _ = await up.cli("submit", "long", cwd=folder)
        running = running.strip()
        await eventually(lambda: _is(up, running, "processing"), because="it runs")
        before = {role: up.pid(role) for role in ("api", "beat", "worker", "valkey-server")}
        (folder / "unused.py").write_text("x = 1")
        write_as_editors_do(folder / "texts.py", 'SAID = "new"\n')
        await up.said("texts.py changed: starting api, beat, worker anew", timeout_s=180)
        await eventually(lambda: _is(up, running, "completed"), because="it runs again with the new code")
        assert '"new, attempt 1"' in await status(up, running)
        after = {role: up.pid(role) for role in before}
        assert [role for role in before if before[role] == after[role]] == ["valkey-server"]
        assert up.text.count("anew") == 1
        assert await up.stop() == 0
        assert up.children() == []


async def _is(up: RunningUp, task_id: str, wanted: str) -> bool:
    return f'"{wanted}"' in await status(up, task_id)


async def test_code_that_is_broken_is_said_once_and_the_old_code_goes_on(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        worker = up.pid("worker")
        (folder / "texts.py").write_text("SAID = \n")
        await up.said("importing mytasks failed in texts.py, line 1: SyntaxError", timeout_s=180)
        assert '"old"' in await answer(up, "say")
        (folder / "texts.py").unlink()
        await up.said("No module named 'texts'", timeout_s=180)
        assert up.pid("worker") == worker
        (folder / "texts.py").write_text('SAID = "new"\n')
        await up.said("anew", timeout_s=180)
        await eventually(lambda: up.pid("worker") not in (0, worker), because="a new worker runs")
        assert '"new"' in await answer(up, "say")
        assert up.text.count("SyntaxError") == 1


async def test_a_project_that_cannot_be_imported_is_waited_for_and_ctrl_c_ends_that(folder: Path) -> None:
    (folder / "mytasks.py").write_text("import missing\n")
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await up.said(
            "mytasks.py, line 1: ModuleNotFoundError: No module named 'missing': waiting for a change", timeout_s=180
        )
        await eventually(lambda: not up.children(), because="nothing is started")
        (folder / "missing").mkdir()
        (folder / "missing" / "__init__.py").write_text("")
        await ready(up)
        await up.stop()
    (folder / "mytasks.py").write_text("def (\n")
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await up.said("waiting for a change", timeout_s=180)
        assert await up.stop() == 0


async def test_many_changes_at_once_and_during_a_restart_end_with_the_last(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    for number in range(30):
        (folder / "parts" / f"part{number}.py").write_text("N = 0\n")
    imports = "\n".join(f"from parts import part{number}" for number in range(30))
    (folder / "mytasks.py").write_text(f"{imports}\n{TYPES}")
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        # All of them between two looks of `up`.
        up.process.send_signal(signal.SIGSTOP)
        for number in range(30):
            write_as_editors_do(folder / "parts" / f"part{number}.py", "N = 1\n")
        up.process.send_signal(signal.SIGCONT)
        await up.said("and 27 more changed: starting", timeout_s=180)
        (folder / "texts.py").write_text('SAID = "during"\n')
        await up.said("texts.py changed: starting", timeout_s=180)
        (folder / "texts.py").write_text('SAID = "last"\n')
        await said_again(up, "texts.py changed: starting", 2)
        await eventually(lambda: _says(up, '"last"'), because="the last change counts")


async def _says(up: RunningUp, text: str) -> bool:
    return text in await answer(up, "say")


async def test_a_change_of_the_configuration_is_used_by_everything_if_it_can_be(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        worker = up.pid("worker")
        (folder / "celeriac.yaml").write_text("imports: [mytasks]\nimport: 3\n")
        await up.said("there is no setting import", timeout_s=180)
        await up.said("the previous configuration stays in use", timeout_s=180)
        assert up.pid("worker") == worker
        (folder / "celeriac.yaml").write_text("imports: [mytasks]\nup: {workers: 2}\n")
        await said_again(up, "is ready.", 2)
        assert up.pid("worker-2") not in (0, worker)
        assert '"old"' in await answer(up, "say")
        assert await up.stop() == 0


async def test_without_reload_a_change_is_said_once(folder: Path) -> None:
    with RunningUp(folder / ".celeriac", cwd=folder) as up:
        await ready(up)
        (folder / "texts.py").write_text('SAID = "new"\n')
        await up.said("texts.py changed: restart `celeriac up` to use it, or start it with --reload", timeout_s=180)
        (folder / "celeriac.yaml").write_text("imports: [mytasks]\nup: {workers: 2}\n")
        await up.said(
            "celeriac.yaml changed: restart `celeriac up` to use it, or start it with --reload", timeout_s=180
        )
        assert '"old"' in await answer(up, "say")
        assert up.text.count(" changed: ") == 2


@pytest.mark.parametrize("moment", ["texts.py changed", "given back", "beat: promoting"])
async def test_a_kill_during_a_restart_loses_nothing_and_leaves_nothing_behind(folder: Path, moment: str) -> None:
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        _, running, _ = await up.cli("submit", "long", cwd=folder)
        running = running.strip()
        await eventually(lambda: _is(up, running, "processing"), because="it runs")
        seen = up.text.count(moment)
        children = up.children()
        (folder / "texts.py").write_text('SAID = "new"\n')
        await said_again(up, moment, seen + 1)
        children += up.children()
        up.process.kill()
        await eventually(lambda: not [p for p in children if alive(p)], because="the kernel ends what it had started")
    with RunningUp(folder / ".celeriac", "--reload", cwd=folder) as up:
        await ready(up)
        await eventually(lambda: _is(up, running, "completed"), because="it runs again")


PROJECT = """
import os
from celery import Celery
import texts

app = Celery("proj", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])

@app.task
def say():
    return texts.SAID
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_a_worker_of_a_project_starts_anew_too(tmp_path: Path, valkey_url: str, pool: str) -> None:
    (tmp_path / "proj.py").write_text(PROJECT)
    (tmp_path / "texts.py").write_text('SAID = "old"\n')
    environ = clean_environment(REDIS_URL=valkey_url, CELERIAC_LOG_FORMAT="console")
    output = tmp_path / "output"
    ask = "import proj; print(proj.say.delay().get(timeout=50))"

    def said() -> str:
        ran = subprocess.run([CELERIAC[0], "-c", ask], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert ran.returncode == 0, f"{ran.stderr}\n{output.read_text()}"
        return ran.stdout.strip()

    with output.open("w") as out:
        worker = subprocess.Popen(
            [*CELERIAC, "worker", "-A", "proj", "--pool", pool, "--concurrency", "2", "--reload"],
            cwd=tmp_path, env=environ, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        assert said() == "old"
        (tmp_path / "texts.py").write_text("SAID = (\n")
        await eventually(lambda: "texts.py, line 1: SyntaxError" in output.read_text(), because=output.read_text())
        (tmp_path / "texts.py").write_text('SAID = "new"\n')
        await eventually(lambda: output.read_text().count("ready.") == 2, because=output.read_text())
        assert said() == "new"
        assert "Traceback" not in output.read_text()
        family = psutil.Process(worker.pid).children(recursive=True)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(40) == 0
        assert [one for one in family if alive(one)] == []
    finally:
        worker.kill()
        worker.wait()


async def test_a_worker_without_reload_says_that_its_code_has_changed(tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "mytasks.py").write_text("from celeriac import task\n@task\ndef a(): pass\n")
    environ = clean_environment(REDIS_URL=valkey_url, CELERIAC_LOG_FORMAT="console", CELERIAC_IMPORTS="mytasks")
    output = tmp_path / "output"
    with output.open("w") as out:
        worker = subprocess.Popen(
            [*CELERIAC, "worker"], cwd=tmp_path, env=environ, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        await eventually(lambda: "ready." in output.read_text(), because="it starts")
        (tmp_path / "mytasks.py").write_text("from celeriac import task\n@task\ndef a(): pass\n#\n")
        said = "mytasks.py changed: restart `celeriac worker` to use it"
        await eventually(lambda: said in output.read_text(), because=output.read_text())
        assert output.read_text().count("changed") == 1
    finally:
        worker.terminate()
        worker.wait(40)


async def test_a_worker_that_cannot_find_a_store_does_not_wait_for_a_change(tmp_path: Path) -> None:
    code, _, err = await celeriac("worker", "--reload", cwd=tmp_path)
    assert code == 2
    assert "celeriac: no `celeriac up` runs on" in err
