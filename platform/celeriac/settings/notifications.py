"""Settings of status notifications: users' feeds, their connections, and tasks that programs report themselves."""

from __future__ import annotations

from pydantic import Field

from celeriac.settings.values import Duration, Section, Size


class NotificationSettings(Section):
    """What users are told of their tasks, live and when they come back."""

    # --- feeds, in the store
    #: Messages kept of each user's feed, at least: what a client that was away can catch up on.
    max_messages: int = Field(1000, ge=10, le=1_000_000)
    #: How long a feed is kept after its last message.
    keep: Duration = Field(24 * 3600.0, ge=1)
    #: Ended tasks of a user that lists hold, the latest ones.
    max_ended: int = Field(1000, ge=1, le=100_000)
    #: Tasks in one list (`active_tasks`, `GET /api/task/tasks`), the latest ones; `count` counts all.
    max_listed: int = Field(1000, ge=1, le=10_000)
    #: Largest result that a message carries; above it `result` is null and `GET .../status` has it.
    max_result_bytes: Size = Field(64 * 1024, ge=0)

    # --- connections
    #: Of one user, and of one API process.
    max_connections_per_user: int = Field(20, ge=1)
    max_connections: int = Field(10_000, ge=1)
    #: Messages and bytes that may wait for a slow client; above either it is cut off, and catches up later.
    buffer_messages: int = Field(1000, ge=200)
    buffer_bytes: Size = Field(1024**2, ge=1024)
    #: Single tasks that one connection may subscribe to.
    max_subscriptions: int = Field(100, ge=0)
    #: Largest message of a client, and how many it may send in a second (twice as many at once).
    max_client_bytes: Size = Field(4096, ge=64)
    max_client_rate: float = Field(20.0, gt=0)
    #: A client that says nothing for so long, not even a pong, is gone. Pings go out every `dispatch.ping_interval`.
    client_timeout: Duration = Field(45.0, ge=1)
    #: How often a quiet feed is looked at, in case a wake-up got lost.
    look: Duration = Field(15.0, ge=0.1)

    # --- tasks that programs report themselves (`task_notifier`, `task_notification_service`)
    #: Group under which they are counted. Nothing else runs in it.
    group: str = Field("notified", min_length=1)
    #: How long one may be silent that no living process holds, until it counts as lost.
    silence: Duration = Field(24 * 3600.0, ge=1)
    #: How long one that is registered may take to start.
    start_within: Duration = Field(7 * 86400.0, ge=1)
    #: How long `register_task` may hold up a running event loop while the store is slow; it goes on by itself then.
    register_wait: Duration = Field(0.1, ge=0, le=5)
