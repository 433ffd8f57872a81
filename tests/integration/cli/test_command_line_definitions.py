"""`celeriac definitions`, against real stores; the test is the worker and the beat."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from celeriac.database.migrating import migrate
from celeriac.schedules.running_scheduler import scheduler_on
from celeriac.settings import Settings
from celeriac.store.audit import AuditLog
from celeriac.store.task_store import TaskStore
from tests.kit.command_line import celeriac
from tests.kit.waiting import eventually

TIDY = ("create", "tidy", "--type", "celeriac.demo", "--payload", '{"seconds": 1}')
DEMO = ("create", "x", "--type", "celeriac.demo")


async def refused(run: Callable[..., Awaitable[str]]) -> None:
    """Ask for what cannot be: the error names the option, and says what to do."""
    for arguments, said in (
        (("create",), "Missing argument 'NAME'"),
        (("create", "x", "--every", "1h"), "it is missing what runs: give --type TYPE (with --payload), --task JSON"),
        ((*DEMO, "--payload", '{"seconds": "x"}'), "--payload.seconds: "),
        (("create", "x", "--type", "celeriac.dem"), "--type: there is no task type 'celeriac.dem'; did you mean"),
        ((*DEMO, "--every", "10x"), "--every: must be a duration above zero, at most ten years: seconds, or 30s"),
        ((*DEMO, "--cron", "@daily", "--timezone", "Mars"), "--timezone: unknown time zone 'Mars'"),
        ((*DEMO, "--at", "2001-01-01T08:00Z"), "--at: is in the past"),
    ):
        assert said in await run(*arguments, code=2), arguments


async def test_a_definition_from_its_creation_to_its_end(valkey_url: str, store: TaskStore, tmp_path: Path) -> None:
    settings = Settings(redis_url=valkey_url, database_url=f"sqlite:///{tmp_path}/history.db")
    migrate(str(settings.database_url))

    async def run(*arguments: str, code: int = 0) -> str:
        addresses = {"REDIS_URL": valkey_url, "DATABASE_URL": str(settings.database_url)}
        got, out, err = await celeriac("definitions", *arguments, cwd=tmp_path, **addresses)
        assert got == code, err
        return (out if code == 0 else err).strip()

    async def run_json(*arguments: str) -> Any:
        return json.loads(await run(*arguments, "--json"))

    assert "there are no definitions" in await run("list")
    await refused(run)
    look = ("create", "look around", "--content", "look", "--user-id", "ann", "--options", '{"max_runs": 2}')
    definition_id = await run(*look, "--every", "200ms")
    (line,) = [line for line in (await run("list", "--user-id", "ann")).splitlines() if definition_id in line]
    assert "  look around  look  " in line
    assert "every 0.2 s" in line
    async with scheduler_on(store, settings) as scheduler:

        async def fired() -> bool:
            await scheduler.step()
            return len((await run_json("show", definition_id))["last_runs"]) == 2

        await eventually(fired, because="it fires", interval_s=0.2)
    nightly = await run(*TIDY, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    shown = await run_json("show", nightly)
    assert (shown["name"], shown["task"]) == ("tidy", {"type": "celeriac.demo", "payload": {"seconds": 1}})
    assert (await run("pause", nightly, "--note", "moving house")).endswith("is paused")
    assert (await run_json("show", nightly))["note"] == "moving house"
    assert (await run("resume", nightly)).endswith("is active")
    edited = await run_json("edit", nightly, '{"trigger_args": {"cron": "0 4 * * *"}, "name": "tidy up"}')
    assert (edited["name"], edited["trigger_args"]) == (
        "tidy up",
        {"cron": "0 4 * * *", "timezone": "Europe/Berlin"},
    )
    assert len((await run("preview", nightly, "--count", "3", "--json")).splitlines()) == 3
    # On the day of the clock change too, there is one slot a day.
    past = ("--from", "2026-03-28T00:00:00Z", "--to", "2026-03-30T00:00:00Z")
    assert (await run("backfill", nightly, *past)).startswith("2 slots")
    assert int((await run("backfill", nightly, "--from", "50h")).split()[0]) in (2, 3)
    task_id = await run("trigger", nightly)
    assert task_id in [run["task_id"] for run in (await run_json("show", nightly))["last_runs"]]
    assert (await run("cancel", nightly)).endswith("is cancelled")
    assert "is cancelled: cannot resume it" in await run("resume", nightly, code=2)
    assert "no definition has the id" in await run("show", "nobody", code=2)
    actions = [change["action"] for change in (await run_json("show", nightly))["changes"]]
    assert actions == ["cancel", "trigger", "backfill", "backfill", "edit", "resume", "pause", "create"]
    audited = [e["action"] for e in await AuditLog(store).page() if e["target"] == nightly]
    assert audited == [f"definition.{action}" for action in actions]


async def test_a_definition_whose_tasks_nobody_takes_is_warned_of(valkey_url: str, tmp_path: Path) -> None:
    addresses = {"REDIS_URL": valkey_url, "DATABASE_URL": f"sqlite:///{tmp_path}/history.db"}
    migrate(addresses["DATABASE_URL"])
    _, definition_id, err = await celeriac("definitions", *TIDY, "--cron", "0 3 * * *", cwd=tmp_path, **addresses)
    said = "no worker serves the group default"
    assert f"warning: {said}" in err
    _, shown, _ = await celeriac("definitions", "show", definition_id.strip(), cwd=tmp_path, **addresses)
    assert said in shown
    _, out, _ = await celeriac("doctor", cwd=tmp_path, **addresses)
    assert f"the definition 'tidy' makes tasks that nobody takes: {said}" in out
