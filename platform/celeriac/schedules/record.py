"""Definitions and instances as every front door writes them (docs/schedules.md): JSON-ready, moments in RFC 3339."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celeriac.model import Reason, Task, rfc3339, utc_from_ms
from celeriac.schedules.definition import Definition, DefinitionChange, DefinitionStatus, Firing, Spec
from celeriac.schedules.sql.last_runs import LastRun
from celeriac.schedules.times.timetable import Timetable
from celeriac.secret_fields import masked
from celeriac.tasks.reasons import reason_records
from celeriac.tasks.record import error_record, plain_number


def definition_record(
    definition: Definition, status: DefinitionStatus, warnings: Sequence[Reason] = ()
) -> dict[str, Any]:
    """Return a definition; `status` is its present status. `warnings` are there if there are any."""
    spec = definition.spec
    outcome = None
    if definition.outcome_task_id is not None:
        outcome = {
            "task_id": definition.outcome_task_id,
            "status": (definition.outcome_status or "").lower(),
            "finished_at": _moment(definition.outcome_ms),
            "error": definition.outcome_error,
        }
    return {
        "task_def_id": definition.definition_id,
        "name": definition.name,
        "user_id": spec.user_id,
        "content": spec.content,
        "status": status.value,
        "trigger_type": definition.trigger_type.value,
        "trigger_args": spec.trigger_args,
        "group": definition.group,
        "task": shown_task(spec),
        "next_run_at": _moment(definition.next_ms),
        "last_run_at": _moment(definition.last_slot_ms),
        "last_task_id": definition.last_task_id,
        "last_outcome": outcome,
        "misfire": spec.misfire.value,
        "misfire_grace": _seconds(spec.misfire_grace_ms),
        "catchup_window": _seconds(spec.catchup_window_ms),
        "overlap": spec.overlap.value,
        "start_at": _moment(spec.start_ms),
        "end_at": _moment(spec.end_ms),
        "max_runs": spec.max_runs,
        "jitter": _seconds(spec.jitter_ms),
        "pause_on_failure": spec.pause_on_failure,
        "note": definition.note,
        "metadata": spec.metadata,
        "counters": {
            "fired": definition.fired,
            "skipped": definition.skipped,
            "missed": definition.missed,
            "buffered": definition.buffered,
            "triggered": definition.triggered,
            "backfilled": definition.backfilled,
            "succeeded": definition.succeeded,
            "failed": definition.failed,
            "cancelled": definition.cancelled,
            "failures_in_row": definition.failures_in_row,
        },
        "source": definition.source,
        "read_only": definition.read_only,
        "rev": definition.rev,
        "created_at": _moment(definition.created_ms),
        "updated_at": _moment(definition.updated_ms),
        "ended_at": _moment(definition.ended_ms),
        **({"warnings": reason_records(warnings)} if warnings else {}),
    }


def shown_task(spec: Spec) -> dict[str, Any] | None:
    """Return the task that a definition's instances run, with the secrets of its payload masked."""
    if spec.task is None or not (paths := spec.run.get("secret_fields")):
        return spec.task
    return {**spec.task, "payload": masked(spec.task.get("payload"), paths)}


def instance_record(task: Task, definition_id: str) -> dict[str, Any]:
    """Return an instance from its task's record."""
    return {
        "task_id": task.task_id,
        "task_def_id": definition_id,
        "status": task.status.wire,
        "trigger": task.trigger or "schedule",
        "scheduled_at": _text(task.scheduled_at),
        "created_at": rfc3339(task.created_at),
        "started_at": _text(task.started_at),
        "finished_at": _text(task.finished_at),
        "attempt": task.attempt,
        "result": task.result,
        "error": error_record(task.error),
    }


def firing_record(firing: Firing, status: str) -> dict[str, Any]:
    """Return a firing that is not a task yet."""
    return {
        "task_id": firing.task_id,
        "task_def_id": firing.definition_id,
        "status": status,
        "trigger": firing.trigger,
        "scheduled_at": _moment(firing.slot_ms),
    }


def change_record(change: DefinitionChange) -> dict[str, Any]:
    """Return an entry of the audit trail."""
    return {
        "at": _moment(change.at_ms),
        "action": change.action,
        "actor": change.actor,
        "note": change.note,
        "changed": change.changed,
    }


def run_record(run: LastRun) -> dict[str, Any]:
    """Return an instance in short, as a list of definitions shows it."""
    return {
        "task_id": run.task_id,
        "status": run.status.lower(),
        "created_at": _moment(run.created_ms),
        "started_at": _moment(run.started_ms),
        "finished_at": _moment(run.finished_ms),
    }


def preview_records(table: Timetable, slots: Sequence[int]) -> list[dict[str, Any]]:
    """Return future firings: the slot, and when it is due with its jitter."""
    return [{"scheduled_at": _moment(slot), "due_at": _moment(table.due(slot))} for slot in slots]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _moment(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(utc_from_ms(ms))


def _seconds(ms: int) -> int | float:
    return plain_number(ms / 1000)
