"""An entry of a project's schedule as its beat has it, before it becomes a definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

#: Why no definition is made of a solar schedule.
SOLAR = "it is a solar schedule, which a definition cannot express: leave it to celery beat"


class ScheduleSource(StrEnum):
    """Where a project keeps its schedules."""

    BEAT_SCHEDULE = "beat_schedule"  #: `beat_schedule` and `add_periodic_task`
    DJANGO = "django-celery-beat"
    REDBEAT = "redbeat"


class NotImportableError(ValueError):
    """An entry cannot become a definition; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. Moments are aware."""

    source: ScheduleSource
    name: str
    task: str
    #: Celery's schedule, a number of seconds, or a class of the project's own.
    schedule: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: Options of `apply_async`.
    options: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    #: An interval counts from here.
    last_run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    #: It runs once, at the first moment of its schedule.
    one_off: bool = False
    #: How often it has run so far.
    runs: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry that does not become a definition, and why."""

    name: str
    reason: str
