"""Hundreds of live feeds, while every process of the platform is killed once: no event is missed, none comes twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from celeriac.settings import Settings
from celeriac.store.notified import NotifiedTasks
from tests.kit.chaos.running_platform import RunningPlatform
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(170)

_USERS = 200
_REPORTS = 40


class Follower:
    """A user's client that comes back with the last id, as the JavaScript one does."""

    def __init__(self, user: int, address: str, token: str) -> None:
        self.user = user
        self._address = f"{address}/api/task/ws/task/{user}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.connections = 0
        self.holes = 0
        self.last_id: str | None = None
        self.told: list[str] = []

    @property
    def ended(self) -> bool:
        return bool(self.told) and self.told[-1] == "completed"

    async def follow(self) -> None:
        while not self.ended:
            try:
                await self._connection()
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(random.uniform(0.05, 0.5))

    async def _connection(self) -> None:
        query = "" if self.last_id is None else f"?last_event_id={self.last_id}"
        async with connect(self._address + query, additional_headers=self._headers, open_timeout=20) as connection:
            async for text in connection:
                message = json.loads(text)
                if message["type"] == "connected":
                    self.connections += 1
                    self.holes += message.get("recovered") is False
                elif message["type"] == "task_status":
                    status = message["status"]
                    self.told.append(str(message["progress"]) if status == "progress" else status)
                self.last_id = message["id"] or self.last_id
                if self.ended:
                    return


@asynccontextmanager
async def following(platform: RunningPlatform) -> AsyncIterator[list[Follower]]:
    settings = Settings(data_dir=platform.data_dir)
    address = f"ws://127.0.0.1:{platform.port}"
    followers = [
        Follower(user, address, token_of(settings, user_id=str(user), scopes=[])) for user in range(1, _USERS + 1)
    ]
    tasks = [asyncio.create_task(follower.follow()) for follower in followers]
    try:
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_feed_misses_an_event_while_every_process_is_killed(tmp_path: Path) -> None:
    platform = RunningPlatform(tmp_path, {"lease": 5})
    await platform.start()
    roles = list(json.loads((platform.data_dir / "run.json").read_text())["pids"])
    try:
        async with following(platform) as followers, platform.store() as store:
            await eventually(
                lambda: all(follower.connections for follower in followers), because="all are connected", timeout_s=60
            )
            tasks = NotifiedTasks(store, holder="the test", name="the test")

            async def run(user: int) -> None:
                name = f"feed_{user}"
                await tasks.open(name, task_type="demo", user_id=str(user))
                for number in range(1, _REPORTS + 1):
                    await tasks.progress(name, number)
                    await asyncio.sleep(random.uniform(0.1, 0.9))
                await tasks.complete(name, "null")

            reporting = [asyncio.create_task(run(follower.user)) for follower in followers]
            for role in roles:
                await asyncio.sleep(1.5)
                before = dict(json.loads((platform.data_dir / "run.json").read_text())["pids"])
                platform.kill(role)
                await eventually(
                    lambda role=role, before=before: (  # type: ignore[misc]
                        json.loads((platform.data_dir / "run.json").read_text())["pids"].get(role, before[role])
                        != before[role]
                    ),
                    because=f"{role} is started again",
                    timeout_s=40,
                )
            await asyncio.gather(*reporting)
            await eventually(
                lambda: all(follower.ended for follower in followers), because="all feeds end", timeout_s=60
            )
    finally:
        platform.stop()
    expected = ["pending", "running", *map(str, range(1, _REPORTS + 1)), "completed"]
    for follower in followers:
        assert follower.told == expected, f"user {follower.user}"
        assert not follower.holes
    assert sum(follower.connections for follower in followers) >= 2 * _USERS, "the API was killed under all of them"
