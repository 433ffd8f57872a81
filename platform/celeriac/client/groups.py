"""Groups of workers on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celeriac.calling.options import to_json
from celeriac.client.http.calls import Call, group_path
from celeriac.errors import ApiError
from celeriac.limits.rules import Limits, StartRate
from celeriac.model import GroupStats, Pause


def group_call(method: str, name: str, action: str = "", wanted: Mapping[str, Any] | None = None) -> Call:
    """Return the request that reads or changes a group. Sending it twice has the effect of sending it once."""
    body = None if wanted is None else to_json(wanted)
    return Call(method, group_path(name) + action, body=body)


def group_of(record: Mapping[str, Any]) -> GroupStats:
    """Read a group; raises `ApiError` if `record` does not describe one."""
    try:
        paused, limits = record["paused"], record["limits"]
        return GroupStats(
            name=record["name"],
            waiting=record["waiting"],
            running=record["running"],
            workers=record["workers"],
            unserved=record.get("unserved", 0),
            pause=None if paused is None else Pause(datetime.fromisoformat(paused["at"]), paused["note"]),
            limits=None
            if limits is None
            else Limits(
                max_running=limits["max_running"],
                rate=None if limits["rate"] is None else StartRate.parse(limits["rate"]),
                at=datetime.fromisoformat(limits["at"]),
                note=limits["note"],
            ),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a group: {exc!r}", status=200, code="unreadable") from exc
