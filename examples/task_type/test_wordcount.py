"""Tests of the handler that take milliseconds each, and one run on the real platform."""

from __future__ import annotations

import pytest
from wordcount import wordcount

from celeriac import Client, Status
from celeriac.errors import InvalidSubmissionError
from celeriac.testing import run_task


def test_it_counts_and_says_how_far_it_is() -> None:
    outcome = run_task(wordcount, {"text": "to be or\nnot to be", "top": 2})
    assert outcome.result == {"to": 2, "be": 2}
    assert [report.percentage for report in outcome.progress] == [0, 50]


def test_an_empty_text_is_not_tried_again() -> None:
    outcome = run_task(wordcount, {"text": ""})
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "empty_text"


def test_nobody_can_ask_for_no_words() -> None:
    with pytest.raises(InvalidSubmissionError, match=r"payload\.top"):
        run_task(wordcount, {"text": "to be", "top": 0})


def test_it_stops_when_it_is_cancelled() -> None:
    # The text is long enough for the cancellation to arrive in time: a plain function is at most 1,000 reports ahead.
    text = "word\n" * 100_000
    outcome = run_task(wordcount, {"text": text}, cancel_when=lambda report: report.percentage >= 10)
    assert outcome.status is Status.CANCELLED
    assert len(outcome.progress) < 100_000


def test_it_runs_on_the_platform(celeriac_client: Client) -> None:
    assert celeriac_client.submit("wordcount", {"text": "to be or not to be", "top": 1}).result(timeout=60) == {"to": 2}
