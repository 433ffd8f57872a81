"""Confine a submission to its caller: whose task it is, and whose tasks it may act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from celeriac.access.principal import Principal
from celeriac.tasks.request import SubmitRequest

R = TypeVar("R", bound=SubmitRequest)

#: The task type that acts on all tasks that match a filter. It is not imported, because types are loaded later.
_BULK: Final = "celeriac.bulk"


def confined(request: R, principal: Principal) -> R:
    """Return the submission as `principal` may make it: for itself, or for any user if it is an admin."""
    if principal.admin:
        if principal.user_id is None or request.user_id is not None:
            return request
        return request.model_copy(update={"user_id": principal.user_id})
    payload = confined_payload(request.type, request.payload, principal)
    return request.model_copy(update={"user_id": principal.user_id, "payload": payload})


def confined_payload(task_type: str, payload: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """Return the payload, changed so that a task of `task_type` cannot act on tasks of other users."""
    chosen = payload.get("filter")
    if principal.admin or task_type != _BULK or not isinstance(chosen, Mapping):
        return dict(payload)
    return {**payload, "filter": {**chosen, "user_id": nobody_else(principal)}}


def nobody_else(principal: Principal) -> str:
    """Return the user id to filter by for a principal that is not an admin.

    A principal without a user id gets one that no user has, so that it finds nothing.
    """
    # User ids contain no control characters.
    return principal.user_id if principal.user_id is not None else "\x01nobody"
