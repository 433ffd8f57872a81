"""Groups, as the clients read and steer them: without input and output, as `operations.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from celeriac.client.inputs import to_json
from celeriac.client.operations import Operations
from celeriac.client.outputs import document_of, member
from celeriac.client.steps import Call, Steps
from celeriac.errors import ApiError
from celeriac.limits import Limits, Rate
from celeriac.model import GroupStats, Pause

_GROUPS: Final = "/api/v1/groups"


def read_groups(api: Operations) -> Steps[list[GroupStats]]:
    """Read all groups, by name."""
    document = document_of((yield from api.exchange(Call("GET", _GROUPS))))
    return [_group_of(record) for record in member(document, "groups", list)]


def read_group(api: Operations, name: str) -> Steps[GroupStats]:
    """Read one group."""
    return (yield from _ask(api, "GET", name))


def pause(api: Operations, name: str, note: str) -> Steps[GroupStats]:
    """Hold a group back."""
    return (yield from _ask(api, "POST", name, "/pause", {"note": note}))


def resume(api: Operations, name: str) -> Steps[GroupStats]:
    """Let it go on."""
    return (yield from _ask(api, "POST", name, "/resume"))


def limit(api: Operations, name: str, max_running: int | None, rate: str | None, note: str) -> Steps[GroupStats]:
    """Limit a group."""
    wanted = {"max_running": max_running, "rate": rate, "note": note}
    return (yield from _ask(api, "PUT", name, "/limits", wanted))


def unlimit(api: Operations, name: str) -> Steps[GroupStats]:
    """Limit it no longer."""
    return (yield from _ask(api, "DELETE", name, "/limits"))


def _ask(
    api: Operations, method: str, name: str, action: str = "", wanted: Mapping[str, Any] | None = None
) -> Steps[GroupStats]:
    """Ask for something that twice is the same as once, and return the group as it is then."""
    body = None if wanted is None else to_json(wanted, "note")
    call = Call(method, f"{_GROUPS}/{quote(name, safe='')}{action}", body=body)
    return _group_of(document_of((yield from api.exchange(call))))


def _group_of(record: Mapping[str, Any]) -> GroupStats:
    """Read a group; raises `ApiError` for what is none."""
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
                rate=None if limits["rate"] is None else Rate.parse(limits["rate"]),
                at=datetime.fromisoformat(limits["at"]),
                note=limits["note"],
            ),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer is no group: {exc!r}", status=200, code="unreadable") from exc
