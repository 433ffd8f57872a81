"""Statuses and times."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.model import FIRST_MS, LAST_MS, Claim, Status, ms_from_utc, rfc3339, utc_from_ms


def test_three_statuses_are_final() -> None:
    assert {status for status in Status if status.final} == {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("status", Status)
def test_a_status_equals_the_text_on_the_wire_and_is_stored_in_upper_case(status: Status) -> None:
    assert status == status.wire == status.value == str(status) == f"{status}" == status.name.lower()
    assert {status.wire: 1}[status] == 1
    assert status.stored == status.name
    assert Status(status.wire) is Status(status.stored) is status
    assert pickle.loads(pickle.dumps(status)) is status
    with pytest.raises(ValueError, match="is not a valid Status"):
        Status(f"{status} ")


@given(st.integers(FIRST_MS, LAST_MS))
def test_milliseconds_survive_the_way_to_a_moment_and_back(ms: int) -> None:
    assert ms_from_utc(utc_from_ms(ms)) == ms
    assert ms_from_utc(datetime.fromisoformat(rfc3339(utc_from_ms(ms)))) == pytest.approx(ms, abs=1)


def test_a_moment_is_written_in_utc() -> None:
    moment = datetime(2030, 1, 31, 8, 0, 0, 5000, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2030-01-31T06:00:00.005Z"
    assert utc_from_ms(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ms_from_utc(datetime(2030, 1, 1))


def test_a_retry_by_hand_starts_the_count_of_retries_again() -> None:
    first = Claim(
        task_id="t", fence="f", type="x", group="g", payload="{}", attempt=3, max_retries=2, attempts_allowed=3,
        user_id=None, metadata={}, timeout_ms=None,
    )  # fmt: skip
    assert first.retries == 2
    assert replace(first, attempt=4, attempts_allowed=6).retries == 0
    assert replace(first, attempt=6, attempts_allowed=6).retries == 2
