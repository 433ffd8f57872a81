"""Tracebacks as the log of a task has them: from the handler on, and bounded."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

#: Longest traceback (characters): its end is kept, which says what went wrong.
MAX_TRACEBACK: Final = 6000
#: The modules that call handlers.
_CALLERS: Final = frozenset(
    {
        "celeriac.execution.runner",
        "celeriac.remote_worker.execution",
        "celeriac.contrib.django.running",
        "celeriac.contrib.django.surroundings",
        "celeriac_tasks.engine.attempts.base",
        "celeriac_tasks.engine.direct.plain",
    }
)


def traceback_text(exc_info: Any) -> str:
    """Return the traceback of `exc_info`, which is as the logging module takes it; "" if there is none."""
    if exc_info and not isinstance(exc_info, BaseException):
        exc_info = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else sys.exc_info()[1]
    if not isinstance(exc_info, BaseException):
        return ""
    begin = exc_info.__traceback__
    # The author of the handler does not need the frames of the caller.
    while begin is not None and begin.tb_next and begin.tb_frame.f_globals.get("__name__") in _CALLERS:
        begin = begin.tb_next
    text = "".join(traceback.format_exception(type(exc_info), exc_info, begin)).rstrip()
    if len(text) <= MAX_TRACEBACK:
        return text
    # Whole lines: half a line may hold half a secret, which would not be recognised.
    kept = text[-MAX_TRACEBACK:]
    return f"…\n{kept.partition(chr(10))[2] or kept}"
