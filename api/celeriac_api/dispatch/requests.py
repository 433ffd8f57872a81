"""Reads the calls of the dispatch API. The text of each error is the text of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.limits.rules import MAX_COST
from celeriac.settings import GROUP_NAME, DispatchSettings
from celeriac.store import keys
from celeriac.tasks.key_source import as_key
from celeriac.tasks.request import MAX_RETRIES, MAX_USER_ID_LENGTH

NOTHING_TO_DO: Final = "Invalid request: data or messages required"


class InvalidCallError(ValueError):
    """A call is refused; the text is for the caller."""


@dataclass(frozen=True, slots=True)
class DispatchCall:
    """A call after its fields were checked."""

    payload: dict[str, Any]
    group: str
    timeout_ms: int
    answer_at_once: bool
    priority: int
    max_retries: int
    user_id: str | None
    key: str | None
    cost: int | None


def read_object(body: bytes) -> dict[str, Any]:
    """Return the body as an object; raises `InvalidCallError`."""
    try:
        document = json_text.read(body, "the body")
    except JsonError as exc:
        raise InvalidCallError(f"Invalid request: {exc}") from exc
    if not isinstance(document, dict):
        raise InvalidCallError("Invalid request: the body must be a JSON object")
    return document


def read_call(document: dict[str, Any], dispatch: DispatchSettings) -> DispatchCall:
    """Check a call; raises `InvalidCallError`."""
    data, messages = document.get("data"), document.get("messages")
    if data is None and messages is None:
        raise InvalidCallError(NOTHING_TO_DO)
    if not isinstance(data, dict | None):
        raise _invalid("data must be an object")
    if not isinstance(messages, list | None):
        raise _invalid("messages must be an array")
    model = _or(document, "model", "default")
    if not isinstance(model, str) or not model:
        raise _invalid("model must be a name")
    payload: dict[str, Any] = {"model": model}
    if messages is not None:
        payload["messages"] = messages
    if data is not None:
        payload["data"] = data
    answer_at_once = _or(document, "async", False)
    if not isinstance(answer_at_once, bool):
        raise _invalid("async must be true or false")
    user_id = _user_id(document.get("userId"))
    return DispatchCall(
        payload=payload,
        group=read_group(_or(document, "group", "default")),
        timeout_ms=read_timeout(document.get("timeout"), dispatch, dispatch.default_timeout_ms),
        answer_at_once=answer_at_once,
        priority=_whole(document, "priority", 9),
        max_retries=_whole(document, "maxRetries", MAX_RETRIES),
        user_id=user_id,
        key=read_key(document.get("key")),
        cost=read_cost(document.get("cost")),
    )


def _user_id(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not 0 < len(text) <= MAX_USER_ID_LENGTH or not text.isprintable():
        raise _invalid(
            f"userId must be a whole number, or a text of 1 to {MAX_USER_ID_LENGTH} printable characters",
        )
    return text


def read_key(value: Any) -> str | None:
    """Check a key; raises `InvalidCallError`."""
    try:
        return as_key(value)
    except ValueError as exc:
        raise _invalid(f"key {exc}") from exc


def read_cost(value: Any) -> int | None:
    """Check a cost; raises `InvalidCallError`."""
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MAX_COST:
        raise _invalid(f"cost must be from 1 to {MAX_COST}")
    return value


def read_group(value: Any) -> str:
    """Check the name of a group; raises `InvalidCallError`."""
    if not isinstance(value, str) or GROUP_NAME.fullmatch(value) is None or keys.reserved(value):
        raise _invalid("group must be a name: 1 to 128 letters, digits and _ . : - after a letter or digit")
    return value


def read_timeout(value: Any, dispatch: DispatchSettings, default_ms: int) -> int:
    """Check a timeout in milliseconds; raises `InvalidCallError` if it is out of range."""
    if value is None:
        return default_ms
    low, high = dispatch.min_task_timeout_ms, dispatch.max_task_timeout_ms
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise _invalid(f"timeout must be from {low} to {high} milliseconds")
    return int(value)


def _or(document: dict[str, Any], name: str, default: Any) -> Any:
    value = document.get(name)
    return default if value is None else value


def _whole(document: dict[str, Any], name: str, most: int) -> int:
    value = document.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:
        raise _invalid(f"{name} must be a whole number from 0 to {most}")
    return value


def _invalid(problem: str) -> InvalidCallError:
    return InvalidCallError(f"Invalid request: {problem}")
