"""What a question about a timetable may cost: steps are counted, rare rules are asked once, exclusions are jumped."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from celeriac.errors import InvalidSubmissionError
from celeriac.schedules import transitions
from celeriac.schedules.definition import (
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Open,
    Overlap,
    Spec,
    TaskTriggerType,
    timetable_of,
)
from celeriac.schedules.times.backlog import Misfire
from celeriac.schedules.times.budget import Budget, ComputeLimits, TimetableCostError
from celeriac.schedules.times.cron import Cron
from celeriac.schedules.times.trigger_args import checked_args
from celeriac.settings import ScheduleSettings

NOW_MS = 1_900_053_000_000
#: Odd and even seconds: together they leave out everything, and no jump over one is longer than a second.
NEVER = [{"cron": "*/2 * * * * *"}, {"cron": "1/2 * * * * *"}]
EVERY_SECOND = {"cron": "* * * * * *"}
RARE = {"cron": "0 0 * 2 1#5"}


def table(args: dict[str, Any], budget: Budget | None = None) -> Any:
    return timetable_of(TaskTriggerType.LOOP, spec(args), "", budget)


def spec(args: dict[str, Any], **more: Any) -> Spec:
    return Spec(user_id=None, content="", trigger_args=args, anchor_ms=NOW_MS, task=None, run={}, **more)


def steps(args: dict[str, Any], count: int) -> int:
    """Return how many steps it takes to find some slots."""
    budget = Budget(10**9, 10**9)
    list(islice(table(args, budget).slots(NOW_MS), count))
    return budget.spent


@pytest.mark.parametrize(
    "args",
    [
        {"rules": [EVERY_SECOND, *[RARE] * 49], "exclude": [EVERY_SECOND]},
        {"rules": [EVERY_SECOND, RARE], "exclude": [{"cron": "* * * * *"}]},
        {"cron": "0 0 29 2 0#5"},
        {"cron": "* * * * * *", "exclude": [{"from": "2030-01-01T00:00Z", "to": "2999-12-31T00:00Z"}]},
        {"interval": 0.1, "exclude": [{"cron": "* 0-23 * * *"}]},
        {"cron": "0 8 * * *", "exclude": [{"cron": "* * * * 1-6"}, {"cron": "* * 1-12,14-31 * *"}]},
    ],
)
def test_rare_rules_and_long_exclusions_take_few_steps(args: dict[str, Any]) -> None:
    assert steps(args, 2) < 1000


def test_a_rule_is_counted_once_even_if_it_is_written_many_times() -> None:
    assert steps({"rules": [RARE] * 50}, 3) == steps({"rules": [RARE]}, 3)


@pytest.mark.parametrize(
    ("args", "limits"),
    [
        ({"cron": "* * * * * *", "exclude": NEVER}, ComputeLimits(max_steps=1000, max_cpu_s=3600)),
        ({"cron": "* * * * * *", "exclude": NEVER}, ComputeLimits(max_steps=10**9, max_cpu_s=0.01)),
        (
            {"rules": [{"cron": f"{n} * * * * *"} for n in range(50)], "exclude": NEVER * 25},
            ComputeLimits(max_steps=1000, max_cpu_s=3600),
        ),
    ],
)
def test_what_takes_too_many_steps_or_too_long_is_refused(args: dict[str, Any], limits: ComputeLimits) -> None:
    with pytest.raises(TimetableCostError, match=r"too long to compute: .* Use fewer rules") as refused:
        table(args, limits.budget()).after(NOW_MS)
    assert isinstance(refused.value, InvalidSubmissionError)
    assert [violation.field for violation in refused.value.violations] == ["trigger_args"]


def test_a_rare_rule_is_searched_once_until_it_is_due() -> None:
    rule = Cron("0 0 * 2 1#5")
    first = rule.after(NOW_MS)
    assert first is not None
    assert rule.after(first - 1) == first
    assert rule.after(NOW_MS - 10**12) == Cron("0 0 * 2 1#5").after(NOW_MS - 10**12), "an earlier one is searched again"
    assert rule.after(first) == Cron("0 0 * 2 1#5").after(first)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"cron": ",".join(["0"] * 1000) + " * * * *"}, "cron"),
        ({"cron": "*" * 4_000_000}, "cron"),
        ({"rules": [{"interval": 60}] * 51}, "rules"),
        ({"rules": [{"cron": "x" * 251}]}, "rules.0.cron"),
        ({"interval": 60, "exclude": [{"cron": "* " * 1000}]}, "exclude.0.cron"),
        ({"interval": 60, "exclude": [{"date": "2" * 1_000_000}]}, "exclude.0.date"),
        ({"interval": 60, "exclude": [{"cron": 5}]}, "exclude.0.cron"),
        ({"interval": 60, "timezone": "A/" * 1_000_000}, "timezone"),
        ({"cron": "@" + "y" * 200}, "cron"),
        ({"interval": 60, "z" * 1_000_000: 1}, "z" * 100),
    ],
)
def test_long_arguments_are_refused_with_a_short_answer(args: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        checked_args(TaskTriggerType.LOOP, args, own=ScheduleSettings(), now_ms=NOW_MS)
    (violation,) = refused.value.violations
    assert violation.field == f"trigger_args.{field}"
    assert len(str(refused.value)) < 1000


def definition(args: dict[str, Any], slot_ms: int, **more: Any) -> Definition:
    return Definition(
        definition_id="d-1", rev=1, status=DefinitionStatus.ACTIVE, trigger_type=TaskTriggerType.LOOP, source="api",
        name=None, user_id=None, group="default", note=None, next_slot_ms=slot_ms, next_ms=slot_ms, created_ms=0,
        updated_ms=0, ended_ms=None, spec=spec(args, **more),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("misfire", "late_ms", "fired", "missed"),
    [("skip", 10**6, 0, 1), ("fire_once", 10**6, 1, 0), ("fire_all", 5, 1, 0)],
)
def test_a_definition_whose_next_slot_is_too_hard_to_find_deals_with_the_due_one_and_is_paused(
    misfire: str, late_ms: int, fired: int, missed: int
) -> None:
    due = definition({"cron": "* * * * * *", "exclude": NEVER}, NOW_MS, misfire=Misfire(misfire), overlap=Overlap.SKIP)
    decision = transitions.fire(due, Open(), NOW_MS + late_ms, most=10, max_buffered=10)
    assert [firing.slot_ms for firing in decision.firings] == [NOW_MS] * fired
    assert (decision.after.fired, decision.after.missed) == (fired, missed)
    assert (decision.after.status, decision.after.next_ms, decision.after.next_slot_ms) == ("PAUSED", None, None)
    assert decision.change is not None
    assert (decision.change.action, decision.change.actor) == ("pause", "celeriac")
    assert "too long to compute" in str(decision.after.note)

    with pytest.raises(TimetableCostError):
        transitions.resumed(decision.after, Open(), NOW_MS, actor="me", note=None)
    renamed = transitions.edited(
        decision.after, replace(decision.after, name="new"), Open(), NOW_MS, actor="me", changed={}
    )
    assert (renamed.after.name, renamed.after.status) == ("new", "PAUSED")


def test_a_long_absence_of_beats_exhausts_no_budget() -> None:
    two_weeks_ms = 14 * 86_400_000
    args = {"cron": "* * * * * *", "exclude": [{"cron": "* 0-7,20-23 * * *"}]}
    slot = table(args).after(NOW_MS - two_weeks_ms)
    decision = transitions.fire(
        definition(args, slot), Open(), NOW_MS, most=10, max_buffered=10, budget=ComputeLimits(max_cpu_s=3600).budget(4)
    )
    assert decision.after.status is DefinitionStatus.ACTIVE
    assert decision.after.missed >= 9_999
    assert decision.after.next_slot_ms == table(args).after(NOW_MS)
    assert [firing.slot_ms for firing in decision.firings] == [NOW_MS]


def test_a_new_definition_that_is_too_hard_to_compute_is_refused() -> None:
    new = definition({"cron": "* * * * * *", "exclude": NEVER}, 0)
    with pytest.raises(TimetableCostError):
        transitions.begun(new, NOW_MS, paused=False, change=DefinitionChange(NOW_MS, "create", "me", None, {}))
