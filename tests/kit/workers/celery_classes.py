"""Tasks whose classes are a project's own, in all the ways in which projects write them."""

from __future__ import annotations

import time
from typing import Any

from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from celeriac_tasks.celery import app
from tests.kit.workers.notes import note


class Base(Task):
    """A base class that knows nothing of the app, as in Celery's documentation."""

    abstract = True

    def on_failure(self, exc: Exception, task_id: str, *_: Any) -> None:
        note(task_id, f"on_failure {type(exc).__name__}")

    def on_retry(self, exc: Exception, task_id: str, *_: Any) -> None:
        note(task_id, f"on_retry {type(exc).__name__}: {exc}")


class Counting(Base):
    """A base class that overrides what ours overrides too, and asks its parent."""

    abstract = True

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        note(self.request.id, "own retry")
        return super().retry(*args, **kwargs)


class Calling(Task):
    """A base class with a `__call__` of its own around each run."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        note(self.request.id or "direct", "before")
        try:
            return super().__call__(*args, **kwargs)
        finally:
            note(self.request.id or "direct", "after")


class InContext(app.Task):  # type: ignore[name-defined,misc]
    """Flask's recipe: a subclass of the app's class that calls `run` itself."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        note(self.request.id, "context")
        return self.run(*args, **kwargs)


def double(self: Task, x: int, pause_s: float = 0) -> int:
    note(self.request.id or "direct", f"double {x}")
    time.sleep(pause_s)
    if x < 0:
        raise ValueError("negative")
    if x > 100 and self.request.retries == 0:
        raise self.retry(exc=ConnectionError("too far"), countdown=0.1)
    return 2 * x


by_base = app.task(bind=True, base=Base, name="classes.by_base")(double)
by_counting = app.task(bind=True, base=Counting, name="classes.by_counting")(double)
by_calling = app.task(bind=True, base=Calling, name="classes.by_calling")(double)
in_context = app.task(bind=True, base=InContext, name="classes.in_context")(double)
shared = shared_task(bind=True, base=Base, name="classes.shared")(double)


class ByClass(Base):
    """A class-based task that is registered by its class."""

    name = "classes.by_class"

    def run(self, x: int, pause_s: float = 0) -> int:
        return double(self, x, pause_s)


class ByInstance(Calling):
    """A class-based task that is registered by an instance."""

    name = "classes.by_instance"

    def run(self, x: int, pause_s: float = 0) -> int:
        return double(self, x, pause_s)


by_class = app.register_task(ByClass)
by_instance = app.register_task(ByInstance())


@app.task(bind=True, default_retry_delay=0.1)
def moves(self: Task, a: int, b: int = 0, *, c: int = 0) -> list[Any]:
    """Retry once with new options and some new arguments; returns what the second run got."""
    if self.request.retries == 0:
        raise self.retry(args=(a + 1, 20), queue="elsewhere", priority=3, headers={"trace": "t1"}, time_limit=33)
    return [a, b, c, self.request.delivery_info["routing_key"], self.request.headers.get("trace")]


@app.task(bind=True, default_retry_delay=0.1)
def renames(self: Task, a: int, b: int = 0) -> list[int]:
    """Retry once; the new call gives by name what the first gave by position."""
    if self.request.retries == 0:
        raise self.retry(kwargs={"b": 5})
    return [a, b]


@app.task(bind=True, default_retry_delay=0.1)
def gives_up_early(self: Task) -> str:
    """Retry with an expiry that comes before the next run."""
    if self.request.retries == 0:
        raise self.retry(countdown=3600, expires=0.2)
    return "ran"


def busy(seconds: float) -> None:
    """Run for a while in small steps, where an exception arrives between two."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)


@app.task(bind=True, soft_time_limit=1, time_limit=60)
def works_softly(self: Task, catches: bool) -> str:
    try:
        busy(30)
    except SoftTimeLimitExceeded:
        note(self.request.id, f"soft {self.request.timelimit}")
        if catches:
            return "partial"
        raise
    return "whole"


@app.task(time_limit=1)
def works_hard() -> None:
    busy(30)
