"""The task commands against a real store; the test acts as the worker."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac.model import Claim, Failure, LogLine, Progress, Status, Submission
from celeriac.store import keys
from celeriac.store.audit import AuditLog
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import CELERIAC, celeriac, clean_environment
from tests.kit.waiting import eventually

SHOUT = {"shout": {"group": "loud", "schema": {"type": "object"}, "description": "Shout a text.\nLoudly."}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands run: nothing of anybody's settings is there."""
    return tmp_path


@pytest.fixture
def cli(folder: Path, valkey_url: str) -> Callable[..., Any]:
    async def run(*arguments: str, **more: Any) -> tuple[int, str, str]:
        return await celeriac(*arguments, cwd=folder, REDIS_URL=valkey_url, **more)

    return run


async def _claim(store: TaskStore, task_id: str) -> Claim:
    claim = await store.claim(task_id, worker="w-1")
    assert isinstance(claim, Claim), claim
    return claim


@asynccontextmanager
async def _watching(url: str, folder: Path, task_id: str, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *CELERIAC,
        "watch",
        task_id,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(REDIS_URL=url),
        cwd=folder,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_task_goes_from_submit_to_its_result(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    code, out, err = await cli(
        "submit", "shout", "--payload", '{"text": "hi"}', "--priority", "7", "--max-retries", "0", "--user-id", "ann",
        "--metadata", '{"order": 5}', "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    answer = json.loads(out)
    warning = "no worker serves the group loud"
    warnings = [{"code": "no_worker", "text": warning, "group": "loud", "type": "shout"}]
    assert answer == {"task_id": answer["task_id"], "status": "pending", "created": True, "warnings": warnings}
    assert (await cli("submit", "shout"))[2] == f"celeriac: warning: {warning}\n"
    task = await store.get(answer["task_id"])
    assert (task.group, task.priority, task.max_retries, task.user_id) == ("loud", 7, 0, "ann")

    code, out, _ = await cli("status", task.task_id)
    assert code == 0
    waits = ("no worker serves the group loud", "it is the next one in the group loud")
    assert f"waits        {waits[0]}\n             {waits[1]}\n" in out
    code, out, _ = await cli("why", task.task_id)
    assert (code, out.splitlines()) == (0, list(waits))

    claim = await _claim(store, task.task_id)
    await store.complete(claim, '{"text": "HI"}')
    code, out, _ = await cli("status", task.task_id, "--json")
    record = json.loads(out)
    assert code == 0
    assert (record["status"], record["result"], record["metadata"]) == ("completed", {"text": "HI"}, {"order": 5})
    code, out, _ = await cli("status", task.task_id)
    assert '"text": "HI"' in out


async def test_the_status_says_what_a_task_depends_on(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    parents = [(await cli("submit", "shout"))[1].strip() for _ in range(2)]
    after = (parents[0], f"{parents[1]}:ended")
    _, child, _ = await cli("submit", "shout", "--after", after[0], "--after", after[1])
    _, out, _ = await cli("status", child.strip())
    assert f"depends_on   {after[0]}, {after[1]}\n" in out
    _, out, _ = await cli("status", parents[0])
    assert "depends_on" not in out


async def test_payloads_come_from_a_file_or_standard_input_too(store: TaskStore, cli: Any, folder: Path) -> None:
    await store.announce_types(SHOUT)
    (folder / "payload.json").write_text('{"from": "file"}')
    _, out, _ = await cli("submit", "shout", "--payload", "@payload.json")
    assert (await store.get(out.strip())).payload == {"from": "file"}
    _, out, _ = await cli("submit", "shout", '{"text": "after the type"}')
    assert (await store.get(out.strip())).payload == {"text": "after the type"}
    _, out, _ = await cli("submit", "shout", "-", stdin='{"text": "from stdin"}')
    assert (await store.get(out.strip())).payload == {"text": "from stdin"}
    code, _, err = await cli("submit", "shout", "{}", "--payload", "{}")
    assert (code, "payload: is given twice: after the type, and with --payload" in err) == (2, True), err
    _, out, _ = await cli("submit", "shout", "--payload", "-", stdin='{"from": "stdin"}')
    assert (await store.get(out.strip())).payload == {"from": "stdin"}


async def test_the_same_idempotency_key_answers_the_first_task(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    _, first, _ = await cli("submit", "shout", "--idempotency-key", "k-1")
    code, second, err = await cli("submit", "shout", "--idempotency-key", "k-1")
    assert (code, second) == (0, first)
    assert "first task" in err


async def test_delays_and_moments_schedule(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    _, out, _ = await cli("submit", "shout", "--delay", "10m", "--expires", "1h")
    task = await store.get(out.strip())
    assert task.status is Status.SCHEDULED
    _, out, _ = await cli("submit", "shout", "--run-at", "2040-01-31T08:00:00Z", "--json")
    assert json.loads(out)["status"] == "scheduled"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["submit", "shuot"], "did you mean shout?"),
        (["submit", "shout", "--payload", "{"], "payload: is not JSON: unexpected end of data"),
        (["submit", "shout", "--payload", "NaN"], "payload"),
        (["submit", "shout", "--payload", "[1]"], "payload: must be a JSON object"),
        (["submit", "shout", "--payload", "@gone.json"], "cannot read gone.json: No such file"),
        (["submit", "shout", "--priority", "10"], "priority"),
        (["submit", "shout", "--delay", "soon"], "delay"),
        (["submit", "shout", "--delay", "1s", "--run-at", "2040-01-31T08:00:00Z"], "exclude each other"),
        (["submit", "shout", "--idempotency-key", "a b"], "idempotency_key"),
        (["submit", "grpc_task", "--payload", '{"service": "x", "method": "y"}'], "payload.service"),
        (["status", "no-such-id"], "no task has the id 'no-such-id'"),
        (["watch", "no-such-id"], "no task has the id 'no-such-id'"),
        (["cancel", "no-such-id"], "no task has the id 'no-such-id'"),
        (["retry", "no-such-id"], "no task has the id 'no-such-id'"),
        (["groups", "--config", "gone.yaml"], "there is no configuration file gone.yaml"),
    ],
)
async def test_what_is_wrong_is_one_line_and_exit_code_2(
    store: TaskStore, cli: Any, arguments: list[str], text: str
) -> None:
    await store.announce_types(SHOUT)
    code, out, err = await cli(*arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


async def test_a_payload_is_checked_by_a_type_of_the_current_folder(
    store: TaskStore, valkey_url: str, folder: Path
) -> None:
    (folder / "own_types.py").write_text(
        "from typing_extensions import TypedDict\n"
        "from celeriac import task\n"
        "class Payload(TypedDict):\n    customer: int\n"
        "@task('own')\ndef own(payload: Payload) -> None: ...\n"
    )
    (folder / "celeriac.yaml").write_text("imports: [own_types]")
    # The console script, as users call it: Python does not put the current folder on its path.
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("celeriac")),
        *("submit", "own", "--payload", '{"customr": 1}'),
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(REDIS_URL=valkey_url),
        cwd=folder,
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "payload.customer" in err.decode()


async def test_without_a_store_it_is_said_what_to_do(folder: Path) -> None:
    code, _, err = await celeriac("groups", cwd=folder)
    assert code == 2
    assert "celeriac up" in err
    assert "REDIS_URL" in err
    code, _, err = await celeriac("groups", cwd=folder, REDIS_URL="redis://:s3cret@127.0.0.1:1/0")
    assert code == 3
    assert err.count("\n") == 1
    assert "s3cret" not in err
    code, _, err = await celeriac("groups", cwd=folder, REDIS_URL="http://127.0.0.1:1")
    assert code == 2
    assert err.startswith("celeriac: redis_url:")


async def test_a_full_queue_is_exit_code_3(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    limit = {"CELERIAC_MAX_QUEUE_LENGTH": "1"}
    assert (await cli("submit", "shout", **limit))[0] == 0
    code, _, err = await cli("submit", "shout", **limit)
    assert code == 3
    assert "already has 1 waiting tasks" in err


async def test_cancel_and_retry(store: TaskStore, cli: Any) -> None:
    await store.submit(Submission("t-1", "shout"))
    assert await cli("cancel", "t-1") == (0, "t-1 is cancelled\n", "")
    code, out, _ = await cli("retry", "t-1", "--json")
    assert (code, json.loads(out)) == (0, {"task_id": "t-1", "status": "pending"})
    code, _, err = await cli("retry", "t-1")
    assert code == 2
    assert "t-1' is pending" in err
    claim = await _claim(store, "t-1")
    code, out, _ = await cli("cancel", "t-1")
    assert (code, out) == (0, "t-1 was asked to stop and is still processing\n")
    assert "(asked to stop)" in (await cli("status", "t-1"))[1]
    await store.settle_cancelled(claim, "stopped")


async def test_watch_writes_plain_lines_where_there_is_no_terminal(
    store: TaskStore, valkey_url: str, folder: Path
) -> None:
    await store.submit(Submission("t-1", "shout"))
    async with _watching(valkey_url, folder, "t-1") as watching:
        claim = await _claim(store, "t-1")
        await store.progress(claim, 1, Progress(40, "load", "page 4", 1))
        await store.progress(claim, 2, Progress(62.5, "load", "\x1b[2Jno\nsteering", 2))
        await store.complete(claim, '{"n": 1}')
        out, err = await watching.communicate()
    lines = out.decode().splitlines()
    assert (watching.returncode, err) == (0, b"")
    assert "   40%  load  page 4" in lines
    assert " 62.5%  load  \N{REPLACEMENT CHARACTER}[2Jno steering" in lines
    assert json.loads("\n".join(lines[lines.index("{") :])) == {"n": 1}


async def test_watch_as_json_is_one_event_per_line_from_the_first_to_done(
    store: TaskStore, valkey_url: str, folder: Path
) -> None:
    await store.submit(Submission("t-1", "shout", max_retries=0))
    claim = await _claim(store, "t-1")
    await store.progress(claim, 1, Progress(40, "load", "", 5))
    async with _watching(valkey_url, folder, "t-1", "--json") as watching:
        assert watching.stdout is not None
        seen = [json.loads(await watching.stdout.readline()) for _ in range(3)]
        assert [event["event"] for event in seen] == ["status", "status", "progress"]
        assert [event.get("status") for event in seen] == ["pending", "processing", None]
        assert {name: seen[2][name] for name in ("task_id", "percentage", "stage", "timestamp_ms")} == {
            "task_id": "t-1", "percentage": 40, "stage": "load", "timestamp_ms": 5,
        }  # fmt: skip
        await store.fail(claim, Failure("broken", "no paper", False), 0)
        rest = [json.loads(line) for line in (await watching.communicate())[0].splitlines()]
    assert watching.returncode == 1
    assert rest[-1] == {
        "event": "done", "task_id": "t-1", "status": "failed", "result": None,
        "error": {"code": "broken", "message": "no paper", "retryable": False},
    }  # fmt: skip


async def test_watch_goes_on_through_an_end_that_somebody_retried(
    store: TaskStore, valkey_url: str, folder: Path
) -> None:
    await store.submit(Submission("t-1", "shout"))
    await store.cancel("t-1")
    await store.retry("t-1")
    async with _watching(valkey_url, folder, "t-1") as watching:
        await store.complete(await _claim(store, "t-1"), "{}")
        out, _ = await watching.communicate()
    assert watching.returncode == 0
    assert "cancelled" in out.decode()


async def test_watch_draws_a_bar_on_a_terminal(store: TaskStore, valkey_url: str, folder: Path) -> None:
    await store.submit(Submission("t-1", "shout"))
    claim = await _claim(store, "t-1")
    await store.progress(claim, 1, Progress(50, "half", "way", 1))
    ours, theirs = pty.openpty()
    watching = await asyncio.create_subprocess_exec(
        *CELERIAC,
        "watch",
        "t-1",
        stdout=theirs,
        stderr=theirs,
        stdin=asyncio.subprocess.DEVNULL,
        env=clean_environment(REDIS_URL=valkey_url, TERM="xterm", COLUMNS="120"),
        cwd=folder,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = bytearray()

    def look(*expected: str) -> bool:
        try:
            shown.extend(os.read(ours, 65536))
        except BlockingIOError:
            pass
        except OSError:  # the other end is closed
            return all(text.encode() in shown for text in expected)
        return all(text.encode() in shown for text in expected)

    await eventually(lambda: look("50%", "half  way", "━"), because="the bar is drawn")
    await store.complete(claim, '{"n": 7}')
    await eventually(lambda: look('"n": 7'), because="the result follows the bar")
    assert await watching.wait() == 0
    os.close(ours)


async def test_submit_with_watch_ends_as_the_task_does(store: TaskStore, cli: Any) -> None:
    await store.announce_types(SHOUT)
    submitting = asyncio.create_task(cli("submit", "shout", "--queue", "here", "--max-retries", "0", "--watch"))
    task_id = await eventually(lambda: _first_waiting(store, "here"), because="it is submitted")
    await store.fail(await _claim(store, task_id), Failure("broken", "no paper", True), 0)
    code, out, _ = await submitting
    assert code == 1
    assert out.splitlines()[0] == task_id
    assert out.splitlines()[-2:] == [
        "failed: broken: no paper",
        f"celeriac log {task_id} shows its log, with tracebacks",
    ]
    assert out.count("no paper") == 1


async def test_the_log_of_a_task_is_shown_and_followed_to_its_end(store: TaskStore, cli: Any) -> None:
    await store.submit(Submission("t-1", "shout", max_retries=0))
    code, out, err = await cli("log", "t-1")
    assert (code, out) == (0, "")
    assert "the log is empty" in err
    assert await cli("log", "t-1", "--json") == (0, "", "")
    mine = await _claim(store, "t-1")
    data = {"page": 3, "traceback": "Traceback\n  in a file\x1b[31m"}
    await store.log(mine, 1, LogLine("info", "shouting\nloudly", {}, 1_896_076_800_000))
    await store.log(mine, 2, LogLine("error", "too loud", data, 1_896_076_800_000))
    code, out, _ = await cli("log", "t-1")
    assert (code, out.splitlines()) == (0, [
        "2030-01-31T08:00:00.000Z #1 info     shouting loudly",
        "2030-01-31T08:00:00.000Z #1 error    too loud page=3",
        "    Traceback",
        "      in a file\N{REPLACEMENT CHARACTER}[31m",
    ])  # fmt: skip
    _, out, _ = await cli("log", "t-1", "--level", "warning", "--json")
    (line,) = [json.loads(row) for row in out.splitlines()]
    assert (line["level"], line["attempt"], line["data"]) == ("error", 1, data)
    assert (await cli("log", "nobody"))[0] == (await cli("log", "nobody", "-f"))[0] == 2
    following = asyncio.create_task(cli("log", "t-1", "--follow", "--level", "error", "--json"))
    await store.log(mine, 3, LogLine("critical", "the last words"))
    await store.fail(mine, Failure("hoarse", "no voice left", False), 0)
    code, out, _ = await following
    assert [json.loads(row)["message"] for row in out.splitlines()] == ["too loud", "the last words"]
    assert code == 0


async def test_listings_for_people_and_for_scripts(store: TaskStore, cli: Any) -> None:
    assert "no worker is running" in (await cli("workers"))[1]
    built_in = ["celeriac.bulk", "celeriac.demo", "file_process", "grpc_task", "remote", "sleep", "wait"]
    assert [line.split()[0] for line in (await cli("types"))[1].splitlines()] == ["TYPE", *built_in]
    await store.announce_types(SHOUT)
    await store.submit(Submission("t-1", "shout", group="loud"))
    assert (await cli("groups"))[1].splitlines() == [
        "GROUP    WAITING  RUNNING  WORKERS  NO WORKER FOR",
        "default  0        0        0",
        "loud     1        0        0        1",
    ]
    _, out, _ = await cli("groups", "--json")
    default, loud = map(json.loads, out.splitlines())
    assert default["name"] == "default"
    assert loud == {
        "name": "loud",
        "waiting": 1,
        "running": 0,
        "workers": 0,
        "unserved": 1,
        "max_queue_length": store.settings.queues.max_length,
        "paused": None,
        "limits": None,
    }
    assert "paused since" in (await cli("groups", "pause", "loud", "--note", "at night"))[1]
    assert (await cli("groups"))[1].splitlines()[2].endswith(": at night")
    assert (await cli("groups", "resume", "loud"))[1] == "loud is resumed\n"
    assert (await cli("groups", "resume", "loud"))[1] == "loud was not paused\n"
    assert "there is no group 'luod'; known are: default, loud" in (await cli("groups", "pause", "luod"))[2]
    entries = [(e["action"], e["target"], e["status"]) for e in reversed(await AuditLog(store).page())]
    assert entries == [
        ("group.pause", "loud", "done"),
        ("group.resume", "loud", "done"),
        ("group.resume", "loud", "done"),
    ]
    assert all(e["actor"].startswith("cli:") and e["address"] for e in await AuditLog(store).page())
    limited = await cli("groups", "limit", "loud", "--max-running", "5", "--rate", "100/m", "--note", "as agreed")
    assert limited[1] == (
        "loud is limited to 5 running, 100/m starting; `celeriac groups unlimit loud` removes the limits\n"
    )
    assert (await cli("groups"))[1].splitlines()[2].endswith("5 running, 100/m starting: as agreed")
    assert json.loads((await cli("groups", "list", "--json"))[1].splitlines()[1])["limits"]["rate"] == "100/m"
    assert (await cli("groups", "unlimit", "loud"))[1] == "loud has no limits now\n"
    assert (await cli("groups", "unlimit", "loud"))[1] == "loud had no limits\n"
    noted = [e["action"] for e in await AuditLog(store).page()]
    assert noted[:3] == ["group.unlimit", "group.unlimit", "group.limit"]
    for bad, said in (
        (("--rate", "10/x"), "'10/x' is not a rate: write a number and a period, as in 5/s, 100/m, 10/h or 1/d"),
        (("--rate", "0/s"), "'0/s' lets nothing start: pause the group instead"),
        (("--max-running", "0"), "must be between 1 and 1000000"),
        ((), "give max_running, rate or both"),
    ):
        code, _, errors = await cli("groups", "limit", "loud", *bad)
        assert code != 0, bad
        assert said in errors
    # Before `sleep` and `wait`.
    assert (await cli("types"))[1].splitlines()[-3].split(maxsplit=2) == ["shout", "loud", "Shout a text."]
    _, out, _ = await cli("types", "--json")
    assert json.loads(out.splitlines()[-3]) == {
        "name": "shout", "description": "Shout a text.\nLoudly.", "queue": "loud", "max_retries": 3,
        "timeout_s": None, "payload_schema": {"type": "object"},
    }  # fmt: skip
    assert (await cli("workers", "--json"))[1] == ""


async def test_a_group_is_drained_when_what_ran_has_ended(store: TaskStore, cli: Any) -> None:
    for name in ("t-1", "t-2"):
        await store.submit(Submission(name, "shout", group="loud"))
    running = await _claim(store, "t-1")
    code, out, _ = await cli("groups", "drain", "loud", "--timeout", "300ms")
    assert (code, out.splitlines()[-1]) == (3, "loud: 1 still running after 300ms; the group stays paused")
    draining = asyncio.create_task(cli("groups", "drain", "loud", "--note", "new disks"))
    await asyncio.sleep(0)
    await store.complete(running, "1")
    code, out, _ = await draining
    assert (code, out.splitlines()[-1]) == (
        0,
        "loud is paused and runs nothing; 1 wait. `celeriac groups resume loud` resumes it",
    )
    assert (await cli("groups"))[1].splitlines()[2].endswith(": new disks")
    assert [(e["action"], e["target"]) for e in await AuditLog(store).page()] == [("group.drain", "loud")] * 2
    assert "is not a duration" in (await cli("groups", "drain", "loud", "--timeout", "soon"))[2]


async def test_version_and_help(folder: Path) -> None:
    code, out, _ = await celeriac("--version", cwd=folder)
    assert (code, out) == (0, "celeriac 0.1.0\n")
    code, out, _ = await celeriac("--help", cwd=folder)
    assert code == 0
    for command in ("up", "api", "worker", "beat", "submit", "status", "watch", "cancel", "retry", "groups", "types"):
        assert command in out
        assert (await celeriac(command, "--help", cwd=folder))[0] == 0
    assert (await celeriac("sumbit", cwd=folder))[0] == 2


async def _first_waiting(store: TaskStore, group: str) -> str | None:
    found = await store.redis.zrange(keys.waiting(group), 0, 0)
    return found[0] if found else None
