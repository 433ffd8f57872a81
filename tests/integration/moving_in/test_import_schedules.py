"""`celeriac adopt --import-schedules`: real projects, the real packages of their schedulers, real stores."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from celeriac.schedules.connection import connected_schedules
from celeriac.schedules.definition import Definition
from celeriac.schedules.service import Schedules
from celeriac.store.task_store import TaskStore
from tests.integration.moving_in.conftest import Project
from tests.kit.celery_projects import SHOP, SITE, write_project
from tests.kit.command_line import celeriac
from tests.kit.workers.engine_workers import WorkerProcess, ended


def names(outcome: dict[str, Any], what: str = "imported") -> set[str]:
    return {found["name"] for found in outcome["definitions"] if found["what"] == what}


async def definitions(schedules: Schedules) -> dict[str, Definition]:
    found, _ = await schedules.find(limit=100)
    return {str(seen.definition.name): seen.definition for seen in found}


async def test_beat_schedule_becomes_definitions_that_their_owner_edits(project: Project, store: TaskStore) -> None:
    write_project(project.folder, SHOP)
    planned = await project.imports("shop", "--dry-run")
    assert names(planned, "would be imported") == {"nightly", "minutely", "hourly"}
    async with connected_schedules(project.settings, project.redis_url) as schedules:
        assert await definitions(schedules) == {}, "a dry run changes nothing"
        first = await project.imports("shop")
        assert names(first) == {"nightly", "minutely", "hourly"}
        reasons = {entry["name"]: entry["reason"] for entry in first["left_out"]}
        assert set(reasons) == {"lunar", "wrong", "cleanup"}
        assert "Lunar, whose moments only its own code knows" in reasons["lunar"]
        assert "takes 2 positional arguments" in reasons["wrong"]
        assert "a task of Celery's own" in reasons["cleanup"]
        assert {entry["name"] for entry in first["fires_twice"]} == names(first)
        assert "remove it from beat_schedule" in first["fires_twice"][0]["switch_off"]

        made = await definitions(schedules)
        assert made["nightly"].spec.trigger_args == {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
        assert {name: definition.group for name, definition in made.items()} == {
            "nightly": "money",
            "minutely": "shop",
            "hourly": "slow",
        }
        assert made["minutely"].spec.run["expires_in_ms"] == 30_000
        assert (made["hourly"].source, made["hourly"].read_only) == ("beat_schedule", False)

        # Its owner changes the time and the arguments, and cancels another one.
        edit = {
            "trigger_args": {"cron": "0 5 * * *"},
            "task": {"payload": {"args": [], "kwargs": {"month": 7}}, "queue": "shop"},
        }
        await schedules.edit(made["nightly"].definition_id, edit, actor="owner")
        await schedules.cancel(made["hourly"].definition_id, actor="owner")
        again = await project.imports("shop")
        assert names(again, "exists already") == {"nightly", "minutely", "hourly"}
        assert {entry["name"] for entry in again["fires_twice"]} == {"nightly", "minutely"}
        changed = (await definitions(schedules))["nightly"]
        assert changed.spec.trigger_args == {"cron": "0 5 * * *", "timezone": "Europe/Berlin"}

        # What runs is Celery's own call, on the project's own worker.
        runs = [
            (await schedules.trigger(made[name].definition_id, actor="owner")).task_id
            for name in ("nightly", "minutely")
        ]
        command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-P", "solo", "-Q", "shop"]
        environment = {**project.environ, "PYTHONPATH": str(project.folder)}
        worker = WorkerProcess(project.folder, command, environment, cwd=project.folder)
        try:
            assert [(await ended(store, task_id, timeout_s=40)).result for task_id in runs] == [[7, None], 5], (
                worker.said()
            )
        finally:
            worker.kill()


async def test_with_rabbitmq_the_firings_go_through_the_broker(project: Project) -> None:
    write_project(project.folder, SHOP)
    project.broker_url = "amqp://guest:guest@127.0.0.1:1//"
    outcome = await project.imports("shop")
    assert names(outcome) == {"nightly", "minutely", "hourly"}
    async with connected_schedules(project.settings, project.redis_url) as schedules:
        made = await definitions(schedules)
        assert {definition.spec.run["delivery"] for definition in made.values()} == {"broker"}
        assert {definition.group for definition in made.values()} == {"money", "shop", "slow"}


async def test_a_store_that_is_away_is_one_line(project: Project) -> None:
    with_backend = SHOP["shop__celery"].replace("include=", 'backend=os.environ["SHOP_BROKER"], include=')
    write_project(project.folder, {**SHOP, "shop__celery": with_backend})
    away = {**project.environ, "SHOP_BROKER": "redis://127.0.0.1:1/0"}
    code, out, err = await celeriac("adopt", "--import-schedules", "shop", cwd=project.folder, **away)
    assert (code, out) == (3, "")
    assert "127.0.0.1:1" in err
    assert len(err.splitlines()) == 1


DJANGO_ROWS = """
import django, os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from datetime import datetime, timedelta, timezone
from django_celery_beat.models import *
now = datetime.now(timezone.utc)
cron = CrontabSchedule.objects.create(minute="0", hour="9", timezone="America/New_York")
every = IntervalSchedule.objects.create(every=10, period="minutes")
moment = ClockedSchedule.objects.create(clocked_time=now + timedelta(days=3))
past = ClockedSchedule.objects.create(clocked_time=now - timedelta(days=3))
sun = SolarSchedule.objects.create(event="sunset", latitude=52, longitude=13)
def row(name, **fields):
    PeriodicTask.objects.create(name=name, task="orders.tasks.ship", **fields)
row("zoned", crontab=cron, args="[1]", kwargs='{"a": 2}', queue="eu", priority=3, headers='{"tenant": "t"}')
row("every", interval=every, expire_seconds=120, description="ships all")
PeriodicTask.objects.filter(name="every").update(last_run_at=now - timedelta(minutes=4))
row("off", interval=every, enabled=False)
row("once", interval=every, one_off=True)
row("later", interval=every, start_time=now + timedelta(days=1), expires=now + timedelta(days=2))
row("moment", clocked=moment, one_off=True)
row("past", clocked=past, one_off=True)
row("sun", solar=sun)
row("expired", interval=every, expires=now - timedelta(days=1))
PeriodicTask.objects.filter(name="off").update(kwargs='{"order": 3}')
row("broken", interval=every)
PeriodicTask.objects.filter(name="broken").update(args="[1")
print((now - timedelta(minutes=4)).timestamp())
"""
ENABLED = """
import django, os, json
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
from django_celery_beat.models import *
print(json.dumps(sorted(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True))))
"""


async def test_the_tables_of_django_celery_beat_become_definitions(project: Project) -> None:
    write_project(project.folder, SITE)
    last_run_s = float(await project.program(DJANGO_ROWS))
    outcome = await project.imports("mysite")
    assert names(outcome) == {"zoned", "every", "off", "once", "later", "moment"}
    reasons = {entry["name"]: entry["reason"] for entry in outcome["left_out"]}
    assert {name: reason.split(":")[0] for name, reason in reasons.items()} == {
        "past": "its moment has passed",
        "sun": "it is a solar schedule, which a definition cannot express",
        "expired": "it has expired, so it would never fire again",
        "broken": "its args, kwargs or headers are not JSON",
    }
    async with connected_schedules(project.settings, project.redis_url) as schedules:
        made = await definitions(schedules)
        zoned, every = made["zoned"], made["every"]
        assert zoned.spec.trigger_args == {"cron": "0 9 * * *", "timezone": "America/New_York"}
        assert (zoned.group, zoned.spec.run["priority"]) == ("eu", 6)
        assert zoned.spec.task is not None
        assert zoned.spec.task["payload"] == {"args": [1], "kwargs": {"a": 2}}
        headers = json.loads(zoned.spec.run["celery_message"])["headers"]
        assert (headers["tenant"], headers["periodic_task_name"]) == ("t", "zoned")
        assert (every.spec.run["expires_in_ms"], every.note) == (120_000, "ships all")
        assert every.next_slot_ms is not None
        assert abs(every.next_slot_ms / 1000 - (last_run_s + 600)) < 0.01, "it goes on from the last run"
        assert made["off"].status == "PAUSED"
        assert made["once"].spec.max_runs == 1
        later = made["later"].spec
        assert later.start_ms is not None
        assert later.end_ms is not None
        assert made["later"].next_slot_ms == later.start_ms
        assert later.end_ms - later.start_ms == timedelta(days=1) / timedelta(milliseconds=1) - 1
        in_days = datetime.fromtimestamp((made["moment"].next_slot_ms or 0) / 1000, UTC) - datetime.now(UTC)
        assert timedelta(days=2, hours=23) < in_days < timedelta(days=3, hours=1)

        switched = await project.imports("mysite", "--disable-originals")
        assert names(switched, "exists already") == names(outcome)
        assert set(switched["disabled"]) == {"zoned", "every", "once", "later", "moment"}
        assert switched["fires_twice"] == []
        assert json.loads(await project.program(ENABLED)) == ["broken", "expired", "past", "sun"]
        assert {d.status.value for d in (await definitions(schedules)).values()} == {"ACTIVE", "PAUSED"}


REDBEAT = {
    **SHOP,
    "shop__celery": SHOP["shop__celery"]
    + """
app.conf.beat_scheduler = "redbeat.RedBeatScheduler"
app.conf.redbeat_redis_url = os.environ["SHOP_BROKER"]
app.conf.beat_schedule = {"static": {"task": "shop.tasks.add", "schedule": 300.0, "args": (1, 1)}}
""",
}
REDBEAT_ROWS = """
from datetime import datetime, timedelta, timezone
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule
from shop.celery import app
app.finalize()
def save(name, given, **more):
    entry = RedBeatSchedulerEntry(name, "shop.tasks.add", given, args=[2, 2], app=app, **more)
    entry.save()
    return entry
last = datetime.now(timezone.utc) - timedelta(seconds=100)
save("weekly", crontab(minute="0", hour="7", day_of_week="1"), options={"queue": "mails"})
save("often", schedule(300, app=app)).reschedule(last)
save("paused", schedule(60, app=app), enabled=False)
save("rule", rrule("DAILY", app=app))
print(last.timestamp())
"""
REDBEAT_ENABLED = """
from redbeat import RedBeatSchedulerEntry
from shop.celery import app
print(*[RedBeatSchedulerEntry.from_key(f"redbeat:{name}", app=app).enabled for name in ("weekly", "often")])
"""


async def test_the_keys_of_redbeat_become_definitions(project: Project) -> None:
    write_project(project.folder, REDBEAT)
    last_run_s = float(await project.program(REDBEAT_ROWS))
    outcome = await project.imports("shop")
    # The static entry and the periodic task are not in Redis before RedBeat starts.
    assert names(outcome) == {"weekly", "often", "paused", "static", "hourly"}
    assert [entry["name"] for entry in outcome["left_out"]] == ["rule"]
    async with connected_schedules(project.settings, project.redis_url) as schedules:
        made = await definitions(schedules)
        assert made["weekly"].spec.trigger_args == {"cron": "0 7 * * 1", "timezone": "Europe/Berlin"}
        assert (made["weekly"].group, made["weekly"].source) == ("mails", "redbeat")
        assert made["often"].next_slot_ms is not None
        assert abs(made["often"].next_slot_ms / 1000 - (last_run_s + 300)) < 1
        assert made["paused"].status == "PAUSED"
        assert made["static"].source == "beat_schedule"
    switched = await project.imports("shop", "--disable-originals")
    assert set(switched["disabled"]) == {"weekly", "often"}
    assert {entry["name"] for entry in switched["fires_twice"]} == {"static", "hourly"}
    assert (await project.program(REDBEAT_ENABLED)).split() == ["False", "False"]
