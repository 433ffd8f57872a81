"""The routes of the dispatch API: `GET /api/task/{taskId}`, and the documentation of `POST /api/openai`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from starlette.responses import Response

from celeriac.access.principal import Scope
from celeriac.errors import CeleriacError, TaskNotFoundError
from celeriac.model import Status, Task, ms_from_utc
from celeriac_api.access.rights import Access
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.dispatch_schemas import ANSWERS, STATES, DispatchAnswer, DispatchError
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import Responses, example, json_body
from celeriac_api.parts import PartsOf
from celeriac_api.routes.dispatch.call import PATH, error_response, refusal_of, serve_call
from celeriac_api.routing import Router


def _errors(about: dict[int | str, tuple[str, tuple[str, ...]]]) -> Responses:
    """Return the `responses` of a dispatch route: for each status its meaning, and its texts."""
    return {
        status: {
            "model": DispatchError,
            "description": means,
            "content": {
                "application/json": {
                    "examples": {text: example(text, {"error": text}) for text in texts},
                }
            },
        }
        for status, (means, texts) in about.items()
    }


def _shown(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: example(name, answer) for name, answer in answers.items()}


router = Router(tags=["dispatch"])


@router.post(
    PATH,
    access=Access(Scope.SUBMIT, plain_errors=True),
    served_by=serve_call,
    every_method=True,
    summary="Have a remote worker do something",
    description=(
        "Waits for the answer, or with `async` answers at once with an id. `timeout` counts from submission. "
        "If the caller disconnects while it waits, the task is cancelled."
    ),
    response_model=DispatchAnswer,
    response_model_exclude_none=True,
    response_description="The worker's answer, or the id.",
    responses={
        200: {"content": {"application/json": {"examples": _shown(ANSWERS)}}},
        **_errors(
            {
                400: ("The request is invalid.", ("Invalid request: data or messages required",)),
                500: ("The task failed: the worker's text.", ("Task timeout", "Worker disconnected")),
                503: ("No worker can do it now.", ("No worker available", "Queue is full")),
            }
        ),
    },
    openapi_extra=json_body("DispatchBody"),
)
async def dispatch() -> None:
    """Document what `serve_call` answers ahead of FastAPI."""


@router.get(
    "/api/task/{task_id}",
    access=Access(Scope.READ, plain_errors=True),
    summary="Read a task, in the dispatch API's words",
    description="The state of the task. `status` decides which other fields the answer has.",
    operation_id="read_dispatched_task",
    response_model=DispatchAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"content": {"application/json": {"examples": _shown(STATES)}}},
        **_errors(
            {
                404: ("The task does not exist.", ("Task not found or expired",)),
                503: ("The store is unavailable.", ("the store does not answer",)),
            }
        ),
    },
)
async def read_task(
    task_id: Annotated[str, Path(description="The id in the answer to the call.", examples=[TASK_ID])],
    parts: PartsOf,
) -> Response:
    """Answer with the state of the task."""
    try:
        task = await parts.store.get(task_id)
        waiting = task.status in (Status.WAITING, Status.SCHEDULED, Status.PENDING, Status.RETRYING)
        position = await parts.store.position(task) if waiting else None
    except TaskNotFoundError:
        return error_response("Task not found or expired", 404)
    except CeleriacError as exc:
        return refusal_of(exc)
    return json_response(_answer(task, position))


def _answer(task: Task, position: int | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"taskId": task.task_id}
    started = ms_from_utc(task.started_at or task.updated_at)
    finished = ms_from_utc(task.finished_at or task.updated_at)
    match task.status:
        case Status.PROCESSING:
            answer |= {"status": "executing", "workerId": task.worker, "startedAt": started}
        case Status.COMPLETED:
            answer |= {"status": "completed", "result": task.result, "completedAt": finished}
        case Status.FAILED | Status.CANCELLED:
            answer |= {"status": "failed", "error": task.error.message if task.error else "", "failedAt": finished}
        case _:
            answer |= {"status": "queued", "enqueuedAt": ms_from_utc(task.created_at), "position": position}
    return answer
