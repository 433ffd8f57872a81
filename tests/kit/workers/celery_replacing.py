"""Plain Celery tasks that put others in their place, or add to their chord."""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from celery import Celery, Task, chain, chord, group
from celery.exceptions import Ignore

from tests.kit.workers.holding import wait_until
from tests.kit.workers.notes import note


def chosen_app() -> Any:
    """Return an adopted app with a result backend of its own if the environment names one, else the platform's app."""
    if "SHOP_RESULTS" not in os.environ:
        from celeriac_tasks.celery import app as own

        return own
    import celeriac

    store, results = os.environ["REDIS_URL"], os.environ["SHOP_RESULTS"]
    shop = Celery("shop", broker=os.environ.get("SHOP_BROKER", store), backend=results)
    shop.conf.task_default_queue = os.environ.get("SHOP_QUEUE", "celery")
    return celeriac.adopt(shop, redis_url=store)


app = chosen_app()


@app.task
def add(a: int, b: int = 0, pause_s: float = 0) -> int:
    time.sleep(pause_s)
    return a + b


@app.task(bind=True)
def add_when_told(self: Task, a: int, b: int) -> int:
    """Add two numbers when somebody has set the key `go:ID`."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        wait_until(lambda: client.exists(f"go:{self.request.id}"))
    return a + b


@app.task
def total_of(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def breaks(how: str) -> None:
    raise ValueError(how)


@app.task(bind=True)
def shows(self: Task, *values: Any) -> list[Any]:
    """Return what it was called with, and how often it says it was retried."""
    note(self.request.id, f"shows {list(values)}")
    return [*values, self.request.retries]


@app.task(bind=True, max_retries=1, default_retry_delay=0.1)
def shows_again(self: Task, value: Any) -> list[Any]:
    """Fail once, then return its value and the number of its retries."""
    note(self.request.id, f"again {self.request.retries}")
    if self.request.retries == 0:
        raise self.retry()
    return [value, self.request.retries]


@app.task
def mends() -> str:
    """Fail the first time."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if client.set("broken", "1", nx=True):
            raise ValueError("broken")
    return "mended"


def canvas(kind: str, n: int) -> Any:
    """Return what a task puts in its place."""
    if kind == "empty chain":
        return chain()
    if kind == "registered":
        return app.tasks["add"].si(numbers=[n, 1])
    return {
        "task": shows.si(n),
        "retried": shows_again.si(n),
        "later": shows.si(n).set(countdown=0.5),
        "nested": becomes.si("task", n + 1),
        "nested chain": becomes.si("chain", n + 1),
        "chain": chain(add.si(n, 1), add.s(10), shows.s()),
        "chain that is mended": chain(mends.si().set(task_id="mended"), shows.s()),
        "slow chain": chain(add_when_told.si(n, 1).set(task_id=f"link-{n}"), shows.s()),
        "chain of chain": chain(add.si(n, 1), becomes.si("chain", n)),
        "group": group(add.si(n, 1), add.si(n, 2)),
        "chain to group": chain(add.si(n, 1), group(add.s(1), add.s(2))),
        "chord": chord([add.si(n, 1), add.si(n, 2)], total_of.s()),
        "chord to chain": chord([add.si(n, 1), add.si(n, 2)], chain(total_of.s(), shows.s())),
        "chord of replaced": chord([becomes.si("group", n), becomes.si("group", n)], shows.s()),
        "empty group": group(),
        "fails": breaks.si("replaced"),
        "failing chain": chain(breaks.si("link"), shows.s()),
        "chain that fails at once": chain(breaks.si("link").set(task_id="broken-link"), shows.s()),
        "chord that fails at once": chord([add.si(n, 1), breaks.si("part").set(task_id="broken-part")], shows.s()),
        "failing chord": chord([add.si(n, 1), breaks.si("part")], shows.s()),
    }[kind]


@app.task(bind=True)
def becomes(self: Task, kind: str, n: int = 1) -> Any:
    """Put another call or canvas in its own place."""
    note(self.request.id, f"becomes {kind}")
    return self.replace(canvas(kind, n))


@app.task(bind=True)
def becomes_and_runs_on(self: Task, kind: str, link: str) -> Any:
    """Put a canvas in its place, and run on until a part of that has ended."""
    try:
        return self.replace(canvas(kind, 1))
    finally:
        wait_until(lambda: (part := app.records.find(link)) is not None and part.status.final)


@app.task(bind=True)
def becomes_after(self: Task, value: int) -> Any:
    """Replace itself by a task that gets its argument."""
    return self.replace(add.s(value, 100))


@app.task(bind=True, max_retries=1, default_retry_delay=0.1)
def becomes_when_retried(self: Task) -> Any:
    """Fail once, and put a chain in its place the second time."""
    if self.request.retries == 0:
        raise self.retry()
    return self.replace(canvas("chain", 1))


@app.task(bind=True)
def goes_on(self: Task, how: str) -> str:
    """Ignore that it was replaced."""
    try:
        self.replace(shows.si(how))
    except Ignore:
        if how == "raises":
            raise ValueError("after the end") from None
    return "not the result"


@app.task(bind=True)
def dies_around(self: Task, where: str, kind: str) -> Any:
    """Put something in its place; the first time the process dies before or after that."""
    note(self.request.id, "runs")
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        first = client.set(f"died:{self.request.id}", "1", nx=True)
    if first and where == "before":
        os.kill(os.getpid(), 9)
    try:
        return self.replace(canvas(kind, 1))
    finally:
        if first and where == "after":
            os.kill(os.getpid(), 9)


@app.task(bind=True)
def waits_for_cancel(self: Task, kind: str) -> Any:
    """Run until somebody has asked to cancel it, then put something in its place."""
    note(self.request.id, "waits")
    deadline = time.monotonic() + 20
    while not app.records.find(self.request.id).cancel_requested and time.monotonic() < deadline:
        time.sleep(0.01)
    return self.replace(canvas(kind, 1))


@app.task(bind=True)
def adds_to_chord(self: Task, n: int) -> int:
    """Add one more part to the chord that it belongs to."""
    self.add_to_chord(add.si(n, 1000))
    return n
