"""The JavaScript client, as its package is installed, in a Node of its own against the real application."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.model import Progress, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.api.notification_client import token
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.remote.node_packages import PROGRAMS, node, node_folder
from tests.kit.waiting import eventually

PROGRAM = PROGRAMS / "notifications_program.mjs"


class Client:
    """A client in a process; `heard` are its events."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.heard: list[tuple[str, Any]] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            found = json.loads(line)
            self.heard.append((found["event"], found.get("value")))

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def told(self, task_id: str) -> list[tuple[str, float]]:
        return [(v["status"], v["progress"]) for e, v in self.heard if e == "task" and v["task_id"] == task_id]

    def count(self, event: str, value: Any = None) -> int:
        return sum(1 for e, v in self.heard if e == event and (value is None or v == value))


@asynccontextmanager
async def client(folder: Path, url: str, user_id: int, credential: str, heartbeat_ms: int) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        *(node(), str(folder / PROGRAM.name), url, str(user_id), credential, str(heartbeat_ms)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1024**2,
    )
    started = Client(process)
    try:
        yield started
    finally:
        process.kill()
        await process.wait()
        await started.reading


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = node_folder(tmp_path_factory)
    shutil.copy(PROGRAM, found)
    return found


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url, data_dir=tmp_path)


async def test_the_client_survives_cuts_another_server_and_a_lost_feed(
    folder: Path, settings: Settings, store: TaskStore
) -> None:
    async with (
        FlakyProxy("http://127.0.0.1:9") as proxy,
        serving(settings) as first,
        client(folder, proxy.url, 7, token(settings, 7), 500) as listener,
    ):
        proxy.upstream = first
        await eventually(lambda: listener.count("active"), because="it connects when the server is there")
        await store.submit(Submission(task_id="t", type="demo", user_id="7"))
        running = await claim(store, "t")
        for number in range(1, 61):
            await store.progress(running, number, Progress(number, "", "", 1))
            if number % 20 == 0:
                connected = listener.count("active")
                proxy.cut_all()
                await eventually(lambda n=connected: listener.count("active") > n, because="it comes back")
        await eventually(lambda: ("progress", 60) in listener.told("t"), because="all is told")

        # Another process, which has never heard of this client.
        async with serving(settings) as second:
            proxy.upstream = second
            proxy.cut_all()
            for number in range(61, 81):
                await store.progress(running, number, Progress(number, "", "", 1))
            await eventually(lambda: ("progress", 80) in listener.told("t"), because="the other one goes on")
            assert listener.told("t") == [
                *(("pending", 0), ("running", 0)),
                *[("progress", n) for n in range(1, 81)],
            ]
            assert not listener.count("snapshot")

            # The feed is lost, while nobody listens.
            proxy.upstream = "http://127.0.0.1:9"
            proxy.cut_all()
            await store.redis.delete(keys.feed("7"))
            await store.complete(running, '"done"')
            proxy.upstream = first
            await eventually(lambda: listener.count("snapshot"), because="it is told of the hole")
            await eventually(lambda: ("completed", 100) in listener.told("t"), because="… and how all is now")


async def test_the_client_gives_up_on_a_token_that_is_refused(folder: Path, settings: Settings) -> None:
    async with serving(settings) as url, client(folder, url, 7, token(settings, 8), 5000) as listener:
        await eventually(lambda: listener.count("state", "closed"), because="it stops")
        assert [v["code"] for e, v in listener.heard if e == "error"] == ["refused"]


async def test_the_client_follows_a_single_task_through_a_cut(
    folder: Path, settings: Settings, store: TaskStore
) -> None:
    await store.submit(Submission(task_id="theirs", type="demo", user_id="8"))
    running = await claim(store, "theirs")
    credential = token(settings, 9, Scope.ADMIN)
    async with (
        serving(settings) as url,
        FlakyProxy(url) as proxy,
        client(folder, proxy.url, 9, credential, 5000) as listener,
    ):
        await eventually(lambda: listener.count("state", "open"), because="it connects")
        listener.say("subscribe theirs")
        await eventually(lambda: ("running", 0) in listener.told("theirs"), because="it is told how the task is")
        await store.progress(running, 1, Progress(10, "", "", 1))
        await eventually(lambda: ("progress", 10) in listener.told("theirs"), because="… and what happens to it")
        proxy.upstream = "http://127.0.0.1:9"
        proxy.cut_all()
        await store.progress(running, 2, Progress(20, "", "", 1))
        await store.complete(running, "1")
        proxy.upstream = url
        await eventually(lambda: ("completed", 100) in listener.told("theirs"), because="it comes back")
        await eventually(lambda: ("progress", 20) in listener.told("theirs"), because="what was missed is told")
        listener.say("close")
        await eventually(lambda: listener.count("state", "closed"), because="it was closed")


async def test_the_server_ships_the_client(settings: Settings) -> None:
    async with serving(settings) as url, httpx.AsyncClient() as browser:
        path = "/dashboard/static/notifications-client/celeriac-notifications.js"
        answer = await browser.get(url + path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "export class NotificationClient" in answer.text
