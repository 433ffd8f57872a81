"""What a handler says by `ctx.log`, as lines of its task's log."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog

from celeriac.errors import CeleriacError
from celeriac.model import Claim, Failure, LogLine

#: The message of the line that says why an attempt failed; also in `lua/shared.lua` and the workers' SDKs.
ATTEMPT_FAILED: Final = "attempt failed"
#: Longest traceback that a line keeps (characters): its end, which says what went wrong.
_MAX_TRACEBACK: Final = 6000
#: Methods of a logger that are no level's name.
_LEVELS: Final = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}
#: The modules that call handlers.
_CALLERS: Final = frozenset({"celeriac.execution.runner", "celeriac_tasks.base"})
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


def failure_line(failure: Failure, error: BaseException | None, *, final: bool) -> LogLine:
    """Return the line that says why an attempt failed: an `error` if it was the last one, else a `warning`.

    What a handler raised on purpose needs no traceback.
    """
    trace = None if isinstance(error, CeleriacError) else error
    said = {"event": ATTEMPT_FAILED, "code": failure.code, "error": failure.message, "exc_info": trace}
    return _line("error" if final else "warning", said)


def _line(method: str, event: Mapping[str, Any]) -> LogLine:
    message = str(event.get("event", ""))
    if arguments := event.get("positional_args"):
        try:
            message %= arguments
        except (TypeError, ValueError):
            message = f"{message} {arguments}"
    data = {name: value for name, value in event.items() if name not in _APART}
    if trace := _traceback(event.get("exc_info"), method):
        data["traceback"] = trace
    return LogLine(_LEVELS.get(method, method), message, data, time.time_ns() // 1_000_000)


def _traceback(exc_info: Any, method: str) -> str:
    if isinstance(exc_info, tuple) and len(exc_info) == 3:
        exc_info = exc_info[1]
    elif exc_info or (exc_info is None and method == "exception"):
        exc_info = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if not isinstance(exc_info, BaseException):
        return ""
    begin = exc_info.__traceback__
    # How we came to call the handler is of no interest to who wrote it.
    while begin is not None and begin.tb_next and begin.tb_frame.f_globals.get("__name__") in _CALLERS:
        begin = begin.tb_next
    text = "".join(traceback.format_exception(type(exc_info), exc_info, begin)).rstrip()
    return text if len(text) <= _MAX_TRACEBACK else f"…{text[-_MAX_TRACEBACK:]}"
