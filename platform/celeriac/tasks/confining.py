"""What a submission may not say for somebody else: whose it is, and what it does with the tasks of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from celeriac.access.principal import Principal
from celeriac.tasks.request import SubmitRequest

R = TypeVar("R", bound=SubmitRequest)

#: The task type that acts on other tasks, by filter. Not imported: this is needed before the types are.
_BULK: Final = "celeriac.bulk"


def confined(request: R, principal: Principal) -> R:
    """Return the submission as `principal` may make it: for itself, unless it is an admin who says for whom."""
    if principal.admin:
        if principal.user_id is None or request.user_id is not None:
            return request
        return request.model_copy(update={"user_id": principal.user_id})
    payload = confined_payload(request.type, request.payload, principal)
    return request.model_copy(update={"user_id": principal.user_id, "payload": payload})


def confined_payload(task_type: str, payload: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """Return a payload of `task_type` that reaches nothing of other users."""
    chosen = payload.get("filter")
    if principal.admin or task_type != _BULK or not isinstance(chosen, Mapping):
        return dict(payload)
    return {**payload, "filter": {**chosen, "user_id": nobody_else(principal)}}


def nobody_else(principal: Principal) -> str:
    """Return the user to filter by for who is no admin; without a user id it is one that nobody has."""
    # No user id holds a control character.
    return principal.user_id if principal.user_id is not None else "\x01nobody"
