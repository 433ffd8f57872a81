"""The maths of schedules: phase, daylight saving, exclusions, misfires, jitter."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.schedules.times.backlog import Misfire, MisfirePolicy, backlog_of
from celeriac.schedules.times.cron import Cron, CronExclusion, cron_of
from celeriac.schedules.times.rules import Interval, Once, RangeExclusion, day_exclusion
from celeriac.schedules.times.timetable import MOST_COUNTED, Timetable

MOMENTS = st.integers(0, 4_102_444_800_000)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def shown(moments: list[int], zone: str) -> list[str]:
    return [datetime.fromtimestamp(m / 1000, ZoneInfo(zone)).isoformat() for m in moments]


def first(rule: object, after: str, count: int) -> list[int]:
    table = Timetable((rule,))  # type: ignore[arg-type]
    slots = table.slots(ms(after))
    return [next(slots) for _ in range(count)]


# --- intervals


@settings(deadline=None)
@given(every_us=st.integers(1000, 10**10), anchor=MOMENTS, at=MOMENTS, start=st.integers(0, 1))
def test_an_interval_keeps_its_phase_for_ever(every_us: int, anchor: int, at: int, start: int) -> None:
    rule = Interval(every_us, anchor, start)
    following = rule.after(at)
    if following is None:
        return
    assert following > at
    number = round((following - anchor) * 1000 / every_us)
    assert following in {anchor + n * every_us // 1000 for n in (number - 1, number, number + 1)}
    before = rule.until(at)
    assert before is None or before <= at
    if before is not None:
        assert rule.after(before) == following
        assert rule.count(before, following) == 2
    assert rule.until(following) == following


def test_a_third_of_a_second_makes_three_slots_in_each_second() -> None:
    rule = Interval(333_333, 0)
    assert rule.count(1, 1_000_000_000) == pytest.approx(3_000_003, abs=1)


# --- cron and daylight saving: both days of the year in three zones


@pytest.mark.parametrize(
    ("zone", "day_before", "expected"),
    [
        ("Europe/Berlin", "2026-03-28T12:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("Europe/Berlin", "2026-10-24T12:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("America/New_York", "2026-03-07T12:00-05:00", ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]),
        ("America/New_York", "2026-10-31T12:00-04:00", ["2026-11-01T02:30:00-05:00", "2026-11-02T02:30:00-05:00"]),
        ("Australia/Lord_Howe", "2026-10-03T12:00+10:30", ["2026-10-04T02:30:00+11:00", "2026-10-05T02:30:00+11:00"]),
        ("Australia/Lord_Howe", "2026-04-04T12:00+11:00", ["2026-04-05T02:30:00+10:30", "2026-04-06T02:30:00+10:30"]),
    ],
)
def test_half_past_two_runs_once_on_the_days_the_clocks_change(zone: str, day_before: str, expected: list[str]) -> None:
    assert shown(first(Cron("30 2 * * *", zone), day_before, 2), zone) == expected


@pytest.mark.parametrize(
    ("zone", "begin", "end", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", 23),
        ("Europe/Berlin", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00", 25),
        ("America/New_York", "2026-03-08T00:00-05:00", "2026-03-09T00:00-04:00", 23),
        ("America/New_York", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00", 25),
        ("Australia/Sydney", "2026-10-04T00:00+10:00", "2026-10-05T00:00+11:00", 23),
        ("Australia/Sydney", "2026-04-05T00:00+11:00", "2026-04-06T00:00+10:00", 25),
    ],
)
def test_every_half_hour_runs_in_each_hour_there_is(zone: str, begin: str, end: str, hours: int) -> None:
    slots = list(Timetable((Cron("*/30 * * * *", zone),)).slots(ms(begin) - 1, ms(end) - 1))
    assert len(slots) == 2 * hours
    assert {b - a for a, b in pairwise(slots)} == {1_800_000}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "15 1,2,3 * * *", "*/20 * * * *", "*/7 30 1-3 * * *", "0 0 L * *"]
)
@settings(deadline=None)
@given(days=st.integers(0, 800), seconds=st.integers(0, 86_400))
def test_cron_only_goes_forward_and_agrees_with_itself(zone: str, expression: str, days: int, seconds: int) -> None:
    at = ms("2026-01-01T00:00+00:00") + (days * 86_400 + seconds) * 1000
    rule = Cron(expression, zone)
    following = rule.after(at)
    assert following is not None
    assert following > at
    assert rule.after(following - 1) == following, "no moment lies between"
    assert rule.until(following) == following


def test_cron_knows_what_crons_know() -> None:
    assert shown(first(cron_of("@hourly", "UTC"), "2026-01-01T00:30+00:00", 1), "UTC") == ["2026-01-01T01:00:00+00:00"]
    # Day of month or day of week, where both are named.
    both = first(cron_of("0 0 13 * 5", "UTC"), "2026-02-28T00:00+00:00", 3)
    assert shown(both, "UTC") == [f"2026-03-{day}T00:00:00+00:00" for day in ("06", "13", "20")]
    assert shown(first(cron_of("0 9 L * *", "UTC"), "2028-02-01T00:00+00:00", 1), "UTC") == [
        "2028-02-29T09:00:00+00:00"
    ]
    assert first(cron_of("*/10 * * * * *", "UTC"), "2026-01-01T00:00+00:00", 1)[0] % 60_000 == 10_000


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "@never", "0 0 31 2 *", "a b c d e", "* * * * * * *"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cron|fields|nickname"):
        cron_of(text, "UTC")


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="IANA"):
        cron_of("* * * * *", "Mars/Olympus")


# --- several rules, exclusions, bounds


def test_several_rules_share_a_slot_and_exclusions_leave_out() -> None:
    begin = ms("2026-12-24T00:00+00:00")
    table = Timetable(
        (Cron("0 8 * * *"), Cron("0 8,20 * * *"), Once(begin + 1)),
        (day_exclusion(date(2026, 12, 25), "UTC"), CronExclusion(Cron("* 20 24 12 *"))),
        end_ms=ms("2026-12-26T08:00+00:00"),
    )
    assert shown(list(table.slots(begin)), "UTC") == [
        "2026-12-24T00:00:00.001000+00:00",
        "2026-12-24T08:00:00+00:00",
        "2026-12-26T08:00:00+00:00",
    ]


def test_what_is_always_left_out_is_never() -> None:
    assert Timetable((Interval(10**6, 0),), (CronExclusion(Cron("* * * * *")),)).after(0) is None
    assert Timetable((Interval(10**6, 0),), (RangeExclusion(0, 10_000),)).after(0) == 10_000


@settings(deadline=None)
@given(slot=MOMENTS, jitter=st.integers(0, 10**6), seed=st.text(max_size=5))
def test_jitter_is_bounded_and_always_the_same(slot: int, jitter: int, seed: str) -> None:
    table = Timetable((Once(slot),), jitter_ms=jitter, seed=seed)
    assert slot <= table.due(slot) <= slot + jitter
    assert table.due(slot) == Timetable((Once(slot),), jitter_ms=jitter, seed=seed).due(slot)


# --- misfires


HOUR = 3_600_000


@pytest.mark.parametrize("rule", [Interval(60_000_000, 0), Cron("* * * * *")])
@pytest.mark.parametrize(
    ("policy", "fired", "missed"),
    [
        (MisfirePolicy(Misfire.SKIP), [], 60),
        (MisfirePolicy(Misfire.FIRE_ONCE), [HOUR], 59),
        (MisfirePolicy(Misfire.FIRE_ALL), list(range(60_000, HOUR + 1, 60_000)), 0),
        (MisfirePolicy(Misfire.FIRE_ALL, window_ms=600_000), list(range(HOUR - 540_000, HOUR + 1, 60_000)), 50),
    ],
)
def test_an_hour_without_a_beat(rule: object, policy: MisfirePolicy, fired: list[int], missed: int) -> None:
    table = Timetable((rule,))  # type: ignore[arg-type]
    found = backlog_of(table, 60_000, HOUR + 30_000, policy, most=1000)
    assert list(found.fire) == fired
    assert found.missed == missed
    assert found.following == HOUR + 60_000


@pytest.mark.parametrize("misfire", list(Misfire))
def test_a_short_pause_is_no_misfire(misfire: Misfire) -> None:
    table = Timetable((Interval(1_000_000, 0),))
    found = backlog_of(table, 1000, 5999, MisfirePolicy(misfire), most=1000)
    assert (found.fire, found.missed, found.following) == ((1000, 2000, 3000, 4000, 5000), 0, 6000)
    some = backlog_of(table, 1000, 5999, MisfirePolicy(misfire), most=2)
    assert (some.fire, some.following) == ((1000, 2000), 3000)


@settings(deadline=None)
@given(
    every_ms=st.integers(100, 100_000),
    jitter=st.integers(0, 200_000),
    now=st.integers(0, 5_000_000),
    misfire=st.sampled_from(list(Misfire)),
    window=st.integers(1000, 10_000_000),
    rules=st.integers(1, 2),
)
def test_every_slot_is_fired_or_missed_exactly_once(
    every_ms: int, jitter: int, now: int, misfire: Misfire, window: int, rules: int
) -> None:
    table = Timetable((Interval(every_ms * 1000, 0), Interval(7_777_000, 5))[:rules], jitter_ms=jitter, seed="d")
    policy = MisfirePolicy(misfire, window_ms=window)
    slot = table.after(0)
    fired: list[int] = []
    missed, at = 0, 0
    while at < now:
        at = min(at + now // 3 + 1, now)
        while slot is not None and table.due(slot) <= at:
            found = backlog_of(table, slot, at, policy, most=50)
            fired += found.fire
            missed += found.missed
            slot = found.following
    assert slot is not None
    assert fired == sorted(set(fired))
    assert all(table.due(done) <= now for done in fired)
    passed = len(list(table.slots(0, slot - 1)))
    if rules == 1 or passed < MOST_COUNTED:
        assert missed + len(fired) == passed
    else:
        # Of several rules a gap of more than that is counted as that.
        assert MOST_COUNTED <= missed + len(fired) <= passed


def test_a_year_of_seconds_is_skipped_at_once() -> None:
    year = 365 * 86_400_000
    by_interval = backlog_of(Timetable((Interval(1_000_000, 0),)), 1000, year, MisfirePolicy(), most=10)
    assert (by_interval.fire, by_interval.missed) == ((year,), 365 * 86_400 - 1)
    by_cron = backlog_of(Timetable((Cron("* * * * * *"),)), 1000, year, MisfirePolicy(), most=10)
    assert by_cron.fire == (year,)
    assert by_cron.missed > 1000
