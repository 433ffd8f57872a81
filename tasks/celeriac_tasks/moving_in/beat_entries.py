"""Reads the entries of `beat_schedule` and `add_periodic_task`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac_tasks.moving_in.entries import Entry, LeftOut, ScheduleSource


def read_beat_schedule(app: Any) -> list[Entry | LeftOut]:
    """Return what the configuration of a complete app has."""
    return [_entry(str(name), given) for name, given in (app.conf.beat_schedule or {}).items()]


def _entry(name: str, given: Any) -> Entry | LeftOut:
    # Either a mapping or Celery's ScheduleEntry.
    fields = given if isinstance(given, Mapping) else vars(given)
    if "task" not in fields or "schedule" not in fields:
        return LeftOut(name, "it has no `task` or no `schedule`")
    schedule = fields["schedule"]
    if fields.get("relative"):
        from celery.schedules import maybe_schedule

        schedule = maybe_schedule(schedule, True)
    return Entry(
        source=ScheduleSource.BEAT_SCHEDULE,
        name=name,
        task=str(fields["task"]),
        schedule=schedule,
        args=tuple(fields.get("args") or ()),
        kwargs=dict(fields.get("kwargs") or {}),
        options=dict(fields.get("options") or {}),
    )
