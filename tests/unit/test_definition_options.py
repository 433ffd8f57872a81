"""The options of `celeriac definitions create`: what they mean together, and which exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.cli.commands.definitions import _option, _what, _when
from celeriac.errors import InvalidSubmissionError


@pytest.mark.parametrize(
    ("given", "document"),
    [
        (("report", None, None, None, None), {"task": {"type": "report"}}),
        (
            ("report", '{"n": 1}', None, None, "slow"),
            {"task": {"type": "report", "payload": {"n": 1}, "queue": "slow"}},
        ),
        ((None, None, "look", None, None), {"content": "look"}),
        ((None, None, "look", None, "gpu"), {"content": "look", "group": "gpu"}),
        ((None, None, None, '{"type": "report", "priority": 3}', None), {"task": {"type": "report", "priority": 3}}),
    ],
)
def test_what_runs(given: tuple[str | None, ...], document: dict[str, Any]) -> None:
    assert _what(*given) == document  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, None, None, None), "it is missing what runs: give --type TYPE (with --payload), --task JSON, or"),
        (("report", None, "look", None, None), "--type and --content exclude each other: give --type"),
        ((None, None, "look", "{}", None), "--content and --task exclude each other: give --type"),
        ((None, "{}", "look", None, None), "--payload: belongs to a --type"),
        (("report", "{", None, None, None), "--payload: "),
        ((None, None, None, "[]", None), "task: must be a JSON object"),
    ],
)
def test_what_cannot_run(given: tuple[str | None, ...], said: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        _what(*given)  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_when_it_runs() -> None:
    assert _when(None, None, None, None) == {"trigger_type": "IMMEDIATE", "trigger_args": {}}
    assert _when("30s", None, None, None) == {"trigger_type": "LOOP", "trigger_args": {"interval": "30s"}}
    assert _when(None, "@daily", None, "Europe/Berlin") == {
        "trigger_type": "LOOP",
        "trigger_args": {"cron": "@daily", "timezone": "Europe/Berlin"},
    }
    assert _when(None, None, "2030-01-31T08:00", "UTC")["trigger_type"] == "SCHEDULED"
    for given, said in (
        (("30s", "@daily", None, None), "--every, --cron and --at exclude each other"),
        (("30s", None, None, "UTC"), "--timezone: has no meaning without --cron or --at"),
    ):
        with pytest.raises(InvalidSubmissionError, match=said):
            _when(*given)


def test_errors_name_options() -> None:
    assert _option("task.payload.customer") == "--payload.customer"
    assert _option("trigger_args.interval") == "--every"
    assert _option("task.payloads") == "task.payloads"
