"""Hosts whose clock is hours wrong, and jumps while a beat and a worker run: the store's clock decides."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from celeriac.history.history import History
from celeriac.model import Status, ms_from_utc, utc_from_ms
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from celeriac.task_filter import TaskFilter
from celeriac.tasks.registry import registry
from tests.kit.api import http_serving  # noqa: F401 - its task types
from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.history import completed, record_all, recording
from tests.kit.shifted_clock import ShiftedClock, needs_faketime
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, output_of, publish
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, ran, runs, statuses, submit

pytestmark = [needs_faketime, pytest.mark.fresh_python, pytest.mark.timeout(180)]

HOURS: Final = (3, -3)


@pytest.fixture(params=HOURS, ids=["ahead", "behind"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> ShiftedClock:
    return ShiftedClock(tmp_path / "clock", request.param)


@pytest.fixture
async def workers(tmp_path: Path, valkey_url: str, clock: ShiftedClock) -> AsyncIterator[Workers]:
    """Starts workers and publishers with the wrong clock."""

    class Shifted(Workers):
        def environment(self, **settings: Any) -> dict[str, str]:
            return clock.environment(super().environment(**settings))

    started = Shifted(tmp_path, valkey_url)
    try:
        yield started
    finally:
        started.kill_all()


async def test_every_slot_fires_once_while_the_clocks_of_two_beats_jump(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "database_url": database_url})
    clocks = [ShiftedClock(tmp_path / f"clock{number}", hours) for number, hours in enumerate(HOURS)]
    async with TaskStore(valkey_url, settings.store) as store, History(database_url) as history:

        async def types(_: str) -> Any:
            return registry

        schedules = Schedules(store=store, history=history, types=types, settings=settings)
        command = [sys.executable, "-m", "tests.kit.chaos.beat_process", valkey_url, database_url]
        beats = [
            subprocess.Popen(command, cwd=REPOSITORY, env=clock.environment(), stdout=subprocess.PIPE)
            for clock in clocks
        ]
        try:
            for beat in beats:
                assert beat.stdout is not None
                assert await asyncio.to_thread(beat.stdout.readline) == b"beating\n"
            document = {
                "user_id": 1,
                "task": {"type": "http_test.echo", "payload": {}},
                "trigger_type": "LOOP",
                "trigger_args": {"cron": "* * * * * *"},
            }
            made = (await schedules.create(document, actor="tester"))[0].definition
            definition_id = made.definition_id

            async def decided() -> int:
                one = (await schedules.get(definition_id)).definition
                return one.fired + one.missed + one.skipped

            for count, hours in ((2, (-3, 3)), (4, (24, 0)), (6, (-24, -3)), (8, (0, 0))):
                await eventually(lambda count=count: _at_least(decided, count), because=f"{count} slots have passed")
                for clock, ahead in zip(clocks, hours, strict=True):
                    clock.jump(ahead)
            await eventually(lambda: _at_least(decided, 10), because="beats go on after the jumps")
            await schedules.pause(definition_id, actor="tester", note="enough")
        finally:
            for beat in beats:
                beat.kill()
                beat.wait()

        one = (await schedules.get(definition_id)).definition
        fired: Counter[int] = Counter()
        async for key in store.redis.scan_iter(match=keys.task("*"), count=1000):
            fired[ms_from_utc(datetime.fromisoformat(await store.redis.hget(key, "scheduled_at")))] += 1
        assert set(fired.values()) == {1}, "each slot fires once"
        assert one.last_slot_ms is not None
        owed = set(range(made.created_ms // 1000 * 1000 + 1000, max(fired) + 1000, 1000))
        assert set(fired) <= owed, "no slot is of another time"
        assert len(fired) == one.fired
        assert len(owed) == one.fired + one.missed + one.skipped, "a slot that did not fire is counted"
        assert max(fired) <= await server_ms(store), "no slot fires ahead of the store's time"


async def _at_least(count: Any, least: int) -> bool:
    return bool(await count() >= least)


async def test_a_worker_runs_each_task_once_at_its_time(
    workers: Workers, store: TaskStore, clock: ShiftedClock
) -> None:
    began = utc_from_ms(await server_ms(store))
    over = await submit(store, "noop", {}, expires_in_ms=1)
    worker = await workers.start(store, lease=2)
    hour = 3_600_000
    long = await submit(store, "sleeps", {"s": 3})
    soon = await submit(store, "add", {"numbers": [1]}, delay_ms=500)
    at = await submit(store, "add", {"numbers": [1]}, run_at_ms=await server_ms(store) + 500)
    in_time = await submit(store, "noop", {}, expires_in_ms=hour)
    later = await submit(store, "noop", {}, delay_ms=hour)
    again = await submit(store, "fails", {"until": 2})
    said = await submit(store, "says", {"lines": 1})
    await runs(store, long)
    # The lease of 2 s is renewed across a jump.
    clock.jump(0)

    done = [await ended(store, task_id) for task_id in (long, soon, at, in_time, again, said)]
    assert {task.status for task in done} == {Status.COMPLETED}
    assert await ran(store, long) == ["start 1", "end 1"]
    for task in done:
        check_one_end(await statuses(store, task.task_id))
        assert began <= task.created_at
        assert task.started_at is not None
        assert task.finished_at is not None
        assert task.created_at <= task.started_at <= task.finished_at <= utc_from_ms(await server_ms(store))
    for task in done[1:3]:
        assert task.started_at is not None
        assert (task.started_at - task.created_at).total_seconds() >= 0.4
    expired = await ended(store, over)
    assert expired.error is not None
    assert (expired.status, expired.error.code, await ran(store, over)) == (Status.FAILED, "expired", [])
    assert (await store.get(later)).status is Status.SCHEDULED
    lines = [line.message for line in await store.log_lines(said)]
    assert lines[:2] == ["1 of 2", "a line"], "lines keep their order, whatever they say of their time"
    assert worker.alive


#: What the beat does about the history now and then.
PRUNING: Final = """
import asyncio
from celeriac.database.engine import create_engine
from celeriac.history.pruner import Pruner
from celeriac.settings import load_settings
from celeriac.store.task_store import TaskStore

async def prune():
    settings = load_settings()
    async with TaskStore(str(settings.redis_url), settings.store) as store:
        engine = create_engine(settings.database_url)
        print(await Pruner(engine=engine, store=store, retentions=settings.retentions).step())
        await engine.dispose()

asyncio.run(prune())
"""


async def test_a_host_that_is_years_ahead_prunes_no_history(
    store: TaskStore, valkey_url: str, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    async with recording(store, database_url, settings) as (recorder, history):
        await completed(store, "t")
        await record_all(recorder, store)
        clock = ShiftedClock(tmp_path / "clock", 20 * 365 * 24)
        environment = clock.environment(clean_environment(REDIS_URL=valkey_url, DATABASE_URL=database_url))
        assert await output_of([sys.executable, "-c", PRUNING], environment) == "60.0\n"
        assert [kept.task.task_id for kept in (await history.find(TaskFilter())).tasks] == ["t"]


async def test_countdowns_and_expiries_of_celery_count_from_the_stores_now(workers: Workers, store: TaskStore) -> None:
    ids = await publish(
        workers,
        "add.apply_async((1,), countdown=60)",
        "add.apply_async((1,), expires=60)",
        "add.apply_async((1,), countdown=30, expires=90)",
        "add.signature((1,), countdown=60, expires=120).apply_async()",
        "app.tasks['noop'].apply_async(kwargs={'x': 1}, countdown=60, expires=120)",
    )
    for task_id, countdown, expires in zip(ids, (60, None, 30, 60, 60), (None, 60, 90, 120, 120), strict=True):
        task = await store.get(task_id)
        assert task.status is (Status.SCHEDULED if countdown else Status.PENDING)
        for moment, seconds in ((task.run_at, countdown), (task.expires_at, expires)):
            assert (moment is None) == (seconds is None)
            if moment is not None and seconds is not None:
                assert (moment - task.created_at).total_seconds() == pytest.approx(seconds, abs=0.01)
    dying, running = await publish(
        workers, "total.apply_async((1,), expires=0.1)", "total.apply_async((1,), expires=3600)"
    )
    await asyncio.sleep(0.2)
    await workers.start(store, **BOTH)
    ran_in_time = await ended(store, running)
    assert ran_in_time.status is Status.COMPLETED, ran_in_time.error
    assert (await ended(store, dying)).status is Status.FAILED
    assert await ran(store, dying) == []
