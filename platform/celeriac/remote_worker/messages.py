"""The messages of the worker protocol. Keys are camelCase, durations milliseconds (see docs/remote-workers.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from celeriac import json_text
from celeriac.errors import JsonError, RateLimited, SkipRetry, TaskError


def ready(concurrency: int, models: Sequence[str], name: str | None) -> str:
    """Ask for work: up to `concurrency` tasks at once."""
    message: dict[str, Any] = {"type": "ready"}
    if concurrency != 1:
        message["concurrency"] = concurrency
    if models:
        message["models"] = list(models)
    if name:
        message["name"] = name
    return _text(message)


def drain() -> str:
    """Ask for no more work."""
    return _text({"type": "drain"})


def ping() -> str:
    """Ask for a `pong`. It arrives after everything that the server sent before it."""
    return _text({"type": "ping"})


def pong() -> str:
    """Answer a ping."""
    return _text({"type": "pong"})


def progress(task_id: str, percentage: float, message: str, stage: str) -> str:
    """Report progress."""
    report: dict[str, Any] = {"type": "progress", "taskId": task_id, "percentage": percentage}
    if message:
        report["message"] = message
    if stage:
        report["stage"] = stage
    return _text(report)


def delta(task_id: str, content: str) -> str:
    """Send a part of the result."""
    return _text({"type": "delta", "taskId": task_id, "content": content})


def log(task_id: str, level: str, message: str, data: Mapping[str, Any]) -> str:
    """Add a line to the task's log. Values in `data` that are not JSON are sent as text."""
    line: dict[str, Any] = {"type": "log", "taskId": task_id, "level": level, "message": message}
    return json_text.describe({**line, "data": dict(data)} if data else line)


def wait(task_id: str, signal: str, timeout_s: float | None, schema: Any, title: str | None) -> str:
    """Let a task wait for a signal; raises `SkipRetry` for a schema that is not JSON."""
    message: dict[str, Any] = {"type": "task_wait", "taskId": task_id, "signal": signal}
    further = {"timeout_s": timeout_s, "schema": schema, "title": title}
    message |= {name: value for name, value in further.items() if value is not None}
    try:
        return json_text.write(message, "the wait")
    except JsonError as exc:
        raise SkipRetry(f"the task cannot wait: {exc}", code="invalid_wait") from exc


def complete(task_id: str, result: Any, duration_ms: int, *, limit: int) -> str:
    """Answer a task; raises `SkipRetry` if the result is not JSON or the message is longer than `limit` bytes."""
    try:
        written = json_text.write(result, "result", default=_plain, any_keys=True)
    except JsonError as exc:
        raise SkipRetry(
            f"the result cannot be written as JSON: {exc}; return dicts, lists, strings, numbers, booleans or None",
            code="bad_result",
        ) from exc
    message = {
        "type": "task_complete",
        "taskId": task_id,
        "result": json_text.written(written),
        "duration": duration_ms,
    }
    encoded = json_text.encode(message)
    if len(encoded) > limit:
        raise SkipRetry(
            f"the result is a message of {len(encoded)} bytes, above the limit of {limit}: return a link instead",
            code="result_too_large",
        )
    return encoded.decode()


def failed(task_id: str, error: BaseException, duration_ms: int) -> str:
    """Report that a task failed. A `TaskError` gives the code and says whether another attempt may help."""
    message: dict[str, Any] = {"type": "task_error", "taskId": task_id, "duration": duration_ms}
    message["error"] = error_text(error)
    if isinstance(error, TaskError):
        message["code"] = str(error.code)
    if isinstance(error, RateLimited):
        message["retry_after_s"] = error.retry_after_s
    if not may_run_again(error):
        message["retryable"] = False
    return _text(message)


def error_text(error: BaseException) -> str:
    """Return an exception in words: with its class, unless it was raised on purpose."""
    name, text = type(error).__name__, _text_of(error)
    return text or name if isinstance(error, TaskError) else f"{name}: {text}" if text else name


def may_run_again(error: BaseException) -> bool:
    """Return whether another attempt may help."""
    return not isinstance(error, TaskError) or bool(error.retryable)


def cancelled(task_id: str, duration_ms: int) -> str:
    """Report that a task stopped because the server asked for it."""
    answer = {"type": "task_error", "taskId": task_id, "error": "cancelled", "code": "cancelled"}
    return _text({**answer, "retryable": False, "duration": duration_ms})


def read(text: str | bytes) -> dict[str, Any] | None:
    """Return a message of the server, or None if the text is not one."""
    try:
        message = json_text.read(text)
    except JsonError:
        return None
    return message if isinstance(message, dict) else None


def _text(message: dict[str, Any]) -> str:
    return json_text.encode(message).decode()


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, inf_nan_mode="constants")


def _text_of(error: BaseException) -> str:
    try:
        # Half of a surrogate pair, for example in a file name, cannot be sent.
        return str(error).encode("utf-8", "replace").decode()
    except Exception:
        return ""
