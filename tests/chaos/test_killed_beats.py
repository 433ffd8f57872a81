"""`kill -9` of beats in the middle of their batches: every slot fires exactly once.

`CELERIAC_CHAOS_S`, `CELERIAC_CHAOS_DEFINITIONS` and `CELERIAC_CHAOS_KILL_S` make it longer and larger:
two minutes of 200 definitions with a kill every few seconds is 120, 200 and 5.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from celeriac.history.history import History
from celeriac.model import rfc3339, utc_from_ms
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.tasks.registry import registry
from tests.kit.api import http_serving  # noqa: F401 - its task types
from tests.kit.command_line import REPOSITORY
from tests.kit.waiting import eventually

SECONDS = float(os.environ.get("CELERIAC_CHAOS_S", "12"))
DEFINITIONS = int(os.environ.get("CELERIAC_CHAOS_DEFINITIONS", "30"))
#: One of the beats is killed after a time up to this.
KILL_S = float(os.environ.get("CELERIAC_CHAOS_KILL_S", "1.5"))
BEATS = 3


class Beats:
    """Three beats, one of which is killed again and again, anywhere in its work."""

    def __init__(self, store_url: str, database_url: str) -> None:
        self._urls = store_url, database_url
        self._processes: list[subprocess.Popen[bytes]] = []
        self.kills = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.kit.chaos.beat_process", *self._urls]
        self._processes.append(subprocess.Popen(command, cwd=REPOSITORY))

    async def harass(self, seconds: float) -> None:
        chance = random.Random(11)
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(chance.uniform(KILL_S / 2, KILL_S))
            victim = self._processes.pop(0)
            victim.kill()
            assert victim.wait() == -signal.SIGKILL
            self.kills += 1
            self.start()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.mark.timeout(400)
async def test_every_slot_fires_exactly_once_whoever_is_killed(valkey_url: str, database_url: str) -> None:
    settings = Settings.model_validate(
        {"redis_url": valkey_url, "database_url": database_url, "max_queue_length": 10**6}
    )
    async with TaskStore(valkey_url, settings.store) as store, History(database_url) as history:

        async def types(_: str) -> Any:
            return registry

        schedules = Schedules(store=store, history=history, types=types, settings=settings)
        document = {
            "user_id": 1,
            "task": {"type": "http_test.echo", "payload": {}},
            "trigger_type": "LOOP",
            "trigger_args": {"interval": 1},
            "max_runs": round(SECONDS),
            # A machine that is overloaded fires late; late is no reason to leave slots out here.
            "misfire": "fire_all",
        }
        made = [(await schedules.create(document, actor="tester"))[0].definition for _ in range(DEFINITIONS)]
        beats = Beats(valkey_url, database_url)
        try:
            for _ in range(BEATS):
                beats.start()
            await beats.harass(SECONDS)

            async def all_fired() -> bool:
                async with history.engine.connect() as connection:
                    rows = await connection.execute(
                        text(
                            "SELECT (SELECT count(*) FROM celeriac_definitions WHERE next_ms IS NOT NULL),"
                            " (SELECT count(*) FROM celeriac_firings WHERE state <> 'open')"
                        )
                    )
                    return tuple(rows.one()) == (0, 0)

            await eventually(all_fired, because="all slots are fired", timeout_s=60 + SECONDS, interval_s=0.2)
        finally:
            beats.stop()
        assert beats.kills >= SECONDS / KILL_S / 2

        fired: Counter[tuple[str, str]] = Counter()
        async for key in store.redis.scan_iter(match=keys.task("*"), count=1000):
            definition_id, slot = await store.redis.hmget(key, "definition_id", "scheduled_at")
            fired[definition_id, slot] += 1
        expected = {(d.definition_id, slot) for d in made for slot in _slots(d.created_ms, round(SECONDS))}
        assert set(fired) == expected, "each slot, in its phase, and no other one"
        assert set(fired.values()) == {1}
        assert (await store.read(("ZCARD", keys.waiting("default"))))[0] == len(expected)


def _slots(created_ms: int, count: int) -> list[str]:
    return [rfc3339(utc_from_ms(created_ms + 1000 * number)) for number in range(1, count + 1)]
