"""Receivers of Celery's signals that note what they get for one task of the project."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from celery import Task, signals
from celery.exceptions import Reject

from tests.kit.conformance.project import app
from tests.kit.conformance.project.notes import note
from tests.kit.conformance.project.states import OwnError
from tests.kit.conformance.project.tasks import busy

NAME = "signalling"


@app.task(name=NAME, bind=True, default_retry_delay=0.1)
def signalling(self: Task, how: str) -> str:
    if how == "fail":
        raise OwnError("signalled")
    if how == "reject":
        raise Reject("signalled", requeue=False)
    if how == "retry" and self.request.retries == 0:
        raise self.retry(exc=OwnError("once"))
    if how == "long":
        busy(20)
    return "signalled"


def of_each(signal: Any) -> Callable[[Any], Any]:
    """Connect a receiver of a signal that Celery sends for each task, unless the side goes without these."""
    return (lambda receiver: receiver) if os.environ.get("CONFORMANCE_QUIET") else signal.connect


def _name(sender: Any) -> str:
    return str(getattr(sender, "name", sender))


def _tell(signal: str, task_id: str, *values: Any) -> None:
    note(f"signals:{task_id}", [signal, *values])


@signals.before_task_publish.connect(sender=NAME)
def before_publish(sender: Any, body: Any, headers: Any, exchange: Any, routing_key: Any, **more: Any) -> None:
    called = [list(body[0]), body[1], sorted(body[2])]
    _tell("before_publish", headers["id"], _name(sender), called, bool(routing_key), sorted(more))


@signals.after_task_publish.connect(sender=NAME)
def after_publish(sender: Any, body: Any, headers: Any, exchange: Any, routing_key: Any, **more: Any) -> None:
    _tell("after_publish", headers["id"], _name(sender), bool(routing_key), sorted(more))


@of_each(signals.task_received)
def received(request: Any, **_: Any) -> None:
    if request.name == NAME:
        _tell("received", request.id, request.name)


@of_each(signals.task_prerun)
def prerun(task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
    if task.name == NAME:
        _tell("prerun", task_id, list(args), kwargs)


@of_each(signals.task_postrun)
def postrun(task_id: str, task: Any, retval: Any, state: Any, **_: Any) -> None:
    if task.name == NAME:
        _tell("postrun", task_id, state, type(retval).__name__)


@of_each(signals.task_success)
def success(sender: Any, result: Any, **_: Any) -> None:
    if sender.name == NAME:
        _tell("success", sender.request.id, result)


@signals.task_failure.connect
def failure(sender: Any, task_id: str, exception: Any, args: Any, kwargs: Any, einfo: Any, **_: Any) -> None:
    if sender.name == NAME:
        _tell("failure", task_id, type(exception).__name__, list(args or []), kwargs, einfo is not None)


@signals.task_internal_error.connect
def internal_error(sender: Any, task_id: str, exception: Any, **_: Any) -> None:
    note("internal", [_name(sender), type(exception).__name__])


@signals.task_retry.connect
def retry(sender: Any, request: Any, reason: Any, einfo: Any, **_: Any) -> None:
    if sender.name == NAME:
        _tell("retry", request.id, type(reason).__name__, str(reason.exc))


@signals.task_revoked.connect
def revoked(sender: Any, request: Any, terminated: Any, signum: Any, expired: Any, **_: Any) -> None:
    if _name(sender) == NAME:
        _tell("revoked", getattr(request, "id", None) or request["id"], bool(terminated), bool(expired))


@signals.task_rejected.connect
def rejected(message: Any, exc: Any, **_: Any) -> None:
    note("rejected", [message.headers.get("task") if message.headers else None, type(exc).__name__])


@signals.task_unknown.connect
def unknown(name: str, id: str, message: Any, exc: Any, **_: Any) -> None:
    note(f"unknown:{name}", [bool(id), type(exc).__name__])


@signals.worker_process_init.connect
def process_init(**_: Any) -> None:
    note("worker", "process_init")


@signals.worker_init.connect
def worker_init(**_: Any) -> None:
    note("worker", "init")


@signals.worker_ready.connect
def worker_ready(**_: Any) -> None:
    note("worker", "ready")


@signals.celeryd_init.connect
def celeryd_init(sender: Any, conf: Any, options: Any, **_: Any) -> None:
    note("worker", "celeryd_init")


@signals.celeryd_after_setup.connect
def after_setup(sender: Any, instance: Any, conf: Any, **_: Any) -> None:
    note("worker", "after_setup")
