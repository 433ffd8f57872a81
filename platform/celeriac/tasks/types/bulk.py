"""The built-in task type `celeriac.bulk`: cancel or retry all tasks that a filter selects.

Here is what every front door needs to check one; workers add the handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from celeriac.access.principal import Principal
from celeriac.model import Status
from celeriac.task_filter import TaskFilter
from celeriac.tasks.registry import registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks

#: The statuses that each action can change; a retry without a status means failed tasks.
_CANCELLABLE: Final = (Status.WAITING, Status.SCHEDULED, Status.PENDING, Status.PROCESSING, Status.RETRYING)
_RETRYABLE: Final = (Status.FAILED, Status.CANCELLED)


class BulkPayload(BaseModel):
    """What to do with which tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Annotated[
        Literal["cancel", "retry"],
        Field(description="`cancel` what waits or runs; `retry` what failed (or was cancelled, if `status` says so)."),
    ]
    filter: Annotated[TaskFilter, Field(description="At least one condition; see the parameters of the list.")]

    @model_validator(mode="before")
    @classmethod
    def _says_which(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("filter") in ({}, None):
            raise ValueError("filter: give at least one condition; status alone will do")
        return document

    @model_validator(mode="after")
    def _can_be_done(self) -> BulkPayload:
        possible = _CANCELLABLE if self.action == "cancel" else _RETRYABLE
        if self.filter.statuses and not set(self.filter.statuses) & set(possible):
            names = ", ".join(status.wire for status in possible)
            raise ValueError(f"filter.status: what can be {_DONE[self.action]} is {names}")
        return self

    @property
    def targets(self) -> TaskFilter:
        """The filter, narrowed to the statuses from which the action leads somewhere."""
        possible = _CANCELLABLE if self.action == "cancel" else _RETRYABLE
        if self.filter.statuses:
            chosen = tuple(status for status in self.filter.statuses if status in possible)
        else:
            chosen = possible if self.action == "cancel" else (Status.FAILED,)
        return self.filter.model_copy(update={"status": chosen})


class _BulkHooks(TypeHooks):
    """A user's bulk operation reaches that user's tasks only, and other bulk operations only if the filter says so."""

    bulk_by_name_only = True
    # Whose tasks it reaches is decided at the submission.
    whole_payload = True

    def confined(self, payload: Mapping[str, Any], caller: Principal) -> Mapping[str, Any]:
        """Return the payload with the caller as the filter's `user_id`."""
        chosen = payload.get("filter")
        if not isinstance(chosen, Mapping):
            return payload
        return {**payload, "filter": {**chosen, "user_id": caller.own_user}}


_DONE: Final = {"cancel": "cancelled", "retry": "retried"}

#: The type without a handler: enough to check a submission.
BULK: Final = registry.add(
    TaskType(
        name="celeriac.bulk",
        payload=TypeAdapter(BulkPayload),
        description="Cancel or retry all tasks that a filter selects.",
        # It continues where it was, so it waits for a database that is away.
        hooks=_BulkHooks(),
        retry=RetryPolicy(max_retries=20, delay_s=1, backoff=2, max_delay_s=60),
    )
)
