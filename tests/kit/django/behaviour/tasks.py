"""Tasks of Django that end in every way."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from shop.tasks_interface import task

from celeriac.contrib.django import celeriac_options
from celeriac.contrib.django.interface import TaskContext, task_enqueued, task_finished, task_started
from celeriac.errors import RateLimited, SkipRetry

#: Where receivers write: one line for each signal.
HEARD = os.environ.get("HEARD", os.devnull)
_told: set[str] = set()


def hear(signal: str) -> Any:
    """Return a receiver that writes down what it hears."""

    def receive(sender: type, task_result: Any, **_: Any) -> None:
        errors = [one.exception_class_path for one in task_result.errors]
        with open(HEARD, "a", encoding="utf-8") as file:
            print(task_result.id, signal, sender.__name__, task_result.status, task_result.attempts, *errors, file=file)

    return receive


RECEIVERS = [hear("enqueued"), hear("started"), hear("finished")]
for _signal, _receiver in zip((task_enqueued, task_started, task_finished), RECEIVERS, strict=True):
    _signal.connect(_receiver)


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    """Return what it is called with."""
    return [list(args), kwargs]


@task(takes_context=True, queue_name="mail", priority=-7)
async def tell(context: TaskContext) -> Any:
    """Return what the context says."""
    result = context.task_result
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": result.status,
        "queue": result.task.queue_name,
        "priority": result.task.priority,
        "enqueued": result.enqueued_at.isoformat(),
    }


@task
def leave() -> None:
    """End as a program does."""
    raise SystemExit("enough")


@task
async def interrupt() -> None:
    """End as a program does that is interrupted."""
    raise KeyboardInterrupt


@task
def several() -> None:
    """Raise a group of exceptions."""
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


@task
def unreadable() -> object:
    """Return what JSON does not have."""
    return object()


@task
@celeriac_options(max_retries=3)
def skip() -> None:
    """Fail for good at the first attempt."""
    raise SkipRetry("there is no such customer")


@task
@celeriac_options(max_retries=2, retry_delay_s=0.01)
def never() -> None:
    """Fail at each attempt."""
    raise LookupError("not there")


@task(takes_context=True)
def later(context: TaskContext) -> str:
    """Be told once that somebody else's service takes no more for now."""
    if context.task_result.id not in _told:
        _told.add(context.task_result.id)
        raise RateLimited(retry_after=0.05)
    return "taken"


@task
@celeriac_options(timeout_s=0.2)
async def endless() -> None:
    """Run for longer than it may."""
    await asyncio.sleep(3600)


@task
def patient() -> None:
    """Wait until somebody cancels it."""
    while True:
        time.sleep(0.05)


@task
async def patient_async() -> None:
    """Wait until somebody cancels it."""
    await asyncio.sleep(3600)
