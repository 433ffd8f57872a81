"""The short messages that the platform writes into Celery's lists, and the whole messages that they stand for.

A waiting task has one such message, so it holds what Celery must have and no more: the name of the task, its id, and
where it goes (`store/lua/shared/messages.lua` writes it). All else is the same in each of them, or in the record. A
worker writes a message out before Celery sees it, and so does what publishes to a broker other than the store.

A stock Celery worker reads the short form too: it runs a task that it knows, without arguments.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from kombu.utils.json import dumps

from celeriac_tasks.engine.calls.messages import BUILT, HEADER
from celeriac_tasks.engine.calls.published_call import EMPTY_BODY, JSON

#: How much of a payload a message shows to people, in monitors such as Flower (bytes).
SHOWN_BYTES: Final = 200
#: The priority of a message that names none: that of a task without a priority (`docs/decisions/0003`).
_PRIORITY: Final = 9
_BODY: Final = base64.b64encode(dumps(EMPTY_BODY).encode()).decode()
#: A header that each whole message has.
_LANGUAGE: Final = "lang"


def is_short(envelope: Any) -> bool:
    """Whether an envelope is a short message of the platform."""
    headers = envelope.get("headers") if isinstance(envelope, Mapping) else None
    return isinstance(headers, Mapping) and headers.get(HEADER) == BUILT and _LANGUAGE not in headers


def written_out(envelope: Mapping[str, Any], payload: str) -> dict[str, Any]:
    """Return the message of Celery's protocol 2 that a short one stands for; `payload`: what it shows of the payload.

    Raises `LookupError`, `TypeError` or `ValueError` if a foreign program wrote it and it lacks something.
    """
    headers, properties = envelope["headers"], envelope["properties"]
    task_id, name = headers["id"], headers["task"]
    if not isinstance(task_id, str) or not isinstance(name, str):
        raise ValueError(f"the id {task_id!r:.100} or the name of the task {name!r:.100} is not a text")
    return {
        "body": _BODY,
        "content-encoding": "utf-8",
        "content-type": JSON,
        "headers": {
            _LANGUAGE: "py",
            "task": name,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": headers.get("retries", 0),
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": payload,
            "origin": "celeriac",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            HEADER: BUILT,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": properties["delivery_info"],
            "priority": properties.get("priority", _PRIORITY),
            "body_encoding": "base64",
            "delivery_tag": properties["delivery_tag"],
        },
    }
