"""Reads the tables of django-celery-beat through the project's own Django, and switches rows off."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from celeriac import json_text
from celeriac.errors import JsonError, SettingsError
from celeriac_tasks.moving_in.entries import SOLAR, Entry, LeftOut, ScheduleSource

_OPTIONS = ("queue", "exchange", "routing_key", "priority")


def read_django() -> list[Entry | LeftOut]:
    """Return all rows of `PeriodicTask`; raises `SettingsError` if they cannot be read."""
    from django.db import Error

    rows = _model().objects.select_related("interval", "crontab", "solar", "clocked").order_by("name")
    try:
        return [_entry(row) for row in rows]
    except Error as exc:
        raise SettingsError(
            f"the tables of django-celery-beat cannot be read: {exc}; run `manage.py migrate` on this database"
        ) from exc


def disable_django(names: Collection[str]) -> None:
    """Switch rows off, all or none; beat notices it within seconds."""
    from django.db import transaction
    from django_celery_beat.models import PeriodicTasks

    with transaction.atomic():
        _model().objects.filter(name__in=list(names), enabled=True).update(enabled=False, last_run_at=None)
        PeriodicTasks.update_changed()


def _model() -> Any:
    try:
        from django_celery_beat.models import PeriodicTask
    except Exception as exc:
        # Not installed, not in INSTALLED_APPS, or without DJANGO_SETTINGS_MODULE.
        raise SettingsError(f"the project has no django-celery-beat: {exc}") from exc
    return PeriodicTask


def _entry(row: Any) -> Entry | LeftOut:
    scheduler = row.scheduler
    if scheduler is None:
        return LeftOut(row.name, "it has no schedule")
    if row.solar is not None:
        # Celery's class of it needs a package that this process may be without.
        return LeftOut(row.name, SOLAR)
    try:
        args, kwargs = json_text.read(row.args or "[]"), json_text.read(row.kwargs or "{}")
        headers = json_text.read(row.headers or "{}")
    except JsonError as exc:
        return LeftOut(row.name, f"its args, kwargs or headers are not JSON: {exc}")
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(headers, dict):
        return LeftOut(row.name, "its args are not a list, or its kwargs or headers are not an object")
    try:
        schedule = scheduler.schedule
    except (ValueError, TypeError, OverflowError) as exc:
        return LeftOut(row.name, f"its schedule is invalid: {exc}")
    options = {name: getattr(row, name) for name in _OPTIONS if getattr(row, name) is not None}
    if row.expire_seconds is not None:
        options["expires"] = row.expire_seconds
    return Entry(
        source=ScheduleSource.DJANGO,
        name=row.name,
        task=row.task,
        schedule=schedule,
        args=args,
        kwargs=kwargs,
        # As django-celery-beat's scheduler sends it.
        options={**options, "headers": {**headers, "periodic_task_name": row.name}},
        enabled=row.enabled,
        last_run_at=_aware(row.last_run_at or row.date_changed),
        start_at=_aware(row.start_time),
        end_at=_aware(row.expires),
        one_off=row.one_off,
        runs=row.total_run_count,
        description=row.description,
    )


def _aware(moment: datetime | None) -> datetime | None:
    from django.utils.timezone import is_naive, make_aware

    return make_aware(moment) if moment is not None and is_naive(moment) else moment
