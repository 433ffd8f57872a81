"""What the event stream of a task tells: its reports of progress, and its end."""

from __future__ import annotations

from typing import Any

from celeriac import json_text
from celeriac.calling.access import Ended
from celeriac.client.http.event_stream import ServerEvent
from celeriac.client.outputs import status_of
from celeriac.errors import ApiError
from celeriac.model import Progress
from celeriac.tasks.record import progress_from_record


def ended_of(event: ServerEvent) -> Ended:
    """Read a `done` event; raises `ApiError` if it is not readable."""
    return Ended(status_of(data_of(event)))


def report_of(event: ServerEvent) -> Progress:
    """Read a `progress` event; raises `ApiError` if it is not readable."""
    try:
        return progress_from_record(data_of(event))
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"a progress event cannot be read: {exc!r}", status=200, code="unreadable") from exc


def data_of(event: ServerEvent) -> dict[str, Any]:
    """Return the JSON object that an event carries; raises `ApiError` if it is not one."""
    try:
        data = json_text.read(event.data)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ApiError(f"the data of a {event.name!r} event is not a JSON object", status=200, code="unreadable")
    return data
