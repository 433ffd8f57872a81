"""What callers pass to a client, and how it is written on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Required, TypeAlias, TypedDict

from pydantic import BaseModel

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation

#: The input of a task. Its shape depends on the task's type.
Payload: TypeAlias = Mapping[str, Any] | BaseModel
#: Seconds, a text such as `"10m"`, or a `timedelta`.
Span: TypeAlias = float | str | timedelta


class TaskOptions(TypedDict, total=False):
    """The options of a submission. None has the same effect as leaving the option out."""

    #: The worker group that runs the task (default: the group of its type).
    queue: str | None
    #: How many attempts may follow the first one.
    max_retries: int | None
    #: 0 to 9; a higher number runs sooner.
    priority: int | None
    #: Start this much later.
    delay: Span | None
    #: Do not start before this moment (with a time zone).
    run_at: datetime | str | None
    #: Do not start later than this: a span from now, or a moment.
    expires: Span | datetime | None
    #: How long one attempt may run.
    timeout: Span | None
    user_id: str | None
    metadata: Mapping[str, Any] | None
    #: Words by which the task can be found.
    tags: Sequence[str] | None
    #: A second submission with the same key returns the first task. By default the client makes a key for its own
    #: retries.
    idempotency_key: str | None


class NewTask(TaskOptions, total=False):
    """One task of `submit_many`: a dictionary of what `submit` takes."""

    type: Required[str]
    payload: Payload | None


class FilterOptions(TypedDict, total=False):
    """Conditions that select tasks; all of them must hold. None has the same effect as leaving the condition out."""

    #: One status or several, e.g. `"failed"` or `Status.FAILED`.
    status: str | Sequence[str] | None
    type: str | None
    queue: str | None
    user_id: str | None
    definition_id: str | None
    #: One tag, or several; the task must have all of them.
    tag: str | Sequence[str] | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    finished_after: datetime | str | None
    finished_before: datetime | str | None
    #: The beginning of the task's id, or words of its error message.
    q: str | None


def submission_document(task: NewTask) -> dict[str, Any]:
    """Return the submission as a document that `to_json` can write, without the idempotency key."""
    written = {name: value for name, value in task.items() if value is not None and name != "idempotency_key"}
    payload = written.get("payload", {})
    written["payload"] = payload.model_dump(mode="json") if isinstance(payload, BaseModel) else payload
    return written


def filter_document(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter as a document that `to_json` can write. Conditions that allow several values are lists."""
    written = {name: value for name, value in chosen.items() if value is not None}
    for name in {"status", "tag"} & written.keys():
        written[name] = [written[name]] if isinstance(written[name], str) else list(written[name])
    if "status" in written:
        written["status"] = [str(status).lower() for status in written["status"]]
    return written


def filter_query(chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a filter as the parameters of a query."""
    return tuple(
        (name, _query_text(value))
        for name, values in filter_document(chosen).items()
        for value in (values if isinstance(values, list) else [values])
    )


def to_json(value: Any) -> bytes:
    """Write JSON; raises `InvalidSubmissionError`, which names the field, if `value` cannot be written."""
    try:
        return json_text.write_bytes(value, default=_plain)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return dict(value)
    raise JsonError("the value", f"is of type {type(value).__name__}, which cannot be written as JSON")


def _query_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
