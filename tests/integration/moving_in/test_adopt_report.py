"""`celeriac adopt --report`, on projects as people write them. No server runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.kit.celery_projects import write_project
from tests.kit.command_line import REPOSITORY, celeriac, clean_environment

APP = """
from celery import Celery

app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1", include=["shop.tasks"])
app.conf.task_acks_late = True
"""
TASKS = """
from shop.celery import app

@app.task
def add(a, b):
    raise AssertionError("a report runs nothing")

@app.on_after_finalize.connect
def set_up(sender, **_):
    sender.add_periodic_task(60, add.s(1, 2), name="minutely")
"""
DJANGO_APP = """
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
DJANGO_SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django_celery_beat", "orders"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
USE_TZ = True
CELERY_BROKER_URL = "amqp://guest:secret@127.0.0.1:1//"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_TASK_SERIALIZER = "pickle"
"""
DJANGO_TASKS = """
from celery import shared_task

@shared_task(max_retries=None)
def ship(order_id):
    raise AssertionError("a report runs nothing")
"""


async def test_a_project_that_runs_as_it_is_has_exit_code_0(tmp_path: Path) -> None:
    write_project(tmp_path, {"shop__celery": APP, "shop__tasks": TASKS})
    code, out, err = await celeriac("adopt", "--report", "shop", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert not out.startswith("not possible\n")
    assert "1 task runs as before" in out
    assert "1 entry goes on with `celery beat`" in out
    assert out.splitlines()[-1].startswith("everything runs")


async def test_the_one_line_of_the_documentation_makes_an_adopted_app(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "adopt.md").read_text("utf-8")
    (tmp_path / "shop.py").write_text(page.split("```python\n")[1].split("```")[0])
    code, out, _ = await celeriac("adopt", "--report", "shop", cwd=tmp_path)
    assert code == 0
    assert out.splitlines()[-1] == "everything runs, and the project is adopted"


async def test_a_django_project_on_rabbitmq_is_told_that_it_needs_a_redis(tmp_path: Path) -> None:
    write_project(
        tmp_path, {"mysite__celery": DJANGO_APP, "site_settings": DJANGO_SETTINGS, "orders__tasks": DJANGO_TASKS}
    )
    code, out, err = await celeriac("adopt", "mysite", "--json", cwd=tmp_path)
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert not report["possible"]
    first, *rest = report["findings"]
    assert (first["verdict"], first["subject"]) == ("not possible", "broker")
    assert "set REDIS_URL" in first["sentence"]
    by_subject = {finding["subject"]: finding for finding in rest}
    assert by_subject["max_retries"]["sentence"].endswith("orders.tasks.ship")
    assert by_subject["task_serializer"]["verdict"] == "different"
    assert "django-celery-beat's scheduler goes on" in by_subject["beat_scheduler"]["sentence"]
    assert "secret" not in out
    code, out, _ = await celeriac("adopt", "mysite.celery:app", cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1/0")
    assert code == 0
    assert "the records are in redis://127.0.0.1:1/0" in out
    assert not (tmp_path / "site.sqlite3").exists(), "a report does not connect to the database"


#: A name as `celery -A` takes it, and what is said of it.
BAD = {
    "nothing": "there is no module 'nothing' here",
    "shop.nothing": "there is no module 'shop.nothing' here",
    "empty": "the module empty has no Celery app",
    "shop.celery:web": "the module shop.celery has no 'web'",
    "odd:x": "odd:x is of the type int, not a Celery app",
    "attribute": "failed in attribute.py, line 2: AttributeError: module 'os'",
    "syntax": "failed in syntax.py, line 1: SyntaxError",
    "leaves": "failed in leaves.py, line 1: SystemExit: 0",
    "shop": "failed in shop/tasks.py, line 2: ModuleNotFoundError: No module named 'nonsense'",
}
PROGRAM = """
import sys
from celeriac.errors import SettingsError
from celeriac_tasks.adoption.loading import load_project
for name in sys.argv[1:]:
    try:
        load_project(name)
    except SettingsError as exc:
        print(exc)
"""


async def test_what_cannot_be_imported_is_one_line_with_its_place(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        {
            "empty": "x = 1",
            "odd": "x = 1",
            "attribute": "import os\nos.nonsense()",
            "syntax": "x = (",
            "leaves": "raise SystemExit(0)",
            "shop__celery": APP,
            "shop__tasks": "\nimport nonsense",
        },
    )
    code, out, err = await celeriac("adopt", "--report", "shop", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert BAD["shop"] in err
    assert len(err.splitlines()) == 1
    # A worker of a project says the same.
    code, out, err = await celeriac("worker", "--app", "attribute", cwd=tmp_path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert BAD["attribute"] in err
    program = [sys.executable, "-c", PROGRAM, *BAD]
    said = subprocess.run(program, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert len(lines) == len(BAD), said.stderr
    assert [(name, line) for (name, words), line in zip(BAD.items(), lines, strict=True) if words not in line] == []
