"""The shapes of the dispatch API and of OpenAI's, for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from celeriac.limits.rules import MAX_COST
from celeriac_api.openapi.problem_examples import TASK_ID

_THEN_MS: Final = 1896076800000
_KEY: Final = "The customer, tenant or resource that it is for: rules may limit each key."
_COST: Final = "What its start takes from a rate; left out, 1."


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class DispatchError(BaseModel):
    """An error of the dispatch API."""

    model_config = _examples({"error": "Task not found or expired"})

    error: str


class DispatchBody(BaseModel):
    """Work for a remote worker: `data` or `messages`."""

    model_config = _examples({"messages": [{"role": "user", "content": "Hello"}], "model": "llama"})

    data: Annotated[dict[str, Any] | None, Field(description="The work; this or `messages`.")] = None
    messages: Annotated[list[Any] | None, Field(description="OpenAI chat messages; these or `data`.")] = None
    model: Annotated[str, Field(description="The model that should answer.")] = "default"
    group: Annotated[str, Field(description="The group of workers.")] = "default"
    timeout: Annotated[
        int,
        Field(
            description="Milliseconds from submission to the end; 5000 to 600000, unless the settings say otherwise."
        ),
    ] = 60_000
    answer_at_once: Annotated[bool, Field(alias="async", description="Answer with the id at once.")] = False
    priority: Annotated[int, Field(ge=0, le=9, description="Higher runs sooner.")] = 0
    max_retries: Annotated[
        int, Field(alias="maxRetries", ge=0, description="How often a failed task is tried again.")
    ] = 0
    user_id: Annotated[str | None, Field(alias="userId", description="The user on whose behalf the task runs.")] = None
    key: Annotated[str | None, Field(description=_KEY)] = None
    cost: Annotated[int | None, Field(ge=1, le=MAX_COST, description=_COST)] = None


#: Answers to a call, by the state of the task.
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "completed": {"taskId": TASK_ID, "status": "completed", "result": {"content": "Hello!"}},
    "queued": {"taskId": TASK_ID, "status": "queued"},
}
#: Answers to a request for a task.
STATES: Final[dict[str, dict[str, Any]]] = {
    "queued": {"taskId": TASK_ID, "status": "queued", "enqueuedAt": _THEN_MS, "position": 1},
    "executing": {"taskId": TASK_ID, "status": "executing", "workerId": "W1-1234abcd", "startedAt": _THEN_MS},
    "completed": {**ANSWERS["completed"], "completedAt": _THEN_MS + 2120},
    "failed": {"taskId": TASK_ID, "status": "failed", "error": "out of memory", "failedAt": _THEN_MS + 2120},
}


class DispatchAnswer(BaseModel):
    """The state of a task. `status` decides which other fields there are."""

    model_config = _examples(STATES["completed"])

    taskId: str  # noqa: N815 - names of the dispatch API
    status: Literal["queued", "executing", "completed", "failed"]
    result: Annotated[Any, Field(description="What the worker answered.")] = None
    error: str | None = None
    position: Annotated[int | None, Field(description="1 is next.")] = None
    workerId: str | None = None  # noqa: N815
    enqueuedAt: Annotated[int | None, Field(description="Milliseconds since the epoch, like all times here.")] = None  # noqa: N815
    startedAt: int | None = None  # noqa: N815
    completedAt: int | None = None  # noqa: N815
    failedAt: int | None = None  # noqa: N815


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error in OpenAI's shape."""

    model_config = _examples(
        {
            "error": {
                "message": "No worker available: no worker is connected to group 'default'",
                "type": "server_error",
                "param": None,
                "code": "no_worker",
            }
        }
    )

    error: OpenAIErrorDetail


class ChatRequest(BaseModel):
    """A chat to complete. All other fields go to the worker as `parameters`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"model": "llama", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.2},
            ]
        },
    )

    model: Annotated[str, Field(min_length=1, description="A model of `GET /v1/models`, or `GROUP/MODEL`.")]
    messages: Annotated[list[Any], Field(min_length=1, description="OpenAI's chat messages.")]
    stream: Annotated[bool, Field(description="Answer with server-sent events.")] = False
    stream_options: Annotated[
        dict[str, Any] | None, Field(description="`include_usage`: report the usage at the end of the stream.")
    ] = None
    group: Annotated[
        str | None, Field(description="The group of workers; if left out, a group that announces the model.")
    ] = None
    timeout: Annotated[int | None, Field(description="Milliseconds from submission to the end.")] = None
    key: Annotated[str | None, Field(description=_KEY)] = None
    cost: Annotated[int | None, Field(ge=1, le=MAX_COST, description=_COST)] = None


_COMPLETION: Final = {
    "id": f"chatcmpl-{TASK_ID}",
    "object": "chat.completion",
    "created": _THEN_MS // 1000,
    "model": "llama",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
}


class ChatCompletion(BaseModel):
    """OpenAI's `chat.completion`."""

    model_config = _examples(_COMPLETION)

    id: str
    object: str
    created: Annotated[int, Field(description="Seconds since the epoch.")]
    model: str
    choices: list[dict[str, Any]]
    usage: Annotated[dict[str, Any] | None, Field(description="According to the worker.")] = None


_MODEL: Final = {"id": "llama", "object": "model", "created": 0, "owned_by": "default"}


class Model(BaseModel):
    """A model that a connected worker announces; `owned_by` is its group."""

    model_config = _examples(_MODEL)

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models, by name."""

    model_config = _examples({"object": "list", "data": [_MODEL]})

    object: Literal["list"]
    data: list[Model]


#: An example of a streamed completion.
CHUNKS: Final = """\
data: {"id":"chatcmpl-0f0f…","object":"chat.completion.chunk","created":1896076800,"model":"llama","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-0f0f…","object":"chat.completion.chunk","created":1896076800,"model":"llama","choices":[{"index":0,"delta":{"content":"lo!"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-0f0f…","object":"chat.completion.chunk","created":1896076800,"model":"llama","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

"""  # noqa: E501
