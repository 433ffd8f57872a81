"""The steps of a task: what its handler has done for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from celeriac.errors import Violation
from celeriac.signals.records import step_record
from celeriac_api.access.rights import READ
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.responses import problems
from celeriac_api.openapi.schemas import StepPage
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH
from celeriac_api.routes.tasks.task import TaskId
from celeriac_api.routing import Router

router = Router(prefix=PATH, tags=["signals"])


@router.get(
    "/{task_id}/steps",
    access=READ,
    summary="Read a task's steps",
    description=(
        "The results that the handler stored with `ctx.step`, in the order in which the steps ended. The history has "
        "them after the store let go of the task."
    ),
    response_model=StepPage,
    responses=problems("task_not_found", "invalid_request", "store_unavailable", "ledger_unavailable"),
)
async def read_steps(
    task_id: TaskId,
    parts: PartsOf,
    limit: Annotated[int, Query(ge=1, le=1000, description="Steps per page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=20, description="The `next_cursor` of the previous page.")] = None,
) -> Response:
    """Answer with a page of steps."""
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal()):
        message = "is not a cursor; use the `next_cursor` of a page unchanged"
        raise RequestError("invalid_request", f"cursor: {message}", [Violation("cursor", message)])
    after = 0 if cursor is None else int(cursor)
    most_bytes = parts.settings.max_page_bytes
    steps, following = await parts.tasks.steps(task_id, after=after, count=limit, most_bytes=most_bytes)
    return json_response({"items": list(map(step_record, steps)), "next_cursor": following})
