"""Settings of remote tasks: the dispatch API, and the gateway that remote workers connect to."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from celeriac.settings.values import Duration, Section, Size, parse_duration_s


def _milliseconds(value: Any) -> Any:
    """Read what the contract's environment names hold: plain milliseconds; with a unit, any duration."""
    if isinstance(value, str):
        return parse_duration_s(value) * 1000
    return value


#: Milliseconds; a text with a unit (`30s`, `5m`) works too.
Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=1)]


class DispatchSettings(Section):
    """Remote tasks and remote workers."""

    # --- what callers get
    #: Longest time from submission to the end, where the caller names none.
    task_timeout_ms: Milliseconds = 60_000
    min_task_timeout_ms: Milliseconds = 5_000
    max_task_timeout_ms: Milliseconds = 600_000
    #: The same for `/v1/chat/completions`, whose callers can hardly name one.
    chat_timeout_ms: Milliseconds = 600_000
    #: Remote tasks that may wait in one group; `groups.NAME.max_queue_length` goes before it.
    max_queue_length: int = Field(1000, ge=1)
    #: How long the record of a finished remote task stays in Redis.
    task_result_ttl_ms: Milliseconds = 300_000
    #: Cancel the task of a caller that hangs up while it waits.
    cancel_on_disconnect: bool = True

    # --- workers
    #: Give a worker tasks as soon as it is connected, without a `ready` from it.
    ready_on_connect: bool = False
    #: Most tasks that one worker may ask to run at once.
    max_concurrency: int = Field(100, ge=1)
    #: Most workers of one API process.
    max_workers: int = Field(10_000, ge=1)
    #: Largest message that a worker may send.
    max_frame_bytes: Size = Field(16 * 1024**2, ge=1024)
    #: Messages that may wait for a worker that reads slowly, above one for each task that it may have.
    send_buffer: int = Field(64, ge=1)
    #: Bytes of partial results that one attempt may send.
    max_delta_bytes: Size = 4 * 1024**2

    # --- liveness
    #: How often a quiet worker is pinged.
    ping_interval: Duration = Field(10.0, ge=0.05)
    #: A worker without a task that was silent for this long, pongs included, is disconnected.
    idle_timeout: Duration = Field(30.0, ge=0.1)
    #: The same for one that has a task: one that works without reading its connection answers no ping.
    busy_timeout: Duration = Field(60.0, ge=0.1)
    #: How long a worker may keep a task that was cancelled or timed out before it is disconnected.
    cancel_grace: Duration = Field(10.0, ge=0.05)
    #: How long a group counts as served when the API process that holds its workers is killed.
    presence: Duration = Field(5.0, ge=2)
    #: How often idle workers look for tasks that nobody woke them for.
    poll_interval: Duration = Field(2.0, ge=0.05)
    #: On shutdown, how long running tasks may go on before they are given back.
    drain_grace: Duration = 5.0

    # --- what Celery's monitors see
    #: Show remote workers and their tasks to Flower and `celery inspect`, from `celeriac beat`; `worker.send_events`
    #: has to be on too.
    mirror: bool = True
    #: Of more workers than this, only so many are shown.
    mirror_workers: int = Field(500, ge=1, le=10_000)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_task_timeout_ms > self.max_task_timeout_ms:
            raise ValueError("min_task_timeout_ms is above max_task_timeout_ms")
        return self

    @property
    def default_timeout_ms(self) -> int:
        """The default timeout, inside the range."""
        return min(max(self.task_timeout_ms, self.min_task_timeout_ms), self.max_task_timeout_ms)
