"""Plain Celery tasks, as far as front doors know them: a call has positional and named arguments.

Workers announce them. A call that a front door submits runs by its record's payload; one that Celery published, by its
message.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from celeriac.tasks.task_type import TypeHooks


class CeleryArguments(TypedDict, total=False):
    """The arguments of a call; each may be left out."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    args: list[Any]
    kwargs: dict[str, Any]


class CeleryCallHooks(TypeHooks):
    """A call of a plain Celery task."""

    celery_call = True


CELERY_ARGUMENTS: Final[TypeAdapter[CeleryArguments]] = TypeAdapter(CeleryArguments)
CELERY_CALL_HOOKS: Final = CeleryCallHooks()
