"""Short records: a task whose life is the usual one has the field `life` in place of what follows from it.

Such a task has no stream of its own either: its events are made from its record. `lua/shared/life.lua` describes the
field and writes such records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import dropwhile
from typing import Any, Final, NamedTuple

from celeriac.model import Event, rfc3339, stream_position, utc_from_ms
from celeriac.store import keys

#: A letter ("" for the acceptance), milliseconds, and the id of the event or its end.
_MOMENT: Final = re.compile(r"([scfx]?)(-?\d{1,14})(?::(\d{1,20}(?:-\d{1,20})?))?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_STATUS: Final = {"c": "COMPLETED", "f": "FAILED", "x": "CANCELLED"}
#: Fields of the record that its events are made from.
_TOLD: Final = ("life", "type", "queue", "owner", "error_code", "error_message", "error_retryable")


class _Moment(NamedTuple):
    #: When it was (ms since the epoch), and the id of its event.
    at_ms: int
    event_id: str


class _Life(NamedTuple):
    accepted: _Moment
    started: _Moment | None
    ended: _Moment | None
    #: The final status, "" if it has not ended.
    end: str

    def fields(self) -> dict[str, str]:
        """Return what it says of the fields that a short record does not have."""
        accepted, started, ended, _ = self
        accepted_ms = str(accepted.at_ms)
        found = {
            "attempt": "0" if started is None else "1",
            "rev": str(1 + (started is not None) + (ended is not None)),
            "created_at": _text(accepted.at_ms),
            "updated_at": _text((ended or started or accepted).at_ms),
            "pending_ms": accepted_ms,
            "hinted_ms": accepted_ms,
            "hints": "1" if started is None else "0",
        }
        if started is not None:
            found["started_at"], found["started_ms"] = _text(started.at_ms), str(started.at_ms)
        if ended is not None:
            found["finished_at"] = _text(ended.at_ms)
        return found


def _life_of(text: str) -> _Life | None:
    """Return the life that a record tells, None for what cannot be read: a foreign program wrote it."""
    found: dict[str, _Moment] = {}
    accepted_ms = 0
    for part in text.split(" "):
        match = _MOMENT.fullmatch(part)
        if match is None:
            return None
        letter, ms, tail = match[1], int(match[2]) + accepted_ms, match[3] or "0"
        accepted_ms = accepted_ms or ms
        found[letter] = _Moment(ms, tail if "-" in tail else f"{ms}-{tail}")
    if "" not in found:
        return None
    end = next((letter for letter in found if letter in _STATUS), None)
    return _Life(found[""], found.get("s"), found[end] if end else None, _STATUS[end] if end else "")


@lru_cache(maxsize=8192)
def _text(at_ms: int) -> str:
    """Write a moment as records do. Transitions of one batch have the same."""
    return rfc3339(utc_from_ms(at_ms))


def whole(task_id: str, record: Mapping[str, str]) -> dict[str, str]:
    """Return a record, or those of its fields that were read, with all that a short one leaves out.

    `life` must be among the fields that were read, and `max_retries` for `attempts_allowed`. Nothing comes of nothing:
    an empty record stays empty.
    """
    if not record:
        return {}
    found = {"task_id": task_id, **record}
    if "life" not in found:
        return found
    life = _life_of(found.pop("life"))
    if life is None:
        return found
    found = life.fields() | found
    if "attempts_allowed" not in found and _NUMBER.fullmatch(retries := found.get("max_retries", "0")):
        found["attempts_allowed"] = str(int(retries) + 1)
    return found


def field_of(name: str, text: str | None, life: str | None) -> str | None:
    """Return a field of a record, from its text and that of its life, as far as it has them."""
    if text is not None or not life or (told := _life_of(life)) is None:
        return text
    return told.fields().get(name)


def event_commands(task_id: str, *read: Any) -> list[tuple[Any, ...]]:
    """Return the commands that read a task's events, for `events_from`; `read` is X(REV)RANGE and its arguments.

    The record comes first: what is written out between the two is in the stream then.
    """
    command, *arguments = read
    return [("HMGET", keys.task(task_id), *_TOLD), (command, keys.task_events(task_id), *arguments)]


def events_from(told: Sequence[str | None], entries: Sequence[Any], after: str = "-") -> list[Event]:
    """Return a task's events from the replies to `event_commands`: those of its stream, or else what its record says.

    `after`: the stream id after which they begin (exclusive), `-` for the first; entries are taken as they are.
    """
    if entries:
        return [Event(str(entry_id), fields.pop("kind", ""), fields) for entry_id, fields in entries]
    text, *others = told
    if not text or (life := _life_of(text)) is None:
        return []
    events = list(_events(life, *(other or "" for other in others)))
    position = stream_position(after) if after != "-" else None
    return [*dropwhile(lambda one: position is not None and (stream_position(one.id) or (0, 0)) <= position, events)]


def _events(life: _Life, type_: str, group: str, owner: str, code: str, message: str, retryable: str) -> list[Event]:
    def event(moment: _Moment, **fields: str) -> Event:
        return Event(moment.event_id, "status", fields)

    attempt = "0" if life.started is None else "1"
    events = [event(life.accepted, status="PENDING", attempt="0", type=type_, queue=group)]
    if life.started is not None:
        events.append(event(life.started, status="PROCESSING", attempt="1", worker=owner))
    if life.ended is not None:
        failure = {} if life.end == "COMPLETED" else {"code": code, "message": message, "retryable": retryable or "0"}
        events.append(event(life.ended, status=life.end, attempt=attempt, **failure))
    return events
