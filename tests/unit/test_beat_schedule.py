"""What Celery's own schedules become as definitions."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from celery.schedules import crontab, schedule

from celeriac.model import rfc3339, utc_from_ms
from celeriac.schedules.definition import Spec, TaskTriggerType, timetable_of
from celeriac_tasks.beat_schedule import _trigger_args


def next_days(given: Any, count: int) -> list[str]:
    args = _trigger_args(given, "UTC")
    spec = Spec(user_id=None, content="", trigger_args=args, anchor_ms=0, task=None, run={})
    table = timetable_of(TaskTriggerType.LOOP, spec, "")
    return [rfc3339(utc_from_ms(slot))[:16] for slot in islice(table.slots(1_767_225_600_000), count)]


@pytest.mark.parametrize("given", [90, 90.0, timedelta(seconds=90), schedule(90), schedule(timedelta(seconds=90))])
def test_an_interval_stays_an_interval(given: Any) -> None:
    assert _trigger_args(given, "UTC") == {"interval": 90}


def test_a_crontab_is_the_same_moments() -> None:
    assert _trigger_args(crontab(), "Europe/Berlin") == {"cron": "* * * * *", "timezone": "Europe/Berlin"}
    assert next_days(crontab(minute="*/20", hour="3"), 3) == [
        "2026-01-01T03:00",
        "2026-01-01T03:20",
        "2026-01-01T03:40",
    ]
    assert next_days(crontab(minute="0", hour="8", day_of_week="mon,fri"), 2) == [
        "2026-01-02T08:00",
        "2026-01-05T08:00",
    ]


def test_a_crontab_with_day_and_weekday_wants_both_as_celery_does() -> None:
    friday_the_13th = crontab(minute="0", hour="0", day_of_month="13", day_of_week="fri")
    assert next_days(friday_the_13th, 3) == ["2026-02-13T00:00", "2026-03-13T00:00", "2026-11-13T00:00"]


def test_what_is_neither_is_refused() -> None:
    for given in ("now and then", 0, True, None):
        with pytest.raises(ValueError, match="neither an interval nor a crontab"):
            _trigger_args(given, "UTC")
