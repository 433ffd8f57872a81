"""Run one scheduler in its own process: `python -m peers.beats KIND MODE COUNT`. It prints its figures as JSON.

MODE `fill`: store COUNT entries that are due in a day, for a later process; Celery's own beat does not store any.
MODE `idle`: run on these entries; measure the CPU time of the start with the first tick, of a tick, and the memory.
MODE `burst`: run COUNT entries that are due at the same moment; measure how late each one was published.
`BENCH_URL` is the store, `BENCH_DATABASE` the database.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psutil
from celery import Celery
from celery.schedules import schedule
from celery.signals import after_task_publish

URL, DATABASE = os.environ["BENCH_URL"], os.environ.get("BENCH_DATABASE", "")
DAY = 86_400
TICKS = 10
#: The time between the end of the setup and the burst (seconds).
AHEAD_S = 3.0
PATIENCE_S = 120.0


def celery_app(folder: str) -> Celery:
    """Return a stock Celery app, set up as each peer's documentation says."""
    app = Celery("bench", broker=URL)
    app.conf.update(
        redbeat_redis_url=URL, redbeat_lock_key=None, beat_dburi=f"sqlite:///{folder}/peer.db", beat_engine_options={}
    )

    @app.task(name="bench.noop")
    def noop() -> None:
        """Do nothing."""

    return app


def fill_nothing(app: Celery, count: int, due: datetime) -> None:
    """Do nothing: Celery's own beat has its entries in the configuration."""


def stock(app: Celery, count: int, due: datetime) -> Any:
    """Celery's own scheduler, entries in memory."""
    from celery.beat import Scheduler

    scheduler = Scheduler(app=app)
    last = due - timedelta(seconds=DAY)
    scheduler.data = {
        f"e{n}": scheduler.Entry(
            name=f"e{n}", task="bench.noop", schedule=schedule(DAY, app=app), app=app, last_run_at=last
        )
        for n in range(count)
    }
    scheduler.schedule = scheduler.data
    return scheduler


def fill_redbeat(app: Celery, count: int, due: datetime) -> None:
    """Store entries of celery-redbeat in Redis, sorted by when they are due."""
    from redbeat.schedulers import RedBeatSchedulerEntry, get_redis

    entry = RedBeatSchedulerEntry("e", "bench.noop", schedule(DAY, app=app), app=app)
    entry.last_run_at = due - timedelta(seconds=DAY)
    entry.save()
    client = get_redis(app)
    definition = json.loads(client.hget(entry.key, "definition"))
    meta = json.dumps({"last_run_at": _redbeat_moment(entry.last_run_at), "total_run_count": 0})
    entry.delete()
    pipe = client.pipeline(transaction=False)
    for n in range(count):
        key = f"redbeat:e{n}"
        pipe.hset(key, mapping={"definition": json.dumps({**definition, "name": f"e{n}"}), "meta": meta})
        pipe.zadd(app.redbeat_conf.schedule_key, {key: due.timestamp()})
        if n % 1000 == 999:
            pipe.execute()
    pipe.execute()


def redbeat(app: Celery, *_: Any) -> Any:
    """celery-redbeat."""
    from redbeat.schedulers import RedBeatScheduler

    return RedBeatScheduler(app=app)


def _redbeat_moment(moment: datetime) -> dict[str, Any]:
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {"__type__": "datetime", "timezone": "UTC", **{name: getattr(moment, name) for name in names}}


def fill_sqlalchemy(app: Celery, count: int, due: datetime) -> None:
    """Store entries of sqlalchemy-celery-beat in SQL."""
    from sqlalchemy import insert
    from sqlalchemy_celery_beat.models import IntervalSchedule, Period, PeriodicTask
    from sqlalchemy_celery_beat.session import SessionManager

    manager = SessionManager()
    engine, session_class = manager.create_session(app.conf.beat_dburi, schema=None)
    manager.prepare_models(engine, schema=None)
    with session_class() as session:
        interval = IntervalSchedule(every=1, period=Period.DAYS)
        session.add(interval)
        session.flush()
        row = {
            "task": "bench.noop",
            "discriminator": "intervalschedule",
            "schedule_id": interval.id,
            "last_run_at": due - timedelta(seconds=DAY),
            "enabled": True,
        }
        session.execute(insert(PeriodicTask), [{**row, "name": f"e{n}"} for n in range(count)])
        session.commit()


def sqlalchemy_beat(app: Celery, *_: Any) -> Any:
    """sqlalchemy-celery-beat: entries in SQL, held in memory."""
    from sqlalchemy_celery_beat.schedulers import DatabaseScheduler

    app.conf.beat_schema = None
    return DatabaseScheduler(app=app)


#: For each peer: a function that stores its entries, and one that creates its scheduler.
PEERS: dict[str, tuple[Callable[[Celery, int, datetime], None], Callable[[Celery, int, datetime], Any]]] = {
    "celery": (fill_nothing, stock),
    "redbeat": (fill_redbeat, redbeat),
    "sqlalchemy": (fill_sqlalchemy, sqlalchemy_beat),
}


_MODULES = {
    "celery": "celery.beat",
    "redbeat": "redbeat.schedulers",
    "sqlalchemy": "sqlalchemy_celery_beat.schedulers",
}


def peer(kind: str, mode: str, count: int) -> dict[str, Any]:
    """Run a peer in a mode."""
    app = celery_app(os.getcwd())
    fill, make = PEERS[kind]
    # Imported here, so that the import is not measured.
    importlib.import_module(_MODULES[kind])
    if mode == "fill":
        fill(app, count, datetime.now(UTC) + timedelta(seconds=DAY))
        return {}
    if mode == "idle":
        began = time.process_time()
        scheduler = make(app, count, datetime.now(UTC) + timedelta(seconds=DAY))
        scheduler.tick()
        ready_s = time.process_time() - began
        return {"ready_s": ready_s, **_idle(_ticks(scheduler.tick))}
    late: list[float] = []
    # The moment is fixed before the entries are stored, which takes a while for some peers.
    # It is a whole second, because celery-redbeat does not support fractions.
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=AHEAD_S + 1 + count / 200)
    after_task_publish.connect(lambda **_: late.append(time.time() - due.timestamp()), weak=False)
    fill(app, count, due)
    scheduler = make(app, count, due)
    give_up_at = time.monotonic() + PATIENCE_S
    while len(late) < count and time.monotonic() < give_up_at:
        pause_s = scheduler.tick()
        if pause_s and pause_s > 0:
            time.sleep(min(pause_s, 1.0))
    return {"published": len(late), "late_s": late}


def _ticks(tick: Callable[[], Any]) -> Iterator[float]:
    for _ in range(TICKS):
        began = time.process_time()
        tick()
        yield time.process_time() - began


def _idle(ticks: Iterator[float]) -> dict[str, Any]:
    found = list(ticks)
    return {"tick_ms": median(found) * 1000, "rss_mb": psutil.Process().memory_info().rss / 2**20}


async def celeriac(mode: str, count: int) -> dict[str, Any]:
    """Celeriac's scheduler: definitions in SQL."""
    from celeriac.database.engine import create_engine, writing
    from celeriac.database.migrating import migrate
    from celeriac.database.schedule_tables import definitions
    from celeriac.schedules.definition import Definition, DefinitionStatus, Spec, TaskTriggerType
    from celeriac.schedules.running_scheduler import scheduler_on, scheduling
    from celeriac.schedules.sql.rows import definition_row
    from celeriac.settings import Settings
    from celeriac.store.task_store import TaskStore
    from celeriac.store.watching.standings import server_ms

    if mode != "idle":
        migrate(DATABASE)
    settings = Settings(redis_url=URL, database_url=DATABASE, max_queue_length=10**6)
    async with TaskStore(URL, settings.store) as store:
        if mode == "idle":
            began = time.process_time()
            async with scheduler_on(store, settings) as scheduler:
                await scheduler.step()
                ready_s = time.process_time() - began
                found = []
                for _ in range(TICKS):
                    # Resets the cache, so that each tick does all its work, as it does twice a second.
                    scheduler._kept_ms = 0
                    began = time.process_time()
                    await scheduler.step()
                    found.append(time.process_time() - began)
                return {"ready_s": ready_s, **_idle(iter(found))}
        now_ms = await server_ms(store)
        ahead_s = DAY if mode == "fill" else AHEAD_S + count / 1000
        due_ms = now_ms + round(ahead_s * 1000)
        run = {
            "type": "bench.noop", "payload": "{}", "group": "default", "priority": 0, "max_retries": 0,
            "expires_in_ms": None, "timeout_ms": None, "metadata": {}, "tags": [], "retention_ms": None, "delivery": "",
        }  # fmt: skip
        one = Definition(
            definition_id="", rev=1, status=DefinitionStatus.ACTIVE, trigger_type=TaskTriggerType.LOOP, source="api",
            name=None, user_id="1", group="default", note=None, next_slot_ms=due_ms, next_ms=due_ms,
            created_ms=now_ms, updated_ms=now_ms, ended_ms=None,
            spec=Spec(1, "", {"interval": DAY}, due_ms - DAY * 1000, {"type": "bench.noop"}, run),
        )  # fmt: skip
        engine = create_engine(DATABASE)
        for start in range(0, count, 10_000):
            rows = [
                definition_row(replace(one, definition_id=f"d{n}")) for n in range(start, min(start + 10_000, count))
            ]
            async with writing(engine) as connection:
                await connection.execute(definitions.insert(), rows)
        await engine.dispose()
        if mode == "fill":
            return {}
        async with scheduling(store, settings):
            give_up_at = time.monotonic() + PATIENCE_S
            while time.monotonic() < give_up_at:
                keys = [key async for key in store.redis.scan_iter(match="task:*", count=10_000)]
                if len(keys) >= count:
                    break
                await asyncio.sleep(0.5)
        created = [datetime.fromisoformat(text) for text in await _created(store, keys)]
        return {"published": len(keys), "late_s": [moment.timestamp() - due_ms / 1000 for moment in created]}


async def _created(store: Any, keys: list[str]) -> list[str]:
    replies = await store.read(*(("HGET", key, "created_at") for key in keys))
    return [str(reply) for reply in replies]


if __name__ == "__main__":
    kind, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    figures = asyncio.run(celeriac(mode, count)) if kind.startswith("celeriac") else peer(kind, mode, count)
    print(json.dumps(figures))
