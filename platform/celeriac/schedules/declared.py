"""`cron` and `every`: the schedules that a task type has in the code (`@task(schedule=...)`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.schedules.definition import Overlap, Spec
from celeriac.schedules.request import DefinitionRequest, check_timetable, limits_of
from celeriac.schedules.times.backlog import Misfire
from celeriac.schedules.times.trigger_args import checked_args
from celeriac.settings import ScheduleSettings
from celeriac.tasks.declared_schedule import Schedule
from celeriac.violations import outer_violations


def cron(
    expression: str,
    *,
    timezone: str = "UTC",
    payload: Any = None,
    name: str | None = None,
    overlap: str = Overlap.ALLOW,
    misfire: str = Misfire.FIRE_ONCE,
    jitter: float | str = 0,
) -> Schedule:
    """Return a schedule by a cron expression of five fields, or six with the seconds first, in `timezone`.

        @task(schedule=cron("0 8 * * 1-5", timezone="Europe/Berlin"))

    Each task has the `payload`: a mapping, a model or a dataclass. `overlap`, `misfire` and `jitter` (seconds, or
    `30s`) are those of definitions. `name` keeps the schedule the same one if others of its type come and go.
    Raises `SettingsError` that says what is wrong.
    """
    args = {"cron": expression, "timezone": timezone}
    policies = {"overlap": overlap, "misfire": misfire, "jitter": jitter}
    return _schedule(f"cron({expression!r})", args, payload, name, policies)


def every(
    interval: float | str | timedelta,
    *,
    offset: float | str | timedelta = 0,
    payload: Any = None,
    name: str | None = None,
    overlap: str = Overlap.ALLOW,
    misfire: str = Misfire.FIRE_ONCE,
    jitter: float | str = 0,
) -> Schedule:
    """Return a schedule by an interval: seconds, `30s`, `1h30m` or a `timedelta`.

        @task(schedule=every("30s", payload={"customer": 7}))

    Slots are counted from the moment at which the schedule is first seen, `offset` later. `cron` says what the rest
    means. Raises `SettingsError` that says what is wrong.
    """
    args = {"interval": _plain(interval), **({"offset": _plain(offset)} if offset else {})}
    shown = str(interval) if isinstance(interval, timedelta) else repr(interval)
    policies = {"overlap": overlap, "misfire": misfire, "jitter": jitter}
    return _schedule(f"every({shown})", args, payload, name, policies)


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _schedule(
    text: str, args: Mapping[str, Any], payload: Any, name: str | None, policies: Mapping[str, Any]
) -> Schedule:
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()):
        raise SettingsError(f"{text}: name={name!r} is not a name: use 1 to 100 printable characters")
    own, now_ms = ScheduleSettings(), time.time_ns() // 1_000_000
    try:
        fields = DefinitionRequest.model_validate({"trigger_type": "LOOP", "trigger_args": dict(args), **policies})
        # The settings of the beat that fires it may allow shorter intervals.
        lenient = own.model_copy(update={"min_interval": 0.0})
        checked = checked_args(fields.trigger_type, fields.trigger_args, own=lenient, now_ms=None)
        spec = Spec(user_id=None, content="", trigger_args=checked, anchor_ms=now_ms, task=None, run={})
        check_timetable(fields, spec, now_ms, limits_of(own))
    except ValidationError as exc:
        wrong = InvalidSubmissionError(outer_violations(exc, DefinitionRequest))
        raise SettingsError(f"{text}: {wrong}") from exc
    except InvalidSubmissionError as exc:
        raise SettingsError(f"{text}: {str(exc).removeprefix('trigger_args.')}") from exc
    stored = {
        "trigger_args": checked,
        "overlap": fields.overlap.value,
        "misfire": fields.misfire.value,
        "jitter": fields.jitter,
    }
    return Schedule(text, stored, payload, name)
