"""The commands that read and use the history, against a real store, recorder and database; the test is the worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac.database.migrating import migrate
from celeriac.history.history import History
from celeriac.history.roles import keeping
from celeriac.model import Claim, Failure, LogLine, Progress, Submission, ms_from_utc
from celeriac.settings import Settings
from celeriac.store.audit import AuditLog
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import TaskFilter
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.titles import Titles
from tests.kit.command_line import celeriac
from tests.kit.history import forget
from tests.kit.waiting import eventually


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=valkey_url, database_url=f"sqlite:///{tmp_path}/history.db")


@pytest.fixture
async def history(settings: Settings, store: TaskStore) -> AsyncIterator[History]:
    """A history that is recorded while the test runs."""
    assert settings.database_url is not None
    migrate(settings.database_url)
    async with (
        keeping(store, settings, Titles(TypeCatalog(registry, store))),
        History(settings.database_url) as reading,
    ):
        yield reading


@pytest.fixture
def cli(settings: Settings, tmp_path: Path) -> Callable[..., Any]:
    addresses = {"REDIS_URL": str(settings.redis_url), "DATABASE_URL": str(settings.database_url)}

    async def run(*arguments: str, **more: Any) -> tuple[int, str, str]:
        return await celeriac(*arguments, cwd=tmp_path, **addresses, **more)

    return run


async def ended(store: TaskStore, task_id: str, *, failing: bool = False, **fields: Any) -> None:
    """Let a task come and end."""
    await store.submit(Submission(task_id, "shout", max_retries=0, **fields))
    claim = await store.claim(task_id, worker="w-1")
    assert isinstance(claim, Claim)
    await store.progress(claim, 1, Progress(40, "load", "page 4", 1))
    if failing:
        await store.log(claim, 1, LogLine("error", "the disk is full"))
        await store.fail(claim, Failure("disk_full", "no \x1b[2J room\nleft", True), 0)
    else:
        await store.complete(claim, '{"n": 1}')
    # The next one comes in another millisecond: lists are in the order of their coming.
    created_ms = ms_from_utc((await store.get(task_id)).created_at)

    async def later() -> bool:
        seconds, microseconds = await store.redis.time()
        return bool(seconds * 1000 + microseconds // 1000 > created_ms)

    await eventually(later, because="the store's clock goes on", interval_s=0.0005)


async def recorded(history: History, **numbers: int) -> None:
    """Wait until the history has so many tasks of each status."""
    for status, number in numbers.items():

        async def enough(status: str = status, number: int = number) -> bool:
            return await history.count(TaskFilter.model_validate({"status": status})) == number

        await eventually(enough, because=f"{number} {status} tasks are recorded")


async def test_list_shows_tasks_by_filter(history: History, store: TaskStore, cli: Any) -> None:
    for n in range(3):
        await ended(store, f"good-{n}", user_id="ann", tags=("red",))
    await ended(store, "bad-1", failing=True, group="media")
    await recorded(history, completed=3, failed=1)

    code, out, err = await cli("list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "TYPE", "TITLE", "GROUP", "STATUS", "ATTEMPT", "CREATED", "TOOK", "ERROR"]
    assert [line.split()[0] for line in lines[1:]] == ["bad-1", "good-2", "good-1", "good-0"]
    assert "failed" in lines[1]
    assert "disk_full: no \N{REPLACEMENT CHARACTER}[2J room left" in lines[1], "what a task says steers no terminal"

    _, out, err = await cli(
        "list", "--status", "completed", "--tag", "red", "--limit", "2", "--sort", "created_at", "--json"
    )
    assert [json.loads(line)["task_id"] for line in out.splitlines()] == ["good-0", "good-1"]
    assert "there are more" in err
    _, out, err = await cli(
        "list", "--search", "ROOM", "--queue", "media", "--created-after", "1h", "--json", "--limit", "0"
    )
    (record,) = map(json.loads, out.splitlines())
    assert (record["task_id"], record["status"], record["omitted"], err) == ("bad-1", "failed", [], "")
    assert (await cli("list", "--created-before", "1h"))[1] == "no task matches\n"

    async def found(*arguments: str) -> list[str]:
        return [json.loads(line)["task_id"] for line in (await cli(*arguments, "--json"))[1].splitlines()]

    assert await found("list", 'status:failed group:media after:1h "disk room"') == []
    assert await found("list", "status:failed group:media after:1h room") == ["bad-1"]
    assert await found("list", "-q", "user:ann -id:good-1", "status:completed", "tag:red") == ["good-2", "good-0"]
    assert await found("dead", "list", "type:shout no") == ["bad-1"]

    async def indexed() -> bool:
        return await found("list", "shout -room") == ["good-2", "good-1", "good-0"]

    await eventually(indexed, because="words of tasks without errors are found when all tasks are indexed")

    async def all_of_it() -> bool:
        return await found("list", '"the disk is full" "page 4"') == ["bad-1"]

    await eventually(all_of_it, because="words in the log and in the progress are found when they are recorded")
    code, out, _ = await cli("migrate", "--reindex")
    assert (code, "anew" in out) == (0, True)
    _, _, err = await cli("list", "typ:shout")
    assert "did you mean type?" in err


async def test_a_list_of_json_has_the_fields_that_are_asked_for(history: History, store: TaskStore, cli: Any) -> None:
    await ended(store, "one", tags=("nightly",))
    await eventually(lambda: history.count(TaskFilter(status=("completed",))), because="it is recorded")
    code, out, err = await cli("list", "--json", "--fields", "status,tags")
    assert (code, json.loads(out), err) == (0, {"task_id": "one", "status": "completed", "tags": ["nightly"]}, "")
    code, out, err = await cli("dead", "list", "--json", "--fields", "colour")
    assert (code, out) == (2, "")
    assert "records have no field 'colour'; they have: task_id, type" in err
    code, out, err = await cli("list", "--fields", "status")
    assert (code, out) == (2, "")
    assert "belongs to --json" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "--status", "finished"], "filter.status"),
        (["list", "--created-after", "yesterday"], "filter.created_after"),
        (["list", "--created-after", "2030-01-01T00:00:00"], "timezone"),
        (["stats", "--since", "yesterday"], "since: 'yesterday' is neither a duration such as 2h"),
        (["stats", "--bucket", "7m"], "bucket: must be one of 1m, 5m"),
        (["stats", "--since", "365d", "--bucket", "1m"], "above the limit"),
        (["retry"], "give the id of a task, or a filter"),
        (["cancel"], "give the id of a task, or a filter"),
        (["cancel", "--status", "completed"], "what can be cancelled is"),
        (["retry", "t-1", "--status", "failed"], "give either the id of one task or a filter"),
        (["retry", "--status", "failed", "--payload", "{}"], "needs the id of one task"),
        (["dead", "show", "nobody"], "no task has the id 'nobody'"),
        (["watch", "nobody"], "no task has the id 'nobody'"),
    ],
)
async def test_what_is_wrong_is_one_line_and_exit_code_2(
    history: History, cli: Any, arguments: list[str], text: str
) -> None:
    code, out, err = await cli(*arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


async def test_without_a_history_it_is_said_what_to_do(store: TaskStore, cli: Any) -> None:
    await store.submit(Submission("t-1", "shout"))
    code, _, err = await cli("list")
    assert code == 3
    assert "celeriac migrate" in err
    assert err.count("\n") == 1
    assert (await cli("status", "t-1"))[0] == 0, "what the store has needs no history"
    assert (await cli("cancel", "t-1"))[0] == 0


async def test_dead_letters_are_listed_shown_and_retried(history: History, store: TaskStore, cli: Any) -> None:
    await ended(store, "good")
    await ended(store, "bad", failing=True, payload='{"text": "old"}')
    await recorded(history, completed=1, failed=1)
    _, out, _ = await cli("dead", "list")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["bad"]
    _, out, _ = await cli("dead", "show", "bad", "--json")
    shown = json.loads(out)
    assert shown["error"]["code"] == "disk_full"
    assert [event["kind"] for event in shown["events"]] == ["status", "status", "progress", "status"]
    _, out, _ = await cli("dead", "show", "bad")
    assert "40%  load  page 4" in out
    assert "failed disk_full: no" in out

    await store.announce_types({"shout": {}})
    code, _, err = await cli("dead", "retry", "bad", "--payload", "[]")
    assert code == 2, err
    assert await cli("dead", "retry", "bad", "--payload", '{"text": "new"}') == (0, "bad is pending\n", "")
    assert (await store.get("bad")).payload == {"text": "new"}


async def whole(history: History, store: TaskStore, task_id: str) -> bool:
    """Whether the history has every event that the store has. A row is final as soon as one of them is recorded."""
    return len(await history.events(task_id, count=100)) == len(await store.events(task_id))


async def test_a_task_that_only_the_history_has_is_shown_watched_and_run_again(
    history: History, store: TaskStore, cli: Any
) -> None:
    await ended(store, "good")
    await ended(store, "bad", failing=True)
    await recorded(history, completed=1, failed=1)
    await eventually(lambda: history.log_lines("bad"), because="the log of what failed is recorded")
    await eventually(lambda: whole(history, store, "bad"), because="the last event is recorded too")
    await forget(store, "good", "bad")
    _, out, _ = await cli("log", "bad")
    assert out.splitlines()[0].endswith(" #1 error    the disk is full")
    assert (await cli("log", "good"))[:2] == (0, "")
    _, out, _ = await cli("status", "good", "--json")
    assert (json.loads(out)["status"], json.loads(out)["result"]) == ("completed", {"n": 1})
    code, out, _ = await cli("watch", "bad", "--json")
    assert code == 1
    assert [json.loads(line)["event"] for line in out.splitlines()] == [
        "status",
        "status",
        "progress",
        "done",
    ]
    code, _, err = await cli("cancel", "bad")
    assert code == 2
    assert "is failed: cannot cancel it" in err
    assert await cli("retry", "bad") == (0, "bad is pending\n", "")
    assert isinstance(await store.claim("bad", worker="w-1"), Claim)


async def test_many_are_counted_before_they_are_touched(history: History, store: TaskStore, cli: Any) -> None:
    for n in range(3):
        await ended(store, f"bad-{n}", failing=True)
    await recorded(history, failed=3)
    assert await cli("retry", "--type", "shout", "--dry-run") == (0, "3 tasks match\n", "")
    _, out, _ = await cli("cancel", "--type", "shout", "--dry-run", "--json")
    assert json.loads(out) == {"matched": 0}
    code, out, _ = await cli("dead", "retry", "--search", "bad-1", "--detach", "--json")
    submitted = json.loads(out)
    assert (code, submitted["status"]) == (0, "pending")
    task = await store.get(submitted["task_id"])
    assert (task.type, task.payload) == ("celeriac.bulk", {"action": "retry", "filter": {"q": "bad-1"}})
    (entry, *_) = await AuditLog(store).page()
    assert (entry["action"], entry["target"], entry["status"]) == ("task.bulk", task.task_id, "done")


async def test_stats_count_and_time(history: History, store: TaskStore, cli: Any) -> None:
    for n in range(4):
        await ended(store, f"t-{n}", failing=n == 0)
    await recorded(history, completed=3, failed=1)
    code, out, err = await cli("stats", "--since", "1h")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:] if line}
    assert [rows[name][0] for name in ("submitted", "completed", "failed", "cancelled")] == ["4", "3", "1", "0"]
    assert "█" in rows["submitted"][1]
    assert set(rows["cancelled"][1]) == {"·"}
    assert rows["running"][0].endswith("ms")
    _, out, _ = await cli("stats", "--since", "1h", "--bucket", "5m", "--type", "shout", "--json")
    chart = json.loads(out)
    assert (chart["bucket"], chart["total"]["failed"]) == ("5m", 1)
    assert sum(bucket["submitted"] for bucket in chart["buckets"]) == 4
    _, out, _ = await cli("stats", "--type", "other", "--json")
    assert json.loads(out)["total"] == {
        "submitted": 0, "completed": 0, "failed": 0, "cancelled": 0, "run": None, "wait": None,
    }  # fmt: skip
