"""An installation with a key prefix: all it does, on a plain server and on clusters of one shard."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_sync

from celeriac.errors import SettingsError
from celeriac.settings import Settings
from celeriac.store.server.connecting import async_client
from celeriac.store.task_store import TaskStore
from tests.kit.api.notification_client import listening
from tests.kit.command_line import clean_environment
from tests.kit.monitored_keys import KeyMonitor
from tests.kit.remote.remote_workers import worker
from tests.kit.servers import ValkeyServer
from tests.kit.soak.key_owners import orphans
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually

PREFIX = "{shop}:"

TYPES = """
from celery import chord, group
from celeriac import Context, every, task
from celeriac_tasks.celery import app

@task("report", group="reports", key="customer")
async def report(ctx: Context, customer: int, fails: bool = False) -> dict:
    ctx.log.info("beginning")
    await ctx.progress(50, "writing")
    if fails and ctx.attempt == 1:
        raise ValueError("once")
    return {"customer": customer}

@task("refund", group="orders")
async def refund(ctx: Context, amount: int) -> dict:
    await ctx.step("book", lambda: 1)
    agreed = await ctx.wait_for("approval", timeout="1h")
    told = await ctx.call("report", {"customer": amount}, name="tell")
    return {"agreed": agreed, "told": told}

@task("tick", schedule=every("1s"))
def tick() -> None:
    pass

@app.task
def add(a, b):
    return a + b

@app.task
def total(numbers):
    return sum(numbers)
"""
CALLS = """
from jobs import add, app, total
from celery import chain, chord, group
assert add.delay(2, 3).get(timeout=60) == 5
assert chain(add.s(1, 2), add.s(3))().get(timeout=60) == 6
assert sorted(group(add.s(i, i) for i in range(3))().get(timeout=60)) == [0, 2, 4]
assert chord([add.s(i, i) for i in range(3)])(total.s()).get(timeout=60) == 6
assert app.control.ping(timeout=10)
assert app.control.inspect(timeout=10).registered()
add.apply_async((1, 1), queue="nobody")
with app.connection_for_write() as connection:
    connection.default_channel.queue_purge("nobody")
"""


def server_of(folder: Path, kind: str) -> ValkeyServer:
    """Return a server that is not started; a cluster has all slots on this one node."""
    program = None
    if kind == "redis cluster":
        program = shutil.which("redis-server")
        assert program, "install Redis, for example with apt-get install redis-server"
    options = () if kind == "plain" else ("--cluster-enabled", "yes")
    return ValkeyServer(folder, options=options, program=program)


@pytest.fixture(params=["plain", "valkey cluster", "redis cluster"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ValkeyServer]:
    """A running server."""
    started = server_of(tmp_path / "server", request.param)
    started.start()
    try:
        if request.param != "plain":
            with redis_sync.Redis.from_url(started.url(), decode_responses=True) as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
                asyncio.run(
                    eventually(
                        lambda: "cluster_state:ok" in client.execute_command("CLUSTER", "INFO"),
                        because="the node serves all slots",
                    )
                )
        yield started
    finally:
        started.kill()


async def everything(url: str, folder: Path, token: str, environment: dict[str, str]) -> None:
    """Use each part of the platform at `url` once; `token` is that of user 7."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:

        async def submit(**document: Any) -> str:
            answer = await http.post("/api/v1/tasks", json=document)
            assert answer.status_code in (200, 202), answer.text
            return str(answer.json()["task_id"])

        async def ended(task_id: str) -> dict[str, Any]:
            found: dict[str, Any] = {}

            async def look() -> bool:
                found.update((await http.get(f"/api/v1/tasks/{task_id}")).json())
                return found["status"] in ("completed", "failed", "cancelled")

            await eventually(look, because="the task ends")
            return found

        rule = await http.put("/api/v1/limits/customers", json={"group": "reports", "by": "key", "max_running": 1})
        assert rule.status_code in (200, 201), rule.text
        many = [await submit(type="report", payload={"customer": i % 2, "fails": i == 3}) for i in range(6)]
        assert [(await ended(one))["result"]["customer"] for one in many] == [0, 1, 0, 1, 0, 1]
        async with http.stream("GET", f"/api/v1/tasks/{many[0]}/progress/stream") as stream:
            assert "event: done" in (await stream.aread()).decode()
        assert (await http.get(f"/api/v1/tasks/{many[0]}/log")).json()["items"]

        headers = {"Idempotency-Key": "k"}
        document = {"type": "report", "payload": {"customer": 1}}
        first, second = [await http.post("/api/v1/tasks", json=document, headers=headers) for _ in range(2)]
        assert first.json()["task_id"] == second.json()["task_id"]
        later = await submit(type="report", payload={"customer": 5}, delay="1h", once={"key": "five"})
        assert await submit(type="report", payload={"customer": 5}, once={"key": "five"}) == later
        assert (await http.post(f"/api/v1/tasks/{later}/cancel")).status_code < 300

        asked = await submit(type="refund", payload={"amount": 7})
        signals = f"/api/v1/tasks/{asked}/signals/approval"
        await eventually(
            lambda: _is(http, f"/api/v1/tasks/{asked}", "status", "waiting"), because="the task waits for its signal"
        )
        assert (await http.post(signals, json=True)).status_code < 300
        assert (await ended(asked))["result"] == {"agreed": True, "told": {"customer": 7}}

        nodes = {
            "a": {"type": "report", "payload": {"customer": 1}},
            "b": {"type": "report", "payload": {"customer": 2}, "after": ["a"]},
        }
        workflow = (await http.post("/api/v1/workflows", json={"name": "two", "nodes": nodes})).json()
        assert (await ended(workflow["nodes"]["b"]))["status"] == "completed"
        async with http.stream("GET", f"/api/v1/workflows/{workflow['workflow_id']}/stream") as stream:
            assert "event: done" in (await stream.aread()).decode()

        async with worker(url) as remote:
            question = {"messages": [{"role": "user", "content": "?"}]}
            asking = asyncio.create_task(http.post("/api/openai", json=question))
            task_id = (await remote.take())["taskId"]
            await remote.say(type="task_complete", taskId=task_id, result={"content": "!"}, duration=1)
            assert (await asking).status_code == 200

        async with listening(url, "7", f"?token={token}") as listener:
            # What ends before that is among what it is told first.
            await listener.next("connected")
            mine = await submit(type="report", payload={"customer": 3}, user_id="7")
            await listener.until(mine, "completed")

        assert (await http.post("/api/v1/groups/reports/pause")).status_code < 300
        held = await submit(type="report", payload={"customer": 9})
        assert (await http.post("/api/v1/groups/reports/resume")).status_code < 300
        assert (await ended(held))["status"] == "completed"
        await eventually(lambda: _any(http, "/api/v1/tasks?type=tick"), because="beat has fired and the history has it")

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALLS), cwd=folder, env=clean_environment(**environment)
    )
    assert await asyncio.wait_for(process.wait(), 170) == 0


async def _is(http: httpx.AsyncClient, path: str, field: str, value: str) -> bool:
    return bool((await http.get(path)).json().get(field) == value)


async def _any(http: httpx.AsyncClient, path: str) -> bool:
    answer = await http.get(path)
    return bool(answer.status_code == 200 and answer.json().get("items"))


async def test_a_cluster_is_refused_unless_all_keys_lie_in_one_slot(server: ValkeyServer) -> None:
    with redis_sync.Redis.from_url(server.url(), decode_responses=True) as client:
        cluster = client.info("cluster")["cluster_enabled"]
    for prefix in ("", "shop:", PREFIX):
        store = TaskStore(server.url(), Settings(key_prefix=prefix).store)
        if cluster and prefix != PREFIX:
            with pytest.raises(SettingsError, match="set key_prefix to a text with braces"):
                await store.start()
        else:
            await store.start()
        await store.stop()


async def test_all_keys_and_channels_of_an_installation_lie_under_its_prefix(
    server: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text(TYPES)
    (tmp_path / "celeriac.yaml").write_text(f'imports: [jobs]\nkey_prefix: "{PREFIX}"\n')
    with (
        KeyMonitor(server.port, PREFIX) as monitor,
        RunningUp(tmp_path / "data", cwd=tmp_path, REDIS_URL=server.url()) as up,
    ):
        await up.ready()
        _, token, _ = await up.cli("token", "--user", "7", cwd=tmp_path)
        await everything(up.run_json["http"], tmp_path, token.strip(), {"CELERIAC_DATA_DIR": str(tmp_path / "data")})
        _, out, _ = await up.cli("doctor", "--json", cwd=tmp_path)
        failed = [finding for finding in json.loads(out)["findings"] if finding["state"] == "failed"]
        assert failed == []
        assert await up.stop() == 0
    assert monitor.outside == []
    assert {"PUBLISH", "SUBSCRIBE", "PSUBSCRIBE", "BRPOP", "FCALL", "XREADGROUP"} <= monitor.seen
    with redis_sync.Redis.from_url(server.url(), decode_responses=True) as client:
        names = list(client.scan_iter(count=1000))
    assert names
    assert [name for name in names if not name.startswith(PREFIX)] == []
    own = async_client(server.url(), prefix=PREFIX, decode_responses=True)
    try:
        kinds = (await orphans(own))[1]
    finally:
        await own.aclose()
    assert kinds["task"] > 20, "the names of an installation are the same under its prefix"
