"""Translates definitions, firings and changes between data and rows."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import count
from typing import Any, Final

from celeriac import json_text
from celeriac.history.rows import clean
from celeriac.schedules.definition import (
    Definition,
    DefinitionChange,
    DefinitionStatus,
    Firing,
    FiringState,
    TaskTriggerType,
    spec_of,
)

log = logging.getLogger(__name__)

#: What reading a row raises that something else wrote.
UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError)
_FIELDS: Final = tuple(field.name for field in fields(Definition))
#: The columns of a definition that have the names of its fields.
_SAME: Final = tuple(name for name in _FIELDS if name not in ("group", "spec", "status", "trigger_type"))

#: Distinguishes the changes that one process makes within a millisecond.
_numbers: Final = count()


def definition_of(row: Any) -> Definition:
    """Return the definition of a row."""
    return Definition(
        **{name: row[name] for name in _SAME},
        group=row["queue"],
        status=DefinitionStatus(row["status"]),
        trigger_type=TaskTriggerType(row["trigger_type"]),
        spec=spec_of(row["spec"]),
    )


def readable(rows: Iterable[Any]) -> Iterator[Definition]:
    """Yield the definitions of rows; one that cannot be read is left out and logged, and disturbs no other."""
    for row in rows:
        try:
            yield definition_of(row)
        except UNREADABLE as exc:
            log.error("the definition %s is left out, its row cannot be read: %s", row["definition_id"], exc)


def definition_row(definition: Definition) -> dict[str, Any]:
    """Return the row of a definition."""
    row = {name: getattr(definition, name) for name in _SAME}
    for name in ("name", "note", "user_id", "outcome_error"):
        row[name] = clean(row[name])
    return row | {
        "queue": definition.group,
        "status": definition.status.value,
        "trigger_type": definition.trigger_type.value,
        "spec": definition.spec.dumped(),
    }


def firing_of(row: Any) -> Firing:
    """Return the firing of a row."""
    return Firing(
        task_id=row["task_id"],
        definition_id=row["definition_id"],
        slot_ms=row["slot_ms"],
        trigger=row["trigger"],
        state=FiringState(row["state"]),
        planned_ms=row["planned_ms"],
        cancel=row["cancel_ms"] is not None,
        error=row["error"],
    )


def firing_row(firing: Firing) -> dict[str, Any]:
    """Return the row of a new firing."""
    return {
        "task_id": firing.task_id,
        "definition_id": firing.definition_id,
        "slot_ms": firing.slot_ms,
        "trigger": firing.trigger,
        "state": firing.state.value,
        "planned_ms": firing.planned_ms,
        "taken_ms": firing.planned_ms,
        "cancel_ms": firing.planned_ms if firing.cancel else None,
        "error": clean(firing.error),
    }


def change_of(row: Any) -> DefinitionChange:
    """Return the change of a row."""
    changed = json_text.read(row["changed"]) if row["changed"] else {}
    return DefinitionChange(row["at_ms"], row["action"], row["actor"], row["note"], changed)


def change_row(definition_id: str, change: DefinitionChange) -> dict[str, Any]:
    """Return the row of a change."""
    return {
        # In the order of their making, as far as they have one.
        "change_id": f"{change.at_ms:015d}-{next(_numbers):010d}-{secrets.token_hex(4)}",
        "definition_id": definition_id,
        "at_ms": change.at_ms,
        "action": change.action,
        "actor": clean(change.actor),
        "note": clean(change.note),
        "changed": clean(json_text.write(change.changed)) if change.changed else None,
    }
