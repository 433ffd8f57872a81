"""Checks the arguments of triggers as callers write them; errors name the wrong field. Pure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.moments import FIRST, LAST, MAX_DELAY_S, bounded_ms
from celeriac.schedules.definition import TaskTriggerType, moment_of
from celeriac.schedules.times.cron import cron_of
from celeriac.schedules.times.wall_clock import zone
from celeriac.settings import ScheduleSettings, parse_duration_s
from celeriac.tasks.record import plain_number


def checked_args(
    trigger_type: TaskTriggerType, given: Mapping[str, Any] | None, *, own: ScheduleSettings, now_ms: int | None
) -> dict[str, Any]:
    """Return the trigger's arguments, JSON-ready; raises `InvalidSubmissionError` about `trigger_args.FIELD`.

    `own` has the limits. A moment must be later than `now_ms`; with None, it may
    be in the past.
    """
    args = {name: _plain(value) for name, value in (given or {}).items() if value is not None}
    match trigger_type:
        case TaskTriggerType.IMMEDIATE:
            _only(args, ())
        case TaskTriggerType.SCHEDULED:
            _only(args, ("run_at", "run_date", "timezone"))
            _timezone(args)
            name = "run_date" if "run_date" in args and "run_at" not in args else "run_at"
            if name not in args:
                raise _wrong("run_at", "is required: the moment at which it runs")
            if "run_at" in args and "run_date" in args:
                raise _wrong("run_date", "means the same as run_at: give only one of them")
            run_ms = _moment(name, args[name], args.get("timezone"))
            if now_ms is not None and run_ms <= now_ms:
                raise _wrong(name, "is in the past: give a moment in the future")
        case TaskTriggerType.LOOP:
            _check_loop(args, own)
    return args


def in_seconds(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger's arguments with those durations in seconds that are written `30s` or `1h30m`."""
    found = {name: _seconds(value) if name in ("interval", "offset") else value for name, value in args.items()}
    if isinstance(rules := found.get("rules"), list):
        found["rules"] = [in_seconds(rule) if isinstance(rule, Mapping) else rule for rule in rules]
    return found


def _seconds(value: Any) -> Any:
    # `checked_args` says what is wrong with another text.
    with contextlib.suppress(ValueError):
        return plain_number(parse_duration_s(value)) if isinstance(value, str) else value
    return value


def _check_loop(args: dict[str, Any], own: ScheduleSettings) -> None:
    _only(args, ("interval", "offset", "cron", "cron_expression", "rules", "timezone", "exclude"))
    _timezone(args)
    if "rules" in args:
        if extra := [name for name in ("interval", "offset", "cron", "cron_expression") if name in args]:
            raise _wrong(extra[0], "is not possible beside rules: put it into one of them")
        rules = _objects(args, "rules", own)
        if not rules:
            raise _wrong("rules", "must not be empty")
        for i, rule in enumerate(rules):
            _only(rule, ("interval", "offset", "cron", "cron_expression", "timezone"), f"rules.{i}.")
            _timezone(rule, f"rules.{i}.")
            _check_rule(rule, own, f"rules.{i}.")
    else:
        _check_rule(args, own, "")
    for i, entry in enumerate(_objects(args, "exclude", own)):
        _check_exclusion(entry, own, f"exclude.{i}", args.get("timezone"))


def _check_rule(rule: dict[str, Any], own: ScheduleSettings, at: str) -> None:
    kinds = [name for name in ("interval", "cron", "cron_expression") if name in rule]
    if not kinds:
        raise _wrong(f"{at}interval", "is required: the time between two runs; or give `cron` instead")
    if len(kinds) > 1:
        raise _wrong(f"{at}{kinds[1]}", f"is not possible together with {kinds[0]}: give only one of them")
    value = rule[kinds[0]]
    if kinds[0] != "interval":
        if "offset" in rule:
            raise _wrong(f"{at}offset", "is only possible with an interval")
        _check_cron(value, own, f"{at}{kinds[0]}")
        return
    if not _is_number(value) or not 0 < value <= MAX_DELAY_S:
        raise _wrong(f"{at}interval", "must be a duration above zero, at most ten years: seconds, or 30s, 10m, 1h30m")
    if value < own.min_interval:
        raise _wrong(f"{at}interval", f"is shorter than this installation allows ({own.min_interval:g} s)")
    if "offset" in rule and not (_is_number(rule["offset"]) and 0 <= rule["offset"] < value):
        raise _wrong(f"{at}offset", "must be a duration from zero to below the interval: seconds, or 30s, 10m")


def _check_cron(value: Any, own: ScheduleSettings, at: str) -> None:
    if not isinstance(value, str):
        raise _wrong(at, "must be a text such as '0 8 * * *'")
    if len(value) > own.max_cron_length:
        raise _wrong(
            at, f"has {len(value)} characters, above the limit of {own.max_cron_length}: write ranges such as 0-29/2"
        )
    try:
        cron_of(value, "UTC")
    except ValueError as exc:
        raise _wrong(at, str(exc)) from exc


def _check_exclusion(entry: dict[str, Any], own: ScheduleSettings, at: str, timezone: str | None) -> None:
    _only(entry, ("cron", "date", "from", "to", "timezone"), f"{at}.")
    _timezone(entry, f"{at}.")
    if sorted(set(entry) - {"timezone"}) not in (["cron"], ["date"], ["from", "to"]):
        raise _wrong(at, "must have exactly one of: cron; date; from and to")
    if "from" in entry:
        zone_name = entry.get("timezone") or timezone
        if _moment(f"{at}.from", entry["from"], zone_name) >= _moment(f"{at}.to", entry["to"], zone_name):
            raise _wrong(f"{at}.to", "must be after `from`")
        return
    if "cron" in entry:
        _check_cron(entry["cron"], own, f"{at}.cron")
        return
    try:
        day = date.fromisoformat(entry["date"])
    except (ValueError, TypeError) as exc:
        raise _wrong(f"{at}.date", "must be a day such as 2030-12-24") from exc
    if not FIRST.date() <= day <= LAST.date():
        raise _wrong(f"{at}.date", "is not between 1970-01-01 and 2999-12-31: give a day from these years")


def _wrong(name: str, message: str) -> InvalidSubmissionError:
    return InvalidSubmissionError([Violation(f"trigger_args.{name}", message)])


def _only(args: dict[str, Any], known: tuple[str, ...], at: str = "") -> None:
    for name in args:
        if name not in known:
            names = f"known are: {', '.join(known)}" if known else "this trigger has no arguments"
            raise _wrong(f"{at}{str(name)[:100]}", f"is not an argument of this trigger; {names}")


def _objects(args: dict[str, Any], name: str, own: ScheduleSettings) -> list[dict[str, Any]]:
    found = args.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _wrong(name, "must be a list of objects")
    if len(found) > own.max_rules:
        raise _wrong(name, f"has {len(found)} entries, above the limit of {own.max_rules}")
    return found


def _timezone(args: dict[str, Any], at: str = "") -> None:
    if "timezone" in args:
        try:
            zone(args["timezone"])
        except (ValueError, TypeError) as exc:
            raise _wrong(f"{at}timezone", str(exc)) from exc


def _moment(name: str, value: Any, timezone: str | None) -> int:
    try:
        return bounded_ms(moment_of(value, timezone))
    except ValueError as exc:
        raise _wrong(name, str(exc)) from exc


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    # From Python the values may be dates.
    return value.isoformat() if isinstance(value, date | datetime) else value
