"""Settings of remote tasks: the dispatch API, and the gateway that remote workers connect to."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from celeriac.durations import parse_duration_s
from celeriac.settings.values import Duration, Section, Size


def _milliseconds(value: Any) -> Any:
    """Read a text with a unit as a duration in milliseconds; a plain number is milliseconds already."""
    if isinstance(value, str):
        return parse_duration_s(value) * 1000
    return value


#: Milliseconds; a text with a unit (`30s`, `5m`) works too.
Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=1)]


class DispatchSettings(Section):
    """Remote tasks and the remote workers that run them."""

    # --- what callers get
    task_timeout_ms: Milliseconds = Field(
        60_000,
        description=(
            "How many milliseconds a remote task may take, from its submission to its end, if the caller names no "
            "timeout. Then it fails. A value outside the two limits below is moved to the nearer one."
        ),
    )
    min_task_timeout_ms: Milliseconds = Field(
        5_000, description="The shortest timeout in milliseconds that a caller may name; a shorter one is refused."
    )
    max_task_timeout_ms: Milliseconds = Field(
        600_000, description="The longest timeout in milliseconds that a caller may name; a longer one is refused."
    )
    chat_timeout_ms: Milliseconds = Field(
        600_000,
        description=(
            "How many milliseconds a call of `/v1/chat/completions` may take if it names no timeout. OpenAI clients "
            "have no field for one, so this is longer than `dispatch.task_timeout_ms`."
        ),
    )
    max_queue_length: int = Field(
        1000,
        ge=1,
        description=(
            "How many remote tasks may wait in one group. Beyond it, submissions are answered 429. "
            "`groups.NAME.max_queue_length` takes precedence."
        ),
    )
    task_result_ttl_ms: Milliseconds = Field(
        300_000,
        description=(
            "For how many milliseconds the record of a finished remote task, with its result, stays in Redis. Then its "
            "id is answered 404 by the dispatch API."
        ),
    )
    cancel_on_disconnect: bool = Field(
        True, description="Whether a task is cancelled if its caller disconnects while it waits for the result."
    )

    # --- workers
    ready_on_connect: bool = Field(
        False,
        description=(
            "Whether a worker receives tasks as soon as it is connected. By default it receives them after it has sent "
            "`ready`. Set it for workers that never send `ready`."
        ),
    )
    max_concurrency: int = Field(
        100,
        ge=1,
        description="How many tasks one worker may run at once; a worker that asks for more gets this many.",
    )
    max_workers: int = Field(
        10_000,
        ge=1,
        description=(
            "How many remote workers one API process accepts. Further ones are told to try again later; start more API "
            "processes for them."
        ),
    )
    max_frame_bytes: Size = Field(
        16 * 1024**2,
        ge=1024,
        description="The largest WebSocket message that a worker may send; a larger one ends its connection.",
    )
    send_buffer: int = Field(
        64,
        ge=1,
        description=(
            "How many messages may wait for a worker that reads slowly, in addition to one for each task that it may "
            "have. Beyond it, the worker is disconnected."
        ),
    )
    max_delta_bytes: Size = Field(
        4 * 1024**2,
        description=(
            "How many bytes of partial results one attempt may send, each part counted with 32 bytes more. Beyond it, "
            "partial results are refused, and the worker must send the rest with `task_complete`."
        ),
    )

    # --- liveness
    ping_interval: Duration = Field(
        10.0, ge=0.05, description="How long a connection may be silent before the server sends a ping."
    )
    idle_timeout: Duration = Field(
        30.0,
        ge=0.1,
        description="How long a worker without a task may be silent, pongs included, before it is disconnected.",
    )
    busy_timeout: Duration = Field(
        60.0,
        ge=0.1,
        description=(
            "How long a worker that runs a task may be silent before it is disconnected. Its tasks go to other "
            "workers, or fail if they have no attempts left. A worker that computes without reading its connection "
            "answers no pings: raise this for such workers."
        ),
    )
    cancel_grace: Duration = Field(
        10.0,
        ge=0.05,
        description=(
            "How long a worker may still hold a task after the task was cancelled or timed out. Then the worker is "
            "disconnected."
        ),
    )
    presence: Duration = Field(
        5.0,
        ge=2,
        description=(
            "How long a group still counts as served after the API process that its workers were connected to was "
            "killed. Meanwhile submissions are accepted although there may be no worker."
        ),
    )
    poll_interval: Duration = Field(
        2.0,
        ge=0.05,
        description=(
            "How often the gateway looks for waiting tasks for its idle workers, in case the message that announces "
            "them was lost."
        ),
    )
    drain_grace: Duration = Field(
        5.0,
        description=(
            "On shutdown of an API process, how long its remote workers may go on with their tasks. Then the tasks are "
            "given back to their groups."
        ),
    )

    # --- what Celery's monitors see
    mirror: bool = Field(
        True,
        description=(
            "Whether `celeriac beat` shows remote workers and their tasks to Flower and `celery inspect`. "
            "`worker.send_events` must be on too."
        ),
    )
    mirror_workers: int = Field(
        500, ge=1, le=10_000, description="At most this many remote workers are shown to Flower and `celery inspect`."
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        low, high = self.min_task_timeout_ms, self.max_task_timeout_ms
        if low > high:
            raise ValueError(f"min_task_timeout_ms ({low}) is above max_task_timeout_ms ({high}): swap them")
        return self

    @property
    def default_timeout_ms(self) -> int:
        """The default timeout in milliseconds, moved into the allowed range."""
        return min(max(self.task_timeout_ms, self.min_task_timeout_ms), self.max_task_timeout_ms)
