"""What a task's record consists of: one table, from which store, history and wire are derived.

A record is a `Task` in Python, a hash of texts in the store (`task:ID`), a row in the history and a JSON object on the
wire. CONTRIBUTING.md shows how to add a field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from celeriac import json_text
from celeriac.model import Awaited, AwaitedSignal, AwaitedTime, Dependency, OnUnmet, Status, Task, When, rfc3339

#: No number of a record is so large.
_TOO_LARGE: Final = 2**63


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How the values of one kind are written."""

    #: From the store's text to the value that `Task` has, and back. What cannot be read raises `ValueError`, whose text
    #: goes on after the field's name.
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    #: From that value to JSON, and back.
    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]

    @property
    def differs(self) -> bool:
        """Whether its JSON is not the value itself."""
        return self.to_json is not _same


@dataclass(frozen=True, slots=True)
class Field:
    """One field; its `name` is the attribute of `Task`."""

    name: str
    kind: Kind
    #: Its name in the store, if that is another one.
    stored: str = ""
    #: Its names in the store, if its value is made of several: `records.py` and `rows.py` put it together.
    parts: tuple[str, ...] = ()
    #: Its column in the history; "" if it has none: then it is in the JSON object `extra`.
    column: str = ""
    #: Its name in the v1 record; "" if it is not shown.
    shown: str = ""
    #: The value of a record that does not have it, for an attribute without a default.
    missing: Any = None
    #: Whether lists of what happens now leave it out.
    large: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its names in the store."""
        return self.parts or (self.stored or self.name,)


#: The two spellings of each status: an enumeration takes ten times as long to look one up.
_STATUSES: Final = {spelling: status for status in Status for spelling in (status.stored, status.wire)}


def status_of(text: str) -> Status:
    """Read a status; an unknown one, which only a foreign program can have written, counts as under way."""
    if (known := _STATUSES.get(text)) is not None:
        return known
    try:
        return Status(text)
    except ValueError:
        return Status.PROCESSING


def whole_of(text: str) -> int:
    """Read a whole number."""
    try:
        value = int(text)
    except ValueError:
        value = _TOO_LARGE
    return int(_checked(text, value))


def number_of(text: str) -> float:
    """Read a number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return _checked(text, value)


def _checked(text: str, value: float) -> float:
    # NaN is not less than anything.
    if not abs(value) < _TOO_LARGE:
        raise ValueError(f"is {text[:40]!r}, which is not a number")
    return value


def moment_of(text: str) -> datetime:
    """Read RFC 3339; a moment without a zone, which a foreign program wrote, is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"is {text[:40]!r}, which is not a moment in RFC 3339") from None


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise ValueError(f"is {text[:40]!r}, which is not a status: it counts as processing") from None


def _json_of(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json_text.read(text)
        if not isinstance(value, kind):
            raise ValueError(f"is of the wrong type ({type(value).__name__})")
        return value

    return read


def _words(text: str) -> tuple[str, ...]:
    return tuple(str(word) for word in _json_of(list)(text))


def _dependencies(pairs: Iterable[Any]) -> tuple[Dependency, ...]:
    try:
        return tuple(Dependency(str(task_id), When(when)) for task_id, when in pairs)
    except (TypeError, ValueError):
        raise ValueError("is not a list of dependencies") from None


def _awaited_json(one: Awaited) -> dict[str, Any]:
    match one:
        case Dependency():
            return {"task": one.task_id, "when": one.when.value}
        case AwaitedTime():
            return {"until": rfc3339(one.until)}
    expires_at = None if one.expires_at is None else rfc3339(one.expires_at)
    return {"signal": one.signal, "title": one.title, "schema": one.schema, "expires_at": expires_at}


def _awaited(record: Mapping[str, Any]) -> Awaited:
    if "task" in record:
        return Dependency(record["task"], When(record["when"]))
    if "until" in record:
        return AwaitedTime(datetime.fromisoformat(record["until"]))
    expires_at = record.get("expires_at")
    return AwaitedSignal(
        record["signal"],
        record.get("title"),
        record.get("schema"),
        None if expires_at is None else datetime.fromisoformat(expires_at),
    )


def _same(value: Any) -> Any:
    return value


TEXT: Final = Kind(read=_same, write=str, to_json=_same, from_json=_same)
NUMBER: Final = Kind(read=whole_of, write=str, to_json=_same, from_json=_same)
MOMENT: Final = Kind(read=moment_of, write=rfc3339, to_json=rfc3339, from_json=datetime.fromisoformat)
JSON: Final = Kind(read=json_text.read, write=json_text.write, to_json=_same, from_json=_same)
#: A JSON object.
OBJECT: Final = Kind(read=_json_of(dict), write=json_text.write, to_json=_same, from_json=_same)
#: A list of texts, as JSON in the store.
WORDS: Final = Kind(read=_words, write=json_text.write, to_json=list, from_json=tuple)
#: A list of texts, separated by line breaks in the store.
LINES: Final = Kind(lambda text: tuple(text.split("\n")), "\n".join, to_json=list, from_json=tuple)
#: Dependencies, as a JSON list of [id, condition] in the store; without one the record has null.
DEPENDENCIES: Final = Kind(
    read=lambda text: _dependencies(_json_of(list)(text)),
    write=lambda found: json_text.write([[one.task_id, one.when.value] for one in found]),
    to_json=lambda found: [{"task": one.task_id, "when": one.when.value} for one in found] or None,
    from_json=lambda found: _dependencies([(one["task"], one["when"]) for one in found]),
)
#: What a task waits for; the store has it beside the record.
AWAITED: Final = Kind(
    read=_same,
    write=str,
    to_json=lambda found: [_awaited_json(one) for one in found],
    from_json=lambda found: tuple(_awaited(one) for one in found),
)
ON_UNMET: Final = Kind(read=OnUnmet, write=str, to_json=str, from_json=OnUnmet)
#: True if the record has the field at all.
FLAG: Final = Kind(read=lambda _: True, write=lambda _: "1", to_json=_same, from_json=_same)
STATUS: Final = Kind(_status, lambda status: status.stored, lambda status: status.wire, Status)
#: Progress and errors: `tasks/record.py` writes and reads their JSON.
COMPOUND: Final = Kind(_same, str, _same, _same)

#: All fields that `Task` has, in the order of the v1 record.
FIELDS: Final = (
    Field("task_id", TEXT, column="task_id", shown="task_id"),
    Field("type", TEXT, column="type", shown="type", missing=""),
    Field("group", TEXT, stored="queue", column="queue", shown="queue", missing="default"),
    Field("status", STATUS, column="status", shown="status", missing=Status.PROCESSING),
    Field("payload", JSON, column="payload", shown="payload", large=True),
    Field("progress", COMPOUND, parts=("percentage", "stage", "message_text", "timestamp_ms"), shown="progress"),
    Field("result", JSON, column="result", shown="result", large=True),
    Field("error", COMPOUND, parts=("error_code", "error_message", "error_retryable"), shown="error"),
    Field("attempt", NUMBER, column="attempt", shown="attempt", missing=0),
    Field("max_retries", NUMBER, column="max_retries", shown="max_retries", missing=0),
    Field("user_id", TEXT, column="user_id", shown="user_id"),
    Field("worker", TEXT, stored="owner", column="worker", shown="worker"),
    Field("created_at", MOMENT, column="created_ms", shown="created_at"),
    Field("started_at", MOMENT, column="started_ms", shown="started_at"),
    Field("finished_at", MOMENT, column="finished_ms", shown="finished_at"),
    Field("updated_at", MOMENT, column="updated_ms", shown="updated_at"),
    Field("priority", NUMBER, column="priority", shown="priority", missing=0),
    Field("metadata", OBJECT, column="metadata", shown="metadata", large=True),
    Field("tags", WORDS, column="tags", shown="tags"),
    Field("run_at", MOMENT, column="run_at_ms", shown="run_at"),
    Field("expires_at", MOMENT, column="expires_ms", shown="expires_at"),
    Field("cancel_requested", FLAG, column="cancel_requested", shown="cancel_requested", missing=False),
    # The workflow that it is a part of, and its name there.
    Field("workflow_id", TEXT, column="workflow_id", shown="workflow_id"),
    Field("node", TEXT, shown="node"),
    Field("depends_on", DEPENDENCIES, shown="depends_on", large=True),
    Field("key", TEXT, column="key", shown="key"),
    # Not in the v1 record.
    Field("cost", NUMBER),
    Field("once_key", TEXT, stored="once"),
    Field("on_unmet", ON_UNMET),
    Field("definition_id", TEXT, column="definition_id"),
    Field("trigger", TEXT),
    Field("scheduled_at", MOMENT),
    Field("delivery", TEXT),
    Field("notified", FLAG),
    Field("timeout_ms", NUMBER),
    Field("retention_ms", NUMBER),
    Field("secret_fields", LINES),
    Field("celery_message", TEXT, stored="message"),
    Field("original_file_path", TEXT),
    Field("original_file_name", TEXT),
    Field("result_file_path", TEXT),
    Field("replacement", NUMBER),
    Field("replaced_by", TEXT),
    Field("awaits", OBJECT),
)

#: Fields by which the store runs a task: no reader sees them, and history does not keep them.
LIFE_CYCLE: Final = frozenset(
    {
        *("rev", "nonce", "fence", "attempts_allowed"),
        # When it was accepted, started and ended, in place of the fields that follow from that (`lua/shared/life.lua`).
        "life",
        # How many attempts earlier calls with its id had, which message of the task is the valid one (counted from 0),
        # and a call that begins when this one has ended.
        *("attempts_before", "edition", "next_call"),
        # The attempt that has put something in its place, and why the last part of that will not come.
        "unreached",
        # Whether it is cancelled unless the attempt that runs is the last one.
        "revoked",
        # The last time that it was given back, retried or replaced, and the attempt that repeats one before it.
        *("moved", "redelivered"),
        # When it came to wait, when its last message went out and how many may be out, when it started (ms).
        *("pending_ms", "hinted_ms", "hints", "started_ms"),
        # Until when it may start, and until when it must have ended; when it is due, if it waits for others (ms).
        *("expires_ms", "deadline_ms", "due_ms"),
        # The rule that holds it back, and where; when it came, for ordered rules.
        *("parked", "arrival"),
        # How many tasks that have not ended depend on it, or have it as a child.
        "dependants",
        # How much its handler has kept (entries so far, and bytes), and for how long the attempt that is suspended has
        # run (ms).
        *("noted", "noted_bytes", "resumes"),
        # The key of its debounced submission, and what replaces it (`lua/shared/once.lua`).
        *("debounce", "superseded_by"),
        # The last report, log line and part of a result of the attempt.
        *("progress_seq", "log_seq", "delta_seq", "delta_bytes"),
        # The process that waits for the task.
        "reply_to",
        # Instances of definitions have it, in records of earlier versions.
        "slot_ms",
    }
)

#: The attributes of `Task` that have a default; servers of earlier versions do not send all of them.
DEFAULTS: Final = {field.name for field in dataclasses.fields(Task) if field.default is not dataclasses.MISSING}
#: Every name that the store's hash of a task may have. A foreign program may add others: they are `Task.extra`.
STORED: Final = LIFE_CYCLE.union(*(field.names for field in FIELDS))
#: The names in the store of what lists of what happens now show.
LISTED: Final = tuple(name for field in FIELDS if field.shown and not field.large for name in field.names)
