"""Celery's own lines on how tasks ended, in a worker that shows each end in a line of its own."""

from __future__ import annotations

import logging
from typing import Final

from celery import current_task, signals
from celery.utils.log import ColorFormatter

from celeriac.logs import writes_our_form
from celeriac_tasks.engine.attempts.base import CeleriacTask
from celeriac_tasks.engine.calls.messages import runs_unrecorded

#: The logger of Celery's tracer, and those above it, on which a project may have set what it wants to see.
_TRACER: Final = "celery.app.trace"
_ABOVE: Final = (_TRACER, "celery.app", "celery")


def leave_ends_to_lines() -> None:
    """Leave what Celery's tracer says of tasks with a record out of the handlers that Celery and we have installed.

    A project that sets up its own logging, or the loggers `celery.*`, sees what it has asked for; so do its handlers.
    """
    if signals.setup_logging.receivers or any(_is_set_up(logging.getLogger(name)) for name in _ABOVE):
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, ColorFormatter) or writes_our_form(handler):
            handler.addFilter(_says_something_else)


def are_ends_said() -> bool:
    """Whether a handler writes what Celery's tracer says of the ends of tasks with a record."""
    if not logging.getLogger(_TRACER).isEnabledFor(logging.INFO):
        return False
    if any(_is_set_up(logging.getLogger(name)) for name in _ABOVE):
        return True
    return not all(_says_something_else in handler.filters for handler in logging.getLogger().handlers)


def _is_set_up(logger: logging.Logger) -> bool:
    """Whether somebody has given a logger a level or handlers; Celery's own handlers write nothing."""
    return bool(logger.level) or any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers)


def _says_something_else(record: logging.LogRecord) -> bool:
    """Whether a line is not about the end of an attempt of the current task."""
    if record.name != _TRACER:
        return True
    task = current_task._get_current_object() if current_task else None
    if not isinstance(task, CeleriacTask):
        return True
    request = task.request
    return bool(request.is_eager or runs_unrecorded(vars(request)))
