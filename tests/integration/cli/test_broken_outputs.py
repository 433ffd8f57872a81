"""Every command with a standard output that is closed, full, unread, or lacks most characters."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from celeriac.cli.main import app
from celeriac.database.migrating import migrate
from celeriac.model import Claim, Failure, LogLine, Submission
from celeriac.settings import Settings
from celeriac.store.takers import read_takers
from celeriac.store.task_store import TaskStore
from celeriac.up.ports import pick_port
from celeriac.up.run import answers_healthz
from tests.kit.cli_world import stay
from tests.kit.command_line import CELERIAC, celeriac, clean_environment
from tests.kit.outputs import Closed, run_with
from tests.kit.waiting import eventually

#: Text of all sorts that a task may have.
ODD = "nö ☃ 🎉 \u202e\x1b[2J end"
WAITING = "t-waiting"
LATER = "t-later"
PROFILES = "default: nö\nprofiles:\n  nö: {url: http://nö.example}\n  other: {url: http://other.example, token: x}\n"
SECRET = "0123456789abcdef0123456789abcdef"

#: How each command is called so that it prints. TASK is a failed task, DEFINITION a definition.
COMMANDS = {
    "migrate": [],
    "init": ["fresh"],
    "adopt": ["celeriac_tasks"],
    "submit": ["celeriac.demo", "--payload", '{"seconds": 1}', "--user-id", "nö"],
    "status": ["TASK"],
    "why": ["TASK"],
    "cancel": ["--type", "shout", "--status", "pending", "--dry-run"],
    "run-now": ["LATER"],
    "retry": ["--type", "shout", "--dry-run"],
    "watch": ["TASK"],
    "log": ["TASK"],
    "signal": ["WAITING", "approval", "true"],
    "waits": [],
    "list": [],
    "stats": [],
    "errors": [],
    "workers": [],
    "workers list": [],
    "workers drain": ["w-odd"],
    "workers resume": ["w-odd"],
    "types": [],
    "doctor": [],
    "token": ["--user", "nö"],
    "audit": [],
    "dead": [],
    "dead list": [],
    "dead show": ["TASK"],
    "dead retry": ["--type", "shout", "--dry-run"],
    "workflows": [],
    "workflows list": [],
    "workflows submit": ["graph.json"],
    "workflows show": ["WORKFLOW"],
    "workflows watch": ["WORKFLOW"],
    "workflows cancel": ["WORKFLOW"],
    "workflows retry": ["WORKFLOW"],
    "definitions": [],
    "definitions list": [],
    "definitions show": ["DEFINITION"],
    "definitions create": [ODD, "--content", ODD, "--every", "3600"],
    "definitions edit": ["DEFINITION", '{"max_runs": 1000}'],
    "definitions pause": ["DEFINITION", "--note", "nö"],
    "definitions resume": ["DEFINITION"],
    "definitions trigger": ["DEFINITION"],
    "definitions preview": ["DEFINITION"],
    "definitions backfill": ["DEFINITION", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-03T00:00:00Z"],
    "definitions cancel": ["DEFINITION"],
    "groups": [],
    "groups list": [],
    "groups pause": ["loud", "--note", "nö"],
    "groups resume": ["loud"],
    "groups drain": ["loud", "--timeout", "5"],
    "groups limit": ["loud", "--max-running", "3"],
    "groups unlimit": ["loud"],
    "limits": [],
    "limits set": ["nö", "--group", "loud", "--by", "key", "--max-running", "3", "--note", ODD],
    "limits list": [],
    "limits show": ["nö"],
    "limits delete": ["nö"],
    "keys": [],
    "keys create": ["nö", "--scope", "admin"],
    "keys list": [],
    "keys revoke": ["KEY"],
    "profiles": [],
    "profiles use": ["other"],
    "logout": ["nö"],
}
#: They serve, or need what serves: `test_processes_serve_without_any_output` and `up` have them.
SERVING = {"up", "api", "grpc", "worker", "beat", "remote-worker", "backup", "login"}


@dataclass
class Installation:
    folder: Path
    environ: dict[str, str]
    task: str
    definition: str
    workflow: str

    def words(self, command: str) -> list[str]:
        known = {
            "TASK": self.task,
            "WAITING": WAITING,
            "LATER": LATER,
            "DEFINITION": self.definition,
            "KEY": "no-such-key",
        }
        known["WORKFLOW"] = self.workflow
        return [*command.split(), *(known.get(word, word) for word in COMMANDS.get(command, ()))]


@pytest.fixture
async def installation(tmp_path: Path, valkey_url: str) -> Installation:
    database = f"sqlite:///{tmp_path / 'history.db'}"
    migrate(database)
    (tmp_path / "text").write_text("x")
    (tmp_path / "celeriac").mkdir()
    (tmp_path / "celeriac" / "profiles.yaml").write_text(PROFILES, encoding="utf-8")
    environ = {"REDIS_URL": valkey_url, "DATABASE_URL": database, "JWT_SECRET": SECRET, "CELERIAC_DATA_DIR": "d ö"}
    environ |= {"XDG_CONFIG_HOME": str(tmp_path)}
    async with TaskStore(valkey_url, Settings().store) as store:
        await store.announce_types({"shout": {"group": "loud", "schema": {"type": "object"}, "description": ODD}})
        submitted = await store.submit(Submission("t-1", "shout", group="loud", payload=f'{{"text": "{ODD[:8]}"}}'))
        await stay(store, "w-odd", host=ODD)
        await store.submit(Submission(WAITING, "wait", awaits={"signal": "approval", "title": ODD}))
        await store.submit(Submission(LATER, "shout", group="loud", delay_ms=3_600_000))
        claim = await store.claim(submitted.task_id, worker=f"w-{ODD[:6]}")
        assert isinstance(claim, Claim)
        await store.log(claim, 1, LogLine("info", ODD))
        await store.fail(claim, Failure("odd", ODD, retryable=False), delay_ms=0)
    code, out, err = await celeriac(
        "definitions", "create", ODD[:8], "--content", ODD[:8], "--cron", "0 3 * * *", "--json", cwd=tmp_path, **environ
    )
    assert code == 0, err
    (tmp_path / "graph.json").write_text(json.dumps({"name": ODD[:6], "nodes": {"a": {"type": "shout"}}}))
    code, workflow, err = await celeriac("workflows", "submit", "graph.json", cwd=tmp_path, **environ)
    assert code == 0, err
    code, _, err = await celeriac("workflows", "cancel", workflow.strip(), cwd=tmp_path, **environ)
    assert code == 0, err
    return Installation(tmp_path, environ, submitted.task_id, str(json.loads(out)["task_def_id"]), workflow.strip())


def run(kind: str, installation: Installation, command: str, *more: str) -> subprocess.CompletedProcess[bytes]:
    words = [*installation.words(command), *more]
    return run_with(kind, *words, cwd=installation.folder, **installation.environ)


def test_every_command_is_in_the_table() -> None:
    def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        if not hasattr(command, "commands") or (path and command.invoke_without_command):
            yield " ".join(path)
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, (*path, name))

    assert set(walk(typer.main.get_command(app))) == {*COMMANDS, *SERVING}


@pytest.mark.parametrize("kind", ["closed", "full"])
def test_output_that_cannot_be_written_is_one_line_and_code_1(installation: Installation, kind: str) -> None:
    wrong = {}
    for command in [*COMMANDS, "--help", "--version", "list --help"]:
        done = run(kind, installation, command)
        said = done.stderr.decode().splitlines()
        if done.returncode != 1 or len(said) != 1 or not said[0].startswith("celeriac: "):
            wrong[command] = (done.returncode, said)
    # It fails by itself, and says why: there is no such key.
    assert wrong.pop("keys revoke")[0] == 2
    assert wrong == {}


def test_a_reader_that_has_gone_is_not_an_error(installation: Installation) -> None:
    wrong = {}
    for command in COMMANDS:
        done = run("unread", installation, command)
        if done.stderr or done.returncode:
            wrong[command] = (done.returncode, done.stderr)
    assert wrong.pop("keys revoke")[0] == 2
    assert wrong == {}


@pytest.mark.parametrize("encoding", ["ascii"])
def test_characters_that_the_output_lacks_are_replaced(installation: Installation, encoding: str) -> None:
    wrong = {}
    for command in COMMANDS:
        done = run(encoding, installation, command)
        text = done.stdout.decode(encoding)
        # No worker runs here, which a submission says.
        said = [line for line in done.stderr.splitlines() if not line.startswith(b"celeriac: warning: no ")]
        if said or not text or "\x1b" in text:
            wrong[command] = (done.returncode, done.stderr, text)
    assert wrong.pop("keys revoke")[0] == 2
    assert wrong == {}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_loses_nothing_in_any_encoding(installation: Installation, encoding: str) -> None:
    for command in ("status", "dead show", "log", "definitions show", "types", "watch"):
        done = run(encoding, installation, command, "--json")
        assert done.stderr == b"", command
        text = done.stdout.decode(encoding)
        lines = text.splitlines() if command in ("log", "types", "watch") else [text]
        assert "nö ☃" in json.dumps([json.loads(line) for line in lines], ensure_ascii=False), command


@contextmanager
def _serving(kind: str, folder: Path, environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [*CELERIAC, *words],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=full,
            preexec_fn=Closed((0, 1, 2)) if kind == "closed" else None,
            env=clean_environment(**environ),
            cwd=folder,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.mark.parametrize("kind", ["closed", "full"])
async def test_processes_serve_without_any_output(tmp_path: Path, valkey_url: str, kind: str, store: TaskStore) -> None:
    environ = {"REDIS_URL": valkey_url, "DATABASE_URL": f"sqlite:///{tmp_path / 'history.db'}"}
    migrate(environ["DATABASE_URL"])
    port = pick_port()
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(_serving(kind, tmp_path, environ, name, *options))
            for name, options in {
                "worker": (),
                "beat": (),
                "api": ("--port", str(port), "--grpc-port", "0"),
                "grpc": ("--grpc-port", "0"),
            }.items()
        }
        await eventually(lambda: answers_healthz("127.0.0.1", port), because="the API serves")

        async def worker_is_there() -> bool:
            return (await read_takers(store)).count("default", "celeriac.demo", "broker") == (1, 1)

        # Without one, a submission warns.
        await eventually(worker_is_there, because="the worker says what it serves and knows")
        # A delayed task needs the beat and the worker, and its log makes the worker write.
        code, out, err = await celeriac(
            "submit", "celeriac.demo", "--payload", '{"seconds": 0.1}', "--delay", "0.1", "--watch", cwd=tmp_path,
            REDIS_URL=valkey_url,
        )  # fmt: skip
        assert (code, err) == (0, ""), out
        for name, process in running.items():
            assert process.poll() is None, name
            process.send_signal(signal.SIGTERM)
        for name, process in running.items():
            await eventually(lambda p=process: p.poll() is not None, because=f"{name} ends")
            assert process.returncode == 0, name


@pytest.mark.fresh_python
async def test_up_serves_with_its_output_closed(tmp_path: Path) -> None:
    run_file = tmp_path / "data" / "run.json"
    words = ("up", "--port", "0", "--grpc-port", "0", "--data-dir", str(tmp_path / "data"))
    with _serving("closed", tmp_path, {}, *words) as process:
        await eventually(
            lambda: run_file.exists() and json.loads(run_file.read_text())["ready_at"],
            because="up is ready",
            timeout_s=60,
        )
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None, because="up ends", timeout_s=30)
        assert process.returncode == 0
