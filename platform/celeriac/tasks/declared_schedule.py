"""What `@task(schedule=...)` says, as data. `celeriac.cron` and `celeriac.every` make it and check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic_core import PydanticSerializationError, to_jsonable_python

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.tasks.key_source import read_key

if TYPE_CHECKING:
    from celeriac.tasks.task_type import TaskType


@dataclass(frozen=True)
class Schedule:
    """When tasks of a type run by themselves."""

    #: As it is written in the code, for errors.
    text: str
    #: Fields of a definition: `trigger_args`, and the policies that differ from their defaults; JSON-ready.
    fields: Mapping[str, Any]
    #: The payload of each task: a mapping, a model or a dataclass; None means an empty one.
    payload: Any = None
    #: The name that tells it from others of its type; None means its place among them.
    name: str | None = None
    #: The key of each task, as its type computes it; None means without one.
    key: str | None = None


#: What `schedule=` takes.
Schedules: TypeAlias = Schedule | Sequence[Schedule] | None

_Type = TypeVar("_Type", bound="TaskType")


def scheduled(task_type: _Type, given: Schedules) -> _Type:
    """Return a task type with its schedules; raises `SettingsError` if one cannot be used, or does not fit the type."""
    found = () if given is None else (given,) if isinstance(given, Schedule) else given
    if not isinstance(found, list | tuple) or not all(isinstance(one, Schedule) for one in found):
        raise SettingsError(
            f"task type {task_type.name!r}: schedule={given!r} is not a schedule: write schedule=every('30s'), "
            "schedule=cron('0 8 * * 1-5'), or a list of them"
        )
    names = [one.name for one in found if one.name is not None]
    if len(names) > len(set(names)):
        raise SettingsError(f"task type {task_type.name!r}: two schedules have the same name: give each one of its own")
    return replace(task_type, schedules=tuple(_with_payload(task_type, one) for one in found))


def _with_payload(task_type: TaskType, one: Schedule) -> Schedule:
    """Return the schedule with its payload in JSON's types."""
    if task_type.secrets and one.payload is not None and not isinstance(one.payload, Mapping):
        raise _wrong(task_type, one, "a payload with secrets must be a dict here")
    try:
        payload = to_jsonable_python({} if one.payload is None else one.payload)
        key = read_key(task_type.key, payload, task_type.validate(payload, submitted=True))
    except PydanticSerializationError as exc:
        raise _wrong(task_type, one, f"its payload cannot be written as JSON: {exc}") from exc
    except InvalidSubmissionError as exc:
        advice = "write payload={...} in the schedule, or give each parameter a default"
        raise _wrong(task_type, one, f"{exc} ({advice})" if one.payload is None else str(exc)) from exc
    return replace(one, payload=payload, key=key)


def _wrong(task_type: TaskType, one: Schedule, why: str) -> SettingsError:
    return SettingsError(f"task type {task_type.name!r}: schedule={one.text}: {why}")
