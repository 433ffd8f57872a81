"""Following a task live: one event stream after the other, without gap or double (see `steps.py`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from celeriac.client.event_stream import EventReader, ServerEvent
from celeriac.client.operations import Operations, task_path
from celeriac.client.outputs import error_of, status_of
from celeriac.client.retrying import TRANSIENT, retry_after_s
from celeriac.client.steps import Call, Emit, LostConnectionError, Pause, Stream, open_stream, read
from celeriac.errors import ApiError, ApiUnavailableError
from celeriac.model import Progress, Status
from celeriac.record import progress_from_record

#: A stream that stood this long was no failure, even if nothing was to be told: quiet ones are cut by many a proxy.
_STEADY_S: Final = 5.0
#: Pause after the server said that our position lies in its future: its store lost the last moments before a crash.
_AHEAD_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The last item: the task has ended with this status."""

    status: Status


def follow(operations: Operations, task_id: str) -> Stream[Progress | Ended]:
    """Emit every report of the task from the first on, live, and finally `Ended`.

    A stream that breaks off is taken up again after the last event that was read completely; raises
    `ApiUnavailableError` when that fails again and again, and `TaskNotFoundError`.
    """
    last_id: str | None = None
    failures = 0
    while True:
        began, asked_s = operations.clock(), 0.0
        try:
            answer = yield from open_stream(_subscription(task_id, last_id))
            if answer.status == 200:
                reader = EventReader(last_id)
                while chunk := (yield from read()):
                    for event in reader.feed(chunk):
                        last_id, failures = event.last_id, 0
                        if event.name == "done":
                            yield Emit(Ended(status_of(_data(event))))
                            return
                        if event.name == "progress":
                            yield Emit(_progress(event))
                reason = "the event stream ended before the task did"
            elif answer.status == 204:
                status = yield from operations.status(task_id)
                if status.final:
                    yield Emit(Ended(status))
                    return
                reason, failures, asked_s = "the store lost events that were seen", 0, _AHEAD_S
            elif answer.status in TRANSIENT:
                reason, asked_s = str(error_of(answer)), retry_after_s(answer.headers)
            else:
                raise error_of(answer)
        except LostConnectionError as exc:
            reason = str(exc)
        failures = 1 if operations.clock() - began > _STEADY_S else failures + 1
        pause_s = operations.retrying.pause_s(failures, asked_s)
        if pause_s is None:
            raise ApiUnavailableError(operations.url, reason)
        yield Pause(pause_s)


def _subscription(task_id: str, last_id: str | None) -> Call:
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    return Call("GET", f"{task_path(task_id)}/progress/stream", headers=headers)


def _data(event: ServerEvent) -> dict[str, Any]:
    try:
        data = json.loads(event.data)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ApiError(f"the data of a {event.name!r} event is no JSON object", status=200, code="unreadable")
    return data


def _progress(event: ServerEvent) -> Progress:
    try:
        return progress_from_record(_data(event))
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"a progress event cannot be read: {exc!r}", status=200, code="unreadable") from exc
