"""The dispatch API's routes as FastAPI knows them: `GET /api/task/{taskId}`, and the description of the hot one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from celeriac.errors import CeleriacError, TaskNotFoundError
from celeriac.model import Status, Task, ms_from_utc
from celeriac_api.dispatch.chat import CHAT_PATH, MODELS_PATH
from celeriac_api.dispatch.endpoint import PATH, DispatchEndpoint, error_response, refusal_of
from celeriac_api.parts import PartsOf
from celeriac_api.responses import json_response


class DispatchError(BaseModel):
    """An error of the dispatch API."""

    error: str


class DispatchBody(BaseModel):
    """Work for a remote worker: `data` or `messages`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Hello"}], "model": "llama"}]}
    )

    data: Annotated[dict[str, Any] | None, Field(description="The work; this or `messages`.")] = None
    messages: Annotated[list[Any] | None, Field(description="OpenAI chat messages; these or `data`.")] = None
    model: Annotated[str, Field(description="Which model is to answer.")] = "default"
    group: Annotated[str, Field(description="Which workers.")] = "default"
    timeout: Annotated[int, Field(description="Milliseconds from submission to the end.")] = 60_000
    answer_at_once: Annotated[bool, Field(alias="async", description="Answer with the id, do not wait.")] = False
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    max_retries: Annotated[int, Field(alias="maxRetries", ge=0)] = 0
    user_id: Annotated[str | None, Field(alias="userId")] = None


class DispatchAnswer(BaseModel):
    """How a task is; which of the fields are there depends on `status`."""

    taskId: str  # noqa: N815 - the contract's names
    status: Annotated[str, Field(description="`queued`, `executing`, `completed` or `failed`.")]
    result: Any = None
    error: str | None = None
    position: Annotated[int | None, Field(description="1 is next.")] = None
    workerId: str | None = None  # noqa: N815
    enqueuedAt: Annotated[int | None, Field(description="Milliseconds since the epoch, as all moments here.")] = None  # noqa: N815
    startedAt: int | None = None  # noqa: N815
    completedAt: int | None = None  # noqa: N815
    failedAt: int | None = None  # noqa: N815


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": DispatchError, "description": "The request is wrong."},
    500: {"model": DispatchError, "description": "The task failed: the worker's text, or `Task timeout`."},
    503: {"model": DispatchError, "description": "`No worker available` or `Queue is full`."},
}

router = APIRouter(tags=["dispatch"])


@router.get(
    "/api/task/{task_id}",
    summary="Read a task, in the dispatch API's words",
    response_model=DispatchAnswer,
    response_model_exclude_none=True,
    responses={404: {"model": DispatchError, "description": "`Task not found or expired`."}},
)
async def read_task(
    task_id: Annotated[str, Path(description="The id that the call was answered with.")], parts: PartsOf
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
        responses=_ERRORS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": DispatchBody.model_json_schema(by_alias=True)}},
            }
        },
    )
    async def call() -> Response:
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
    )
    async def complete() -> Response:
        return _Answered(endpoint)

    @chatting.get(MODELS_PATH, summary="List the models", description="What connected remote workers announce.")
    async def models() -> Response:
        return _Answered(endpoint)

    @chatting.get(
        MODELS_PATH + "/{model:path}", summary="Read a model", description="One that a connected worker announces."
    )
    async def model(model: Annotated[str, Path(description="The model's name.")]) -> Response:
        return _Answered(endpoint)

    return chatting
