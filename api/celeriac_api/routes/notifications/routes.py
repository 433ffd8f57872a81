"""A user's own tasks, for clients that poll instead of listening (docs/notifications.md)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from celeriac.errors import TaskNotFoundError
from celeriac_api.access.rights import OWN
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.notifications.task_status import status_fields
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import UsersTaskAnswer, UsersTasks
from celeriac_api.parts import PartsOf
from celeriac_api.routes.notifications.user import UserOf
from celeriac_api.routing import Router

router = Router(prefix="/api/task", tags=["notifications"])

_TaskId = Annotated[
    str,
    Path(
        min_length=1, max_length=255, description="The id that the task was created with.", examples=["interview_123"]
    ),
]


@router.get(
    "/tasks",
    access=OWN,
    summary="List your tasks",
    description=(
        "The tasks of the token's user: first those that have not ended, then the ended ones that are still kept. Each "
        "list has the latest task first, and at most `notifications.max_listed` tasks. If all of it would be longer "
        "than `max_page_bytes`, later results are left out (`result_left_out`)."
    ),
    response_model=UsersTasks,
    responses=problems("unauthenticated", "store_unavailable"),
)
async def list_own_tasks(user: UserOf, parts: PartsOf) -> Response:
    """Answer with the user's tasks."""
    user_id = str(user.user_id)
    opening = await parts.feeds.open(user_id)
    ids = list(dict.fromkeys([*opening.active, *opening.ended]))
    states, left_out = await parts.feeds.some_states(ids, parts.settings.max_page_bytes)
    data = [status_fields(state) for state in states.values() if state.user_id == user_id]
    count = len(data) + left_out + max(opening.active_count - len(opening.active), 0)
    return json_response({"data": data, "count": count})


@router.get(
    "/task/{task_id}/status",
    access=OWN,
    summary="Read the status of your task",
    description="The status of one of your tasks, with its whole result.",
    response_model=UsersTaskAnswer,
    responses=problems("unauthenticated", "task_not_found", "invalid_request", "store_unavailable"),
)
async def read_own_status(task_id: _TaskId, user: UserOf, parts: PartsOf) -> Response:
    """Answer with the status of one task and its whole result."""
    state = (await parts.feeds.states([task_id], max_result_bytes=parts.settings.max_result_bytes)).get(task_id)
    if state is None or not user.sees(state.user_id):
        raise TaskNotFoundError(task_id)
    return json_response({"data": status_fields(state)})


@router.delete(
    "/task/{task_id}",
    access=OWN.audited("task.remove"),
    summary="Remove your task",
    description="Removes the record of a task that has ended; any other task is answered with 409. The history keeps "
    "its record.",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The task is removed."},
        **problems("unauthenticated", "task_not_found", "illegal_transition", "invalid_request", "store_unavailable"),
    },
)
async def remove_own_task(task_id: _TaskId, user: UserOf, parts: PartsOf) -> Response:
    """Remove one task."""
    await parts.tasks.delete(task_id, user_id=str(user.user_id))
    return Response(status_code=204, headers=HEADERS)
