"""Checks the arguments of triggers as callers write them; errors name the wrong field. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.moments import FIRST, LAST, MAX_DELAY_S, bounded_ms
from celeriac.schedules.definition import TaskTriggerType, moment_of
from celeriac.schedules.times.rules import cron_of, zone

#: Most rules, and most exclusions, of one definition.
MAX_RULES: Final = 50


def checked_args(
    trigger_type: TaskTriggerType, given: Mapping[str, Any] | None, *, min_interval_s: float, now_ms: int | None
) -> dict[str, Any]:
    """Return the trigger's arguments, JSON-ready; raises `InvalidSubmissionError` about `trigger_args.FIELD`.

    `min_interval_s` is the shortest interval that is accepted. A moment must be later than `now_ms`; with None, it may
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
            _check_loop(args, min_interval_s)
    return args


def _check_loop(args: dict[str, Any], min_interval_s: float) -> None:
    _only(args, ("interval", "offset", "cron", "cron_expression", "rules", "timezone", "exclude"))
    _timezone(args)
    if "rules" in args:
        if own := [name for name in ("interval", "offset", "cron", "cron_expression") if name in args]:
            raise _wrong(own[0], "is not possible beside rules: put it into one of them")
        rules = _objects(args, "rules")
        if not rules:
            raise _wrong("rules", "must not be empty")
        for i, rule in enumerate(rules):
            _only(rule, ("interval", "offset", "cron", "cron_expression", "timezone"), f"rules.{i}.")
            _timezone(rule, f"rules.{i}.")
            _check_rule(rule, min_interval_s, f"rules.{i}.")
    else:
        _check_rule(args, min_interval_s, "")
    for i, entry in enumerate(_objects(args, "exclude")):
        _check_exclusion(entry, f"exclude.{i}", args.get("timezone"))


def _check_rule(rule: dict[str, Any], min_interval_s: float, at: str) -> None:
    kinds = [name for name in ("interval", "cron", "cron_expression") if name in rule]
    if not kinds:
        raise _wrong(f"{at}interval", "is required: seconds between two runs; or give `cron` instead")
    if len(kinds) > 1:
        raise _wrong(f"{at}{kinds[1]}", f"is not possible together with {kinds[0]}: give only one of them")
    value = rule[kinds[0]]
    if kinds[0] != "interval":
        if "offset" in rule:
            raise _wrong(f"{at}offset", "is only possible with an interval")
        if not isinstance(value, str):
            raise _wrong(f"{at}{kinds[0]}", "must be a text such as '0 8 * * *'")
        try:
            cron_of(value, "UTC")
        except ValueError as exc:
            raise _wrong(f"{at}{kinds[0]}", str(exc)) from exc
        return
    if not _is_number(value) or not 0 < value <= MAX_DELAY_S:
        raise _wrong(f"{at}interval", "must be a number of seconds above zero, at most ten years")
    if value < min_interval_s:
        raise _wrong(f"{at}interval", f"is shorter than this installation allows ({min_interval_s:g} s)")
    if "offset" in rule and not (_is_number(rule["offset"]) and 0 <= rule["offset"] < value):
        raise _wrong(f"{at}offset", "must be a number of seconds from zero to below the interval")


def _check_exclusion(entry: dict[str, Any], at: str, timezone: str | None) -> None:
    _only(entry, ("cron", "date", "from", "to", "timezone"), f"{at}.")
    _timezone(entry, f"{at}.")
    if sorted(set(entry) - {"timezone"}) not in (["cron"], ["date"], ["from", "to"]):
        raise _wrong(at, "must have exactly one of: cron; date; from and to")
    if "from" in entry:
        zone_name = entry.get("timezone") or timezone
        if _moment(f"{at}.from", entry["from"], zone_name) >= _moment(f"{at}.to", entry["to"], zone_name):
            raise _wrong(f"{at}.to", "must be after `from`")
        return
    try:
        if "cron" in entry:
            cron_of(entry["cron"], "UTC")
        else:
            day = date.fromisoformat(entry["date"])
            if not FIRST.date() <= day <= LAST.date():
                raise ValueError("is not between 1970-01-01 and 2999-12-31: give a day from these years")
    except (ValueError, TypeError, AttributeError) as exc:
        name = "cron" if "cron" in entry else "date"
        raise _wrong(f"{at}.{name}", str(exc)) from exc


def _wrong(name: str, message: str) -> InvalidSubmissionError:
    return InvalidSubmissionError([Violation(f"trigger_args.{name}", message)])


def _only(args: dict[str, Any], known: tuple[str, ...], at: str = "") -> None:
    for name in args:
        if name not in known:
            names = f"known are: {', '.join(known)}" if known else "this trigger has no arguments"
            raise _wrong(f"{at}{str(name)[:100]}", f"is not an argument of this trigger; {names}")


def _objects(args: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = args.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _wrong(name, "must be a list of objects")
    if len(found) > MAX_RULES:
        raise _wrong(name, f"has {len(found)} entries, above the limit of {MAX_RULES}")
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
