"""Cron expressions: the same moments as another implementation, and what the wall clock shows on all days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celeriac.schedules.times.cron import Cron, CronExclusion
from celeriac.schedules.times.wall_clock import wall_of

BEGIN_S = 1_767_225_600  # 2026-01-01
#: Clocks change by an hour, by half an hour, at midnight, the other way round in winter, and never.
ZONES = ["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Europe/Dublin", "Asia/Kathmandu"]
#: The hours around changes of the clock in these zones, in 2026.
CHANGES = [
    round(datetime(2026, month, day, hour, tzinfo=UTC).timestamp())
    for month, day, hour in [
        (3, 29, 1),
        (10, 25, 1),
        (4, 4, 15),
        (10, 3, 15),
        (4, 5, 3),
        (9, 6, 4),
        (4, 23, 22),
        (10, 29, 21),
    ]
]


def numbers(first: int, last: int) -> st.SearchStrategy[str]:
    """Return fields of an expression."""
    one = st.integers(first, last)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.lists(one, min_size=2, max_size=4).map(lambda found: ",".join(map(str, found))),
        st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.integers(1, 7).map(lambda step: f"*/{step}"),
        st.tuples(one, st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


DAYS = st.one_of(numbers(1, 31), st.sampled_from(["L", "LW", "29", "31", "*/31"]))
WEEKDAYS = st.one_of(numbers(0, 7), st.sampled_from(["1#5", "5L", "MON-FRI", "0#1,3"]))
FIVE = st.tuples(numbers(0, 59), numbers(0, 23), DAYS, numbers(1, 12), WEEKDAYS).map(" ".join)
SIX = st.tuples(numbers(0, 59), FIVE).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(expression=st.one_of(FIVE, SIX), zone=st.sampled_from(["UTC", "Asia/Kathmandu"]), second=st.integers(0, 10**8))
def test_where_clocks_never_change_the_moments_are_those_of_cronsim(expression: str, zone: str, second: int) -> None:
    start = datetime.fromtimestamp(BEGIN_S + second, ZoneInfo(zone))
    try:
        expected = [round(moment.timestamp()) * 1000 for moment in islice(CronSim(expression, start), 4)]
    except CronSimError:
        assume(False)
    rule = Cron(expression, zone)
    found, ms = [], (BEGIN_S + second) * 1000
    while len(found) < 4 and (moment := rule.after(ms)) is not None:
        found.append(moment)
        ms = moment
    assert found == expected
    assert [rule.until(moment) for moment in found] == found
    assert [rule.until(moment - 1) for moment in found[1:]] == found[:-1]


@settings(deadline=None, max_examples=300)
@given(
    minute=numbers(0, 59).filter(lambda text: not text.startswith("*")),
    hour=numbers(0, 23).filter(lambda text: not text.startswith("*")),
    change=st.sampled_from(CHANGES),
    zone=st.sampled_from(ZONES),
    offset=st.integers(-20_000, 20_000),
)
def test_what_names_hour_and_minute_happens_once_on_the_days_the_clocks_change(
    minute: str, hour: str, change: int, zone: str, offset: int
) -> None:
    rule = Cron(f"{minute} {hour} * * *", zone)
    second = change + offset
    begin = datetime.fromtimestamp(second - 200_000, ZoneInfo(zone))
    moments = []
    for moment in CronSim(rule.expression, begin):
        moments.append(round(moment.timestamp()))
        if moments[-1] > second + 200_000:
            break
    later, earlier = [m for m in moments if m > second], [m for m in moments if m <= second]
    assert rule.after(second * 1000) == later[0] * 1000
    if earlier:
        assert rule.until(second * 1000) == max(earlier) * 1000


@settings(deadline=None, max_examples=150)
@given(
    second=st.sampled_from(["0", "*", "*/7", "30-40"]),
    minute=numbers(0, 59),
    hour=st.sampled_from(["*", "0", "1", "2", "1,3", "0-2", "23", "*/2"]),
    change=st.sampled_from(CHANGES),
    zone=st.sampled_from(ZONES),
    offset=st.integers(-9000, 9000),
)
def test_all_others_happen_whenever_the_wall_clock_shows_them(
    second: str, minute: str, hour: str, change: int, zone: str, offset: int
) -> None:
    expression = f"{second} {minute} {hour} * * *"
    rule, at = Cron(expression, zone), change + offset
    parsed = CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    named = [
        s
        for s in range(at - 5000, at + 5000)
        if (wall := wall_of(s, ZoneInfo(zone))).second in parsed.seconds
        and wall.minute in parsed.minutes
        and wall.hour in parsed.hours
    ]
    later, earlier = [s for s in named if s > at], [s for s in named if s <= at]
    after, until = rule.after(at * 1000), rule.until(at * 1000)
    assert after is not None
    assert until is not None
    assert after == later[0] * 1000 if later else after >= (at + 5000) * 1000
    assert until == earlier[-1] * 1000 if earlier else until < (at - 5000) * 1000

    exclusion = CronExclusion(rule)
    end, start = exclusion.end_of(at * 1000 + 500), exclusion.start_of(at * 1000 + 500)
    if at not in named:
        assert (end, start) == (None, None)
        return
    assert end is not None
    assert start is not None
    assert start <= at * 1000 < end
    left_out, inside = set(named), range(max(start // 1000, at - 5000), min(end // 1000 + 1, at + 5000))
    assert left_out.issuperset(inside), "nothing else is left out"
    if zone == "Asia/Kathmandu":
        assert {end // 1000 + 1, start // 1000 - 1}.isdisjoint(left_out), "all of it is left out at once"


def test_a_rule_that_names_every_second_is_left_out_at_once() -> None:
    exclusion = CronExclusion(Cron("* * * * * *"))
    assert exclusion.end_of(10**12) == 32_503_679_999_999
    assert exclusion.start_of(10**12) == 0
    nights = CronExclusion(Cron("* 22-23,0-5 * * *", "Europe/Berlin"))
    midnight = round(datetime(2026, 6, 1, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
    day = timedelta(days=1) // timedelta(milliseconds=1)
    assert nights.end_of(midnight) == midnight + day // 4 - 1
    assert nights.start_of(midnight) == midnight - day // 12


@pytest.mark.parametrize("expression", ["0 0 * 2 1#5", "0 0 29 2 */7", "0 0 29 2 0#5", "0 0 L 2 */6"])
def test_the_rarest_expressions_are_found(expression: str) -> None:
    rule, start = Cron(expression), datetime(2090, 3, 1, tzinfo=UTC)
    expected = round(next(CronSim(expression, start)).timestamp()) * 1000
    assert rule.after(round(start.timestamp()) * 1000) == expected
    assert rule.until(expected) == expected
