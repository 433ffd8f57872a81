"""The limits of a caller who is not an admin: a submission is the caller's own and reaches only the caller's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from celeriac.access.principal import Principal
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.request import SubmitRequest

R = TypeVar("R", bound=SubmitRequest)


def confined(request: R, caller: Principal, types: TypeLookup) -> R:
    """Return the submission as `caller` may make it: for itself, unless it is an admin who names another user."""
    if caller.admin:
        if caller.user_id is None or request.user_id is not None:
            return request
        return request.model_copy(update={"user_id": caller.user_id})
    payload = confined_payload(request.type, request.payload, caller, types)
    return request.model_copy(update={"user_id": caller.user_id, "payload": payload})


def confined_payload(name: str, payload: Mapping[str, Any], caller: Principal, types: TypeLookup) -> Mapping[str, Any]:
    """Return a payload for a task of type `name` that reaches nothing of other users."""
    task_type = None if caller.admin else types.get(name)
    return payload if task_type is None else task_type.hooks.confined(payload, caller)
