"""Celery projects as people have them: files in a folder, and programs of their own that run there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.kit.command_line import clean_environment
from tests.kit.waiting import PATIENCE_S

#: A project with `beat_schedule`; its address comes from SHOP_BROKER.
SHOP = {
    "shop__celery": """
import os
from celery import Celery
from celery.schedules import crontab, schedule
import celeriac

class Lunar(crontab):
    pass

app = Celery("shop", broker=os.environ["SHOP_BROKER"], include=["shop.tasks"])
app.conf.update(
    timezone="Europe/Berlin",
    task_default_queue="shop",
    task_routes={"shop.tasks.bill": {"queue": "money"}},
    beat_schedule={
        "nightly": {"task": "shop.tasks.bill", "schedule": crontab(minute=30, hour=2), "kwargs": {"month": 3}},
        "minutely": {"task": "shop.tasks.add", "schedule": 60.0, "args": (2, 3), "options": {"expires": 30}},
        "lunar": {"task": "shop.tasks.add", "schedule": Lunar(), "args": (1, 1)},
        "wrong": {"task": "shop.tasks.add", "schedule": 5.0, "args": (1, 2, 3)},
        "cleanup": {"task": "celery.backend_cleanup", "schedule": crontab(hour=4, minute=0)},
    },
)
celeriac.adopt(app)
""",
    "shop__tasks": """
from shop.celery import app

@app.task
def add(a, b):
    return a + b

@app.task(bind=True)
def bill(self, month):
    return [month, self.request.headers.get("periodic_task_name") if self.request.headers else None]

@app.on_after_finalize.connect
def set_up(sender, **_):
    sender.add_periodic_task(3600, add.s(4, 5), name="hourly", queue="slow")
""",
}

#: A Django project with the tables of django-celery-beat.
SITE = {
    "mysite__celery": """
import os
from celery import Celery
import celeriac

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
celeriac.adopt(app)
""",
    "mysite__settings": """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["django_celery_beat", "orders"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
""",
    "orders__tasks": """
from celery import shared_task

@shared_task(bind=True)
def ship(self, order=0, **more):
    return [order, self.request.headers.get("periodic_task_name"), self.request.headers.get("tenant")]
""",
}


def write_project(folder: Path, files: dict[str, str]) -> None:
    """Write modules; two underscores in a name stand for a folder, which becomes a package."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
        path.write_text(text)


async def run_program(folder: Path, program: str, **environ: str) -> str:
    """Run a Python program in a project and return what it printed; fail when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=folder, env=clean_environment(**environ),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, err.decode()
    return out.decode()
