"""`celeriac up` from outside: start, refusals, what dies, what ends, what survives."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.kit.command_line import REPOSITORY, celeriac, clean_environment
from tests.kit.servers import ValkeyServer, free_port
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually, serves

TYPES = """
from celeriac import Context, task

@task("shout")
async def shout(payload: dict[str, str], ctx: Context) -> dict[str, str]:
    await ctx.progress(50, "shouting", payload["text"])
    return {"text": payload["text"].upper()}
"""

PLAIN = """
from celeriac_tasks.celery import app

@app.task
def add(a, b):
    return a + b
"""

#: A program that does not listen to SIGTERM.
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf as a post")
time.sleep(600)
"""

#: A program that says what it finds.
MINE = """
import os, signal
import celeriac
for name in ("CELERIAC_DATA_DIR", "CELERIAC_PORT", "CELERIAC_CONFIG"):
    print(name, os.environ[name])
print("cwd", os.getcwd())
print("same", celeriac.load_settings().redis_url == os.environ["REDIS_URL"])
signal.pause()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a task type of the user's own, as a stranger would have it; its path has a space."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "shouting.py").write_text(TYPES)
    (folder / "celeriac.yaml").write_text("imports: [shouting]\n")
    return folder


@pytest.fixture
def data_dir(project: Path) -> Path:
    return project / "data of up"


@pytest.mark.fresh_python
async def test_up_says_where_everything_is_and_runs_a_task(project: Path, data_dir: Path) -> None:
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        run = up.run_json
        assert set(run["pids"]) == {"valkey-server", "api", "worker", "beat"}
        assert run["pid"] == up.process.pid
        assert run["http"] in up.text
        assert "curl" in up.text
        assert run["grpc"].startswith("grpc://127.0.0.1:")
        assert run["redis"].startswith("redis://:")
        assert run["database"] == f"sqlite:///{data_dir}/celeriac.db"
        assert run["config"] == str(project / "celeriac.yaml")
        password = run["redis"].split(":")[2].partition("@")[0]
        assert len(password) > 20
        assert password not in up.text
        assert not any(password in word for child in up.children() for word in child.cmdline())
        assert mode_of(data_dir) == 0o700
        assert mode_of(data_dir / "run.json") == 0o600
        for role, name in (("api", "api"), ("worker", "worker"), ("beat", "beat"), ("valkey-server", "valkey-server")):
            child = next(process for process in up.children() if process.pid == up.pid(role))
            assert any(name in word for word in child.cmdline()), child.cmdline()

        async with httpx.AsyncClient(timeout=60, base_url=run["http"]) as http:
            assert (await http.get("/healthz")).status_code == 200
            answer = await http.post("/api/v1/tasks", json={"type": "shout", "payload": {"text": "hi"}})
            assert answer.status_code == 202, answer.text
        code, out, err = await up.cli("watch", answer.json()["task_id"], "--json")
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["result"] == {"text": "HI"}

        code, out, _ = await up.cli("doctor", "--json")
        assert {"append-only file on, synced to the disk every second by `celeriac up`"} <= {
            finding["detail"] for finding in json.loads(out)["findings"] if finding["state"] == "ok"
        }

        assert await up.stop() == 0
        assert up.children() == []
        assert not (data_dir / "run.json").exists()


async def test_a_script_beside_it_calls_plain_celery_tasks(project: Path, data_dir: Path) -> None:
    (project / "jobs.py").write_text(PLAIN)
    (project / "celeriac.yaml").write_text("imports: [jobs]\n")
    ask = [sys.executable, "-c", "from jobs import add; print(add.delay(2, 3).get(timeout=60))"]

    async def run(**environ: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *ask,
            cwd=project,
            env=clean_environment(**environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode().strip()

    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        assert await run(CELERIAC_DATA_DIR=str(data_dir)) == (0, "5")
        assert await up.stop() == 0
    code, out = await run(CELERIAC_DATA_DIR=str(data_dir))
    assert code == 1
    assert "start one, name its folder with --data-dir or CELERIAC_DATA_DIR, or set REDIS_URL" in out


async def test_in_an_empty_folder_there_is_a_task_to_try(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with RunningUp(folder / "data", cwd=folder) as up:
        await up.ready()
        assert '{"type": "celeriac.demo", "payload": {"seconds": 5}}' in up.text
        code, out, err = await up.cli("submit", "celeriac.demo", "--payload", '{"seconds": 0}', "--watch", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["result"] == {"counted": 10}
        code, _, err = await up.cli("submit", "celeriac.demo", "--payload", '{"seconds": 61}')
        assert code == 2
        assert "seconds" in err


async def test_tasks_survive_a_stop_and_a_start_on_the_same_folder(project: Path, data_dir: Path) -> None:
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        first_port = up.run_json["redis"]
        code, out, _ = await up.cli("submit", "shout", "--payload", '{"text": "kept"}', "--watch", "--json")
        task_id = json.loads(out.splitlines()[0])["task_id"]
        assert code == 0
        assert await up.stop(signal.SIGTERM) == 0
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        assert up.run_json["redis"] == first_port
        code, out, _ = await up.cli("status", task_id, "--json")
        assert json.loads(out)["result"] == {"text": "KEPT"}
        assert await up.stop() == 0


async def test_ctrl_c_costs_no_attempt_of_what_an_executor_of_its_own_runs(tmp_path: Path) -> None:
    # The executor ends its streams five seconds after its signal, the worker gives back what runs after six.
    own = {
        "CELERIAC_GRPC_SERVICES__SERVICES__DEMO__ADDRESS": f"127.0.0.1:{free_port()}",
        "CELERIAC_WORKER__SHUTDOWN_GRACE": "6s",
    }
    start = ("--config", str(REPOSITORY / "examples" / "quickstart.yaml"))
    counting = {"service": "demo", "method": "count", "data": {"seconds": 12}}
    with RunningUp(tmp_path / "data", *start, cwd=REPOSITORY, **own) as up:
        await up.ready()
        code, out, err = await up.cli(
            "submit", "grpc_task", "--payload", json.dumps(counting), "--max-retries", "0", "--json"
        )
        assert code == 0, err
        task_id = json.loads(out)["task_id"]
        async with httpx.AsyncClient(timeout=60, base_url=up.run_json["http"]) as http:

            async def counts() -> bool:
                return bool((await http.get(f"/api/v1/tasks/{task_id}")).json()["progress"]["percentage"])

            await eventually(counts, because="it counts")
        assert await up.stop() == 0
        assert up.children() == []
    with RunningUp(tmp_path / "data", *start, cwd=REPOSITORY, **own) as up:
        await up.ready()
        code, out, err = await up.cli("watch", task_id, "--json")
        assert code == 0, out + err
        _, out, _ = await up.cli("status", task_id, "--json")
        assert json.loads(out)["attempt"] == 1, "the attempt that was given back does not count"
        assert await up.stop() == 0


@pytest.mark.parametrize("role", ["api", "worker", "beat", "valkey-server"])
async def test_a_part_that_is_killed_is_started_again_and_everything_works(
    project: Path, data_dir: Path, role: str
) -> None:
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        before = up.run_json
        up.kill(role)
        await up.said(f"{role} was killed by SIGKILL: starting it again in 0.2 s")
        await eventually(lambda: up.pid(role) not in (0, before["pids"][role]), because=f"{role} has a new pid")
        assert up.run_json["redis"] == before["redis"], "the others reconnect to the same address"

        async def runs_a_task() -> bool:
            async with httpx.AsyncClient(base_url=before["http"], timeout=5) as http:
                try:
                    answer = await http.post("/api/v1/tasks", json={"type": "shout", "payload": {"text": "a"}})
                except httpx.TransportError:
                    return False
            if answer.status_code != 202:
                return False
            code, _, _ = await up.cli("watch", answer.json()["task_id"])
            return code == 0

        await eventually(runs_a_task, because="everything works again", timeout_s=30)
        others = set(before["pids"]) - {role}
        assert {name: up.pid(name) for name in others} == {name: before["pids"][name] for name in others}
        assert await up.stop() == 0
        assert up.children() == []


async def test_nothing_outlives_an_up_that_is_killed_and_the_next_one_starts_at_once(
    project: Path, data_dir: Path
) -> None:
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    with RunningUp(data_dir, *ports, cwd=project) as first:
        await first.ready()
        code, out, _ = await first.cli("submit", "shout", "--payload", '{"text": "later"}', "--delay", "1h", "--json")
        assert code == 0
        task_id = json.loads(out)["task_id"]
        first.process.kill()
        with RunningUp(data_dir, *ports, cwd=project) as second:
            await second.ready()
            assert first.children() == []
            code, out, _ = await second.cli("status", task_id, "--json")
            assert json.loads(out)["status"] == "scheduled"
            assert await second.stop() == 0
            assert second.children() == []


@pytest.mark.fresh_python
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_no_process_is_left_of_an_up_that_is_killed(project: Path, data_dir: Path, stopped: bool) -> None:
    with RunningUp(data_dir, cwd=project) as up:
        await up.ready()
        assert len(up.children()) == 4
        if stopped:
            # It can do nothing itself then: the kernel does it.
            up.process.send_signal(signal.SIGSTOP)
        up.process.kill()
        await eventually(lambda: not up.children(), because="the kernel ends the children")


async def test_a_stopped_store_of_a_killed_up_does_not_block_the_next_one(project: Path, data_dir: Path) -> None:
    with RunningUp(data_dir, "--config", str(_no_workers(project))) as first:
        await first.ready()
        # A stopped process cannot act on SIGTERM: the kernel's word to the store has no effect yet.
        os.kill(first.pid("valkey-server"), signal.SIGSTOP)
        first.process.kill()
        with RunningUp(data_dir, "--config", str(_no_workers(project))) as second:
            await second.ready()
            assert "which an earlier run had left behind" in second.text
            assert first.children() == []
            assert await second.stop() == 0


async def test_a_second_up_on_the_same_folder_is_refused(project: Path, data_dir: Path) -> None:
    config = str(_no_workers(project))
    with RunningUp(data_dir, "--config", config) as up:
        await up.ready()
        code, out, err = await celeriac("up", "--port", "0", "--grpc-port", "0", "--data-dir", str(data_dir))
        assert code == 2
        assert out == ""
        assert f"already runs on {data_dir} (pid {up.process.pid})" in err
        assert "--data-dir" in err
        assert await up.stop() == 0


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
async def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": "0", "--grpc-port": "0", option: str(port)}
        arguments = [word for pair in ports.items() for word in pair]
        code, _, err = await celeriac("up", *arguments, "--data-dir", str(tmp_path / "data"))
    assert code == 2
    assert err.count("\n") == 1
    assert f"port {port} on 127.0.0.1 is in use" in err
    assert option in err
    assert not (tmp_path / "data" / "valkey").exists()


async def test_a_second_quickstart_says_whose_port_is_taken_and_how_to_give_it_another(tmp_path: Path) -> None:
    variable = "CELERIAC_GRPC_SERVICES__SERVICES__DEMO__ADDRESS"
    quickstart = ["--config", str(REPOSITORY / "examples/quickstart.yaml")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = ["--port", "0", "--grpc-port", "0", "--data-dir", str(tmp_path / "data")]
        code, _, err = await celeriac("up", *quickstart, *ports, cwd=REPOSITORY, **{variable: f"127.0.0.1:{port}"})
    assert (code, err.count("\n")) == (2, 1)
    assert f"port {port} on 127.0.0.1, on which demo-executor is to listen, is in use" in err
    assert not (tmp_path / "data" / "valkey").exists()
    # What it says to set is all that it takes.
    advice = err.split()[-1]
    assert advice.startswith(f"{variable}=127.0.0.1:")
    address = advice.partition("=")[2]
    with RunningUp(tmp_path / "data", *quickstart, cwd=REPOSITORY, **{variable: address}) as up:
        await up.ready()
        payload = json.dumps({"service": "demo", "method": "echo", "data": {"a": 1}})
        code, out, _ = await up.cli("submit", "grpc_task", "--payload", payload, "--watch", "--json")
        assert code == 0, out
        assert await up.stop() == 0


async def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    # Whoever tests as root may write everywhere: a folder where a file belongs stops it too.
    (tmp_path / "locked" / "up.lock").mkdir(parents=True)
    (tmp_path / "passworded" / "valkey" / "password").mkdir(parents=True)
    for name in ("locked", "passworded"):
        code, _, err = await celeriac("up", "--port", "0", "--grpc-port", "0", "--data-dir", str(tmp_path / name))
        assert code == 2
        assert err == f"celeriac: cannot use the data folder {tmp_path / name} (Is a directory): correct --data-dir\n"


async def test_an_open_address_is_refused_without_insecure(tmp_path: Path) -> None:
    for command in ("up", "api"):
        code, _, err = await celeriac(
            command, "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data"), REDIS_URL="redis://127.0.0.1:1/0"
        )
        assert code == 2
        assert "--insecure" in err
    assert not (tmp_path / "data").exists()


async def test_ctrl_c_ends_deaf_children_too_within_its_time(project: Path, data_dir: Path) -> None:
    (project / "deaf.py").write_text(DEAF)
    (project / "deaf.yaml").write_text("up: {workers: 0, stop_timeout: 2s, processes: {deaf: python deaf.py}}")
    with RunningUp(data_dir, "--config", "deaf.yaml", cwd=project) as up:
        await up.ready()
        await up.said("deaf | deaf as a post")
        assert up.pid("deaf")
        assert await up.stop() == 0
        assert up.children() == []
        # It is told when the platform's own parts have ended, and has what is left of the two seconds.
        assert re.search(r"deaf did not stop within [012](\.\d)? s: killing it", up.text), up.text


async def test_a_second_ctrl_c_kills_at_once(project: Path, data_dir: Path) -> None:
    (project / "deaf.py").write_text(DEAF)
    (project / "deaf.yaml").write_text("up: {workers: 0, stop_timeout: 60s, processes: {deaf: python deaf.py}}")
    with RunningUp(data_dir, "--config", "deaf.yaml", cwd=project) as up:
        await up.ready()
        await up.said("deaf | deaf as a post")
        up.children()
        up.process.send_signal(signal.SIGINT)
        await up.said("SIGINT: stopping")
        await asyncio.sleep(0.3)  # quicker than that is one Ctrl-C that came twice
        assert up.process.poll() is None
        up.process.send_signal(signal.SIGINT)
        assert await up.ended(timeout_s=3) == 0
        assert up.children() == []


async def test_programs_of_the_user_get_addresses_and_their_folder(project: Path, data_dir: Path) -> None:
    (project / "mine.py").write_text(MINE)
    (project / "mine.yaml").write_text("up: {workers: 0, processes: {mine: python mine.py}}")
    with RunningUp(data_dir, "--config", "mine.yaml", cwd=project) as up:
        await up.ready()
        await up.said("mine | same True")
        assert f"mine | CELERIAC_DATA_DIR {data_dir}" in up.text
        assert f"mine | CELERIAC_CONFIG {project / 'mine.yaml'}" in up.text
        assert f"mine | cwd {project}" in up.text
        assert await up.stop() == 0


async def test_with_redis_url_no_store_is_started_and_its_absence_is_said(tmp_path: Path, project: Path) -> None:
    config = str(_no_workers(project))
    server = ValkeyServer(tmp_path / "own valkey")
    server.start()
    try:
        with RunningUp(tmp_path / "data", "--config", config, REDIS_URL=server.url()) as up:
            await up.ready()
            assert "valkey-server" not in up.run_json["pids"]
            assert up.run_json["redis"] == server.url()
            assert await up.stop() == 0
    finally:
        server.kill()
    code, _, err = await celeriac(
        "up", "--port", "0", "--grpc-port", "0", "--data-dir", str(tmp_path / "data"), REDIS_URL=server.url()
    )
    assert code == 3
    assert "store cannot be reached" in err


async def test_a_store_that_cannot_read_its_file_is_said_and_nothing_is_left(project: Path, data_dir: Path) -> None:
    config = ["--config", str(_no_workers(project))]
    with RunningUp(data_dir, *config) as up:
        await up.ready()
        assert await up.stop() == 0
    _damage_append_only_file(data_dir)
    with RunningUp(data_dir, *config) as up:
        assert await up.ended(timeout_s=40) == 3
        assert "the embedded store does not start" in up.text
        assert up.children() == []


async def test_a_wrong_setting_is_said_before_anything_starts(project: Path, data_dir: Path) -> None:
    (project / "wrong.yaml").write_text("wrokers: 3")
    listing = os.listdir(project)
    code, _, err = await celeriac("up", "--data-dir", str(data_dir), "--config", str(project / "wrong.yaml"))
    assert code == 2
    assert "wrokers" in err
    assert "worker" in err
    assert os.listdir(project) == listing


async def test_two_workers_are_two_roles(project: Path, data_dir: Path) -> None:
    (project / "two.yaml").write_text("up: {workers: 2}")
    with RunningUp(data_dir, "--config", "two.yaml", cwd=project) as up:
        await up.ready()
        await eventually(lambda: {"worker", "worker-2"} <= set(up.run_json["pids"]), because="both run")
        assert await up.stop() == 0
        assert up.children() == []


async def test_flower_runs_along_and_shows_the_worker(project: Path, data_dir: Path) -> None:
    port = free_port()
    (project / "flower.yaml").write_text(f"up: {{flower_port: {port}}}")
    with RunningUp(
        data_dir, "--flower", "--config", "flower.yaml", cwd=project, FLOWER_UNAUTHENTICATED_API="true"
    ) as up:
        await up.ready()
        assert f"Flower      http://127.0.0.1:{port}" in up.text
        async with httpx.AsyncClient(timeout=60, base_url=f"http://127.0.0.1:{port}") as flower:

            async def shown() -> bool:
                try:
                    answer = await flower.get("/api/workers", params={"refresh": 1})
                except httpx.HTTPError:
                    return False
                return any(name.startswith("worker-") for name in answer.json())

            await eventually(shown, because="Flower hears the worker", timeout_s=40)
        assert await up.stop() == 0
        assert up.children() == []


async def test_flower_beside_authentication_asks_for_its_own_password(project: Path, data_dir: Path) -> None:
    port = free_port()
    (project / "flower.yaml").write_text(f"up: {{flower_port: {port}}}\naccess: {{enabled: true}}")
    # A service named `flower` in the cluster is not an option of Flower.
    foreign = {"FLOWER_PORT": "tcp://10.0.0.1:5555", "FLOWER_SERVICE_HOST": "10.0.0.1"}
    with RunningUp(data_dir, "--flower", "--config", "flower.yaml", cwd=project, **foreign) as up:
        await up.ready()
        file = data_dir / "flower_password"
        assert file.stat().st_mode & 0o777 == 0o600
        password = file.read_text().strip()
        assert "flower_password" in up.text
        assert password not in up.text
        async with httpx.AsyncClient(timeout=60, base_url=f"http://127.0.0.1:{port}") as flower:
            await eventually(lambda: serves(flower, "/healthcheck"), because="Flower starts", timeout_s=40)
            for path in ("/", "/workers", "/tasks", "/tasks/datatable", "/task/x", "/api/tasks", "/api/workers"):
                for auth in (None, ("celeriac", ""), ("admin", password)):
                    answer = await flower.get(path, auth=auth, headers={"Host": "evil.example"})
                    assert answer.status_code == 401, (path, auth)
            assert (await flower.get("/workers", auth=("celeriac", password))).status_code == 200
        assert await up.stop() == 0


def _damage_append_only_file(data_dir: Path) -> None:
    [written] = data_dir.glob("valkey/appendonlydir/*.incr.aof")
    written.write_bytes(b"*3\r\nnot what was written\r\n" + written.read_bytes())


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _no_workers(project: Path) -> Path:
    path = project / "no-workers.yaml"
    path.write_text("up: {workers: 0}")
    return path
