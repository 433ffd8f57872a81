"""Transitions are functions of a library where the server has functions, and scripts where it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac.model import Claim, Status, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.server.caller import MOST_LIBRARIES
from celeriac.store.server.channel import StoreChannel
from celeriac.store.server.scripts import SHARED, library, script, shared_part
from celeriac.store.task_store import TaskStore
from tests.kit.servers import ValkeyServer

SETTINGS = Settings().store
LUA = Path(str(files("celeriac.store"))) / "lua"

#: What an operator may forbid, as rules of a user, and whether tasks are still functions' work.
FORBIDDEN = {
    "nothing": ("+@all", True),
    "to load": ("+@all -function", False),
    "to call": ("+@all -fcall", False),
    "both": ("+@all -function -fcall", False),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    one = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    one.start()
    yield one
    one.kill()


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url(), decode_responses=True) as client:
        client.flushall()
        client.function_flush()
        client.script_flush()
        client.config_resetstat()
        yield client


async def live(store: TaskStore, task_id: str) -> Status:
    """Let a task have a life; returns its status."""
    await store.submit(Submission(task_id=task_id, type="demo"))
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    await store.complete(claim, "1")
    return (await store.get(task_id)).status


@pytest.mark.parametrize("forbidden", FORBIDDEN)
async def test_a_server_that_has_no_functions_for_us_runs_scripts(
    server: ValkeyServer, admin: Any, caplog: pytest.LogCaptureFixture, forbidden: str
) -> None:
    rules, functions = FORBIDDEN[forbidden]
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", "&*", *rules.split())
    url = server.url().replace("redis://", "redis://app:secret@")
    async with TaskStore(url, SETTINGS) as store:
        assert await live(store, "t1") is Status.COMPLETED
        assert (await store.why("t1"))[0] == "COMPLETED"
    channel = StoreChannel(url, SETTINGS)
    assert channel.submit(Submission(task_id="t2", type="demo")).created
    assert channel.cancel_waiting("default", "away with it") == 1
    # An operator who has forbidden it knows.
    assert "slower scripts" not in caplog.text
    stats = admin.info("commandstats")
    worked = {name for name in ("fcall", "evalsha") if stats.get(f"cmdstat_{name}", {}).get("calls", 0)}
    if functions:
        assert worked == {"fcall"}
    else:
        assert "evalsha" in worked
        # Each of the two connections has tried it once at most.
        assert stats.get("cmdstat_fcall", {}).get("calls", 0) <= 2


async def test_a_server_of_a_version_without_functions_runs_scripts(tmp_path: Path) -> None:
    forgotten = [word for command in ("function", "fcall") for word in ("--rename-command", command, "")]
    old = ValkeyServer(tmp_path / "valkey", options=forgotten)
    old.start()
    try:
        async with TaskStore(old.url(), SETTINGS) as store:
            assert await live(store, "t1") is Status.COMPLETED
            assert StoreChannel(old.url(), SETTINGS).submit(Submission(task_id="t2", type="demo")).created
            assert await live(store, "t3") is Status.COMPLETED
            assert (await store.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] >= 7
    finally:
        old.kill()


async def test_functions_that_are_gone_come_back(server: ValkeyServer, admin: Any) -> None:
    async with TaskStore(server.url(), SETTINGS) as store:
        channel = StoreChannel(server.url(), SETTINGS)
        for number in range(3):
            assert await live(store, f"t{number}") is Status.COMPLETED
            assert channel.submit(Submission(task_id=f"c{number}", type="demo")).created
            assert [one["library_name"] for one in libraries(admin)] == [library().name]
            admin.function_flush()


def libraries(admin: Any) -> list[dict[str, Any]]:
    listed = admin.execute_command("FUNCTION", "LIST")
    return [dict(zip(one[::2], one[1::2], strict=True)) if isinstance(one, list) else one for one in listed]


async def test_a_server_keeps_few_versions(server: ValkeyServer, admin: Any) -> None:
    for number in range(MOST_LIBRARIES + 1):
        name = f"celeriac_{number:012}"
        admin.function_load(f"#!lua name={name}\nredis.register_function('{name}', function() return 1 end)")
    admin.function_load("#!lua name=other\nredis.register_function('other', function() return 1 end)")
    async with TaskStore(server.url(), SETTINGS) as store:
        await live(store, "t1")
    assert {one["library_name"] for one in libraries(admin)} == {"other", library().name}


async def test_a_call_that_failed_leaves_nothing_for_the_next_one(server: ValkeyServer, admin: Any) -> None:
    async with TaskStore(server.url(), SETTINGS) as store:
        await store.submit(Submission(task_id="t1", type="demo", group="broken"))
        # It will end in the middle: what it has gathered is not for the next call.
        admin.set(keys.COUNTS, "not a hash")
        with pytest.raises(Exception, match="WRONGTYPE"):
            await store.submit(Submission(task_id="t2", type="demo", group="broken"))
        admin.delete(keys.COUNTS)
        await store.submit(Submission(task_id="t3", type="demo", group="whole"))
        counted = admin.hgetall(keys.COUNTS)
    assert {field.split("\x1f")[1] for field in counted} == {"whole"}


@pytest.mark.parametrize("part", SHARED)
def test_a_part_keeps_what_it_finds_out_for_one_call_only(part: str) -> None:
    kept, in_block = set(), False
    for line in shared_part(part).splitlines():
        in_block = line == "do" or (in_block and line != "end")
        found = re.match(r"(  )?local ([\w, ]+) = (?:\{\}|nil|false|true|\d+)", line)
        # What is further in, or in a function, begins anew with each call of that.
        if found and bool(found[1]) == in_block:
            kept |= set(found[2].split(", "))
    # What never changes, and tables of functions. All else begins in `on_call`.
    assert {name for name in kept if not name.isupper()} <= {"conflicts", "holding", "life", "telling", "at_begin"}


def test_every_transition_and_what_uses_its_parts_is_a_function() -> None:
    for path in [*(LUA / "transitions").glob("*.lua"), LUA / "reads" / "why.lua"]:
        assert f"'{script(path.stem).function}'" in library().source
        assert path.read_text("utf-8") in library().source
