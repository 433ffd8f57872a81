"""The beats of adopted projects go on: Celery's own, django-celery-beat's, RedBeat's. Each firing has a record."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import replace

from celeriac.store.task_store import TaskStore
from tests.integration.moving_in.conftest import Project
from tests.kit.celery_projects import SHOP, SITE, write_project
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, has_record

#: Each fires a task every second.
OWN = {
    **SHOP,
    "shop__celery": SHOP["shop__celery"]
    + """
app.conf.beat_schedule = {"ticks": {"task": "shop.tasks.add", "schedule": 1.0, "args": (2, 3)}}
""",
}
REDBEAT = {
    **OWN,
    "shop__celery": OWN["shop__celery"]
    + """
app.conf.beat_scheduler = "redbeat.RedBeatScheduler"
app.conf.redbeat_redis_url = os.environ["SHOP_BROKER"]
app.conf.beat_max_loop_interval = 1
""",
}
ROWS = """
import django, os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django_celery_beat.models import *
every = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="ticks", task="orders.tasks.ship", interval=every, args="[7]")
"""
_SENT = re.compile(r"sent\. id->([0-9a-f-]{36})")


async def test_each_firing_of_a_projects_own_beat_has_a_record(project: Project, store: TaskStore) -> None:
    projects = {"own": ("shop", OWN), "django": ("mysite", SITE), "redbeat": ("shop", REDBEAT)}
    beats: dict[str, WorkerProcess] = {}
    try:
        for kind, (name, files) in projects.items():
            here = replace(project, folder=project.folder / kind)
            write_project(here.folder, files)
            if kind == "django":
                await here.program(ROWS)
            command = [sys.executable, "-m", "celery", "-A", name, "beat", "--loglevel", "debug"]
            beats[kind] = WorkerProcess(
                here.folder, command, {**here.environ, "PYTHONPATH": str(here.folder)}, cwd=here.folder
            )
        for kind, beat in beats.items():
            await eventually(
                lambda beat=beat: len(_SENT.findall(beat.said())) >= 3,
                because=f"the beat {kind} fires; it said:\n{beat.said()}",
                timeout_s=60,
            )
        for beat in beats.values():
            beat.send(signal.SIGTERM)
        for kind, beat in beats.items():
            assert await beat.gone(20) == 0, kind
            sent = _SENT.findall(beat.said())
            assert [task_id for task_id in sent if not await has_record(store, task_id)] == [], kind
    finally:
        for beat in beats.values():
            beat.kill()
