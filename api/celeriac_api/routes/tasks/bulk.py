"""Bulk operations: cancel or retry many tasks at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from celeriac.tasks.types.bulk import BULK, BulkPayload
from celeriac_api.access.auditing import ACTION
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import SUBMIT
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import location, problems
from celeriac_api.openapi.schemas import BulkMatched, TaskStatus
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["history"])


class BulkRequest(BulkPayload):
    """A bulk operation, or with `dry_run` the question how many tasks it would change."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"action": "retry", "filter": {"status": ["failed"], "type": "grpc_task"}, "dry_run": True}]
        }
    )

    dry_run: Annotated[bool, Field(description="Only count.")] = False


@router.post(
    "/bulk",
    access=SUBMIT.audited("task.bulk"),
    summary="Cancel or retry many tasks",
    description=(
        f"Submits a task of type `{BULK.name}` that cancels or retries all tasks which match the filter and were "
        "created before it. Watch it like any task. Its result is `{matched, done, skipped, failed}`. If its worker is "
        "killed it goes on where it was, and it retries no task twice. With `dry_run` nothing is changed: the answer "
        "is the number of tasks that match now."
    ),
    status_code=202,
    response_model=TaskStatus,
    responses={
        200: {"model": BulkMatched, "description": "The number of tasks that match (`dry_run`)."},
        202: {
            "description": "The operation was submitted.",
            "headers": location("the operation's task", f"{PATH}/{TASK_ID}"),
        },
        **problems(
            "malformed_json",
            "unsupported_media_type",
            "invalid_request",
            "invalid_submission",
            "queue_full",
            "store_unavailable",
            "ledger_missing",
            "ledger_unavailable",
        ),
    },
)
async def submit_bulk(
    wanted: BulkRequest,
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    idempotency_key: Annotated[
        str | None, Header(description="A repeated key answers with the first operation instead of starting another.")
    ] = None,
) -> Response:
    """Answer with the task that performs the operation, or with a count."""
    operation = wanted.model_dump(mode="json", exclude={"dry_run"}, exclude_unset=True)
    if wanted.dry_run:
        request.scope[ACTION] = "task.bulk.dry_run"
        return json_response({"matched": await parts.tasks.count(operation, caller=caller)})
    submitted = await parts.tasks.bulk(operation, caller=caller, idempotency_key=idempotency_key)
    location = f"{request.scope.get('root_path', '')}{PATH}/{submitted.task_id}"
    return json_response(
        {"task_id": submitted.task_id, "status": submitted.status.wire}, 202, headers={"Location": location}
    )
