"""Edits the template of a definition that calls a plain Celery task. Pure.

Only the project knows such a task, so its template keeps the message that Celery made. An edit of the definition's
`task` changes what it names in that message; all else stays: serializer, headers, callbacks.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.model import Delivery
from celeriac.settings import Settings
from celeriac.tasks.key_source import KeySource, read_key
from celeriac.tasks.request import SubmitRequest
from celeriac.tasks.submission import delivery_of

_TOP_PRIORITY: Final = 9
#: By how many seconds the limit of Celery's prefork pool is later than the record's.
_KILL_LATER_S: Final = 5


def is_celery_call(template: Mapping[str, Any] | None, task: Mapping[str, Any] | None) -> bool:
    """Return whether a definition's task is still the plain Celery task of this template."""
    return (
        template is not None
        and task is not None
        and template.get("celery_message") is not None
        and task.get("type") == template["type"]
    )


def edited_template(
    template: Mapping[str, Any], task: SubmitRequest, settings: Settings, key_source: KeySource | None = None
) -> dict[str, Any]:
    """Return the template with what `task` names; raises `InvalidSubmissionError`.

    `key_source` reads the key of other arguments, if the task names none.
    """
    if isinstance(task.expires, datetime):
        raise InvalidSubmissionError([Violation("expires", "must be a duration: it counts from each slot's start")])
    group = task.queue or template["group"]
    delivery = delivery_of(group, settings)
    priority = template["priority"] if task.priority is None else task.priority
    timeout_ms = template["timeout_ms"] if task.timeout is None else max(1, round(task.timeout * 1000))
    message = json_text.read(template["celery_message"])
    headers, properties = message["headers"], message["properties"]
    payload, key = json_text.write(task.payload, "payload"), template.get("key")
    if json_text.read(payload) != json_text.read(template["payload"]):
        _write_arguments(message, task.payload)
        key = key if key_source is None else read_key(key_source, task.payload, None)
    properties["delivery_info"] = {"exchange": "", "routing_key": group}
    if task.priority is not None:
        properties["priority"] = priority if delivery is Delivery.BROKER else _TOP_PRIORITY - priority
    if task.timeout is not None:
        headers["timelimit"] = [task.timeout + _KILL_LATER_S, (headers.get("timelimit") or [None, None])[1]]
    return {
        **template,
        "payload": payload,
        "group": group,
        "priority": priority,
        "max_retries": template["max_retries"] if task.max_retries is None else task.max_retries,
        "expires_in_ms": None if task.expires is None else max(1, round(task.expires * 1000)),
        "timeout_ms": timeout_ms,
        "metadata": dict(task.metadata or {}),
        "tags": list(task.tags or ()),
        "key": key if task.key is None else task.key,
        "cost": template.get("cost") if task.cost is None else task.cost,
        "delivery": delivery.value,
        "celery_message": json_text.write(message),
    }


def _write_arguments(message: dict[str, Any], payload: Mapping[str, Any]) -> None:
    """Put other arguments into a message; raises `InvalidSubmissionError`."""
    args, kwargs = payload.get("args"), payload.get("kwargs")
    if set(payload) != {"args", "kwargs"} or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidSubmissionError(
            [Violation("payload", 'must have the form {"args": [...], "kwargs": {...}}: it calls a Celery task')]
        )
    if message["content-type"] != "application/json":
        raise InvalidSubmissionError(
            [Violation("payload", f"is {message['content-type']} in the project: change the arguments there")]
        )
    try:
        *_, embed = json_text.read(base64.b64decode(message["body"]))
        body = json_text.write_bytes([args, kwargs, embed], "payload")
    except (JsonError, ValueError) as exc:
        raise InvalidSubmissionError([Violation("payload", f"cannot be written: {exc}")]) from exc
    message["body"] = base64.b64encode(body).decode()
    message["headers"].update(argsrepr=repr(tuple(args))[:1024], kwargsrepr=repr(kwargs)[:1024])
