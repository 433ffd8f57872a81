"""Settings of status notifications: users' feeds, their connections, and tasks that programs report themselves."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section, Size


class NotificationSettings(Section):
    """What users learn about their tasks, live and after they were away."""

    # --- feeds, in the store
    max_messages: int = Field(
        1000,
        ge=10,
        le=1_000_000,
        description=(
            "At least this many messages of each user's feed are kept, from which a client that was away catches up. "
            "A client that missed more is told so and gets the present state."
        ),
    )
    keep: Duration = Field(
        24 * 3600.0, ge=1, description="How long a user's feed is kept after its last message. Then it is deleted."
    )
    max_ended: int = Field(
        1000,
        ge=1,
        le=100_000,
        description=(
            "How many ended tasks of a user are kept for lists, the latest ones. Older ones are found by their id only."
        ),
    )
    max_listed: int = Field(
        1000,
        ge=1,
        le=10_000,
        description=(
            "How many tasks one list shows (`active_tasks`, `GET /api/task/tasks`), the latest ones. Its `count` "
            "counts all of them."
        ),
    )
    max_result_bytes: Size = Field(
        64 * 1024,
        ge=0,
        description=(
            "The largest result that a message carries. A larger one is left out as `null`; clients fetch it with "
            "`GET /api/task/{task_id}/status`."
        ),
    )

    # --- connections
    max_connections_per_user: int = Field(
        20,
        ge=1,
        description=(
            "How many WebSockets one user may have open in one API process. Further ones are refused with the code "
            "`too_many_connections`."
        ),
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description=(
            "How many WebSockets of users one API process serves. Further ones are refused; start more API processes "
            "for them."
        ),
    )
    buffer_messages: int = Field(
        1000,
        ge=200,
        description=(
            "How many messages may wait for a client that reads slowly. Beyond it, the client is disconnected; it "
            "catches up when it connects again."
        ),
    )
    buffer_bytes: Size = Field(
        1024**2,
        ge=1024,
        description=(
            "How many bytes of messages may wait for a client that reads slowly. Beyond it, the client is disconnected."
        ),
    )
    max_subscriptions: int = Field(
        100, ge=0, description="How many single tasks one connection may subscribe to; further ones are refused."
    )
    max_client_bytes: Size = Field(
        4096, ge=64, description="The largest message that a client may send; a larger one ends its connection."
    )
    max_client_rate: float = Field(
        20.0,
        gt=0,
        description=(
            "How many messages per second a client may send, with bursts of twice as many. Sending more ends its "
            "connection."
        ),
    )
    client_timeout: Duration = Field(
        45.0,
        ge=1,
        description=(
            "How long a client may be silent, pongs included, before it is disconnected. Keep it well above "
            "`dispatch.ping_interval`, at which pings are sent."
        ),
    )
    look: Duration = Field(
        15.0,
        ge=0.1,
        description=(
            "How often the server reads a feed that seems quiet, in case the signal for a new message was lost."
        ),
    )

    # --- tasks that programs report themselves (`task_notifier`, `task_notification_service`)
    group: str = Field(
        "notified",
        min_length=1,
        description=(
            "Group to which tasks belong that your programs run and report themselves (`task_notifier`). No other "
            "tasks should be submitted to it."
        ),
    )
    silence: Duration = Field(
        24 * 3600.0,
        ge=1,
        description=(
            "How long nothing may be reported of a running task whose program has ended in good order. Then the task "
            "fails as `worker_lost`. While its program lives, a task may be silent for any time."
        ),
    )
    start_within: Duration = Field(
        7 * 86400.0,
        ge=1,
        description="How long after `register_task` a task may take to start. Then it fails as `expired`.",
    )
    register_wait: Duration = Field(
        0.1,
        ge=0,
        le=5,
        description=(
            "How long `register_task` may block a running event loop if the store is slow. After that it registers the "
            "task in the background."
        ),
    )
