"""What the schedules of a project become as triggers: they fire when the originals would."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from celery.utils.time import remaining

from celeriac.model import ms_from_utc, utc_from_ms
from celeriac.schedules.definition import Spec, timetable_of
from celeriac.schedules.times.budget import ComputeLimits
from celeriac.settings import ScheduleSettings
from celeriac_tasks.moving_in.entries import Entry, NotImportableError, ScheduleSource
from celeriac_tasks.moving_in.triggers import Trigger, trigger_of

BERLIN = ZoneInfo("Europe/Berlin")
#: A winter moment; the year after it has both changes of the clock.
START = datetime(2026, 1, 10, 11, 7, 30, tzinfo=UTC)
END = START + timedelta(days=365)


def entry_of(given: Any, **more: Any) -> Entry:
    return Entry(source=ScheduleSource.BEAT_SCHEDULE, name="x", task="x", schedule=given, **more)


def trigger(given: Any, *, timezone: Any = UTC, now: datetime = START, **more: Any) -> Trigger:
    own = ScheduleSettings()
    return trigger_of(entry_of(given, **more), timezone=timezone, now_ms=ms_from_utc(now), own=own)


def ours(found: Trigger, until: datetime) -> list[datetime]:
    """Return the moments at which the definition fires."""
    spec = Spec(
        user_id=None, content="", trigger_args=found.args, anchor_ms=found.anchor_ms, task=None, run={},
        start_ms=found.start_ms, end_ms=found.end_ms,
    )  # fmt: skip
    slots = timetable_of(found.type, spec, "", ComputeLimits().budget(10**6)).slots(ms_from_utc(START))
    return [utc_from_ms(slot) for slot in takewhile(lambda slot: slot < ms_from_utc(until), slots)]


def celerys(given: Any, timezone: Any, until: datetime) -> Iterator[datetime]:
    """Yield the moments at which Celery's beat fires a schedule if it is never late."""
    app = Celery(set_as_current=False)
    app.conf.timezone = timezone
    now = START
    given.app = app
    given.nowfun = lambda: now.astimezone(timezone)
    while True:
        # What `is_due` waits for, from a run at this moment.
        now += given.remaining_estimate(now.astimezone(timezone))
        if now >= until:
            return
        yield now


@pytest.mark.parametrize("timezone", [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")], ids=str)
@pytest.mark.parametrize(
    "fields",
    [
        {"minute": "30", "hour": "3"},
        {"minute": "0", "hour": "*/6"},
        {"minute": "0,20", "hour": "8-17", "day_of_week": "mon-fri"},
        {"minute": "15", "hour": "12", "day_of_month": "31"},
        {"minute": "0", "hour": "0", "day_of_month": "13", "day_of_week": "fri"},
        {"minute": "5", "hour": "4", "day_of_month": "*/10", "month_of_year": "2,8-12"},
        {"minute": "59", "hour": "23", "day_of_week": "sunday"},
    ],
    ids=str,
)
def test_a_crontab_fires_when_celerys_does_for_a_year(fields: dict[str, str], timezone: Any) -> None:
    found = ours(trigger(crontab(**fields), timezone=timezone), END)
    assert found == list(celerys(crontab(**fields), timezone, END))
    assert len(found) >= 1


def nights(moments: list[datetime]) -> list[str]:
    """Return the moments of the two nights in which the clocks of Berlin change, as these clocks show them."""
    days = {(3, 29), (10, 25)}
    local = [moment.astimezone(BERLIN) for moment in moments]
    return [f"{at:%m-%d %H:%M%z}" for at in local if (at.month, at.day) in days and at.hour < 4]


def test_in_the_nights_of_the_clock_changes_only_the_skipped_and_the_repeated_hour_differ() -> None:
    daily = crontab(minute="30", hour="2")
    assert nights(ours(trigger(daily, timezone=BERLIN), END)) == ["03-29 03:00+0200", "10-25 02:30+0200"]
    assert nights(list(celerys(daily, BERLIN, END))) == ["03-29 03:30+0200", "10-25 02:30+0200"]
    hourly = crontab(minute="0")
    mine, theirs = ours(trigger(hourly, timezone=BERLIN), END), list(celerys(hourly, BERLIN, END))
    # Celery lets an hour pass in the autumn; a definition does not.
    assert set(mine) - set(theirs) == {datetime(2026, 10, 25, 1, 0, tzinfo=UTC)}
    assert set(theirs) - set(mine) == set()


def test_an_interval_counts_from_the_last_run() -> None:
    last = START - timedelta(seconds=50)
    found = ours(trigger(schedule(90), last_run_at=last), START + timedelta(minutes=5))
    assert found == [last + timedelta(seconds=90 * n) for n in range(1, 4)]


@pytest.mark.parametrize("every", [timedelta(hours=1), timedelta(hours=6), timedelta(minutes=90), timedelta(minutes=5)])
def test_a_relative_interval_is_rounded_as_celerys_is(every: timedelta) -> None:
    found = ours(trigger(schedule(every, relative=True)), START + timedelta(days=2))
    moments, now = [], START
    while (now := now + remaining(now, every, now, relative=True)) < START + timedelta(days=2):
        moments.append(now)
    assert found == moments


def test_a_relative_interval_of_a_day_is_each_midnight_there() -> None:
    assert trigger(schedule(timedelta(days=1), relative=True), timezone=BERLIN).args == {
        "cron": "0 0 * * *",
        "timezone": "Europe/Berlin",
    }


def test_a_long_crontab_is_written_with_ranges_that_can_be_edited() -> None:
    minutes = ",".join(str(minute) for minute in range(60) if minute not in (7, 31))
    given = crontab(minute=minutes, hour="0-11,13-23", day_of_month="1-30", month_of_year="1-11")
    found = trigger(given)
    assert found.args["cron"] == "0-6,8-30,32-59 0-11,13-23 1-30 1-11 *"
    until = START + timedelta(days=3)
    assert ours(found, until) == list(celerys(given, UTC, until))


class Lunar(crontab):  # type: ignore[misc]
    """A schedule of a project's own."""


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Lunar(), "Lunar, whose moments only its own code knows"),
        (crontab(nowfun=datetime.now), "nowfun"),
        (schedule(timedelta(days=2), relative=True), "write it as crontab"),
        (0.01, "shorter than `schedule.min_interval`"),
        (-1, "above zero"),
        ("now and then", "only its own code knows"),
    ],
)
def test_what_a_definition_cannot_express_has_a_reason(given: Any, reason: str) -> None:
    with pytest.raises(NotImportableError, match=reason):
        trigger(given)


def test_a_zone_without_a_name_is_refused() -> None:
    with pytest.raises(NotImportableError, match="has no IANA name"):
        trigger(crontab(), timezone=timezone(timedelta(hours=3)))


def test_what_has_expired_is_not_imported() -> None:
    with pytest.raises(NotImportableError, match="it has expired"):
        trigger(schedule(5), end_at=START)
