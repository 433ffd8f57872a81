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
    _check(data is None or isinstance(data, dict), "data must be an object")
    _check(messages is None or isinstance(messages, list), "messages must be an array")
    model = _or(document, "model", "default")
    _check(isinstance(model, str) and model != "", "model must be a name")
    payload: dict[str, Any] = {"model": model}
    if messages is not None:
        payload["messages"] = messages
    if data is not None:
        payload["data"] = data
    answer_at_once = _or(document, "async", False)
    _check(isinstance(answer_at_once, bool), "async must be true or false")
    user_id = document.get("userId")
    if type(user_id) is int:
        user_id = str(user_id)
    _check(
        user_id is None
        or (isinstance(user_id, str) and 0 < len(user_id) <= MAX_USER_ID_LENGTH and user_id.isprintable()),
        f"userId must be a whole number, or a text of 1 to {MAX_USER_ID_LENGTH} printable characters",
    )
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


def read_key(value: Any) -> str | None:
    """Check a key; raises `InvalidCallError`."""
    try:
        return as_key(value)
    except ValueError as exc:
        raise InvalidCallError(f"Invalid request: key {exc}") from exc


def read_cost(value: Any) -> int | None:
    """Check a cost; raises `InvalidCallError`."""
    _check(value is None or (type(value) is int and 1 <= value <= MAX_COST), f"cost must be from 1 to {MAX_COST}")
    return None if value is None else int(value)


def read_group(value: Any) -> str:
    """Check the name of a group; raises `InvalidCallError`."""
    _check(
        isinstance(value, str) and GROUP_NAME.fullmatch(value) is not None and not keys.reserved(value),
        "group must be a name: 1 to 128 letters, digits and _ . : - after a letter or digit",
    )
    return str(value)


def read_timeout(value: Any, dispatch: DispatchSettings, default_ms: int) -> int:
    """Check a timeout in milliseconds; raises `InvalidCallError` if it is out of range."""
    if value is None:
        return default_ms
    low, high = dispatch.min_task_timeout_ms, dispatch.max_task_timeout_ms
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _check(number and low <= value <= high, f"timeout must be from {low} to {high} milliseconds")
    return int(value)


def _or(document: dict[str, Any], name: str, default: Any) -> Any:
    value = document.get(name)
    return default if value is None else value


def _whole(document: dict[str, Any], name: str, most: int) -> int:
    value = _or(document, name, 0)
    _check(type(value) is int and 0 <= value <= most, f"{name} must be a whole number from 0 to {most}")
    return int(value)


def _check(fine: bool, text: str) -> None:
    if not fine:
        raise InvalidCallError(f"Invalid request: {text}")
