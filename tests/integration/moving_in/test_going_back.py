"""An adopted project goes back to stock Celery: nothing that waits in its queues is lost."""

from __future__ import annotations

import sys

import orjson

from celeriac.store.task_store import TaskStore
from tests.integration.moving_in.conftest import Project
from tests.kit.celery_projects import write_project
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import WorkerProcess, has_record

FILES = {
    "shop__celery": """
import os
from celery import Celery
app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"], include=["shop.tasks"])
""",
    "shop__tasks": """
from shop.celery import app

@app.task(bind=True)
def add(self, a, b):
    return [a + b, type(self).__mro__[1].__name__]
""",
}
PUBLISH = """
import celeriac
from shop.celery import app
from shop.tasks import add
celeriac.adopt(app)
print(add.delay(2, 3).id, add.apply_async((4, 5), priority=3).id)
"""


async def test_stock_workers_run_what_waits_in_the_queues(project: Project, store: TaskStore) -> None:
    write_project(project.folder, FILES)
    ids = (await project.program(PUBLISH)).split()
    assert all([await has_record(store, task_id) for task_id in ids])
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-P", "solo"]
    environment = {**project.environ, "PYTHONPATH": str(project.folder)}
    worker = WorkerProcess(project.folder, command, environment, cwd=project.folder)
    try:

        async def results() -> list[object] | None:
            kept = [await store.redis.get(f"celery-task-meta-{task_id}") for task_id in ids]
            return [orjson.loads(text)["result"] for text in kept] if all(kept) else None

        found = await eventually(results, because=f"the worker runs both; it said:\n{worker.said()}", timeout_s=40)
        assert found == [[5, "Task"], [9, "Task"]], "stock Celery ran them"
    finally:
        worker.kill()
