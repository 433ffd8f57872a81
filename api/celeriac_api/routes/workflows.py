"""Workflows: submit, read, follow, add nodes, cancel, retry."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from celeriac import json_text
from celeriac.database.cursor import BadCursorError
from celeriac.errors import JsonError, Violation
from celeriac.history.workflows import WorkflowFilter
from celeriac.model import Workflow, WorkflowStatus
from celeriac.store.watching.ends import LOOK_S
from celeriac.store.workflows import WorkflowStore
from celeriac.task_filter import DEFAULT_LIMIT, MAX_LIMIT
from celeriac.workflows.record import workflow_record
from celeriac.workflows.stream import WorkflowStream, resumed
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ, STREAM, SUBMIT
from celeriac_api.http.bodies import ClientGoneError, read_body, while_connected
from celeriac_api.http.event_stream import EventStreamResponse, LastEventId, LastEventIdQuery, framed, last_event_seen
from celeriac_api.http.problems import RequestError
from celeriac_api.http.responses import HEADERS, json_response
from celeriac_api.openapi.problem_examples import WORKFLOW_ID
from celeriac_api.openapi.responses import event_stream, idempotency_key, json_body, location, problems
from celeriac_api.openapi.workflow_schemas import (
    AddedNodes,
    SubmittedWorkflow,
    WireWorkflowStatus,
    WorkflowPage,
    WorkflowRecord,
    WorkflowState,
)
from celeriac_api.parts import Parts, PartsOf
from celeriac_api.routes.tasks.submit import check_headers
from celeriac_api.routes.tasks.waiting import WaitQuery, place_of, within
from celeriac_api.routing import Router

PATH: Final = "/api/v1/workflows"

router = Router(prefix=PATH, tags=["workflows"])

WorkflowId = Annotated[str, Path(description="The id in the answer to the submission.", examples=[WORKFLOW_ID])]

_LOCATION: Final = location("the workflow", f"{PATH}/{WORKFLOW_ID}")
_SUBMISSION: Final = (
    *("malformed_json", "too_large", "unsupported_media_type", "invalid_submission"),
    *("queue_full", "key_full", "group_limit", "store_unavailable", "ledger_unavailable"),
)
_IDEMPOTENCY_KEY: Final = idempotency_key(
    "A repeated key (per user) is answered with 200 and the first workflow; no other one is created.",
    example="order-4711",
)
_STREAM_EXAMPLE: Final = """\
retry: 1000

event: node
id: 1896076800000-0
data: {"workflow_id":"3c9a…","node":"fetch","task_id":"0f0f…","status":"completed","attempt":1,"started_at":"2030-01-31T08:00:00.000Z","finished_at":"2030-01-31T08:00:01.000Z","error":null,"timestamp_ms":1896076801000}

event: done
id: 1896076803000-0
data: {"workflow_id":"3c9a…","status":"completed","counts":{"completed":1}}

"""  # noqa: E501


@router.post(
    "",
    access=SUBMIT,
    summary="Submit a workflow",
    description=(
        "Submits a graph of 1 to 1,000 tasks: all of them or nothing. A node is a submission with `after`, the names "
        'of the nodes that it comes after. `{"$result": NAME}` in its payload stands for the result of such a node. '
        "The answer is sent after the workflow is stored durably."
    ),
    status_code=202,
    response_model=SubmittedWorkflow,
    response_description="The workflow is stored and will run.",
    responses={
        202: {"headers": _LOCATION},
        200: {
            "model": SubmittedWorkflow,
            "description": "The idempotency key is known: this is the workflow of the first request.",
            "headers": _LOCATION,
        },
        **problems("invalid_header", *_SUBMISSION),
    },
    openapi_extra={**json_body("WorkflowRequest"), "parameters": [_IDEMPOTENCY_KEY]},
)
async def submit_workflow(request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with the tasks of the nodes."""
    try:
        key, document = await _read(request, parts)
    except ClientGoneError:
        return Response(status_code=400)  # the client is gone, so nobody reads it
    found = await parts.workflows.submit(document, caller=caller, idempotency_key=key)
    return json_response(
        {"workflow_id": found.workflow_id, "status": "running", "nodes": dict(found.nodes)},
        202 if found.created else 200,
        headers={"Location": f"{request.scope.get('root_path', '')}{PATH}/{found.workflow_id}"},
    )


async def _read(request: Request, parts: Parts) -> tuple[str | None, object]:
    """Return the idempotency key and the body of a request."""
    limit = parts.settings.max_body_bytes
    key = check_headers(request.scope["headers"], limit, request.scope)
    body = await read_body(request.receive, limit)
    try:
        return key, json_text.read(body)
    except JsonError as exc:
        raise RequestError("malformed_json", f"the body is not JSON: {exc}") from exc


@router.get(
    "",
    access=READ,
    summary="List workflows",
    description="Workflows, the newest first, page by page, long after the store has let them go. They are read from "
    "the history, which is normally less than a second behind.",
    response_model=WorkflowPage,
    responses=problems("invalid_request", "ledger_missing", "ledger_unavailable"),
)
async def list_workflows(
    parts: PartsOf,
    caller: CallerOf,
    status: Annotated[WireWorkflowStatus | None, Query(description="Only workflows of this status.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only workflows of this name.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Workflows per page.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="The `next_cursor` of the previous page, with the same filter.")
    ] = None,
) -> Response:
    """Answer with a page of workflows."""
    wanted = WorkflowFilter(
        status=() if status is None else (WorkflowStatus(status),), name=name, user_id=caller.confined_to
    )
    try:
        page = await parts.workflows.page(wanted, limit=limit, cursor=cursor)
    except BadCursorError as exc:
        raise RequestError("invalid_request", f"cursor: {exc}", [Violation("cursor", str(exc))]) from exc
    return json_response({"items": [workflow_record(one) for one in page.workflows], "next_cursor": page.next_cursor})


@router.get(
    "/{workflow_id}",
    access=READ,
    summary="Read a workflow",
    description="The workflow with all its nodes. The history has it after the store removed it. With `wait`, the "
    "answer comes when the workflow has ended.",
    response_model=WorkflowRecord,
    responses=problems(
        "workflow_not_found", "invalid_request", "too_many_waiters", "store_unavailable", "ledger_unavailable"
    ),
)
async def read_workflow(
    request: Request, workflow_id: WorkflowId, parts: PartsOf, caller: CallerOf, wait: WaitQuery = 0.0
) -> Response:
    """Answer with the workflow."""
    wait_s = within(wait, parts.settings.server.max_wait)
    found = await parts.workflows.find(workflow_id)
    if wait_s and found.status is WorkflowStatus.RUNNING:
        try:
            async with parts.ends.waiting(place_of(caller)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await while_connected(request.receive, _end_of(parts, found))
        except ClientGoneError:
            return Response(status_code=400)  # the client is gone, so nobody reads it
        found = await parts.workflows.find(workflow_id)
    return json_response(workflow_record(found))


async def _end_of(parts: Parts, workflow: Workflow) -> None:
    """Return when the workflow has ended, when its record is gone, or when the server stops."""
    stream = WorkflowStream(
        store=WorkflowStore(parts.store),
        hub=parts.hub,
        workflow_id=workflow.workflow_id,
        position=workflow.last_event,
        keepalive_s=LOOK_S,
    )
    async with contextlib.aclosing(stream.events()) as events:
        async for event in events:
            if event is not None and event.name == "done":
                return


@router.post(
    "/{workflow_id}/nodes",
    access=SUBMIT.audited("workflow.nodes"),
    summary="Add nodes to a workflow",
    description=(
        "Adds nodes to a workflow that has not ended: all of them or nothing. They may come after nodes that it has "
        "already. A name that is taken is a 409."
    ),
    status_code=202,
    response_model=AddedNodes,
    response_description="The nodes are stored and will run.",
    responses=problems("workflow_not_found", "illegal_workflow_move", "node_exists", "invalid_header", *_SUBMISSION),
    openapi_extra=json_body("NodesRequest"),
)
async def add_nodes(workflow_id: WorkflowId, request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Answer with the tasks of the new nodes."""
    try:
        _, document = await _read(request, parts)
    except ClientGoneError:
        return Response(status_code=400)
    nodes = await parts.workflows.add_nodes(workflow_id, document, caller=caller)
    return json_response({"workflow_id": workflow_id, "nodes": dict(nodes)}, 202)


@router.post(
    "/{workflow_id}/cancel",
    access=SUBMIT.audited("workflow.cancel"),
    summary="Cancel a workflow",
    description=(
        "Cancels every node that has not ended: waiting ones at once, running ones shortly after. The workflow is "
        "`cancelled` when the last of them has stopped. Cancelling it again changes nothing."
    ),
    status_code=202,
    response_model=WorkflowState,
    response_description="The workflow stops.",
    responses=problems("workflow_not_found", "illegal_workflow_move", "store_unavailable", "ledger_unavailable"),
)
async def cancel_workflow(workflow_id: WorkflowId, parts: PartsOf) -> Response:
    """Cancel and answer with the status after it."""
    await parts.workflows.cancel(workflow_id)
    return await _state(workflow_id, parts)


@router.post(
    "/{workflow_id}/retry",
    access=SUBMIT.audited("workflow.retry"),
    summary="Retry a workflow",
    description=(
        "Runs the failed nodes of a failed workflow again, with all their attempts, and puts those that they had "
        "cancelled back to waiting. The cancelled nodes of a cancelled workflow run again. A workflow that only "
        "the history has comes back with the same id."
    ),
    status_code=202,
    response_model=WorkflowState,
    response_description="The workflow runs again.",
    responses=problems("workflow_not_found", "illegal_workflow_move", "store_unavailable", "ledger_unavailable"),
)
async def retry_workflow(workflow_id: WorkflowId, parts: PartsOf) -> Response:
    """Run it again and answer with the status after it."""
    await parts.workflows.retry(workflow_id)
    return await _state(workflow_id, parts)


async def _state(workflow_id: str, parts: Parts) -> Response:
    found = await parts.workflows.find(workflow_id)
    return json_response({"workflow_id": workflow_id, "status": found.status.wire}, 202)


@router.get(
    "/{workflow_id}/stream",
    access=STREAM,
    summary="Watch a workflow",
    description=(
        "Server-sent events: a `node` for each change of a node's status from the first on, live as they come, and one "
        "`done` with `workflow_id`, `status` and `counts`; then the stream ends. A client that comes back with "
        "`Last-Event-ID` goes on after that event. If later events are gone already, the stream begins with a `node` "
        'event for the present state of each node, with `"snapshot": true, "recovered": false`.'
    ),
    response_class=Response,
    responses={
        **event_stream(_STREAM_EXAMPLE),
        **problems(
            "invalid_header", "workflow_not_found", "invalid_request", "store_unavailable", "ledger_unavailable"
        ),
    },
)
async def watch_workflow(
    workflow_id: WorkflowId,
    parts: PartsOf,
    last_event_id: LastEventId = None,
    last_event_id_query: LastEventIdQuery = None,
) -> Response:
    """Answer with the event stream."""
    seen = last_event_seen(last_event_id, last_event_id_query)
    stream = await resumed(
        parts.workflows, parts.hub, workflow_id, last_event_id=seen, keepalive_s=parts.settings.sse_keepalive
    )
    if stream is None:
        return Response(status_code=204, headers=HEADERS)
    return EventStreamResponse(framed(stream.events()))
