"""What callers pass to a client, as submissions and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from celeriac.calling.handle import ReadResult, result_of
from celeriac.calling.options import NewTask
from celeriac.calling.submittable import Submittable


class FilterOptions(TypedDict, total=False):
    """Conditions that select tasks; all of them must hold. None has the same effect as leaving the condition out."""

    #: One status or several, e.g. `"failed"` or `Status.FAILED`.
    status: str | Sequence[str] | None
    type: str | None
    queue: str | None
    user_id: str | None
    key: str | None
    definition_id: str | None
    workflow_id: str | None
    #: A group of errors of `errors()`.
    error_group: str | None
    #: One tag, or several; the task must have all of them.
    tag: str | Sequence[str] | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    finished_after: datetime | str | None
    finished_before: datetime | str | None
    #: A search: words and fields, e.g. `'type:report -status:failed "two words"'`; see the documentation of history.
    q: str | None


def new_task_of(
    type: str | Submittable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[NewTask, ReadResult[Any]]:
    """Return the submission that a call of `Client.submit` means, and what reads its result.

    Raises `TypeError`, and `InvalidSubmissionError` for arguments that do not fit a type of this process.
    """
    if isinstance(type, Submittable):
        return type.new_task(args, kwargs), type.reader()
    if not isinstance(type, str):
        raise TypeError(f"{type!r} is not a type of tasks: pass its name, or what the decorator `@task` returned")
    if len(args) > 1:
        raise TypeError(f"submit() of a type by its name takes one payload, not {len(args)}")
    payload: dict[str, Any] = {"payload": args[0]} if args else {}
    if payload and "payload" in kwargs:
        raise TypeError("submit() got two payloads, one by position and one by name")
    task: Any = {"type": type, **payload, **kwargs}
    return task, result_of


def filter_document(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter as a document that `to_json` can write. Conditions that allow several values are lists."""
    written = {name: value for name, value in chosen.items() if value is not None}
    for name in {"status", "tag"} & written.keys():
        written[name] = [written[name]] if isinstance(written[name], str) else list(written[name])
    if "status" in written:
        written["status"] = [str(status).lower() for status in written["status"]]
    return written


def fields_query(fields: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the fields of a list's records as a parameter of a query; none if they are not chosen."""
    return (("fields", ",".join(fields)),) if fields else ()


def filter_query(chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a filter as the parameters of a query."""
    return tuple(
        (name, _query_text(value))
        for name, values in filter_document(chosen).items()
        for value in (values if isinstance(values, list) else [values])
    )


def _query_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
