"""How many attempts end per minute."""

from __future__ import annotations

from celeriac.execution.end_rate import EndRate


def test_what_ended_in_the_last_minute_counts() -> None:
    rate = EndRate()
    assert rate.note(0, 0) == 0
    assert rate.note(10, 5) == 5
    assert rate.note(60, 30) == 30
    # Nothing ends from second 60 on. 25 ended since second 10, which is 80 seconds ago.
    assert rate.note(90, 30) == 18.8
    assert rate.note(120, 30) == 0


def test_one_minute_is_counted_where_it_is_asked_rarely() -> None:
    rate = EndRate()
    rate.note(0, 0)
    assert rate.note(120, 60) == 30


def test_a_count_that_falls_is_not_a_negative_rate() -> None:
    rate = EndRate()
    rate.note(0, 5)
    assert rate.note(10, 4) == 0


def test_few_counts_are_kept_however_often_it_is_asked() -> None:
    rate = EndRate()
    for tenth in range(6000):
        rate.note(tenth / 10, tenth)
    assert len(rate._noted) < 65
