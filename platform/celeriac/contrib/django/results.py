"""Records of tasks as Django's `TaskResult`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from traceback import format_exception
from typing import Any, Final

from django.utils import timezone
from django.utils.module_loading import import_string

from celeriac.contrib.django.interface import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    Task,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from celeriac.errors import ExecutorLostError, TaskCancelledError, TaskTimeoutError
from celeriac.errors import TaskError as CeleriacTaskError
from celeriac.handlers.context import Context
from celeriac.model import ATTEMPT_FAILED, LogLine, Status
from celeriac.model import Task as Record
from celeriac.outbox.entries import moment_of

_HIGHEST: Final = 9
_STATUSES: Final = {
    Status.PROCESSING: TaskResultStatus.RUNNING,
    Status.COMPLETED: TaskResultStatus.SUCCESSFUL,
    Status.FAILED: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
}
#: The line of a traceback that names the exception: `module.Class: text`. Frames and texts of several lines are others.
#: Those of a group of exceptions begin with a bar.
_RAISED: Final = re.compile(r"^(?: {2}\| )?([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)
#: The classes of failures that the platform itself records, by their codes.
_KINDS: Final[Mapping[str, type[BaseException]]] = {
    kind.code: kind for kind in (TaskTimeoutError, ExecutorLostError, TaskCancelledError)
}
_SPAN: Final = TASK_MAX_PRIORITY - TASK_MIN_PRIORITY


def priority_of(django: int) -> int:
    """Return Django's priority (-100 to 100, 0 by default) as Celeriac's: 0 to 9, 4 by default."""
    return (django - TASK_MIN_PRIORITY) * _HIGHEST // _SPAN


def django_priority(priority: int) -> int:
    """Return the priority of Django that lies in the middle of those that have this one here; 0 for the default."""
    return -(-priority * _SPAN // _HIGHEST) + TASK_MIN_PRIORITY if priority != priority_of(0) else 0


def new_result(
    task: Any, task_id: str, args: Iterable[Any], kwargs: dict[str, Any], enqueued: datetime | None = None
) -> Any:
    """Return the result of a task that waits. `enqueued` counts if its id does not tell when it was enqueued."""
    return TaskResult(
        task=task,
        id=task_id,
        status=TaskResultStatus.READY,
        enqueued_at=moment_of(task_id) or enqueued or timezone.now(),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=kwargs,
        backend=task.backend,
        errors=[],
        worker_ids=[],
    )


def running_result(task: Any, ctx: Context, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Return the result of a task whose attempt begins now, as its function sees it."""
    result = new_result(_changed(task, queue_name=ctx.group), ctx.task_id, args, kwargs)
    now = timezone.now()
    result.worker_ids.extend([""] * ctx.attempt)
    return _with(result, status=TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now)


def succeeded(result: Any, value: Any) -> Any:
    """Note that an attempt has returned a value; returns the result."""
    return _with(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)


def failed(result: Any, error: BaseException) -> Any:
    """Note that the last attempt has raised `error`; returns the result."""
    text = "".join(format_exception(error))
    result.errors.append(TaskError(exception_class_path=_path_of(type(error)), traceback=text))
    return _with(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())


def result_of_record(record: Record, backend: str, lines: Iterable[LogLine]) -> Any:
    """Return the result that a record and the log of its failures amount to.

    Raises `TaskResultDoesNotExist` for a task that is not a task of this Django project.
    """
    task = _task_for(
        record.type,
        record.task_id,
        backend=backend,
        group=record.group,
        priority=record.priority,
        run_at=record.run_at,
    )
    call = record.payload if isinstance(record.payload, dict) else {}
    result = new_result(task, record.task_id, call.get("args", []), call.get("kwargs", {}), record.created_at)
    result.worker_ids.extend([record.worker or ""] * record.attempt)
    result.errors.extend(_errors(record, [line for line in lines if line.message == ATTEMPT_FAILED]))
    return _with(
        result,
        status=_STATUSES.get(record.status, TaskResultStatus.READY),
        started_at=record.started_at,
        last_attempted_at=record.started_at,
        finished_at=record.finished_at,
        _return_value=record.result if record.status is Status.COMPLETED else None,
    )


def result_of_submission(task_id: str, submission: Mapping[str, Any], backend: str) -> Any:
    """Return the result of a task whose submission is still in an outbox; raises `TaskResultDoesNotExist`."""
    run_at = submission.get("run_at")
    task = _task_for(
        submission["type"],
        task_id,
        backend=backend,
        group=submission.get("queue"),
        priority=submission.get("priority"),
        run_at=None if run_at is None else datetime.fromisoformat(run_at),
    )
    payload = submission["payload"]
    return new_result(task, task_id, payload["args"], payload["kwargs"])


def _task_at(path: str, task_id: str) -> Any:
    try:
        task = import_string(path)
    except ImportError as exc:
        raise TaskResultDoesNotExist(f"{task_id}: the project has no task {path}") from exc
    if not isinstance(task, Task):
        raise TaskResultDoesNotExist(f"{task_id} is a {path}, which is not a task of Django")
    return task


def _task_for(
    path: str, task_id: str, *, backend: str, group: str | None, priority: int | None, run_at: datetime | None
) -> Any:
    task = _task_at(path, task_id)
    own = task.priority
    return _changed(
        task,
        priority=own if priority is None or priority_of(own) == priority else django_priority(priority),
        queue_name=group or task.queue_name,
        run_after=run_at or task.run_after,
        backend=backend,
    )


def _changed(task: Any, **values: Any) -> Any:
    """Return a task with other values. They are not checked: `QUEUES` may have changed since it was enqueued."""
    if all(getattr(task, name) == value for name, value in values.items()):
        return task
    made = object.__new__(type(task))
    for field in fields(task):
        object.__setattr__(made, field.name, values.get(field.name, getattr(task, field.name)))
    return made


def _errors(record: Record, lines: Iterable[LogLine]) -> list[Any]:
    """Return an error for each attempt that failed, from the lines that the log has of them."""
    found = [_error_of(line.data) for line in lines]
    message = "" if record.error is None else record.error.message
    if record.status is Status.CANCELLED:
        found.append(_error_of({"code": TaskCancelledError.code, "error": message or "the task was cancelled"}))
    elif not found and record.error is not None:
        # No log is kept, or nothing was raised: the worker died, or the time was up.
        found.append(_error_of({"code": record.error.code, "error": message}))
    return found


def _error_of(said: Mapping[str, Any]) -> Any:
    if "traceback" in said:
        text = str(said["traceback"])
        return TaskError(exception_class_path=_class_path(text), traceback=f"{text}\n")
    # What the platform says itself, and what celeriac's own exceptions say, has no traceback.
    text = str(said.get("error", ""))
    kind = _KINDS.get(str(said.get("code")), CeleriacTaskError)
    return TaskError(exception_class_path=_path_of(kind), traceback=f"{text}\n")


def _path_of(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _class_path(text: str) -> str:
    """Return the path of the class of the exception that a traceback ends with."""
    _, _, end = text.rpartition('\n  File "')
    named = _RAISED.search(end.partition("\n")[2] if end else text)
    path = named[1] if named else "Exception"
    return path if "." in path else f"builtins.{path}"


def _with(result: Any, **values: Any) -> Any:
    for name, value in values.items():
        # As Django's own backends do: the class is frozen for everybody else.
        object.__setattr__(result, name, value)
    return result
