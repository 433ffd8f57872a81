"""An edit keeps what it does not name: the arguments of the trigger and the fields of the task too."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.schedules.definition import Definition, DefinitionStatus, Spec, TaskTriggerType
from celeriac.schedules.editing import edited_document, is_checked_again, keeps_phase, request_document
from celeriac.schedules.request import DefinitionRequest, read_definition

CRON = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "exclude": [{"date": "2030-12-25"}]}
EVERY = {"interval": 60, "offset": 5, "timezone": "Asia/Kathmandu"}
RULES = {"rules": [{"cron": "0 8 * * *"}, {"interval": 90}], "timezone": "Europe/Berlin"}
ONCE = {"run_date": "2030-01-31T08:00:00", "timezone": "Asia/Kathmandu"}
TASK = {"type": "thing", "payload": {"a": 1, "key": "s"}, "queue": "media", "priority": 3, "tags": ["x"]}


def known(kind: str, args: dict[str, Any], task: dict[str, Any] | None = None) -> Definition:
    """Return a definition."""
    run = {"group": "media", "secret_fields": ["key"]}
    spec = Spec(user_id="7", content="look", trigger_args=args, anchor_ms=0, task=task, run=run)
    return Definition(
        definition_id="d", rev=1, status=DefinitionStatus.ACTIVE, trigger_type=TaskTriggerType(kind), source="api",
        name="n", user_id="7", group="media", spec=spec, note=None, next_slot_ms=None, next_ms=None, created_ms=0,
        updated_ms=0, ended_ms=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "before", "edit", "after"),
    [
        ("LOOP", CRON, {"cron": "0 4 * * *"}, {**CRON, "cron": "0 4 * * *"}),
        ("LOOP", CRON, {"timezone": "UTC"}, {**CRON, "timezone": "UTC"}),
        ("LOOP", CRON, {"timezone": None}, {"cron": CRON["cron"], "exclude": CRON["exclude"]}),
        ("LOOP", CRON, {"exclude": []}, {**CRON, "exclude": []}),
        ("LOOP", CRON, {"exclude": None}, {"cron": CRON["cron"], "timezone": "Europe/Berlin"}),
        ("LOOP", CRON, {"cron_expression": "@daily"},
         {"cron_expression": "@daily", "timezone": "Europe/Berlin", "exclude": CRON["exclude"]}),
        ("LOOP", CRON, {"interval": 9}, {"interval": 9, "timezone": "Europe/Berlin", "exclude": CRON["exclude"]}),
        ("LOOP", CRON, {}, CRON),
        ("LOOP", EVERY, {"interval": 120}, {**EVERY, "interval": 120}),
        ("LOOP", EVERY, {"offset": 7}, {**EVERY, "offset": 7}),
        ("LOOP", EVERY, {"offset": None}, {"interval": 60, "timezone": "Asia/Kathmandu"}),
        ("LOOP", EVERY, {"cron": "@daily"}, {"cron": "@daily", "timezone": "Asia/Kathmandu"}),
        ("LOOP", EVERY, {"rules": RULES["rules"]}, {"rules": RULES["rules"], "timezone": "Asia/Kathmandu"}),
        ("LOOP", RULES, {"interval": 5}, {"interval": 5, "timezone": "Europe/Berlin"}),
        ("LOOP", RULES, {"interval": 5, "offset": 1}, {"interval": 5, "offset": 1, "timezone": "Europe/Berlin"}),
        ("SCHEDULED", ONCE, {"run_at": "2031-01-01T00:00:00"},
         {"run_at": "2031-01-01T00:00:00", "timezone": "Asia/Kathmandu"}),
        ("SCHEDULED", ONCE, {"timezone": "UTC"}, {**ONCE, "timezone": "UTC"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("names_type", [False, True])
def test_arguments_that_an_edit_does_not_name_stay(
    kind: str, before: dict[str, Any], edit: dict[str, Any], after: dict[str, Any], names_type: bool
) -> None:
    document = {"trigger_args": edit, **({"trigger_type": kind.lower()} if names_type else {})}
    assert edited_document(known(kind, before), document)["trigger_args"] == after


@pytest.mark.parametrize(
    ("kind", "before", "edit", "after"),
    [
        ("LOOP", CRON, {"trigger_type": "SCHEDULED", "trigger_args": {"run_at": "2030-01-01T08:00"}},
         {"run_at": "2030-01-01T08:00", "timezone": "Europe/Berlin"}),
        ("SCHEDULED", ONCE, {"trigger_type": "LOOP", "trigger_args": {"cron": "@daily"}},
         {"cron": "@daily", "timezone": "Asia/Kathmandu"}),
        ("LOOP", CRON, {"trigger_type": "IMMEDIATE", "trigger_args": {}}, {}),
        ("LOOP", CRON, {"trigger_type": "IMMEDIATE"}, None),
        ("LOOP", CRON, {"trigger_type": "loop"}, CRON),
        ("LOOP", CRON, {"trigger_type": TaskTriggerType.LOOP, "max_runs": 3}, CRON),
        ("LOOP", CRON, {"trigger_args": None}, None),
        ("LOOP", CRON, {"trigger_args": "soon"}, "soon"),
    ],
)  # fmt: skip
def test_another_type_of_trigger_keeps_the_time_zone_alone(
    kind: str, before: dict[str, Any], edit: dict[str, Any], after: Any
) -> None:
    assert edited_document(known(kind, before), edit).get("trigger_args") == after


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        ({"priority": 5}, {**TASK, "priority": 5}),
        ({"type": "thing", "payload": {"b": 2}}, {**TASK, "payload": {"b": 2}}),
        ({"payload": {"a": 2, "key": "***"}}, {**TASK, "payload": {"a": 2, "key": "s"}}),
        ({"queue": None, "tags": None}, {"type": "thing", "payload": TASK["payload"], "priority": 3}),
        ({"type": "other"}, {"type": "other"}),
        (None, None),
    ],
)
def test_fields_of_a_task_that_an_edit_does_not_name_stay(edit: Any, after: Any) -> None:
    document = edited_document(known("LOOP", CRON, TASK), {"task": edit})
    assert document.get("task") == after
    assert document.get("group") == ("media" if edit is None else None), "without its task it stays in its group"


@pytest.mark.parametrize("name", sorted(set(DefinitionRequest.model_fields) - {"user_id", "paused"}))
def test_no_other_field_is_touched(name: str) -> None:
    one = known("LOOP", CRON)
    before = request_document(one)
    assert {n: v for n, v in edited_document(one, {name: None}).items() if n != name} == {
        n: v for n, v in before.items() if n != name
    }


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (EVERY, {"interval": 60.0}, True),
        (EVERY, {"interval": 61}, False),
        (EVERY, {"rules": [{"interval": 5}, {"interval": 60}]}, True),
        (RULES, {"rules": [{"interval": 91}]}, False),
        (RULES, {"interval": 90}, True),
        (CRON, {"interval": 60}, False),
        (EVERY, {"cron": "@daily"}, True),
    ],
)
def test_an_interval_that_stays_keeps_its_phase(before: dict[str, Any], after: dict[str, Any], kept: bool) -> None:
    request = read_definition({**request_document(known("LOOP", before)), "trigger_args": after})
    assert keeps_phase(known("LOOP", before), request) is kept


def test_a_moment_that_an_edit_repeats_may_have_passed() -> None:
    one = known("SCHEDULED", ONCE)
    for same in ({}, {"trigger_args": ONCE}, {"trigger_type": "scheduled"}, {"start_at": None}, {"note": "x"}):
        assert not is_checked_again(one, read_definition(edited_document(one, same)), same)
    for other in ({"trigger_args": {"timezone": "UTC"}}, {"end_at": "2031-01-01T00:00:00Z"}):
        assert is_checked_again(one, read_definition(edited_document(one, other)), other)
    loop = known("LOOP", CRON)
    assert is_checked_again(
        loop, read_definition(edited_document(loop, {"trigger_args": CRON})), {"trigger_args": CRON}
    )
    assert not is_checked_again(loop, read_definition(edited_document(loop, {"note": "x"})), {"note": "x"})
