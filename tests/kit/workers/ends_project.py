"""A Celery project, adopted, whose tasks end in all the ways in which a task can end.

Its tasks and errbacks note what happened in Redis, under the id of the task. Workers build `app` from the environment,
tests call `build`.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import redis
from celery import Celery, Task
from celery.signals import before_task_publish

import celeriac
from tests.kit.waiting import PATIENCE_S

#: The name under which workers find the project, and its variables in their environment.
NAME: Final = "tests.kit.workers.ends_project"
BROKER, RESULTS, DIES_TELLING = "ENDS_BROKER", "ENDS_RESULTS", "ENDS_DIES_TELLING"


def build(broker: str, results: str | None) -> Celery:
    """Return the project's app; without `results`, the records have the results."""
    app = Celery("ends", broker=broker, backend=results, set_as_current=False)
    app.conf.task_default_queue = "records" if results is None else "redis"
    celeriac.adopt(app)
    note = redis.Redis.from_url(broker, decode_responses=True).rpush

    @app.task(name="ends.add", shared=False)
    def add(*numbers: int) -> int:
        return sum(numbers)

    @app.task(name="ends.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    def sleep_in_small_steps(self: Task, s: float) -> int:
        note(f"ran:{self.request.id}", f"start {self.request.retries}")
        until = time.monotonic() + s
        while time.monotonic() < until:
            time.sleep(0.02)
        return 1

    app.task(sleep_in_small_steps, name="ends.naps", bind=True, shared=False)
    app.task(sleep_in_small_steps, name="ends.naps_once", bind=True, max_retries=0, shared=False)

    @app.task(name="ends.holds", bind=True, shared=False)
    def holds(self: Task) -> None:
        """Hold the interpreter in one call into C, where no exception arrives."""
        note(f"ran:{self.request.id}", f"start {self.request.retries}")
        time.sleep(PATIENCE_S)

    @app.task(name="ends.dies", bind=True, shared=False)
    def dies(self: Task, times: int) -> str:
        """Kill the process it runs in, the first times."""
        note(f"ran:{self.request.id}", f"start {self.request.retries}")
        if self.request.retries < times:
            os.kill(os.getpid(), 9)
        return "survived"

    @app.task(name="ends.dies_once_and_for_all", max_retries=0, shared=False)
    def dies_once_and_for_all() -> None:
        os.kill(os.getpid(), 9)

    @app.task(name="ends.fails", shared=False)
    def fails() -> None:
        raise ValueError("its text")

    @app.task(name="ends.note_failure", shared=False)
    def note_failure(task_id: str) -> None:
        """Note that a task failed: an errback in the old style, which is published."""
        note(f"failed:{task_id}", "published")

    @app.task(name="ends.hear_failure", shared=False)
    def hear_failure(request: Any, exc: BaseException, traceback: str | None) -> None:
        """Note how a task failed: an errback that is called where Celery is told."""
        note(f"failed:{request.id}", type(exc).__name__)

    return app


app = build(os.environ[BROKER], os.environ.get(RESULTS)) if BROKER in os.environ else None


@before_task_publish.connect
def die_telling(sender: str, **_: object) -> None:
    """Kill a worker while it tells of an end, the first time: where it is about to publish an errback."""
    if DIES_TELLING in os.environ and sender == "ends.note_failure":
        with redis.Redis.from_url(os.environ[BROKER]) as client:
            if client.set("died telling", "1", nx=True):
                os.kill(os.getpid(), 9)
