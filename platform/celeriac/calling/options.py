"""What a caller passes to submit a task, and how it is written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, Required, TypeAlias, TypedDict

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: The input of a task. Its shape depends on the task's type.
Payload: TypeAlias = "Mapping[str, Any] | BaseModel | DataclassInstance"
#: Seconds, a text such as `"10m"`, or a `timedelta`.
Span: TypeAlias = float | str | timedelta


class Handle(Protocol):
    """A task that was submitted, by its id."""

    @property
    def id(self) -> str:
        """The task's id."""
        ...


class UniqueOptions(TypedDict, total=False):
    """A key that one task of its type holds at a time (docs/once.md)."""

    key: Required[str]
    #: How long it is held: until the task has `ended` (the default) or `started`, or a time from its submission.
    until: Span
    #: What happens while another task holds it: `return` (the default), `reject`, `replace` or `latest`.
    on_conflict: str


class DebounceOptions(TypedDict, total=False):
    """A key under which calls move one task of a type, until it has started (docs/once.md)."""

    key: Required[str]
    #: How long after each call it starts, and how long after the first at most.
    delay: Required[Span]
    max_delay: Span | None
    #: Whose payload it gets: that of the `last` call (the default), or of the `first`.
    payload: str


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
    #: Start after these tasks: ids of tasks that are to complete (or their handles), or `{"task": ID, "when": W}`, `W`
    #: being `completed`, `failed` or `ended`.
    depends_on: Sequence[str | Handle | Mapping[str, Any]] | None
    #: What happens if one of them ends in another way: `cancel` (the default), `fail` or `run`.
    on_unmet: str | None
    #: How long one attempt may run.
    timeout: Span | None
    #: The customer, tenant or resource that it is for, which rules may limit. It replaces the one of its type.
    key: str | None
    #: What its start takes from a rate (default 1).
    cost: int | None
    #: Make it a unique task: one of its type for each key.
    once: UniqueOptions | None
    #: Wait until no further call with the same key has come for a while.
    debounce: DebounceOptions | None
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


class NewNode(NewTask, total=False):
    """One node of a workflow: a dictionary of what `submit` takes, but for the key, and what it comes after."""

    #: The names of nodes that are to complete, or `{"node": NAME, "when": W}`, `W` as in `depends_on`.
    after: Sequence[str | Mapping[str, Any]] | None


def submission_document(task: NewTask) -> dict[str, Any]:
    """Return the submission as a document that `to_json` can write, without the idempotency key."""
    written: dict[str, Any] = {
        name: value for name, value in task.items() if value is not None and name != "idempotency_key"
    }
    written.setdefault("payload", {})
    if "depends_on" in written:
        written["depends_on"] = [_dependency(one) for one in written["depends_on"]]
    return written


def _dependency(one: str | Handle | Mapping[str, Any]) -> Any:
    """Return a dependency with the id of its task in the place of the task's handle."""
    if isinstance(one, Mapping):
        return {**one, "task": getattr(one.get("task"), "id", one.get("task"))}
    return getattr(one, "id", one)


def to_json(value: Any) -> bytes:
    """Write JSON; raises `InvalidSubmissionError`, which names the field, if `value` cannot be written."""
    try:
        return json_text.write_bytes(value, default=_plain)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc


def _plain(value: Any) -> Any:
    """Return the plain form of a value that orjson cannot write by itself."""
    match value:
        case timedelta():
            return value.total_seconds()
        case BaseModel():
            return _unmasked(value.model_dump(mode="json", by_alias=True), value.model_dump(by_alias=True))
        case SecretStr() | SecretBytes():
            return _unmasked(None, value)
        case Mapping():
            return dict(value)
    unwritable = JsonError("the value", f"is of type {type(value).__name__}, which cannot be written as JSON")
    if isinstance(value, bytes | bytearray | memoryview):
        raise unwritable
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        raise unwritable from None


def _unmasked(written: Any, meant: Any) -> Any:
    """Return what Pydantic wrote, with the secrets that it masks: the task needs them."""
    match meant:
        case SecretStr():
            return meant.get_secret_value()
        case SecretBytes():
            return meant.get_secret_value().decode()
        case dict() if isinstance(written, dict):
            pairs = zip(written.items(), meant.values(), strict=True)
            return {name: _unmasked(one, other) for (name, one), other in pairs}
        case list() | tuple() | set() | frozenset() if isinstance(written, list):
            return [_unmasked(one, other) for one, other in zip(written, meant, strict=True)]
    return written
