"""Plain Celery tasks, as a project that knows only Celery would write them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback
from datetime import datetime
from typing import Any

import redis
from celery import Task, chain, chord, group
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject
from celery.signals import before_task_publish

from celeriac.store import keys
from celeriac_tasks.celery import app
from celeriac_tasks.engine.results import results_in
from tests.kit.waiting import PATIENCE_S
from tests.kit.workers.holding import wait_until
from tests.kit.workers.notes import note


@app.task(bind=True)
def add(self: Task, a: int, b: int = 0, pause_s: float = 0, gate: str = "") -> int:
    """Add two numbers, after a pause, and when the file `gate` is there."""
    note(self.request.id, f"start {self.request.retries}")
    time.sleep(pause_s)
    wait_until(lambda: not gate or os.path.exists(gate))
    note(self.request.id, f"{a} + {b}")
    return a + b


@app.task(bind=True)
def total(self: Task, first: int, *more: int) -> int:
    """Add numbers; calls itself as the plain function it also is."""
    note(self.request.id or "direct", f"total {first} {more}")
    return int(first + (self(*more) if more else 0))


@app.task(bind=True)
def total_of(self: Task, numbers: list[int]) -> int:
    """Add a list of numbers, as the body of a chord gets it."""
    note(self.request.id, f"total of {numbers}")
    return sum(numbers)


@app.task
def named(task: Any = 0, args: Any = 0, kwargs: Any = 0, request: Any = 0, name: Any = 0) -> list[Any]:
    """Return parameters whose names Celery and the platform use themselves."""
    return [task, args, kwargs, request, name]


@app.task(bind=True)
def breaks(self: Task, how: str) -> None:
    note(self.request.id, f"start {self.request.retries}")
    if how == "exit":
        raise SystemExit(5)
    if how == "ignore":
        raise Ignore("never mind")
    if how == "reject":
        raise Reject("no", requeue=False)
    if how == "cancelled":
        raise asyncio.CancelledError
    raise ValueError(how)


@app.task(bind=True, max_retries=2, default_retry_delay=0.1)
def comes_back(self: Task, until: int = 99, fallback: bool = False) -> str:
    note(self.request.id, f"start {self.request.retries}")
    if self.request.retries >= until:
        return f"after {self.request.retries}"
    try:
        raise self.retry(exc=ConnectionError("not yet") if not fallback else None)
    except MaxRetriesExceededError:
        return "fallback"


@app.task(bind=True, default_retry_delay=0.1)
def counts_down(self: Task, n: int, label: str = "") -> str:
    """Retry with other arguments, more often than a task of three retries may."""
    note(self.request.id, f"{n} {label}")
    if n > 0:
        raise self.retry(args=(n - 1,), kwargs={"label": label + "x"}, max_retries=10)
    return label


@app.task(bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0.1, max_retries=3)
def by_itself(self: Task, until: int) -> str:
    note(self.request.id, f"start {self.request.retries}")
    if self.request.retries < until:
        raise OSError("again")
    return "well"


@app.task(bind=True)
def naps(self: Task, s: float) -> str:
    """Sleep in small steps, where an exception arrives between two."""
    note(self.request.id, f"start {self.request.retries}")
    until = time.monotonic() + s
    while time.monotonic() < until:
        time.sleep(0.02)
    note(self.request.id, "end")
    return "napped"


@before_task_publish.connect
def die_before_publishing(sender: str, headers: dict[str, object], **_: object) -> None:
    """Kill a worker where it is about to publish the task `last-link`, the first time."""
    if headers["id"] != "last-link" or "CELERIAC_IMPORTS" not in os.environ or not is_worker():
        return
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if client.set("died", "1", nx=True):
            os.kill(os.getpid(), 9)


def is_worker() -> bool:
    """Whether this process runs tasks, and does not only publish them."""
    return "worker" in sys.argv


@app.task
def makes_object() -> object:
    return object()


@app.task(bind=True)
def dies(self: Task) -> str:
    """Kill the process it runs in, the first time."""
    if self.request.retries == 0:
        os.kill(os.getpid(), 9)
    return "survived"


@app.task(bind=True)
def calls_and_dies(self: Task, child: str) -> None:
    """Call a task by an id of the caller's, wait until it has ended, and kill the worker the first time."""
    note(self.request.id, "called")
    add.apply_async((1,), task_id=child)
    with redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as client:
        while client.hget(f"task:{child}", "status") != "COMPLETED":
            time.sleep(0.02)
        if client.llen(f"ran:{self.request.id}") == 1:
            os.kill(os.getpid(), 9)


@app.task
def note_failure(task_id: str) -> str:
    """Take the place of an errback in the old style, which gets the id of the task that failed."""
    return task_id


class OwnError(Exception):
    """An exception class of the project's own."""


@app.task
def raises_own() -> None:
    raise OwnError("its text")


@app.task
def raises_at_length() -> None:
    raise OwnError("x" * 30_000_000)


@app.task
def returns_at_length() -> str:
    return "x" * 30_000_000


@app.task
def returns_typed() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5)


@app.task(bind=True)
def parent_of(self: Task, count: int) -> str:
    for n in range(count):
        add.delay(n)
    return "parent"


@app.task(bind=True)
def reports_state(self: Task) -> list[Any]:
    """Report progress as Celery's documentation shows it; returns what others read meanwhile."""
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 4})
    result = self.AsyncResult(self.request.id)
    deadline = time.monotonic() + 20
    while app.records.find(self.request.id).progress.percentage == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    return [[result.state, result.info, app.records.find(self.request.id).progress.percentage]]


@app.task(bind=True)
def keeps_own_state(self: Task) -> None:
    self.update_state(state="OWN", meta={"kept": True})
    raise Ignore


def own_state(result: Any) -> list[Any]:
    """Wait until a task is in a state of its own, which no `get` waits for; return the state and its meta."""
    deadline = time.monotonic() + 20
    while result.state in ("PENDING", "STARTED") and time.monotonic() < deadline:
        time.sleep(0.02)
    return [result.state, result.info]


def ended_in(task_id: str, attempt: int) -> bool:
    """Wait until a task has ended in this attempt; return whether it has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        record = app.records.find(task_id)
        if record is not None and record.status.final and record.attempt == attempt:
            return True
        time.sleep(0.02)
    return False


def frozen_chord_twice() -> list[bool]:
    """Apply a frozen chord twice, the second time so slowly that its first part ends before its last one is published.

    Returns whether all ended: the body of the first run, the first part of the second run, the body of the second run.
    """
    whole = chord([add.si(1), add.si(2), add.si(3)], total_of.s())
    body = whole.freeze()
    first_id, second_id, _ = (part.id for part in body.parent.results)
    whole.apply_async()
    found = [ended_in(body.id, 1)]
    # Celery forgets the parts that it has counted only after it has published the body.
    size, deadline = app.backend.get_key_for_group(body.parent.id, ".s"), time.monotonic() + 20
    while app.backend.client.exists(size) and time.monotonic() < deadline:
        time.sleep(0.02)

    def wait_for_the_first_part(headers: dict[str, Any], **_: Any) -> None:
        if headers["id"] == second_id:
            found.append(ended_in(first_id, 2))

    before_task_publish.connect(wait_for_the_first_part)
    whole.apply_async()
    return [*found, ended_in(body.id, 2)]


def results_without_events() -> list[Any]:
    """Wait for a result, and for a group with a group in it, of whose ends no event comes; return them."""
    consumer = app.backend.result_consumer

    def deafened(result: Any) -> Any:
        for one in results_in(result):
            consumer.consume_from(one.id)
            consumer._pubsub.unsubscribe(keys.live(one.id))
        return result.get(timeout=PATIENCE_S)

    alone = deafened(add.apply_async((1, 2), countdown=0.5))
    parts = group(add.si(1), group(add.si(2), add.si(3))).apply_async(countdown=0.5)
    return [alone, deafened(parts)]


def links_of(last: Any) -> list[Any]:
    """Return the results of a chain, last to first."""
    return [last, *(links_of(last.parent) if last.parent is not None else [])]


@app.task(bind=True)
def publishes_canvas(self: Task, count: int) -> str:
    """Publish a chord and a chain of its own, and call another task plainly."""
    chord([add.si(1, n) for n in range(count)], total_of.s()).apply_async()
    chain(add.si(1, 2), add.s(3)).apply_async()
    add.delay(1)
    return "published"


@app.task(bind=True)
def callers(self: Task, how: str = "") -> list[str]:
    """Return the names of the functions that called this one."""
    names = [found.name for found in traceback.extract_stack()]
    note(self.request.id, " ".join(names))
    if how == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    if how == "fail":
        raise ValueError(how)
    return names
