"""The answers of the routes of limits, for OpenAPI. They are written directly from the records of the core."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from celeriac.limits.rules import By

_LIMIT: Final[dict[str, Any]] = {
    "name": "customers",
    "group": "mail",
    "type": None,
    "by": "key",
    "max_running": 2,
    "rate": None,
    "fair": True,
    "ordered": False,
    "max_waiting": 1000,
    "note": "as agreed",
    "at": "2030-01-31T08:00:00.000Z",
    "waiting": 120,
    "running": 6,
    "parked": 114,
}


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Limit(BaseModel):
    """A rule, since when it is so, and the tasks that it covers now."""

    model_config = _examples(_LIMIT)

    name: str
    group: str | None
    type: str | None
    by: By
    max_running: Annotated[int | None, Field(description="Tasks that run at once; `null` means any number.")]
    rate: Annotated[str | None, Field(description="Most units that start per time; `null` means any number.")]
    fair: bool
    ordered: bool
    max_waiting: Annotated[int | None, Field(description="Most waiting tasks of a key; `null` means any number.")]
    note: str | None
    at: Annotated[str, Field(description="When it was set.")]
    waiting: Annotated[int, Field(description="Tasks that it covers and that wait for a worker or a retry.")]
    running: Annotated[int, Field(description="Tasks that it covers and that run.")]
    parked: Annotated[
        int, Field(description="Waiting tasks that it holds back: it has no room for them, or it is not their turn.")
    ]


class Limits(BaseModel):
    """All rules, by name."""

    model_config = _examples({"items": [_LIMIT]})

    items: list[Limit]


class LimitKey(BaseModel):
    """A key (or user) of a rule, and its tasks that the rule covers."""

    key: Annotated[str | None, Field(description="`null` if the rule counts all tasks together.")]
    waiting: int
    running: int


class LimitKeys(BaseModel):
    """Keys of a rule, the largest first."""

    model_config = _examples({"items": [{"key": "c7", "waiting": 80, "running": 2}]})

    items: list[LimitKey]
