"""Definitions that exist only in memory, made at one moment; minutes are counted from it."""

from __future__ import annotations

from typing import Any

from celeriac.schedules.definition import Definition, DefinitionChange, DefinitionStatus, Open, Spec, TaskTriggerType

#: A Tuesday, half past eight in the morning.
BEGIN_MS = 1_900_053_000_000
MINUTE_MS = 60_000
NOTHING = Open()
CHANGE = DefinitionChange(BEGIN_MS, "create", "tester", None, {})


def at(minutes: float) -> int:
    """Return the moment so many minutes after the beginning."""
    return BEGIN_MS + round(minutes * MINUTE_MS)


def definition_of(trigger: TaskTriggerType, args: dict[str, Any], *, source: str = "api", **spec: Any) -> Definition:
    """Return a definition that has not begun."""
    return Definition(
        definition_id="d-1", rev=1, status=DefinitionStatus.ACTIVE, trigger_type=trigger, source=source, name=None,
        user_id=None, group="default", note=None, next_slot_ms=None, next_ms=None, created_ms=BEGIN_MS,
        updated_ms=BEGIN_MS, ended_ms=None,
        spec=Spec(user_id=None, trigger_args=args, anchor_ms=BEGIN_MS, task=None, run={}, **{"content": "", **spec}),
    )  # fmt: skip
