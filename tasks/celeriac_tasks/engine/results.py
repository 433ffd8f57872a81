"""Celery's view of what became of a task: `AsyncResult` reads the record.

Nothing is written here. A record is there from the submission on and has the result, so `task_ignore_result` holds for
workers, and a result needs no place of its own.
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

#: How long `get` sleeps between two looks: at first, and at most (seconds).
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5
#: How long it asks a store that is away, where nobody set a time (seconds).
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
#: The message of a plain exception, as `Runner` writes it: `ValueError: what was wrong`.
_PLAIN: Final = re.compile(r"(\w+)(?:: (.*))?", re.DOTALL)


class RecordBackend(BaseBackend):
    """A result backend that reads records.

    `get` raises what the handler raised where that is one of Python's own exceptions, `TaskTimeoutError`,
    `WorkerLostError` or `TaskRevokedError` for what these mean, and else `TaskFailedError` with code and message. An id
    that has no record is PENDING, as Celery has it: the tasks of a chain get theirs when it is their turn.
    """

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """Return the state of a task as Celery's results read it."""
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

        A store that is away is asked again until then; without a `timeout`, for `_PATIENCE_S`.
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
                raise TimeoutError(f"task {task_id} has not ended within {timeout:g} s")
            time.sleep(pause_s if left_s is None else min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, interval)

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        """Do nothing: the record has it."""
        return result

    def forget(self, task_id: str) -> None:
        """Do nothing: records go by their retention."""

    def save_group(self, group_id: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse, as `restore_group` and `delete_group` do: a group has no record, its tasks have."""
        raise NotImplementedError("groups are not saved: keep the ids of their tasks")

    restore_group = delete_group = save_group

    def as_uri(self, include_password: bool = False) -> str:
        """Return what Celery's banner shows."""
        return "celeriac://"


def exception_of(task: Task) -> Exception:
    """Return the exception that `AsyncResult.get` raises for a task that has not completed."""
    # Programs of other people may write a status and no error.
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
                except TypeError:  # UnicodeDecodeError wants more than a text
                    return TaskFailedError(task.task_id, failure.code, text)
                return found_again
    return TaskFailedError(task.task_id, failure.code, text)
