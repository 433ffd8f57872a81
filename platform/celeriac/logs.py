"""How every process logs: structlog over the standard library, so that libraries' lines look alike.

On a terminal for people, else one JSON object per line (`log_format` decides otherwise), always to
standard error. Each line has what is bound with `structlog.contextvars`, such as the task's id.
The last step blanks secrets in every line, from whichever library it comes.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from celeriac import json_text
from celeriac.safe_text import escaped, redact, short_id
from celeriac.standard_streams import prepare_standard_streams, shows_colours

#: Keys whose values are never written. A number under a name with "token" is a count of them.
_SECRET_KEY = re.compile(r"passw|secret|token|authorization|api_?key|credential|cookie", re.IGNORECASE)
#: A task in a message: `task ID` or `Task NAME[ID]`, where the platform made the id.
_TASK = re.compile(r"(\btask [0-9a-f]{8}|\bTask \S{1,200}\[[0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

#: A text in a line is cut after so many characters: what a task raises may have any length, and each step reads it all.
_LONGEST = 100_000

#: Loggers that say too much at `info`.
_QUIET = ("uvicorn", "uvicorn.access", "httpx", "httpcore", "asyncio", "kombu", "amqp", "watchfiles")


def configure_logging(*, level: str, form: str, role: str) -> None:
    """Set up logging for this process; it may be called again.

    `level` and `form` are the settings `log_level` and `log_format`; `role` (`api`, `worker`, …) is on each JSON line.
    """
    prepare_standard_streams()
    as_json = writes_json(form)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if as_json
        else structlog.processors.TimeStamper("%H:%M:%S", utc=False),
        structlog.stdlib.ExtraAdder(),
        _drop_repetition,
        hide_secrets,
    ]
    finish: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        finish += [
            _Role(role),
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    else:
        finish += [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=shows_colours(sys.stderr),
                pad_event_to=0,
                # Not the rich one: it shows local variables, and so secrets.
                exception_formatter=_plain_traceback,
            ),
        ]

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet(foreign_pre_chain=shared, processors=finish))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def writes_json(form: str) -> bool:
    """Return whether lines are JSON by the setting `log_format`: `auto` means that standard error is not a terminal."""
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


def writes_our_form(handler: logging.Handler) -> bool:
    """Return whether a handler is the one of `configure_logging`."""
    return isinstance(handler.formatter, _Discreet)


def hide_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: blank the values of keys that sound like secrets, one level deep."""
    for key, value in event.items():
        if _is_secret(key, value):
            event[key] = "***"
        elif isinstance(value, dict):
            event[key] = {k: "***" if _is_secret(str(k), v) else v for k, v in value.items()}
    return event


def without_secrets(value: Any, *, depth: int = 50) -> Any:
    """Return a value of JSON's kinds with each text in it, at any depth, redacted."""
    if isinstance(value, str):
        return redact(value)
    if depth and isinstance(value, dict):
        return {key: without_secrets(inner, depth=depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [without_secrets(inner, depth=depth - 1) for inner in value]
    return value


def _is_secret(key: str, value: Any) -> bool:
    if not value or not _SECRET_KEY.search(key):
        return False
    return not (isinstance(value, int | float) and "token" in key.lower())


def _drop_repetition(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return event


def _without_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: without_secrets(_shortened(value)) for name, value in event.items()}


def _shortened(value: Any, *, depth: int = 5) -> Any:
    """Return a value of JSON's kinds with each text in it cut after `_LONGEST` characters."""
    if isinstance(value, str):
        more = len(value) - _LONGEST
        return value if more <= 0 else f"{value[:_LONGEST]}… ({more} more characters)"
    if depth and isinstance(value, dict):
        return {key: _shortened(inner, depth=depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_shortened(inner, depth=depth - 1) for inner in value]
    return value


def _on_one_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: what a task or a client wrote makes no second line, and does not steer the terminal.

    Ids of tasks are cut to the eight characters by which people know them.
    """
    for name, value in event.items():
        if name == "event" and isinstance(value, str):
            value = _TASK.sub(r"\1", value)
        elif name == "task_id":
            value = short_id(str(value))
        short = _shortened(value)
        event[name] = escaped(short) if isinstance(short, str) and name not in ("exception", "stack") else short
    return event


def _plain_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback whose lines stay, with the message of the exception escaped."""
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write("\n".join(escaped(_shortened(line)) for line in written.getvalue().split("\n")))


class _Role:
    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", self._role)
        return event


class _Discreet(structlog.stdlib.ProcessorFormatter):
    """Formats a line and redacts it as a whole, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _dumps(event: Any, **kwargs: Any) -> str:
    return json_text.describe(event, text=str)
