"""The records of groups and of the rules that limit tasks, as every front door writes them."""

from __future__ import annotations

from typing import Any

from celeriac.limits.rules import KeyCount, Limits, RuleState
from celeriac.model import GroupStats, Pause, rfc3339
from celeriac.settings import QueueSettings


def group_record(group: GroupStats, queues: QueueSettings) -> dict[str, Any]:
    """Return a group's record."""
    return {
        "name": group.name,
        "waiting": group.waiting,
        "running": group.running,
        "workers": group.workers,
        "unserved": group.unserved,
        "max_queue_length": queues.limit_of(group.name),
        "paused": _pause_record(group.pause),
        "limits": _limits_record(group.limits),
    }


def _pause_record(pause: Pause | None) -> dict[str, Any] | None:
    return None if pause is None else {"at": rfc3339(pause.at), "note": pause.note}


def _limits_record(limits: Limits | None) -> dict[str, Any] | None:
    if limits is None:
        return None
    return {
        "max_running": limits.max_running,
        "rate": None if limits.rate is None else str(limits.rate),
        "at": rfc3339(limits.at),
        "note": limits.note,
    }


def limit_record(state: RuleState) -> dict[str, Any]:
    """Return a rule's record."""
    rule = state.rule
    return {
        "name": rule.name,
        "group": rule.group,
        "type": rule.type,
        "by": rule.by.value,
        "max_running": rule.max_running,
        "rate": None if rule.rate is None else str(rule.rate),
        "fair": rule.fair,
        "ordered": rule.ordered,
        "max_waiting": rule.max_waiting,
        "note": rule.note or None,
        "at": rfc3339(rule.at),
        "waiting": state.waiting,
        "running": state.running,
        "parked": state.parked,
    }


def key_count_record(count: KeyCount) -> dict[str, Any]:
    """Return the record of a key of a rule."""
    return {"key": count.key, "waiting": count.waiting, "running": count.running}
