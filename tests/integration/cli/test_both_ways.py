"""Every command that acts on tasks says the same straight on an installation and through the API of a server."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from celeriac.access.principal import Scope
from celeriac.cli.main import app
from celeriac.model import Claim, Failure, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.cli_world import (
    DONE,
    FAILED,
    FRESH,
    GONE,
    LONGER,
    ORDER,
    SECRET,
    TWIN,
    WAITING,
    World,
    stay,
    without_chance,
    world,
)
from tests.kit.command_line import celeriac
from tests.kit.servers import free_port
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

#: Commands that change nothing, with words after them: both ways at once, and the texts are the same to the letter.
LOOKING: Final[dict[str, list[list[str]]]] = {
    "status": [[FAILED], [GONE[:11]], [FRESH[:6]], [ORDER], [LONGER], [TWIN[:13], "--json"], ["nobody"], ["22222222"]],
    "why": [[FRESH[:6]], [FRESH, "--json"], [FAILED], ["nobody"]],
    "watch": [[FAILED], [DONE[:8]], [GONE], [FAILED, "--json"], [GONE[:10], "--json"], ["nobody"], ["no"]],
    "log": [[FAILED], [FAILED, "--json", "--level", "error"], [DONE], ["nobody"], [FAILED, "--follow", "--json"]],
    "list": [
        [],
        ["--json"],
        ["--status", "failed,completed", "--tag", "red"],
        ["--type", "shout", "--queue", "loud", "--limit", "2", "--sort", "created_at"],
        ["--user-id", "ann", "--created-after", "1h"],
        ["--search", "VOICE"],
        ["--status", "odd"],
    ],
    "stats": [
        ["--since", "2030-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z"],
        ["--since", "2020-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z", "--json", "--type", "shout"],
        ["--bucket", "7m"],
    ],
    "errors": [
        ["--since", "2025-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z"],
        ["--since", "2025-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z", "--json", "--type", "shout"],
        ["--since", "2020-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z"],
        ["--since", "2029-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z"],
        ["--since", "2025-01-01T00:00:00Z", "--until", "2030-01-02T00:00:00Z", "--search", "VOICE", "--limit", "1"],
        ["--since", "yesterday"],
    ],
    "waits": [[], ["--json"], ["--limit", "1", "--json"]],
    "signal": [[FAILED, "approval"], ["nobody", "approval"], [WAITING, "approval", "{"], [WAITING, "a b"]],
    "dead": [[], ["--json"]],
    "dead list": [[], ["--json", "--search", "voice"]],
    "dead show": [[FAILED], [GONE[:12], "--json"], ["nobody"]],
    "groups": [[], ["--json"]],
    "groups list": [[]],
    "limits": [[], ["--json"]],
    "limits list": [[]],
    "limits show": [
        ["group:loud"],
        ["customers", "--json"],
        ["customers", "--sort", "running", "--limit", "1"],
        ["none"],
    ],
    "limits set": [["x"], ["x", "--group", "loud"], ["x", "--group", "loud", "--rate", "10/x"], ["a/b", "--type", "x"]],
    "limits delete": [["none"]],
    "workers": [[], ["--json"]],
    "workers list": [[], ["--json"]],
    "workers drain": [["nobody"], ["w-remote"], ["w-1", "--wait", "soon"]],
    "workers resume": [["nobody"], ["w-remote"]],
    "types": [[], ["--json"], ["--stats", "2020-01-01T00:00:00Z"], ["--stats", "2020-01-01T00:00:00Z", "--json"]],
    "workflows": [[], ["--json"]],
    "workflows list": [["--status", "running"], ["--name", "nobody", "--json"], ["--status", "odd"]],
    "workflows show": [["WORKFLOW"], ["WORKFLOW8", "--json"], ["nobody"], ["nob"]],
    "workflows watch": [["nobody"], ["WORKFLOW8"], ["WORKFLOW", "--json"]],
    "definitions": [[], ["--json"]],
    "definitions list": [["--status", "active"], ["--user-id", "nobody"]],
    "definitions show": [["DEFINITION"], ["DEFINITION8"], ["DEFINITION", "--json"], ["nobody"], ["nob"]],
    "definitions preview": [["DEFINITION8", "--count", "3"], ["DEFINITION", "--json"], ["nobody"]],
    "keys": [[], ["--json"]],
    "keys list": [[]],
    "audit": [[], ["--json", "--limit", "2"]],
    "cancel": [["--type", "shout", "--dry-run"], ["--type", "shout", "--dry-run", "--json"], ["--tag", "x"] * 0],
    "retry": [["--type", "shout", "--dry-run"], [], ["t-1", "--type", "shout"], [FRESH], ["nobody"]],
    "dead retry": [["--type", "shout", "--dry-run"]],
    "groups pause": [["luod"]],
    "groups limit": [["luod", "--max-running", "3"], ["loud"], ["loud", "--rate", "10/x"]],
    "definitions create": [
        ["x", "--content", "x", "--cron", "whenever"],
        ["x", "--type", "grpc_task", "--every", "2s"],
        ["x", "--every", "2s", "--at", "2030-01-01T00:00:00Z"],
    ],
    "submit": [
        ["no-such-type"],
        ["shout", "--payload", "{"],
        ["shout", "--priority", "10"],
        ["grpc_task", "--payload", '{"service": "x", "method": "y"}'],
        ["shout", "--idempotency-key", "a b"],
        ["shout", "--after", "nobody"],
        ["shout", "--after", "99999999-9999-4999-8999-999999999999"],
        ["shout", "--after", f"{FAILED}:soon"],
        ["shout", "--after", ORDER, "--on-unmet", "hope"],
        ["shout", "--on-unmet", "run"],
    ],
}
#: A graph of tasks, and files that are submitted as one.
GRAPH: Final = json.dumps(
    {
        "name": "pages",
        "nodes": {
            "first": {"type": "shout", "payload": {"text": "hi"}, "queue": "side"},
            "then": {"type": "shout", "after": ["first"], "queue": "side"},
        },
    }
)
FILES: Final = {
    "graph.json": GRAPH,
    "graph.yaml": "name: pages\nnodes:\n  a: {type: shout, queue: side}\n  b: {type: shout, queue: side, after: [a]}\n",
    "circle.json": GRAPH.replace('{"text": "hi"}', '{}, "after": ["then"]'),
    "odd.yaml": "nodes: [",
}
#: Commands that change something, in this order, first one way and then the other. X is `a` and then `b`.
CHANGING: Final[list[tuple[str, list[str]]]] = [
    ("submit", ["shout", "--payload", '{"text": "hi"}', "--idempotency-key", "key-X", "--queue", "side"]),
    ("submit", ["shout", "--idempotency-key", "key-X", "--json"]),
    ("submit", ["shout", "--after", ORDER, "--after", f"{GONE[:11]}:failed", "--queue", "side", "--json"]),
    ("submit", ["shout", "--after", f"{FAILED[:8]}:ended", "--on-unmet", "run", "--queue", "side"]),
    ("workflows submit", ["graph.json", "--idempotency-key", "graph-X"]),
    ("workflows submit", ["graph.json", "--idempotency-key", "graph-X", "--json"]),
    ("workflows submit", ["graph.yaml", "--name", "other", "--json"]),
    ("workflows submit", ["circle.json"]),
    ("workflows submit", ["missing.json"]),
    ("workflows submit", ["odd.yaml"]),
    ("workflows cancel", ["GRAPH"]),
    ("workflows cancel", ["GRAPH", "--json"]),
    ("workflows retry", ["GRAPH"]),
    ("workflows retry", ["GRAPH", "--json"]),
    ("cancel", ["task-cancel-X"]),
    ("cancel", ["task-cancel-X", "--json"]),
    ("run-now", ["task-later-X"]),
    ("run-now", ["task-later-X", "--json"]),
    ("retry", ["task-cancel-X", "--json"]),
    ("retry", ["task-cancel-X"]),
    ("signal", ["task-wait-X", "approval", '{"approve": 1}']),
    ("signal", ["task-wait-X", "approval", '{"approve": true}']),
    ("signal", ["task-wait-X", "approval"]),
    ("signal", ["task-cancel-X", "early", "null", "--json"]),
    ("retry", ["task-steps-X", "--from-step", "charge"]),
    ("dead retry", ["task-failed-X", "--payload", '{"text": "new"}']),
    ("cancel", ["--type", "no-such", "--detach"]),
    ("retry", ["--type", "no-such", "--detach", "--json"]),
    ("groups pause", ["loud", "--note", "at night"]),
    ("groups resume", ["loud"]),
    ("groups resume", ["loud"]),
    ("groups limit", ["loud", "--max-running", "5", "--rate", "100/m", "--note", "as agreed"]),
    ("groups unlimit", ["loud", "--json"]),
    ("groups unlimit", ["loud"]),
    ("limits set", ["x", "--group", "own", "--by", "key", "--max-running", "2", "--fair", "--note", "as agreed"]),
    ("limits set", ["x", "--type", "whisper", "--by", "user", "--ordered", "--max-waiting", "9", "--json"]),
    ("limits set", ["x", "--group", "celeriac:x", "--rate", "5/s"]),
    ("limits show", ["x"]),
    ("limits delete", ["x"]),
    ("limits delete", ["x"]),
    ("groups drain", ["loud", "--timeout", "5"]),
    ("groups resume", ["loud"]),
    (
        "definitions create",
        ["nightly", "--content", "x", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--user-id", "7"],
    ),
    ("definitions pause", ["OWN", "--note", "moving house"]),
    ("definitions resume", ["OWN"]),
    ("definitions edit", ["OWN", '{"max_runs": 1000}']),
    ("definitions backfill", ["OWN", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-03T00:00:00Z"]),
    ("definitions trigger", ["OWN", "--json"]),
    ("definitions cancel", ["OWN", "--json"]),
    ("definitions resume", ["OWN"]),
    ("workers drain", ["w-X"]),
    ("workers drain", ["w-X", "--json"]),
    ("workers resume", ["w-X"]),
    ("workers resume", ["w-X", "--json"]),
    ("keys create", ["nö", "--scope", "admin", "--json"]),
    ("keys create", ["nö"]),
    ("keys revoke", ["no-such-key"]),
]
#: Commands of this machine. They refuse `--url`, `--token` and `--profile`, but for those that are about servers.
LOCAL: Final = {"up", "api", "grpc", "worker", "beat", "migrate", "doctor", "adopt", "token", "backup", "init"}
ABOUT_SERVERS: Final = {"remote-worker", "login", "logout", "profiles", "profiles use"}


@pytest.fixture
async def running(store: TaskStore, valkey_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(store, valkey_url, tmp_path) as made:
        yield made


def test_every_command_is_compared_or_of_this_machine() -> None:
    def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        if not hasattr(command, "commands") or (path and command.invoke_without_command):
            yield " ".join(path)
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, (*path, name))

    compared = {*LOOKING, *(command for command, _ in CHANGING)}
    assert set(walk(typer.main.get_command(app))) == compared | LOCAL | ABOUT_SERVERS


async def test_commands_that_look_say_the_same_to_the_letter(running: World) -> None:
    code, out, err = await running.directly("definitions", "create", "nightly", "--content", "x", "--cron", "0 3 * * *")
    assert code == 0, err
    await running.directly("groups", "pause", "loud", "--note", "at night")
    await running.directly("groups", "limit", "loud", "--max-running", "5")
    await running.directly("limits", "set", "customers", "--group", "side", "--by", "key", "--max-running", "1")
    for n, key in enumerate(("a", "a", "b")):
        await running.store.submit(Submission(f"keyed-{n}", "shout", group="side", key=key))
    known = {"DEFINITION": out.strip(), "DEFINITION8": out.strip()[:8]}
    (running.folder / "graph.json").write_text(GRAPH)
    code, out, err = await running.directly("workflows", "submit", "graph.json")
    assert code == 0, err
    known |= {"WORKFLOW": out.strip(), "WORKFLOW8": out.strip()[:8]}
    await running.directly("workflows", "cancel", known["WORKFLOW"])
    await eventually(lambda: ended(running, known["WORKFLOW"]), because="its nodes wait, so they end at once")
    await running.record()
    different = {}
    for command, calls in LOOKING.items():
        for words in calls:
            direct, remote = await running.both(*command.split(), *(known.get(word, word) for word in words))
            assert direct[0] in (0, 1, 2), (command, words, direct)
            if direct != remote:
                different[f"{command} {' '.join(words)}"] = (direct, remote)
    assert different == {}


async def test_commands_that_change_something_say_the_same(running: World) -> None:
    said: dict[str, list[Any]] = {"a": [], "b": []}
    for name, text in FILES.items():
        (running.folder / name).write_text(text)
    for way in ("a", "b"):
        await stay(running.store, f"w-{way}")
    for way, run in (("a", running.directly), ("b", running.over_http)):
        await _task(running.store, f"task-cancel-{way}")
        await running.store.submit(Submission(f"task-later-{way}", "shout", group="side", delay_ms=3_600_000))
        await _task(running.store, f"task-failed-{way}", fail=True)
        awaits = {"signal": "approval", "schema": '{"properties":{"approve":{"type":"boolean"}}}'}
        await running.store.submit(Submission(f"task-wait-{way}", "wait", awaits=awaits))
        await _task(running.store, f"task-steps-{way}", step="charge")
        await running.record()
        own = graph = ""
        for command, words in CHANGING:
            chosen = [{"OWN": own, "GRAPH": graph}.get(word) or word.replace("-X", f"-{way}") for word in words]
            code, out, err = await run(*command.split(), *chosen)
            if command == "definitions create":
                own = out.strip()
            if words[:1] == ["graph.json"] and "--json" not in words:
                graph = out.strip()
            if command == "workflows cancel":
                await eventually(lambda graph=graph: ended(running, graph), because="its nodes wait")  # type: ignore[misc]
            told = without_chance((code, out, err))
            said[way].append((command, words, *(str(part).replace(f"-{way}", "-X") for part in told)))
    assert said["a"] == said["b"]
    assert [entry for entry in said["a"] if entry[2] not in ("0", "2")] == []


async def ended(running: World, workflow_id: str) -> bool:
    _, out, _ = await running.over_http("workflows", "show", workflow_id, "--json")
    return bool(json.loads(out)["status"] != "running")


async def _task(store: TaskStore, task_id: str, *, fail: bool = False, step: str = "") -> None:
    await store.submit(Submission(task_id, "shout", group="own", max_retries=0))
    if fail or step:
        claim = await store.claim(task_id, worker="w-1")
        assert isinstance(claim, Claim)
        if step:
            await store.note_step(claim, f"step:{step}", "1")
        await store.fail(claim, Failure("broken", "no paper", retryable=False), 0)


async def test_a_list_as_json_is_one_record_per_line(running: World) -> None:
    lists = (
        "list",
        "dead",
        "dead list",
        "groups",
        "groups list",
        "limits",
        "limits list",
        "types",
        "definitions",
        "keys",
        "audit",
        "workers",
        "waits",
    )
    await running.directly("definitions", "create", "a", "--content", "x", "--cron", "0 3 * * *")
    await running.directly("keys", "create", "a", "--scope", "admin")
    await running.directly("limits", "set", "a", "--group", "loud", "--max-running", "1")
    for command in lists:
        code, out, err = await running.over_http(*command.split(), "--json")
        assert (code, err) == (0, ""), command
        records = [json.loads(line) for line in out.splitlines()]
        assert records or command == "workers", command
        assert all(isinstance(record, dict) for record in records)


async def test_ids_may_be_shortened_to_what_is_unique(running: World) -> None:
    for given, whole in ((FRESH[:6], FRESH), (GONE[:10], GONE), (FAILED[:8], FAILED), (ORDER, ORDER), (LONGER, LONGER)):
        for code, out, _ in await running.both("status", given, "--json"):
            assert (code, json.loads(out)["task_id"]) == (0, whole)
    for given, text in (
        ("22222222-", f"several tasks begin with '22222222-': {GONE}, {TWIN}; write more of the id"),
        ("2222", "'2222' is too short: write at least 6 characters of the task's id"),
        ("99999999", "no task has the id '99999999'"),
    ):
        for command in ("status", "watch", "log", "cancel", "retry", "dead show", "dead retry"):
            for code, out, err in await running.both(*command.split(), given):
                assert (code, out) == (2, ""), (command, given)
                assert text in err
                assert err.count("\n") == 1


async def test_a_user_finds_no_ids_of_others(running: World) -> None:
    settings = Settings.model_validate({"access": {"jwt_secret": SECRET}})
    ann = token_of(settings, user_id="ann", scopes=[Scope.READ, Scope.SUBMIT])
    environ = {"CELERIAC_URL": running.url, "CELERIAC_TOKEN": ann}
    code, out, _ = await celeriac("status", GONE[:8], "--json", cwd=running.folder, **environ)
    assert (code, json.loads(out)["task_id"]) == (0, GONE), "the other task that begins so is not hers"
    code, _, err = await celeriac("status", FRESH[:8], cwd=running.folder, **environ)
    assert (code, err) == (2, f"celeriac: no task has the id '{FRESH[:8]}', or its record has expired\n")
    code, _, err = await celeriac("workers", cwd=running.folder, **environ)
    assert (code, err) == (2, "celeriac: this needs the scope admin; the credential's scopes are: read, submit\n")


@pytest.fixture
def other_site(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that is not Celeriac's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_what_is_wrong_with_a_server_is_one_sentence(running: World, other_site: str, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for url, token, code, text in (
        (nobody, "", 3, f"the API at {nobody} cannot be reached"),
        ("nonsense", "", 2, "is an http or https URL"),
        (running.url, "", 2, "show a credential"),
        (running.url, "wrong", 2, "log in with `celeriac login URL`"),
        (other_site, "", 2, f"{other_site}: the answer is text/html;charset=utf-8, not what the API sends"),
    ):
        words = ["--token", token] if token else []
        got, out, err = await celeriac("list", "--url", url, *words, cwd=tmp_path)
        assert (got, out) == (code, ""), (url, err)
        assert text in err, err
        assert err.count("\n") == 1


async def test_what_leads_somewhere_is_named_once(running: World, tmp_path: Path) -> None:
    for words, text in (
        (["--url", running.url, "--profile", "x"], "--url and --profile exclude each other"),
        (["--url", running.url, "--data-dir", "x"], "--url and --profile lead to a server"),
        (["--profile", "prod"], "there is no profile 'prod'; make one with `celeriac login URL`"),
        (["--token", "x"], "--token needs a server"),
    ):
        code, _, err = await celeriac("list", *words, cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config"))
        assert (code, err.count("\n")) == (2, 1)
        assert text in err
    # What is written in front of the command of a group would lead it elsewhere.
    code, _, err = await celeriac("groups", "--url", running.url, "pause", "loud", cwd=tmp_path)
    assert code == 2
    assert "after the command: celeriac groups pause" in err


@pytest.mark.parametrize("command", sorted(LOCAL))
async def test_a_command_of_this_machine_says_so(command: str, tmp_path: Path) -> None:
    needed = {"adopt": ["proj"], "token": ["--user", "7"], "backup": ["there"]}
    words = [command, *needed.get(command, []), "--url", "http://127.0.0.1:1"]
    code, out, err = await celeriac(*words, cwd=tmp_path)
    assert (code, out, err) == (2, "", "celeriac: this command works on this machine only: leave --url out\n")


async def test_login_remembers_a_server_that_accepts_the_token(running: World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    async def run(*words: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
        return await celeriac(*words, stdin=stdin, cwd=home, XDG_CONFIG_HOME=str(tmp_path / "config"), **more)

    file = tmp_path / "config" / "celeriac" / "profiles.yaml"
    code, _, err = await run("login", running.url, stdin="wrong\n")
    assert (code, err) == (2, f"celeriac: {running.url} refuses this token: ask for a new one (nothing was stored)\n")
    code, _, err = await run("login", running.url)
    assert code == 2
    assert "asks for a token" in err
    assert not file.exists()
    code, out, _ = await run("login", running.url, "--profile", "prod", stdin=f"{running.token}\n")
    assert (code, out) == (0, f"logged in to {running.url}: this is the profile prod. It is the default.\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, out, _ = await run("login", running.url, "--token", running.token)
    assert f"this is the profile {running.url.removeprefix('http://')}. Choose it with --profile" in out
    assert os.listdir(file.parent) == ["profiles.yaml"], "no draft is left"

    # The default profile is used where nothing runs; a named one always; the environment's URL finds the token too.
    for words, more in (
        ([], {}),
        (["--profile", "prod"], {"CELERIAC_URL": "http://127.0.0.1:1"}),
        ([], {"CELERIAC_URL": running.url}),
        (["--url", running.url + "/"], {}),
    ):
        code, out, err = await run("status", FAILED, "--json", *words, **more)
        assert (code, err) == (0, "")
        assert json.loads(out)["status"] == "failed"
    code, out, _ = await run("status", FAILED, CELERIAC_DATA_DIR="here")
    assert code == 2, "a data folder that is named is meant"
    assert "prod" in (await run("profiles"))[1]
    assert running.token not in (await run("profiles", "--json"))[1]
    assert [json.loads(line)["default"] for line in (await run("profiles", "--json"))[1].splitlines()] == [True, False]
    assert (await run("profiles", "use", "nope"))[0] == 2
    assert (await run("logout"))[1].startswith("logged out of prod; choose a default")
    assert (await run("list"))[0] == 2
    assert (await run("profiles", "use", running.url.removeprefix("http://")))[0] == 0
    assert (await run("list"))[0] == 0
    file.write_text("- nonsense")
    code, _, err = await run("list", "--profile", "prod")
    assert code == 2
    assert "is not a file of profiles" in err
