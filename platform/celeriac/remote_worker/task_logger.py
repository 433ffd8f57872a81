"""The logger of a remote task: lines go to the worker's own log and to the task's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celeriac.handlers.tracebacks import traceback_text


class TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Writes each line twice: to the logger `celeriac.task`, and by `say(level, message, data)` to the task's log."""

    def __init__(self, task_id: str, say: Callable[[str, str, Mapping[str, Any]], None]) -> None:
        super().__init__(logging.getLogger("celeriac.task"), {"task_id": task_id})
        self._say = say

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line. All other methods call this one."""
        # Lines below `info` are sent only if the log of this process has them too.
        if level >= logging.INFO or self.isEnabledFor(level):
            data = dict(kwargs.get("extra") or {})
            if trace := traceback_text(kwargs.get("exc_info")):
                data["traceback"] = trace
            self._say(_level_name(level), _text(msg, args), data)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)


def _level_name(level: int) -> str:
    if level >= logging.CRITICAL:
        return "critical"
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warning"
    return "info" if level >= logging.INFO else "debug"


def _text(message: object, arguments: tuple[object, ...]) -> str:
    text = str(message)
    try:
        # As in the logging module: a single mapping has the values for the names in the text.
        one = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], Mapping) else arguments
        return text % one if arguments else text
    except (TypeError, ValueError, KeyError):
        return f"{text} {arguments}"
