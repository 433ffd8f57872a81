"""One end of a task or of an attempt, as a line for people and as a line for machines. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac import json_text
from celeriac.model import Claim, Failure, Status, rfc3339
from celeriac.safe_text import redact, short_id

#: How much is shown of an error, and of a group, a type or an id (characters).
_LONGEST_ERROR: Final = 200
_LONGEST_NAME: Final = 80
_SPACES: Final = re.compile(r"\s+")
#: Codes of failures whose message says it all, and how messages of cancelled tasks begin that need no further word.
_SAYS_ALL: Final = ("exception", "retry")
_CANCELLED: Final = "cancelled"
#: What a record says of a task that was cancelled while it ran.
_WHILE_IT_RAN: Final = "cancelled while it ran"


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How an attempt ended, or a task that waited.

    `status` is the task's after that. `took_s` is None if it did not run. `attempt` of `attempts` counts from 1; 0
    means that it is not known. The next attempt may start `again_s` seconds later.
    """

    group: str
    type: str
    task_id: str
    status: Status
    took_s: float | None = None
    attempt: int = 0
    attempts: int = 0
    error: str = ""
    #: None: another process decides whether and when it runs again.
    again_s: float | None = 0.0

    @property
    def took_ms(self) -> int | None:
        """How long it ran in whole milliseconds."""
        return None if self.took_s is None else max(round(self.took_s * 1000), 0)


def end_of(
    claim: Claim, status: Status, took_s: float, failure: Failure | None = None, *, again_s: float = 0.0
) -> TaskEnd:
    """Return how the attempt of a claim ended; `status` is the task's after that."""
    error = "" if failure is None else error_text(failure)
    of = (claim.attempt, claim.attempts_allowed)
    return TaskEnd(claim.group, claim.type, claim.task_id, status, took_s, *of, error, again_s)


def error_text(failure: Failure) -> str:
    """Return a failure in one text: its code, unless that says nothing, and its message."""
    said = failure.message if failure.code in _SAYS_ALL else f"{failure.code}: {failure.message}"
    # The text may be very long; only the part that is shown need be cleaned.
    return _clean(redact(said[: 4 * _LONGEST_ERROR]), _LONGEST_ERROR)


def line_of(end: TaskEnd, at: datetime, *, colours: bool = False) -> str:
    """Return the line for people; `at` is the local time of the end."""
    mark, said = ("✓", "") if end.status is Status.COMPLETED else ("✗", _said(end))
    took = "" if end.took_ms is None else f"{end.took_ms} ms"
    if colours:
        mark = f"\x1b[{'32' if end.status is Status.COMPLETED else '31'}m{mark}\x1b[0m"
    names = " ".join(_clean(name, _LONGEST_NAME) for name in (end.group, end.type, short_id(end.task_id)))
    return f"{at:%H:%M:%S} {names} {mark} {said or took}".rstrip()


def json_of(end: TaskEnd, at: datetime) -> str:
    """Return the line for machines: a JSON object."""
    document: dict[str, object] = {
        "time": rfc3339(at),
        "group": end.group[:_LONGEST_NAME],
        "type": end.type[:_LONGEST_NAME],
        "task_id": end.task_id[:_LONGEST_NAME],
        "status": end.status.wire,
        "took_ms": end.took_ms,
    }
    if end.status is not Status.COMPLETED:
        document |= {"attempt": end.attempt, "attempts": end.attempts, "error": end.error}
    if end.status in (Status.RETRYING, Status.PENDING):
        document["again_in_s"] = None if end.again_s is None else round(end.again_s, 3)
    return json_text.describe(document)


def more_line(more: int, at: datetime) -> str:
    """Return the line for people on `more` ends that have none of their own."""
    return f"{at:%H:%M:%S} +{more:,} more in this second"


def more_json(more: int, at: datetime) -> str:
    """Return the line for machines on `more` ends that have none of their own."""
    return json_text.describe({"time": rfc3339(at), "more": more})


def _said(end: TaskEnd) -> str:
    after = "" if end.took_ms is None else f" after {end.took_ms} ms"
    if end.status is Status.CANCELLED:
        if end.error.startswith(_CANCELLED) and end.error != _WHILE_IT_RAN:
            return end.error
        return f"cancelled{after}" + (f": {end.error}" if end.error and end.error != _WHILE_IT_RAN else "")
    if end.status is Status.PENDING and not end.error:
        return f"given back{after} — the attempt does not count"
    which = "" if end.took_s is None or not end.attempts else f"attempt {end.attempt} of {end.attempts}: "
    if end.status is Status.FAILED:
        return f"{which}{end.error} — failed"
    again = "may run again" if end.again_s is None else f"again {_soon(end.again_s)}"
    return f"{which}{end.error} — {again}"


def _soon(seconds: float) -> str:
    return f"in {round(seconds, 1):g} s" if seconds >= 0.05 else "at once"


def _clean(text: str, most: int) -> str:
    one_line = _SPACES.sub(" ", text[: 4 * most]).strip()
    shown = one_line if one_line.isprintable() else "".join(filter(str.isprintable, one_line))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
