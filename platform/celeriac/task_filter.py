"""The filter of tasks that lists, dead letters, charts and bulk operations share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from celeriac.errors import InvalidSubmissionError
from celeriac.model import Status
from celeriac.moments import Moment
from celeriac.task_query import FIELDS, Query, parse_query
from celeriac.violations import check_field_count, shown, violations_of

MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = 50


class Sort(StrEnum):
    """What a list is sorted by; `-` is the newest first. `finished_at` lists only what has ended."""

    CREATED = "created_at"
    CREATED_DOWN = "-created_at"
    FINISHED = "finished_at"
    FINISHED_DOWN = "-finished_at"
    UPDATED = "updated_at"
    UPDATED_DOWN = "-updated_at"

    @property
    def descending(self) -> bool:
        """Whether the newest comes first."""
        return self.value.startswith("-")

    @property
    def by(self) -> str:
        """The field without the sign."""
        return self.value.removeprefix("-")


def words(value: Any) -> Any:
    """Read `a,b`, or a list of such texts, as a list of words."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return [word for part in value for word in (word.strip() for word in part.split(",")) if word]
    return value


def _status(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Status) and value.upper() not in Status.__members__:
        raise ValueError(f"there is no status {shown(value)!r}; known are: {', '.join(one.wire for one in Status)}")
    return value.lower() if isinstance(value, str) else value


_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
#: Taken in any case, and documented as records write it.
_Status = Annotated[
    Status,
    BeforeValidator(_status),
    WithJsonSchema({"type": "string", "enum": [status.wire for status in Status]}),
]


def _query(text: str) -> str:
    parse_query(text)
    return text


_Once = AfterValidator(lambda values: tuple(dict.fromkeys(values)))


class TaskFilter(BaseModel):
    """Selects the tasks that meet every condition that is given. `after` includes the moment, `before` does not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Annotated[
        Annotated[tuple[_Status, ...], BeforeValidator(words), _Once],
        Field(description="One or several, repeated or separated by commas."),
    ] = ()
    type: Annotated[_Name | None, Field(description="The task type.")] = None
    queue: Annotated[_Name | None, Field(description="The worker group.")] = None
    user_id: Annotated[_Name | None, Field(description="On whose behalf it runs.")] = None
    key: Annotated[_Name | None, Field(description="The customer, tenant or resource that it is for.")] = None
    definition_id: Annotated[_Name | None, Field(description="The definition that made it.")] = None
    error_group: Annotated[_Name | None, Field(description="The group of its last failure; see `/api/v1/errors`.")] = (
        None
    )
    workflow_id: Annotated[_Name | None, Field(description="The workflow that it is a part of.")] = None
    tag: Annotated[
        Annotated[tuple[_Name, ...], BeforeValidator(words), Field(max_length=20), _Once],
        Field(description="A tag; of several, the task has all."),
    ] = ()
    created_after: Annotated[Moment | None, Field(description="Created at this moment or later.")] = None
    created_before: Annotated[Moment | None, Field(description="Created before this moment.")] = None
    finished_after: Annotated[Moment | None, Field(description="Ended at this moment or later.")] = None
    finished_before: Annotated[Moment | None, Field(description="Ended before this moment.")] = None
    q: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), AfterValidator(_query)]
        | None,
        Field(
            description="Words, and fields such as `status:failed`; all must match. The fields are "
            + ", ".join(f"`{name}:`" for name in FIELDS)
            + '. `type:a,b` means either, `-type:a` means not this one, `"two words"` are next to each other. '
            "One word is also the beginning of an id."
        ),
    ] = None

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        for name in ("created", "finished"):
            after, before = getattr(self, f"{name}_after"), getattr(self, f"{name}_before")
            if after is not None and before is not None and after >= before:
                raise ValueError(f"{name}_after is not before {name}_before: nothing lies between them")
        return self

    @model_validator(mode="after")
    def _statuses_agree(self) -> Self:
        if self.status and self.query.values("status") and not self.statuses:
            raise ValueError("status and q name different statuses: no task has both")
        return self

    @property
    def query(self) -> Query:
        """What `q` means."""
        return Query() if self.q is None else parse_query(self.q)

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses that `status` and `q` leave; none means: all."""
        named = self.query.values("status")
        if named is None:
            return self.status
        found = tuple(Status(value) for value in named)
        return tuple(status for status in found if status in self.status) if self.status else found


def read_filter(document: Any) -> TaskFilter:
    """Check a filter; raises `InvalidSubmissionError` that names the fields below `filter`."""
    check_field_count(document, TaskFilter.model_fields, "filter.")
    try:
        return TaskFilter.model_validate(document)
    except ValidationError as exc:
        raise InvalidSubmissionError(violations_of(exc, prefix="filter")) from exc
