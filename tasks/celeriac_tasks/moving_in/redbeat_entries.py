"""Reads RedBeat's entries with the project's own RedBeat, and switches them off."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from celeriac.errors import SettingsError, StoreUnavailableError
from celeriac_tasks.moving_in.entries import Entry, LeftOut, ScheduleSource


def read_redbeat(app: Any) -> list[Entry | LeftOut]:
    """Return all entries of RedBeat's schedule; raises `SettingsError` if the project has no RedBeat."""
    redbeat = _redbeat()
    redbeat.ensure_conf(app)
    keys = _reached(redbeat, lambda: redbeat.get_redis(app).zrange(app.redbeat_conf.schedule_key, 0, -1))
    return [found for key in keys if (found := _entry(app, redbeat, str(key))) is not None]


def disable_redbeat(app: Any, names: Collection[str]) -> None:
    """Switch entries off, each in one transaction; a process that dies leaves the rest for the next call."""
    redbeat = _redbeat()
    redbeat.ensure_conf(app)
    for name in names:
        _reached(redbeat, partial(_disable, app, redbeat.RedBeatSchedulerEntry, name))


def _disable(app: Any, entry_class: Any, name: str) -> None:
    try:
        entry = entry_class.from_key(entry_class.generate_key(app, name), app=app)
    except KeyError:
        return
    entry.enabled = False
    entry.save()


def _redbeat() -> Any:
    try:
        from redbeat import schedulers
    except ModuleNotFoundError as exc:
        raise SettingsError(f"the project has no RedBeat: {exc}") from exc
    return schedulers


def _reached(redbeat: Any, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except redbeat.redis.exceptions.RedisError as exc:
        raise StoreUnavailableError(f"RedBeat's Redis does not answer: {exc}") from exc


def _entry(app: Any, redbeat: Any, key: str) -> Entry | LeftOut | None:
    name = key.removeprefix(app.redbeat_conf.key_prefix)
    try:
        found = _reached(redbeat, lambda: redbeat.RedBeatSchedulerEntry.from_key(key, app=app))
    except KeyError:
        # Only its place in the order is left of it.
        return None
    except (ValueError, TypeError) as exc:
        return LeftOut(name, f"its definition cannot be read: {exc}")
    return Entry(
        source=ScheduleSource.REDBEAT,
        name=found.name,
        task=found.task,
        schedule=found.schedule,
        args=tuple(found.args or ()),
        kwargs=dict(found.kwargs or {}),
        options=dict(found.options or {}),
        enabled=found.enabled,
        last_run_at=found.last_run_at,
    )
