"""What a handler says by `ctx.log`, as lines of its task's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog

from celeriac.errors import InvalidSubmissionError, TaskError
from celeriac.handlers.tracebacks import traceback_text
from celeriac.model import ATTEMPT_FAILED, Claim, Failure, LogLine

#: Methods of a logger that are not named like a level.
_LEVELS: Final = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}
#: What a line has a place of its own for.
_APART: Final = frozenset(
    {"event", "exc_info", "stack_info", "stacklevel", "positional_args", "task_id", "task_type", "attempt"}
)


def task_logger(claim: Claim, keep: Callable[[LogLine], None]) -> Any:
    """Return a structlog logger whose lines go to the process's log and to `keep`."""

    def capture(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        keep(_line(method, event))
        return event

    # First of all processors: the others say what this process writes, which is another matter.
    logger = structlog.wrap_logger(
        None, processors=[capture, *structlog.get_config()["processors"]], logger_factory_args=("celeriac.task",)
    )
    return logger.bind(task_id=claim.task_id, task_type=claim.type, attempt=claim.attempt)


def failure_line(claim: Claim, failure: Failure, error: BaseException | None = None) -> LogLine:
    """Return the line that says why an attempt failed: an `error` if it was the last one, else a `warning`.

    What a handler raised on purpose needs no traceback.
    """
    trace = None if isinstance(error, TaskError | InvalidSubmissionError) else error
    said = {"event": ATTEMPT_FAILED, "code": failure.code, "error": failure.message, "exc_info": trace}
    again = failure.retryable and claim.attempt < claim.attempts_allowed
    return _line("warning" if again else "error", said)


def _line(method: str, event: Mapping[str, Any]) -> LogLine:
    message = str(event.get("event", ""))
    if arguments := event.get("positional_args"):
        try:
            message %= arguments
        except (TypeError, ValueError):
            message = f"{message} {arguments}"
    data = {name: value for name, value in event.items() if name not in _APART}
    exc_info = event.get("exc_info")
    if trace := traceback_text(method == "exception" if exc_info is None else exc_info):
        data["traceback"] = trace
    return LogLine(_LEVELS.get(method, method), message, data, time.time_ns() // 1_000_000)
