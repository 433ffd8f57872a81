"""The payload that the record of a Celery call shows: its arguments as JSON, or as Celery shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.tasks.types.celery_call import CELERY_ARGUMENTS
from celeriac.violations import violations_of

#: A header of a call on its way to its record: which of its arguments are shown as the caller says (`argsrepr`).
SHOWN: Final = "celeriac-shown"
#: Types of arguments that are shown as texts; kombu's JSON writes them too.
_SHOWN_AS_TEXT: Final = (date, time, Decimal, UUID, bytes)
#: How much of arguments is shown that are not JSON, if their message does not say how to show them (characters).
_MOST_SHOWN: Final = 1024


def plain_payload(args: Sequence[Any], kwargs: Mapping[str, Any], headers: Mapping[str, Any]) -> str:
    """Return the payload (JSON object) of a call of a plain Celery task, which is for people: it runs by its message.

    What is not JSON is shown as Celery shows it (`argsrepr`, `kwargsrepr`), and so is what the caller wants shown so.
    """
    chosen = headers.get(SHOWN) or ()
    if not chosen:
        with suppress(JsonError):
            return json_text.write({"args": list(args), "kwargs": dict(kwargs)}, default=_argument)
    shown: dict[str, Any] = {}
    for name, value in (("args", list(args)), ("kwargs", dict(kwargs))):
        try:
            json_text.write(value, default=_argument)
            as_json = name not in chosen
        except JsonError:
            as_json = False
        text = str(headers.get(f"{name}repr") or repr(value)[:_MOST_SHOWN])
        shown[name] = value if as_json else text.encode("utf-8", "backslashreplace").decode()
    return _written(shown, default=_argument)


def registered_payload(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the payload of a registered type called as a Celery task: its keywords, or one mapping and keywords.

    Raises `InvalidSubmissionError`.
    """
    if len(args) == 1 and isinstance(args[0], Mapping):
        return _written({**args[0], **kwargs}, "payload", _text_of)
    return _written({"args": list(args), **kwargs} if args else dict(kwargs), "payload", _text_of)


def submitted_arguments(payload: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call of a plain Celery task that a front door submitted.

    Raises `InvalidSubmissionError` if what stands for a reference does not fit.
    """
    try:
        document = CELERY_ARGUMENTS.validate_python(payload)
    except ValidationError as exc:
        raise InvalidSubmissionError(violations_of(exc, prefix="payload")) from exc
    return document.get("args", []), document.get("kwargs", {})


def _written(document: Mapping[str, Any], what: str = "", default: json_text.Default = str) -> str:
    """Write JSON; what is not JSON becomes a text."""
    try:
        return json_text.write(document, what, default=default)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc


def _argument(value: Any) -> str:
    if isinstance(value, _SHOWN_AS_TEXT):
        return str(value)
    raise JsonError("the value", f"is of the type {type(value).__name__}")


def _text_of(value: Any) -> str:
    # The handler of a registered type gets the payload, and would get `b'...'` for bytes.
    if isinstance(value, bytes | bytearray | memoryview):
        raise JsonError("the value", "is bytes, which cannot be written as JSON: send a string, in base64 for example")
    return str(value)
