"""Tasks: submit, read, cancel, run now, retry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from celeriac.model import Outcome, Status, Task
from celeriac.tasks.reasons import why_record
from celeriac.tasks.record import outcome_record, task_record
from celeriac.tasks.request import IDEMPOTENCY_KEY
from celeriac_api.access.caller import CallerOf
from celeriac_api.access.rights import READ, SUBMIT
from celeriac_api.http.bodies import ClientGoneError
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import SUBMISSION_BODY, location, problems
from celeriac_api.openapi.schemas import (
    AcceptedTask,
    AwaitedTask,
    KnownTask,
    TaskOutcome,
    TaskRecord,
    TaskStatus,
    TaskWhy,
)
from celeriac_api.parts import PartsOf
from celeriac_api.routes.tasks.submit import PATH, submit
from celeriac_api.routes.tasks.waiting import WaitQuery, ended
from celeriac_api.routing import Router

router = Router(prefix=PATH, tags=["tasks"])

TaskId = Annotated[str, Path(description="The id in the answer to the submission.", examples=[TASK_ID])]

RetryKey = Annotated[
    str | None,
    Header(
        max_length=255,
        pattern=f"^{IDEMPOTENCY_KEY.pattern}$",
        description="Identifies this retry, so that it can be sent again.",
    ),
]

#: What a route answers that waits for a task.
_WAITING = ("task_not_found", "invalid_request", "too_many_waiters", "store_unavailable", "ledger_unavailable")
_LOCATION = location("the task's record", f"{PATH}/{TASK_ID}")


@router.post(
    "",
    access=SUBMIT,
    served_by=submit,
    summary="Submit a task",
    description=(
        "Submits a task. The answer is sent after the task is stored durably. Unknown fields are refused, so that a "
        "typing error is noticed. With `wait` the answer comes when the task has ended, with its result."
    ),
    status_code=202,
    response_model=AcceptedTask,
    response_description="The task is stored and will run.",
    responses={
        202: {"headers": _LOCATION},
        201: {
            "model": AwaitedTask,
            "description": (
                "With `wait`: the task is stored, and this is what it has come to. It may not have ended yet."
            ),
            "headers": _LOCATION,
        },
        200: {
            "model": KnownTask,
            "description": (
                "No new task: this is the one of the first request with this idempotency key, the one that holds the "
                "key of `once`, or the debounced one, which was moved. With `wait` the answer has `result` and `error` "
                "too."
            ),
            "headers": _LOCATION,
        },
        **problems(
            "malformed_json",
            "invalid_header",
            "too_large",
            "unsupported_media_type",
            "invalid_request",
            "invalid_submission",
            "duplicate",
            "queue_full",
            "key_full",
            "group_limit",
            "too_many_waiters",
            "store_unavailable",
        ),
    },
    openapi_extra=SUBMISSION_BODY,
)
async def submit_task() -> None:
    """Document what `submit` answers ahead of FastAPI."""


@router.get(
    "/{task_id}",
    access=READ,
    summary="Read a task",
    description="The full record: status, progress, result or error. The history has it after the store removed it.",
    response_model=TaskRecord,
    responses=problems(*_WAITING),
)
async def read_task(
    request: Request, task_id: TaskId, parts: PartsOf, caller: CallerOf, wait: WaitQuery = 0.0
) -> Response:
    """Answer with the record."""
    try:
        task = await ended(parts, task_id, wait, caller=caller, receive=request.receive)
    except ClientGoneError:
        return Response(status_code=400)  # the client is gone, so nobody reads it
    if isinstance(task, Task):
        return json_response(task_record(await parts.tasks.titles.add(task)))
    return json_response(task_record(await parts.tasks.find(task_id)))


@router.get(
    "/{task_id}/result",
    access=READ,
    summary="Read the result of a task",
    description="What the task has come to: the part of its record that says how it ended. `result` is `null` until it "
    "is completed.",
    response_model=TaskOutcome,
    responses=problems(*_WAITING),
)
async def read_result(
    request: Request, task_id: TaskId, parts: PartsOf, caller: CallerOf, wait: WaitQuery = 0.0
) -> Response:
    """Answer with status, result and error."""
    try:
        found = await ended(parts, task_id, wait, caller=caller, receive=request.receive)
    except ClientGoneError:
        return Response(status_code=400)  # the client is gone, so nobody reads it
    return json_response(outcome_record(found if isinstance(found, Outcome) else Outcome.of(found)))


@router.get(
    "/{task_id}/why",
    access=READ,
    summary="Ask why a task waits",
    description="One reason or more for a task that has not ended and does not run, each with a sentence for people.",
    response_model=TaskWhy,
    responses=problems("task_not_found", "store_unavailable", "ledger_unavailable"),
)
async def why_task_waits(task_id: TaskId, parts: PartsOf) -> Response:
    """Answer with the status and the reasons."""
    return json_response(why_record(await parts.tasks.why(task_id)))


@router.post(
    "/{task_id}/cancel",
    access=SUBMIT.audited("task.cancel"),
    summary="Cancel a task",
    description=(
        "A waiting task is cancelled at once: 200. A running one is asked to stop: 202, and it ends as `cancelled` "
        "shortly after. Cancelling a cancelled task changes nothing."
    ),
    response_model=TaskStatus,
    responses={
        200: {"content": {"application/json": {"example": {"task_id": TASK_ID, "status": "cancelled"}}}},
        202: {
            "model": TaskStatus,
            "description": "The running task was asked to stop.",
            "content": {"application/json": {"example": {"task_id": TASK_ID, "status": "processing"}}},
        },
        **problems("task_not_found", "illegal_transition", "store_unavailable", "ledger_unavailable"),
    },
)
async def cancel_task(task_id: TaskId, parts: PartsOf) -> Response:
    """Cancel and answer with the status after it."""
    status = await parts.tasks.cancel(task_id)
    return json_response({"task_id": task_id, "status": status.wire}, 200 if status is Status.CANCELLED else 202)


@router.post(
    "/{task_id}/run-now",
    access=SUBMIT.audited("task.run_now"),
    summary="Run a task now",
    description=(
        "Runs a task that waits for its time (`scheduled`) or for its next attempt (`retrying`) without that wait: it "
        "goes to its group, where limits and pauses hold as before. A task that is `pending` or `processing` stays as "
        "it is."
    ),
    response_model=TaskStatus,
    responses=problems("task_not_found", "illegal_transition", "store_unavailable", "ledger_unavailable"),
)
async def run_task_now(task_id: TaskId, parts: PartsOf) -> Response:
    """Move the task to its group and answer with its status."""
    status = await parts.tasks.run_now(task_id)
    return json_response({"task_id": task_id, "status": status.wire})


class RetryRequest(BaseModel):
    """How to run the task again."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"payload": {"service": "demo", "method": "echo"}}]}
    )

    payload: Annotated[
        dict[str, Any] | None,
        Field(description="A payload that replaces the old one. It is checked by the task's type."),
    ] = None
    from_step: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=300,
            description="The name of a step: it, all later ones, and the sleeps, signals and children noted after it "
            "are forgotten. So a completed task can run again too.",
        ),
    ] = None


@router.post(
    "/{task_id}/retry",
    access=SUBMIT.audited("task.retry"),
    summary="Retry a task by hand",
    response_description="It will run again.",
    description=(
        "Runs a failed or cancelled task again, with all its attempts and optionally with another payload. Finished "
        "steps keep their results, unless `from_step` says from which one on they run again. A task that "
        "only the history has comes back with the same id. A request with the same `Idempotency-Key` is the same "
        "retry, even if the task has run and failed in the meantime."
    ),
    status_code=202,
    response_model=TaskStatus,
    responses=problems(
        "malformed_json",
        "task_not_found",
        "illegal_transition",
        "unsupported_media_type",
        "invalid_request",
        "invalid_submission",
        "too_large",
        "queue_full",
        "key_full",
        "group_limit",
        "store_unavailable",
        "ledger_unavailable",
    ),
)
async def retry_task(
    task_id: TaskId,
    parts: PartsOf,
    caller: CallerOf,
    wanted: RetryRequest | None = None,
    idempotency_key: RetryKey = None,
) -> Response:
    """Put the task back into its group."""
    wanted = wanted or RetryRequest()
    status = await parts.tasks.retry(
        task_id, payload=wanted.payload, from_step=wanted.from_step or "", caller=caller, key=idempotency_key
    )
    return json_response({"task_id": task_id, "status": status.wire}, 202)
