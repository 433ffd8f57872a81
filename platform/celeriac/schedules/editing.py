"""Makes the document of an edited definition: an edit keeps what it does not name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.model import ms_from_utc
from celeriac.schedules.definition import Definition, TaskTriggerType
from celeriac.schedules.record import definition_record
from celeriac.schedules.request import EDITABLE, DefinitionRequest
from celeriac.secret_fields import restored

#: Arguments of a trigger that say when it fires; one of them replaces the others.
_RULES: Final = frozenset({"interval", "cron", "cron_expression", "rules"})
_MOMENTS: Final = frozenset({"run_at", "run_date"})
#: Arguments that mean the same for each type of trigger.
_SHARED: Final = frozenset({"timezone"})


def request_document(definition: Definition) -> dict[str, Any]:
    """Return a definition as the request that would make it; an edit starts from that."""
    record = definition_record(definition, definition.status)
    names = [*EDITABLE, "user_id"]
    document = {name: record[name] for name in names if record.get(name) is not None}
    if definition.spec.task is not None:
        # The record masks secrets; the definition needs them.
        document["task"] = definition.spec.task
        document.pop("group", None)
    return document


def edited_document(known: Definition, edit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that makes the edited definition: what `edit` names, and the rest as it was.

    Null restores the default of a field. The arguments of a trigger and the fields of a task are kept one by one too,
    as long as the type of the trigger or task stays the same. If the type of the trigger changes, the time zone stays.
    """
    merged = {name: value for name, value in {**request_document(known), **edit}.items() if value is not None}
    kind = edit.get("trigger_type")
    same_kind = kind is None or (isinstance(kind, str) and kind.upper() == known.trigger_type)
    args = edit.get("trigger_args")
    if isinstance(args, Mapping):
        immediate = isinstance(kind, str) and kind.upper() == TaskTriggerType.IMMEDIATE
        merged["trigger_args"] = _edited_args(known.spec.trigger_args, args, same_kind, immediate)
    elif not same_kind:
        merged.pop("trigger_args", None)
    task, before = named_type(known, edit).get("task"), known.spec.task
    if before is not None and "task" in edit and task is None:
        merged.setdefault("group", known.group)
    if isinstance(task, dict) and before is not None and task.get("type") == before.get("type"):
        task = {name: value for name, value in {**before, **task}.items() if value is not None}
        if "payload" in task:
            # A secret that reads `***` keeps its value.
            paths = known.spec.run.get("secret_fields", ())
            task["payload"] = restored(task["payload"], before.get("payload"), paths)
        merged["task"] = task
    return merged


def named_type(known: Definition, edit: Mapping[str, Any]) -> dict[str, Any]:
    """Return an edit whose task names its type: that of the definition if the edit does not name one."""
    task, before = edit.get("task"), known.spec.task
    if not isinstance(task, dict) or before is None or task.get("type") is not None:
        return dict(edit)
    return {**edit, "task": {**task, "type": before.get("type")}}


def is_checked_again(known: Definition, request: DefinitionRequest, edit: Mapping[str, Any]) -> bool:
    """Return whether the times of the edited definition have to be checked: that they come, and what they cost.

    A moment that stays the same may have passed.
    """
    names_times = not {"trigger_type", "trigger_args", "start_at", "end_at"}.isdisjoint(edit)
    return _is_rescheduled(known, request) or (names_times and request.trigger_type is TaskTriggerType.LOOP)


def _is_rescheduled(known: Definition, request: DefinitionRequest) -> bool:
    start_ms = None if request.start_at is None else ms_from_utc(request.start_at)
    end_ms = None if request.end_at is None else ms_from_utc(request.end_at)
    spec = known.spec
    return (request.trigger_type, request.trigger_args or {}, start_ms, end_ms) != (
        known.trigger_type,
        spec.trigger_args,
        spec.start_ms,
        spec.end_ms,
    )


def keeps_phase(known: Definition, request: DefinitionRequest) -> bool:
    """Return whether an interval stays the same, so that intervals are counted from the same moment as before."""
    before, after = _intervals(known.spec.trigger_args), _intervals(request.trigger_args or {})
    return not after or any(interval in before for interval in after)


def _edited_args(
    before: Mapping[str, Any], edit: Mapping[str, Any], same_kind: bool, immediate: bool
) -> dict[str, Any]:
    if immediate:
        return dict(edit)
    kept = {name: value for name, value in before.items() if same_kind or name in _SHARED}
    named = {name for name, value in edit.items() if value is not None}
    if named & _RULES:
        # The offset belongs to an interval.
        dropped = _RULES if "interval" in named and "interval" in kept else _RULES | {"offset"}
        kept = {name: value for name, value in kept.items() if name not in dropped}
    if named & _MOMENTS:
        kept = {name: value for name, value in kept.items() if name not in _MOMENTS}
    return {name: value for name, value in {**kept, **edit}.items() if value is not None}


def _intervals(args: Mapping[str, Any]) -> list[Any]:
    rules = args.get("rules") or [args]
    found = rules if isinstance(rules, list) else []
    return [rule["interval"] for rule in found if isinstance(rule, Mapping) and rule.get("interval") is not None]
