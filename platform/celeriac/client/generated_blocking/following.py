# Generated from ../asynchronous/following.py by tools/generate_sync_client.py: edit that file and run `make client`.
"""Follows a task live: one event stream after another, so that no report is lost or repeated."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from celeriac.client.calls import Call, LostConnectionError, task_path
from celeriac.client.event_stream import EventReader
from celeriac.client.generated_blocking.api import Api
from celeriac.client.outputs import error_of
from celeriac.client.reports import Ended, ended_of, report_of
from celeriac.client.retrying import TRANSIENT, retry_after_s
from celeriac.errors import ApiUnavailableError
from celeriac.model import Progress

#: A stream that lasted this long did not fail, even if no event came: many proxies cut a quiet connection.
_STEADY_S: Final = 5.0
#: Pause if the store does not have the last event that was read: it lost the last moments before a crash.
_AHEAD_S: Final = 1.0


def follow(api: Api, task_id: str) -> Generator[Progress | Ended]:
    """Yield every report of the task from the first one on, live, and finally `Ended`.

    If a stream breaks off, the next one begins after the last event that was read completely. Raises
    `ApiUnavailableError` if streams fail again and again, and `TaskNotFoundError`.
    """
    last_id: str | None = None
    failures = 0
    while True:
        began, asked_s = api.clock.now(), 0.0
        try:
            with api.opened(_subscription(task_id, last_id)) as stream:
                answer = stream.answer
                if answer.status == 200:
                    reader = EventReader(last_id)
                    while chunk := stream.read():
                        for event in reader.feed(chunk):
                            last_id, failures = event.last_id, 0
                            if event.name == "done":
                                yield ended_of(event)
                                return
                            if event.name == "progress":
                                yield report_of(event)
                    reason = "the event stream ended before the task did"
                elif answer.status == 204:
                    status = api.status(task_id)
                    if status.final:
                        yield Ended(status)
                        return
                    reason, failures, asked_s = "the store lost events that were read before", 0, _AHEAD_S
                elif answer.status in TRANSIENT:
                    reason, asked_s = str(error_of(answer)), retry_after_s(answer.headers)
                else:
                    raise error_of(answer)
        except LostConnectionError as exc:
            reason = str(exc)
        failures = 1 if api.clock.now() - began > _STEADY_S else failures + 1
        pause_s = api.retrying.pause_s(failures, asked_s)
        if pause_s is None:
            raise ApiUnavailableError(api.url, reason)
        api.clock.sleep(pause_s)


def _subscription(task_id: str, last_id: str | None) -> Call:
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    return Call("GET", f"{task_path(task_id)}/progress/stream", headers=headers)
