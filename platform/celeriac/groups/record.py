"""The records of groups, as every front door writes them."""

from __future__ import annotations

from typing import Any

from celeriac.limits.rules import Limits
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
