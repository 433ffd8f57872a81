"""What callers hand to a client, and how it is written on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Required, TypeAlias, TypedDict

import orjson
from pydantic import BaseModel

from celeriac.errors import InvalidSubmissionError, Violation

#: What a task works on: its shape depends on the type.
Payload: TypeAlias = Mapping[str, Any] | BaseModel
#: Seconds, a text such as `"10m"`, or a `timedelta`.
Span: TypeAlias = float | str | timedelta


class TaskOptions(TypedDict, total=False):
    """What a submission may say besides type and payload. None is the same as leaving it out."""

    #: The worker group that takes it (default: the type's own).
    queue: str | None
    #: Attempts after the first.
    max_retries: int | None
    #: 0 to 9; higher runs sooner.
    priority: int | None
    #: Run it this much later.
    delay: Span | None
    #: Run it not before this moment (with a time zone).
    run_at: datetime | str | None
    #: Do not start it any more after this span, or this moment.
    expires: Span | datetime | None
    #: Longest run of one attempt.
    timeout: Span | None
    user_id: str | None
    metadata: Mapping[str, Any] | None
    #: Words to find the task by.
    tags: Sequence[str] | None
    #: Submitting again with the same key answers the first task. Left out, the client makes one for its own retries.
    idempotency_key: str | None


class NewTask(TaskOptions, total=False):
    """One task of `submit_many`: a dictionary of what `submit` takes."""

    type: Required[str]
    payload: Payload | None


class FilterOptions(TypedDict, total=False):
    """Which tasks are meant; several conditions must all hold. None is the same as leaving it out."""

    #: One status or several, e.g. `"failed"` or `Status.FAILED`.
    status: str | Sequence[str] | None
    type: str | None
    queue: str | None
    user_id: str | None
    definition_id: str | None
    #: One tag, or several of which the task has all.
    tag: str | Sequence[str] | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    finished_after: datetime | str | None
    finished_before: datetime | str | None
    #: The beginning of an id, or words in the error's message.
    q: str | None


def submission_document(task: NewTask) -> dict[str, Any]:
    """Return the submission as a document that `to_json` writes; its idempotency key travels apart from it."""
    written = {name: value for name, value in task.items() if value is not None and name != "idempotency_key"}
    payload = written.get("payload", {})
    written["payload"] = payload.model_dump(mode="json") if isinstance(payload, BaseModel) else payload
    return written


def filter_document(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter as a document that `to_json` writes; what may be several as a list."""
    written = {name: value for name, value in chosen.items() if value is not None}
    for name in {"status", "tag"} & written.keys():
        written[name] = [written[name]] if isinstance(written[name], str) else list(written[name])
    if "status" in written:
        written["status"] = [str(status).lower() for status in written["status"]]
    return written


def filter_query(chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a filter as parameters of a query."""
    return tuple(
        (name, _query_text(value))
        for name, values in filter_document(chosen).items()
        for value in (values if isinstance(values, list) else [values])
    )


def to_json(value: Any, what: str) -> bytes:
    """Write JSON; raises `InvalidSubmissionError` naming `what` where `value` cannot be written."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError as exc:
        raise InvalidSubmissionError([Violation(what, f"cannot be written as JSON: {exc}")]) from exc


#: A batch's body around its tasks.
_BATCH: Final = (b'{"tasks":[', b"]}")


def batch_body(tasks: Iterable[bytes]) -> bytes:
    """Return the body of a batch of submissions that are JSON already."""
    return _BATCH[0] + b",".join(tasks) + _BATCH[1]


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _query_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
