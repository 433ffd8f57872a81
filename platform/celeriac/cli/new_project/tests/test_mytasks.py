"""Tests of the tasks: each runs one attempt as a worker does, without a server."""

from __future__ import annotations

from celeriac import Status
from celeriac.testing import run_task

from mytasks import report


def test_a_report_has_as_many_pages_as_are_asked_for() -> None:
    outcome = run_task(report, {"customer": 7, "pages": 2})
    assert outcome.status is Status.COMPLETED
    assert outcome.result == {"customer": 7, "pages": 2}
    assert [progress.message for progress in outcome.progress] == ["page 1 of 2", "page 2 of 2"]


def test_an_unknown_customer_is_not_tried_again() -> None:
    outcome = run_task(report, {"customer": 0})
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "unknown_customer"
