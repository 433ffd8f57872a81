"""The dispatch API's routes as FastAPI knows them: `GET /api/task/{taskId}`, and the description of the hot one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from celeriac.errors import CeleriacError, TaskNotFoundError
from celeriac.model import Status, Task, ms_from_utc
from celeriac_api.dispatch.chat import CHAT_PATH, MODELS_PATH
from celeriac_api.dispatch.completions import error_document
from celeriac_api.dispatch.endpoint import PATH, DispatchEndpoint, error_response, refusal_of
from celeriac_api.dispatch.schemas import (
    ANSWERS,
    CHUNKS,
    STATES,
    ChatCompletion,
    DispatchAnswer,
    DispatchError,
    Model,
    ModelList,
    OpenAIError,
)
from celeriac_api.http.responses import json_response
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import Responses, example, header, json_body
from celeriac_api.parts import PartsOf


def _errors(about: dict[int | str, tuple[str, tuple[str, ...]]]) -> Responses:
    """Return the `responses` of a dispatch route: by status what it means, and its texts."""
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


def _openai_errors(about: dict[int | str, tuple[str, tuple[str, str, str | None]]]) -> Responses:
    """Return the `responses` of an OpenAI route: by status what it means, and an error's text, type and code."""
    return {
        status: {
            "model": OpenAIError,
            "description": means,
            "content": {"application/json": {"example": error_document(*error)}},
        }
        for status, (means, error) in about.items()
    }


def _shown(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: example(name, answer) for name, answer in answers.items()}


_AWAY: Final = ("Store unavailable", ("the store does not answer", "server_error", "store_unavailable"))

router = APIRouter(tags=["dispatch"])


@router.get(
    "/api/task/{task_id}",
    summary="Read a task, in the dispatch API's words",
    description="How the task is. Which fields there are depends on `status`.",
    operation_id="read_dispatched_task",
    response_model=DispatchAnswer,
    response_model_exclude_none=True,
    responses={
        200: {"content": {"application/json": {"examples": _shown(STATES)}}},
        **_errors(
            {
                404: ("There is no such task.", ("Task not found or expired",)),
                503: ("The store is away.", ("the store does not answer",)),
            }
        ),
    },
)
async def read_task(
    task_id: Annotated[str, Path(description="The id that the call was answered with.", examples=[TASK_ID])],
    parts: PartsOf,
) -> Response:
    """Answer with how the task is."""
    try:
        task = await parts.store.get(task_id)
        waiting = task.status in (Status.SCHEDULED, Status.PENDING, Status.RETRYING)
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


class _Answered(Response):
    """Lets the endpoint answer where the framework expects a response."""

    def __init__(self, endpoint: ASGIApp) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the call."""
        await self._endpoint(scope, receive, send)


def call_route(endpoint: DispatchEndpoint) -> APIRouter:
    """Return the documented route of `POST /api/openai`; requests meet the endpoint before they come here."""
    calling = APIRouter(tags=["dispatch"])

    @calling.post(
        PATH,
        summary="Have a remote worker do something",
        description=(
            "Waits for the answer, or with `async` answers at once with an id. `timeout` counts from submission. "
            "Whoever hangs up while it waits cancels the task."
        ),
        response_model=DispatchAnswer,
        response_model_exclude_none=True,
        response_description="The worker's answer, or the id.",
        responses={
            200: {"content": {"application/json": {"examples": _shown(ANSWERS)}}},
            **_errors(
                {
                    400: ("The request is wrong.", ("Invalid request: data or messages required",)),
                    500: ("The task failed: the worker's text.", ("Task timeout", "Worker disconnected")),
                    503: ("Nobody can do it now.", ("No worker available", "Queue is full")),
                }
            ),
        },
        openapi_extra=json_body("DispatchBody"),
    )
    async def dispatch() -> Response:
        return _Answered(endpoint)

    return calling


def chat_routes(endpoint: ASGIApp) -> APIRouter:
    """Return the documented routes of OpenAI clients; only a single model's comes to FastAPI first."""
    chatting = APIRouter(tags=["openai"])

    @chatting.post(
        CHAT_PATH,
        summary="Complete a chat",
        description=(
            "OpenAI's chat completions, answered by remote workers; with `stream: true` as server-sent events. The "
            "group is the one that announces the model, or that of `group/model`, or `default`."
        ),
        response_model=ChatCompletion,
        response_description="The completion, or with `stream` its chunks.",
        responses={
            200: {
                "headers": {"X-Task-Id": header("The task that it is.", example=TASK_ID)},
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": CHUNKS}},
            },
            **_openai_errors(
                {
                    400: (
                        "The request is wrong.",
                        ("Invalid request: model must be a name", "invalid_request_error", None),
                    ),
                    415: (
                        "Unsupported media type",
                        (
                            "a submission is application/json, not text/plain: send Content-Type: application/json",
                            "invalid_request_error",
                            "unsupported_media_type",
                        ),
                    ),
                    500: ("The task failed: the worker's text.", ("Task timeout", "server_error", "timeout")),
                    503: (
                        "Nobody can do it now.",
                        (
                            "No worker available: no worker is connected to group 'default'",
                            "server_error",
                            "no_worker",
                        ),
                    ),
                }
            ),
        },
        openapi_extra=json_body("ChatRequest"),
    )
    async def create_chat_completion() -> Response:
        return _Answered(endpoint)

    @chatting.get(
        MODELS_PATH,
        summary="List the models",
        description="What connected remote workers announce.",
        response_model=ModelList,
        responses=_openai_errors({503: _AWAY}),
    )
    async def list_models() -> Response:
        return _Answered(endpoint)

    @chatting.get(
        MODELS_PATH + "/{model:path}",
        summary="Read a model",
        description="One that a connected worker announces.",
        response_model=Model,
        responses=_openai_errors(
            {
                404: (
                    "Nobody announces it.",
                    ("no connected worker announces the model 'lama'", "invalid_request_error", "model_not_found"),
                ),
                503: _AWAY,
            }
        ),
    )
    async def read_model(model: Annotated[str, Path(description="The model's name.", examples=["llama"])]) -> Response:
        return _Answered(endpoint)

    return chatting
