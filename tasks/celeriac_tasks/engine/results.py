"""Celery's result backend: `AsyncResult` reads the record of a task.

This backend writes nothing. The record exists from the submission on and holds the result, so workers run with
`task_ignore_result`, and results need no storage of their own.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable
from typing import Any, Final

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TaskRevokedError, TimeoutError, WorkerLostError

from celeriac.errors import StoreUnavailableError, TaskFailedError, TaskTimeoutError
from celeriac.model import Failure, Status, Task

#: How long `get` sleeps between two reads: at first, and at most (seconds).
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5
#: How long `get` retries while the store is unavailable, if the caller sets no timeout (seconds).
_PATIENCE_S: Final = 15.0

_STATES: Final = {
    Status.SCHEDULED: states.PENDING,
    Status.PENDING: states.PENDING,
    Status.PROCESSING: states.STARTED,
    Status.RETRYING: states.RETRY,
    Status.COMPLETED: states.SUCCESS,
    Status.FAILED: states.FAILURE,
    Status.CANCELLED: states.REVOKED,
}
#: The message of a plain exception as `Runner` writes it, such as `ValueError: the page is missing`.
_PLAIN: Final = re.compile(r"(\w+)(?:: (.*))?", re.DOTALL)


class RecordBackend(BaseBackend):
    """A result backend that reads records.

    `get` raises the handler's own exception if it is one of Python's builtin exceptions. It raises `TaskTimeoutError`,
    `WorkerLostError` or `TaskRevokedError` for a timeout, a lost worker or a cancellation, and `TaskFailedError` with
    code and message for all other failures. An id without a record is PENDING, as in Celery: a task of a chain gets
    its record when its turn comes.
    """

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """Return the state of a task as Celery's results expect it."""
        task = self.app.records.find(task_id)
        if task is None:
            return {"task_id": task_id, "status": states.PENDING, "result": None, "traceback": None, "children": None}
        state, result, trace = _STATES[task.status], task.result, None
        if state in states.EXCEPTION_STATES:
            result = exception_of(task)
            if isinstance(result, TaskRevokedError):
                state = states.REVOKED
            elif state == states.FAILURE:
                trace = self.app.records.traceback_of(task_id, task.attempt) or None
        return {
            "task_id": task_id,
            "status": state,
            "result": result,
            "traceback": trace,
            "children": None,
            "date_done": task.finished_at,
            "name": task.type,
            "worker": task.worker,
            "retries": max(task.attempt - 1, 0),
            "queue": task.group,
        }

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = _LONGEST_PAUSE_S,
        no_ack: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> dict[str, Any]:
        """Return the state of a task once it has ended; raises Celery's `TimeoutError` after `timeout` seconds.

        While the store is unavailable, it retries until then; without a `timeout`, for `_PATIENCE_S`.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        pause_s, heard_at = _FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    return meta
                if on_interval is not None:
                    on_interval()
                heard_at = time.monotonic()
            except StoreUnavailableError:
                if timeout is None and time.monotonic() - heard_at > _PATIENCE_S:
                    raise
            left_s = None if give_up_at is None else give_up_at - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"task {task_id} did not end within {timeout:g} s")
            time.sleep(pause_s if left_s is None else min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, interval)

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        """Do nothing: the record has the result."""
        return result

    def forget(self, task_id: str) -> None:
        """Do nothing: the retention of a record decides when it is deleted."""

    def save_group(self, group_id: str, *args: Any, **kwargs: Any) -> Any:
        """Raise `NotImplementedError`: a Celery group does not have a record, only its tasks do."""
        raise NotImplementedError("groups cannot be saved: keep the ids of their tasks instead")

    restore_group = delete_group = save_group

    def as_uri(self, include_password: bool = False) -> str:
        """Return the address that Celery's banner shows."""
        return "celeriac://"


def exception_of(task: Task) -> Exception:
    """Return the exception that `AsyncResult.get` raises for a task that has not completed."""
    # External programs may write a status without an error.
    failure = task.error or Failure("cancelled" if task.status is Status.CANCELLED else "failed", "", False)
    text = failure.message
    match failure.code:
        case "cancelled" | "expired":
            revoked: Exception = TaskRevokedError(text)
            return revoked
        case "timeout":
            return TaskTimeoutError(text)
        case "worker_lost":
            lost: Exception = WorkerLostError(text)
            return lost
        case "exception" if found := _PLAIN.fullmatch(text):
            kind: Any = getattr(builtins, found[1], None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                try:
                    found_again: Exception = kind(found[2] or "")
                except TypeError:  # UnicodeDecodeError, for example, needs more than a text
                    return TaskFailedError(task.task_id, failure.code, text)
                return found_again
    return TaskFailedError(task.task_id, failure.code, text)
