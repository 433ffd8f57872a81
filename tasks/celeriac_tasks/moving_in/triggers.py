"""What Celery's schedules are as triggers of definitions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from celery.schedules import crontab, schedule, solar

from celeriac.model import ms_from_utc
from celeriac.moments import MAX_DELAY_S
from celeriac.schedules.definition import TaskTriggerType
from celeriac.schedules.times.wall_clock import zone
from celeriac.settings import ScheduleSettings
from celeriac_tasks.beat_schedule import cron_args
from celeriac_tasks.moving_in.entries import SOLAR, Entry, NotImportableError

#: Classes of django-celery-beat; a project may be without it.
_ZONED_CRONTAB: Final = "django_celery_beat.tzcrontab.TzAwareCrontab"
_CLOCKED: Final = "django_celery_beat.clockedschedule.clocked"
_RRULE: Final = "redbeat.schedules.rrule"


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a definition fires, as its fields say it (milliseconds since the epoch)."""

    type: TaskTriggerType
    args: dict[str, Any]
    anchor_ms: int
    start_ms: int | None = None
    end_ms: int | None = None


def trigger_of(entry: Entry, *, timezone: tzinfo, now_ms: int, own: ScheduleSettings) -> Trigger:
    """Return the trigger with the next moments of the entry; `timezone` is the app's. Raises `NotImportableError`."""
    given = entry.schedule
    if isinstance(given, int | float | timedelta) and not isinstance(given, bool):
        given = schedule(given)
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    start_ms = None if entry.start_at is None else ms_from_utc(entry.start_at)
    if start_ms is not None and start_ms <= now_ms:
        # A start that has passed says nothing of the next moments.
        start_ms = None
    # It is disabled from that moment on.
    end_ms = None if entry.end_at is None else ms_from_utc(entry.end_at) - 1
    if end_ms is not None and end_ms <= now_ms:
        raise NotImportableError("it has expired, so it would never fire again")
    if kind == _CLOCKED:
        run_ms = ms_from_utc(given.clocked_time)
        if run_ms <= now_ms:
            raise NotImportableError("its moment has passed")
        args = {"run_at": given.clocked_time.astimezone(UTC).isoformat()}
        return Trigger(TaskTriggerType.SCHEDULED, args, now_ms, start_ms, end_ms)
    last_run = datetime.fromtimestamp(now_ms / 1000, UTC) if entry.last_run_at is None else entry.last_run_at
    if type(given) is crontab or kind == _ZONED_CRONTAB:
        args = _cron(given, timezone, own)
        return Trigger(TaskTriggerType.LOOP, args, now_ms, start_ms, end_ms)
    if type(given) is schedule:
        args, anchor = _interval(given, timezone, last_run, own)
        return Trigger(TaskTriggerType.LOOP, args, ms_from_utc(anchor), start_ms, end_ms)
    raise NotImportableError(_reason(given, kind))


def _reason(given: Any, kind: str) -> str:
    if isinstance(given, solar):
        return SOLAR
    if kind == _RRULE:
        return "it is an rrule, which a definition cannot express: leave it to celery beat, or write it as crontab"
    return f"its schedule is of the class {kind}, whose moments only its own code knows: leave it to celery beat"


def zone_name(given: tzinfo) -> str:
    """Return the IANA name of a time zone; raises `NotImportableError` for one that has none."""
    name = getattr(given, "key", None) or getattr(given, "zone", None) or str(given)
    try:
        zone(str(name))
    except ValueError as exc:
        raise NotImportableError(
            f"its time zone {name} has no IANA name: set `timezone` in the project's configuration to one such as"
            " Europe/Berlin"
        ) from exc
    return str(name)


def _cron(given: Any, timezone: tzinfo, own: ScheduleSettings) -> dict[str, Any]:
    zoned = type(given) is not crontab
    if given.nowfun is not None and not zoned:
        raise NotImportableError(
            "its crontab has a clock of its own (nowfun), whose time zone cannot be read: leave it to celery beat"
        )
    args = cron_args(given, zone_name(given.tz if zoned else timezone))
    if len(args["cron"]) > own.max_cron_length:
        args["cron"] = " ".join(_ranges(field) for field in args["cron"].split())
    return args


def _ranges(field: str) -> str:
    """Write a list of numbers with ranges, so that people can edit it: `0,5,10,15` becomes `0-15/5`."""
    if field == "*":
        return field
    numbers, parts = [int(number) for number in field.split(",")], []
    while numbers:
        length = _run_length(numbers)
        if length < 3:
            parts.append(str(numbers.pop(0)))
            continue
        step = numbers[1] - numbers[0]
        parts.append(f"{numbers[0]}-{numbers[length - 1]}" + ("" if step == 1 else f"/{step}"))
        numbers = numbers[length:]
    return ",".join(parts)


def _run_length(numbers: Sequence[int]) -> int:
    """Return how many of the first numbers have the same distance."""
    length = min(len(numbers), 2)
    while length < len(numbers) and numbers[length] - numbers[length - 1] == numbers[1] - numbers[0]:
        length += 1
    return length


def _interval(
    given: Any, timezone: tzinfo, last_run: datetime, own: ScheduleSettings
) -> tuple[dict[str, Any], datetime]:
    """Return the trigger's arguments and the moment from which the interval counts."""
    seconds, anchor = given.run_every.total_seconds(), last_run
    if not 0 < seconds <= MAX_DELAY_S:
        raise NotImportableError(f"its interval is {seconds:g} s: an interval is above zero, at most ten years")
    if given.relative and seconds >= timedelta(days=1).total_seconds():
        if given.run_every != timedelta(days=1):
            raise NotImportableError(
                "it is a relative interval of more than a day, which counts midnights: write it as crontab"
            )
        return {"cron": "0 0 * * *", "timezone": zone_name(timezone)}, last_run
    if given.relative and seconds >= 60:
        # Each moment is rounded down to a whole hour or minute.
        unit = 3600 if seconds >= 3600 else 60
        seconds = seconds // unit * unit
        local = last_run.astimezone(timezone)
        anchor = local.replace(second=0, microsecond=0, minute=0 if unit == 3600 else local.minute)
    if seconds < own.min_interval:
        raise NotImportableError(
            f"its interval of {seconds:g} s is shorter than `schedule.min_interval` ({own.min_interval:g} s)"
        )
    return {"interval": int(seconds) if seconds == int(seconds) else seconds}, anchor.astimezone(UTC)
