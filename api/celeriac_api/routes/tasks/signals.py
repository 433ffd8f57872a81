"""Signals: send one to a task, and list the waits that the caller can answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.model import rfc3339
from celeriac.signals.records import wait_record
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ, SUBMIT
from celeriac_api.http.bodies import ClientGoneError, read_body
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import example, idempotency_key, problems
from celeriac_api.openapi.schemas import SignalReceived, WaitPage
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH, check_headers
from celeriac_api.routing import Router

router = Router(prefix="/api/v1", tags=["signals"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"description": "Any JSON value."},
                "examples": {
                    "yes": example("A decision", True),
                    "more": example("A decision with more to say", {"approve": False, "note": "too much"}),
                },
            }
        },
    },
    "parameters": [
        idempotency_key("Identifies this signal, so that it can be sent again: the answer is the first one.")
    ],
}


@router.post(
    f"{PATH.removeprefix('/api/v1')}/{{waiting_id}}/signals/{{name}}",
    access=SUBMIT.audited("task.signal"),
    summary="Send a signal to a task",
    description=(
        "The body is any JSON value. The first signal of a name counts. A task that waits for it goes on; a task that "
        "does not wait yet keeps it until then (settings `steps`). The task's owner, the users that the wait names and "
        "admins may send it; everybody else gets a 404."
    ),
    status_code=202,
    response_model=SignalReceived,
    response_description="The task has received it.",
    responses=problems(
        "malformed_json",
        "invalid_header",
        "unsupported_media_type",
        "too_large",
        "task_not_found",
        "task_ended",
        "signal_already_received",
        "invalid_submission",
        "store_unavailable",
        "ledger_unavailable",
    ),
    openapi_extra=_BODY,
)
async def signal_task(
    # Not `task_id`: the guard admits only the owner to that, and here others may be named by the wait.
    waiting_id: Annotated[str, Path(description="The id of the task.", examples=[TASK_ID])],
    name: Annotated[str, Path(description="The name of the signal.", examples=["approval"])],
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
) -> Response:
    """Answer with the time at which the task received the signal."""
    limit = parts.settings.max_body_bytes
    key = check_headers(request.scope["headers"], limit, request.scope)
    try:
        body = await read_body(request.receive, limit)
    except ClientGoneError:
        return Response(status_code=400)  # the client is gone, so nobody reads it
    try:
        value = json_text.read(body, "the body")
    except JsonError as exc:
        raise RequestError("malformed_json", str(exc)) from exc
    received = await parts.tasks.signals.send(waiting_id, name, value, caller=caller, key=key)
    return json_response({"task_id": waiting_id, "signal": name, "received_at": rfc3339(received)}, 202)


@router.get(
    "/waits",
    access=READ,
    summary="List what waits for an answer",
    description="The signals that tasks wait for and that the caller may send, the oldest wait first.",
    response_model=WaitPage,
    responses=problems("invalid_request", "store_unavailable"),
)
async def list_waits(
    parts: PartsOf,
    caller: CallerOf,
    limit: Annotated[int, Query(ge=1, le=500, description="Waits per page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=1000, description="The `next_cursor` of the previous page.")] = None,
) -> Response:
    """Answer with a page of waits."""
    try:
        waits, following = await parts.tasks.signals.waits(caller=caller, limit=limit, cursor=cursor)
    except ValueError as exc:
        if isinstance(exc, InvalidSubmissionError):
            raise
        raise RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))]) from exc
    return json_response({"items": list(map(wait_record, waits)), "next_cursor": following})
