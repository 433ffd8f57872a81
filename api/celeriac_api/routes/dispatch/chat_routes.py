"""The routes of OpenAI clients, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path

from celeriac.access.principal import Scope
from celeriac_api.access.rights import Access
from celeriac_api.dispatch.completions import error_document
from celeriac_api.openapi.dispatch_schemas import CHUNKS, ChatCompletion, Model, ModelList, OpenAIError
from celeriac_api.openapi.problem_examples import TASK_ID
from celeriac_api.openapi.responses import Responses, header, json_body
from celeriac_api.routes.dispatch.chat import CHAT_PATH, MODELS_PATH, serve_chat, serve_models
from celeriac_api.routing import Router

router = Router(tags=["openai"])

_COMPLETE: Final = Access(Scope.SUBMIT, openai_errors=True)
_READ: Final = Access(Scope.READ, openai_errors=True)
_AWAY: Final = ("Store unavailable", ("the store does not answer", "server_error", "store_unavailable"))


def _openai_errors(about: dict[int | str, tuple[str, tuple[str, str, str | None]]]) -> Responses:
    """Return the `responses` of an OpenAI route: for each status its meaning, and an error's text, type and code."""
    return {
        status: {
            "model": OpenAIError,
            "description": means,
            "content": {"application/json": {"example": error_document(*error)}},
        }
        for status, (means, error) in about.items()
    }


@router.post(
    CHAT_PATH,
    access=_COMPLETE,
    served_by=serve_chat,
    every_method=True,
    summary="Complete a chat",
    description=(
        "OpenAI's chat completions, answered by remote workers; with `stream: true` as server-sent events. The "
        "group is the one that announces the model, or that of `group/model`, or `default`."
    ),
    response_model=ChatCompletion,
    response_description="The completion, or with `stream` its chunks.",
    responses={
        200: {
            "headers": {"X-Task-Id": header("The id of the task.", example=TASK_ID)},
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": CHUNKS}},
        },
        **_openai_errors(
            {
                400: (
                    "The request is invalid.",
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
                    "No worker can do it now.",
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
async def create_chat_completion() -> None:
    """Document what `serve_chat` answers ahead of FastAPI."""


@router.get(
    MODELS_PATH,
    access=_READ,
    served_by=serve_models,
    every_method=True,
    summary="List the models",
    description="What can be called: the models that connected remote workers announce, and each group with a "
    "connected worker, as `default` or `GROUP/default`.",
    response_model=ModelList,
    responses=_openai_errors({503: _AWAY}),
)
async def list_models() -> None:
    """Document what `serve_models` answers ahead of FastAPI."""


@router.get(
    MODELS_PATH + "/{model:path}",
    access=_READ,
    served_by=serve_models,
    summary="Read a model",
    description="One model that a connected worker announces.",
    response_model=Model,
    responses=_openai_errors(
        {
            404: (
                "No worker announces it.",
                ("no connected worker announces the model 'lama'", "invalid_request_error", "model_not_found"),
            ),
            503: _AWAY,
        }
    ),
)
async def read_model(model: Annotated[str, Path(description="The model's name.", examples=["llama"])]) -> None:
    """Document what `serve_models` answers ahead of FastAPI."""
