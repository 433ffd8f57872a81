"""Messages that cannot be read: a foreign program wrote something else into a queue. They end no worker."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from celeriac import json_text
from celeriac.errors import JsonError

log = logging.getLogger(__name__)

#: How much of an unreadable message its log line shows (characters).
_SHOWN: Final = 500


def read_envelope(message: bytes) -> Any:
    """Return a message as kombu would read it; kombu's slower reader takes what is not plain JSON.

    Raises `ValueError`, or `RecursionError` if it is nested too deeply.
    """
    if b'"__type__"' not in message:
        with contextlib.suppress(JsonError):
            return json_text.read(message)
    return loads(bytes_to_str(message))


def log_dropped(message: Any, queue: str, error: BaseException) -> None:
    """Log a message that is dropped; if it belongs to a task with a record, the sweep sends another one."""
    raw = message if isinstance(message, bytes) else repr(message).encode("utf-8", "replace")
    shown = ascii(raw[:_SHOWN])[2:-1]
    log.error(
        "a message in the queue %s cannot be read and is dropped (%s: %.200s). It has %d bytes: %s%s",
        queue,
        type(error).__name__,
        error,
        len(raw),
        shown,
        "…" if len(raw) > _SHOWN else "",
    )
