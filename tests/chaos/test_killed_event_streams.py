"""API processes are killed under whoever watches a task: each event arrives once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from celeriac.model import Claim, Progress, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import SentEvent, read_events, watch
from tests.kit.chaos.api_process import ApiProcess
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(240)

EVENTS = 10_000
KILLS = 3
HANG_UPS = 20


class Watcher:
    """Reads the stream of a task from `servers[0]`, elsewhere while that is away, from where it was broken off."""

    def __init__(self, task_id: str, servers: list[ApiProcess], *, hang_ups: int) -> None:
        self.servers = servers
        self.events: list[SentEvent] = []
        #: Whose stream is open, and how often one was broken off from the other end.
        self.at: ApiProcess | None = None
        self.cuts = 0
        self._path = f"/api/v1/tasks/{task_id}/progress/stream"
        self._breaks = sorted(random.sample(range(1, EVENTS), hang_ups), reverse=True)

    async def watch(self) -> None:
        while not (self.events and self.events[-1].name == "done"):
            for server in self.servers:
                try:
                    await self._read(server)
                    break
                except httpx.ConnectError:
                    continue
                except httpx.TransportError:
                    self.cuts += 1
                    break
                finally:
                    self.at = None
            else:
                await asyncio.sleep(0.02)

    async def _read(self, server: ApiProcess) -> None:
        headers = {"Last-Event-ID": self.events[-1].id or ""} if self.events else {}
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60) as client,
            client.stream("GET", self._path, headers=headers) as response,
        ):
            assert response.status_code == 200
            self.at = server
            async for event in read_events(response):
                self.events.append(event)
                if self._breaks and len(self.events) >= self._breaks[-1]:
                    self._breaks.pop()
                    return


@pytest.fixture
async def servers(tmp_path: Path, valkey_url: str) -> AsyncIterator[list[ApiProcess]]:
    pair = [ApiProcess(tmp_path, valkey_url), ApiProcess(tmp_path, valkey_url)]
    await asyncio.gather(*(server.start() for server in pair))
    yield pair
    for server in pair:
        server.stop()


async def test_each_of_10000_events_arrives_once_and_in_order_while_api_processes_are_killed(
    servers: list[ApiProcess], valkey_url: str
) -> None:
    # The worker is this test, which renews no lease.
    async with TaskStore(valkey_url, Settings(lease=600).store) as store:
        await _watched_while_killed(servers, store)


async def _watched_while_killed(servers: list[ApiProcess], store: TaskStore) -> None:
    await store.submit(Submission(task_id="watched", type="remote", payload="{}"))
    mine = await store.claim("watched", worker="tester")
    assert isinstance(mine, Claim)
    first, second = servers
    watchers = [
        Watcher("watched", [first, second], hang_ups=0),
        Watcher("watched", [first, second], hang_ups=HANG_UPS),
        Watcher("watched", [second, first], hang_ups=HANG_UPS),
    ]
    watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
    reported = 0

    async def report(until: int) -> None:
        nonlocal reported
        while reported < until:
            numbers = range(reported, reported + 100)
            await asyncio.gather(*(store.progress(mine, n + 1, Progress(n % 101, "s", str(n), n)) for n in numbers))
            reported += 100

    part = EVENTS // (2 * KILLS)
    for number in range(KILLS):
        await report((2 * number + 1) * part // 100 * 100)
        serving = await eventually(lambda: watchers[0].events and watchers[0].at, because="a stream is open to be cut")
        before = watchers[0].cuts
        serving.kill()
        await asyncio.gather(report((2 * number + 2) * part // 100 * 100), serving.start())
        await eventually(partial(_was_cut, watchers[0], before), because="the stream was cut")
    await report(EVENTS)
    await store.complete(mine, '"end"')
    await asyncio.wait_for(asyncio.gather(*watching), 60)

    wanted = [str(n) for n in range(EVENTS)]
    seen = [watcher.events for watcher in watchers]
    for server in servers:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            seen.append(await watch(client, "watched"))
    for events in seen:
        assert [event.data["message"] for event in events[:-1]] == wanted
        assert events[-1].name == "done"
        assert events[-1].data["result"] == "end"
    assert watchers[0].cuts >= KILLS


def _was_cut(watcher: Watcher, before: int) -> bool:
    return watcher.cuts > before
