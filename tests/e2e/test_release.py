"""What is published: a wheel and an sdist that work outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from celeriac.cli.command_table import COMMANDS
from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.installed import build, install
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

#: Imports the modules that are its arguments; prints what each said, "" if nothing.
IMPORT_EACH = """
import importlib, json, sys
said = {}
for name in sys.argv[1:]:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
            said[name] = ""
        except ImportError as exc:
            said[name] = str(exc)
print(json.dumps(said))
"""
#: Runs every command in a fork of its own; prints the exit code and the output of each.
RUN_EACH = """
import json, os, sys, tempfile, typer.main
from celeriac.cli.main import app, main

def leaves(command, path):
    below = getattr(command, "commands", None)
    if below is None or (path and command.invoke_without_command):
        yield path, command
    for name, inner in (below or {}).items():
        yield from leaves(inner, [*path, name])

def required(command):
    for parameter in command.params:
        if parameter.required:
            yield from ["m:f"] if parameter.param_type_name == "argument" else [parameter.opts[0], "m"]

said = {}
for path, command in leaves(typer.main.get_command(app), []):
    with tempfile.TemporaryFile() as output:
        if not (child := os.fork()):
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2), os.dup2(os.open(os.devnull, 0), 0)
            sys.argv = ["celeriac", *path, *required(command)]
            os._exit(main())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        said[" ".join(path)] = code, output.read().decode()
print(json.dumps(said))
"""
JOBS = """
from celeriac import Client
from celeriac_tasks.celery import app
from mytasks import report


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task(bind=True, max_retries=3)
def later(self: object) -> None:
    add.delay(1, 2)


def pages(client: Client) -> int:
    return report.run(customer=7)["pages"] + client.submit(report, customer=7).result()["pages"]


def wrong() -> str:
    return report.run(customer='x')
"""
MYTASKS = """
from celeriac import Client, Context, task


@task
async def add(ctx: Context, left: int, right: int = 1) -> int:
    return left + right


async def answer(job):
    return "hello"


if __name__ == "__main__":
    print(add.run(left=20))
    with Client() as client:
        print(client.submit("remote", {"data": "hi"}, queue="gpu").result(timeout=60))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with both, built from the working copy."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def base(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment as `pip install celeriac` makes it."""
    [wheel] = dist.glob("*.whl")
    return install(wheel, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def server(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment as `pip install 'celeriac[server]' pytest` makes it."""
    [wheel] = dist.glob("*.whl")
    return install(wheel, tmp_path_factory.mktemp("server"), extras=["server"], also=["pytest"])


def run(program: Path, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=120, env=clean_environment(COLUMNS="200", **environ),
    )  # fmt: skip


def test_the_wheel_holds_what_runs_and_nothing_else(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    rooms = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert rooms == {"celeriac", "celeriac_api", "celeriac_tasks", "celeriac_proto"}
    for needed in (".lua", ".proto", "py.typed", "/migrations/env.py", ".css", ".js", ".html"):
        assert any(name.endswith(needed) for name in names), needed


def test_the_sdist_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "platform/celeriac/__init__.py"} <= names
    assert not any(name.startswith((".venv", ".celeriac", "deploy/secrets/", "storage/")) for name in names)


def test_a_base_install_is_small(base: Path) -> None:
    """The contract says 60 MB at most; links count as what they lead to."""
    packages = next(base.parent.glob("lib/python*/site-packages"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 60_000_000


def test_every_module_can_be_imported_or_says_which_extra_it_needs(dist: Path, base: Path, tmp_path: Path) -> None:
    [wheel] = dist.glob("*.whl")
    files = [
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if name.endswith(".py")
        and "/migrations/" not in name
        and "/new_project/" not in name
        # It is for projects that have Django.
        and "/contrib/django/" not in name
    ]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files]
    said = run(base / "python", "-c", IMPORT_EACH, *modules, cwd=tmp_path)
    outcomes: dict[str, str] = json.loads(said.stdout)
    assert outcomes.keys() == {name for name in modules if not name.endswith("__main__")}, said.stderr
    raw = {name: text for name, text in outcomes.items() if text and "pip install 'celeriac[server]'" not in text}
    assert raw == {
        # Each is imported only where the package is there, or by a module that says what is missing.
        "celeriac.threads.greenlets": "No module named 'gevent'",
        "celeriac.files.s3": "No module named 'obstore'",
        "celeriac.testing.pytest_plugin": "No module named 'pytest'",
    }
    usable = {name for name, text in outcomes.items() if not text}
    assert usable >= {"celeriac", "celeriac.client", "celeriac.remote_worker", "celeriac.testing", "celeriac.cli.main"}
    assert usable >= {f"celeriac.cli.commands.{entry.module}" for entry in COMMANDS}


def test_every_public_name_is_there_in_a_base_install(base: Path, tmp_path: Path) -> None:
    said = run(base / "python", "-c", "from celeriac import *; from celeriac.settings import *", cwd=tmp_path)
    assert said.returncode == 0, said.stderr


def test_every_command_works_or_says_which_extra_it_needs(base: Path, tmp_path: Path) -> None:
    """Each is run as it is listed, with some value for what it requires, beside a store that is not there."""
    said = run(base / "python", "-c", RUN_EACH, cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1")
    assert said.returncode == 0, said.stderr
    outcomes: dict[str, tuple[int, str]] = json.loads(said.stdout.splitlines()[-1])
    assert {entry.name for entry in COMMANDS} <= {name.partition(" ")[0] for name in outcomes}
    for name, (code, text) in outcomes.items():
        assert code in range(4), f"{name}: {text}"
        assert "Traceback" not in text, f"{name}: {text}"
        assert "No module named" not in text, f"{name}: {text}"
    needing = {name for name, (_, text) in outcomes.items() if "run pip install 'celeriac[server]'" in text}
    assert needing >= {"up", "api", "grpc", "worker", "beat", "migrate", "doctor", "adopt", "backup"}
    assert not needing & {"remote-worker", "token"}


async def test_a_new_project_works_as_it_is(server: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert run(server / "celeriac", "init", "project", cwd=tmp_path).returncode == 0
    tested = run(server / "python", "-m", "pytest", cwd=project)
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout
    with RunningUp(project / ".celeriac", cwd=project, command=(str(server / "celeriac"),)) as up:
        await up.ready()
        said = run(server / "python", "mytasks.py", cwd=project)
        assert said.returncode == 0, said.stderr
        assert said.stdout.endswith("result {'customer': 7, 'pages': 10}\n")
        assert await up.stop() == 0


def test_a_project_is_checked_strictly_by_the_types_that_the_wheel_brings(server: Path, tmp_path: Path) -> None:
    """The tasks of `@task` and of `@app.task`, and the project of `celeriac init`; one line of it is wrong."""
    assert run(server / "celeriac", "init", cwd=tmp_path).returncode == 0
    (tmp_path / "jobs.py").write_text(JOBS)
    checked = run(
        Path(sys.executable), "-m", "mypy", "--strict", "--python-executable", str(server / "python"),
        "--cache-dir", str(tmp_path / "cache"), "jobs.py", "mytasks.py", "tests/test_mytasks.py", cwd=tmp_path,
    )  # fmt: skip
    wrong = JOBS.splitlines().index("    return report.run(customer='x')") + 1
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [error.partition(" error")[0] for error in errors] == [f"jobs.py:{wrong}:"] * 2, checked.stdout


async def test_a_base_install_submits_typed_tasks_and_runs_a_remote_worker(
    base: Path, server: Path, tmp_path: Path
) -> None:
    """A web application and a machine with a GPU have only this, and the address of the API."""
    (tmp_path / "mytasks.py").write_text(MYTASKS)
    (tmp_path / "celeriac.yaml").write_text("imports: [mytasks]\n")
    with RunningUp(tmp_path / ".celeriac", cwd=tmp_path, command=(str(server / "celeriac"),)) as up:
        await up.ready()
        (elsewhere := tmp_path / "elsewhere").mkdir()
        shutil.copy(tmp_path / "mytasks.py", elsewhere)
        there = {"CELERIAC_URL": up.run_json["http"], "CELERIAC_DATA_DIR": str(elsewhere / "none")}
        worker = subprocess.Popen(
            [base / "celeriac", "remote-worker", "mytasks:answer", "--group", "gpu", "--model", "echo"],
            cwd=elsewhere, env=clean_environment(**there),
        )  # fmt: skip
        try:
            said = run(base / "python", "mytasks.py", cwd=elsewhere, **there)
            assert said.stdout.split() == ["21", "hello"], said.stderr
        finally:
            worker.terminate()
            worker.wait(20)
        assert await up.stop() == 0


def test_the_example_tests_itself_in_a_checkout(server: Path) -> None:
    """With pytest alone: the configuration of the repository, which needs more, is not that of the example."""
    example = REPOSITORY / "examples" / "task_type"
    tested = run(server / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=example)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "5 passed" in tested.stdout


def test_the_containers_of_a_developer_run_the_working_copy(server: Path, tmp_path: Path) -> None:
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.dev.yaml").read_text())["services"]
    ours = [service for service in services.values() if "build" in service]
    assert len(ours) == 4
    for service in ours:
        assert "..:/src:ro" in service["volumes"]
        path = service["environment"]["PYTHONPATH"].replace("/src/", f"{REPOSITORY}/")
        code = (
            "import celeriac, celeriac_api, celeriac_tasks, celeriac_proto as p; print(celeriac.__path__, p.__path__)"
        )
        said = run(server / "python", "-c", code, cwd=tmp_path, PYTHONPATH=path)
        assert said.stdout.count(f"['{REPOSITORY}/") == 2, said.stdout + said.stderr


async def test_up_runs_from_the_wheel_in_an_empty_folder(server: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [server / "python", "-c", "import celeriac, celeriac_api, celeriac_tasks; print(celeriac_api.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert where.stdout.startswith(str(server.parent)), where.stdout
    with RunningUp(tmp_path / ".celeriac", cwd=tmp_path, command=(str(server / "celeriac"),)) as up:
        await up.ready()
        (uploads := tmp_path / ".celeriac" / "uploads").mkdir(exist_ok=True)

        def processed(processor: str) -> subprocess.CompletedProcess[str]:
            (uploads / f"{processor}.txt").write_text("hello")
            payload = json.dumps({"path": f"{uploads}/{processor}.txt", "processor": processor})
            submit = ("submit", "file_process", "--max-retries", "0", "--payload", payload, "--watch")
            return run(server / "celeriac", *submit, cwd=tmp_path)

        done = processed("checksum")
        assert done.returncode == 0, done.stdout + done.stderr
        unavailable = processed("compress")
        assert unavailable.returncode == 1
        assert "run pip install 'celeriac[files]'" in unavailable.stdout + unavailable.stderr
        await eventually(
            lambda: run(server / "celeriac", "doctor", "--quick", cwd=tmp_path).returncode == 0,
            because="store and history answer",
        )
        assert await up.stop() == 0
    assert not [name for name in os.listdir(tmp_path) if name not in (".celeriac", "storage")]
