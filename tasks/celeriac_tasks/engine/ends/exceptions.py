"""The exception that stands for the end of a task, as far as its record tells."""

from __future__ import annotations

import builtins
import re
from typing import Any, Final

from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError

from celeriac.errors import TaskFailedError
from celeriac.model import Failure, Status, Task
from celeriac_tasks.engine.calls.messages import limit_shown

#: What a record says that an operator cancelled through Celery.
REVOKED_IN_CELERY: Final = "revoked in Celery"
#: The message of a plain exception as `Runner` writes it, such as `ValueError: the page is missing`.
_PLAIN: Final = re.compile(r"(\w+)(?:: (.*))?", re.DOTALL)


def exception_of(task: Task) -> Exception:
    """Return the exception that `AsyncResult.get` raises for a task of whose failure only the record tells."""
    # External programs may write a status without an error.
    failure = task.error or Failure("cancelled" if task.status is Status.CANCELLED else "failed", "", False)
    text = failure.message
    match failure.code:
        case "cancelled" | "expired":
            # Celery's own state, which follows the record of a revoked task, has the shorter text.
            revoked: Exception = TaskRevokedError("revoked" if text == REVOKED_IN_CELERY else text)
            return revoked
        case "timeout":
            exceeded: Exception = TimeLimitExceeded(limit_shown(task.timeout_ms) or text)
            return exceeded
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
