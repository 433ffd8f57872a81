"""`kill -9` of a recorder in the middle of its batches, under load: history loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from celeriac.history.history import History
from celeriac.model import Claim, Event, Failure, Progress, Submission
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from celeriac.task_filter import TaskFilter
from celeriac.tasks.record import task_record
from tests.kit.chaos.running_platform import all_events
from tests.kit.command_line import REPOSITORY
from tests.kit.waiting import eventually

KILLS = 20


@contextmanager
def recorder(store_url: str, database_url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.kit.chaos.recorder_process", store_url, database_url]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


class Load:
    """Tasks that come and end, until somebody says stop."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.ids: list[str] = []
        self._random = random.Random(3)
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            await asyncio.gather(*(self._one() for _ in range(10)))
            await asyncio.sleep(0.02)

    async def _one(self) -> None:
        task_id = f"t{len(self.ids)}"
        self.ids.append(task_id)
        await self._store.submit(Submission(task_id=task_id, type="demo", tags=("load",)))
        claim = await self._store.claim(task_id, worker="w")
        assert isinstance(claim, Claim)
        await self._store.progress(claim, 1, Progress(50, "", "", 1))
        chance = self._random.random()
        if chance < 0.6:
            await self._store.complete(claim, '"done"')
        elif chance < 0.8:
            await self._store.fail(claim, Failure("broken", "boom", False), 0)
        elif chance < 0.9:
            await self._store.fail(claim, Failure("broken", "boom", True), 3_600_000)


@pytest.mark.timeout(240)
async def test_twenty_kills_in_mid_batch_lose_and_double_nothing(
    valkey_url: str, store: TaskStore, database_url: str
) -> None:
    load = Load(store)
    loading = asyncio.create_task(load.run())
    feed = EventFeed(store, consumer="onlooker")
    chance = random.Random(5)
    left_behind = 0
    for _ in range(KILLS):
        with recorder(valkey_url, database_url) as process:
            assert await asyncio.to_thread(_line, process) == "recording\n"
            # Anywhere in the work: after a random part of a batch's time.
            await asyncio.sleep(chance.uniform(0, 0.12))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        pending = await store.redis.xpending("celeriac:events", "ledger") if (await feed.lag()).recording else None
        left_behind += bool(pending and pending["pending"])
    load.stopping = True
    await loading
    # At least some kills met a batch that was read and not acknowledged.
    assert left_behind > 0

    with recorder(valkey_url, database_url):

        async def caught_up() -> bool:
            lag = await feed.lag()
            return lag.entries == 0 and not lag.resyncing

        await eventually(caught_up, because="a recorder that lives catches up", timeout_s=90)
    async with History(database_url) as history:
        assert await history.count(TaskFilter()) == len(load.ids)
        assert await history.count(TaskFilter(tag=("load",))) == len(load.ids)
        for task_id in load.ids:
            kept = await history.get(task_id)
            assert task_record(kept.task) == task_record(await store.get(task_id))
            assert _ids(await history.events(task_id)) == _ids(await all_events(store, task_id))


def _ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]
