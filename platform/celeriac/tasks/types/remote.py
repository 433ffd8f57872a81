"""The task type `remote`: work for the remote workers that are connected to its group."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from celeriac.model import Delivery
from celeriac.settings import Settings
from celeriac.tasks.registry import registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks

#: Name of the type.
REMOTE: Final = "remote"


class RemotePayload(BaseModel):
    """What a remote worker is sent; it gets further fields as they are."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"model": "default", "messages": [{"role": "user", "content": "Hello"}]}]},
    )

    model: Annotated[str, Field(description="Which model is to answer.")] = "default"
    messages: Annotated[list[Any] | None, Field(description="OpenAI chat messages; these or `data`.")] = None
    data: Annotated[Any, Field(description="The work; this or `messages`.")] = None

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.messages is None and self.data is None:
            raise ValueError("data or messages required")
        return self


class _RemoteHooks(TypeHooks):
    """Gateways claim remote tasks for connected workers, and the dispatch settings say how long a result is kept."""

    delivery = Delivery.REMOTE

    def content_payload(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the content in the envelope that remote workers get."""
        return {"model": "default", "data": data}

    def retention_s(self, settings: Settings) -> float:
        """Return `dispatch.task_result_ttl_ms` in seconds."""
        return settings.dispatch.task_result_ttl_ms / 1000


#: It runs on remote workers only, so no process of ours has a handler.
REMOTE_TASK: Final = registry.add(
    TaskType(
        name=REMOTE,
        payload=TypeAdapter(RemotePayload),
        description="Run on a remote worker that is connected to the group.",
        retry=RetryPolicy(max_retries=0),
        hooks=_RemoteHooks(),
    )
)
