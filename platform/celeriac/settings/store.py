"""What the store needs of the settings, gathered from several sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from celeriac.settings.engine import GroupSettings, StepSettings
from celeriac.settings.limits import LimitSettings
from celeriac.settings.notifications import NotificationSettings
from celeriac.settings.workflows import WorkflowSettings


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How many tasks may wait in a group, and who runs them. `groups` are those with settings of their own."""

    groups: Mapping[str, GroupSettings]
    max_length: int
    #: The same for remote tasks, which are counted by themselves.
    max_remote_length: int
    #: How many groups callers who are not admins may make, and how many one of them.
    max_groups: int
    max_user_groups: int

    def limit_of(self, group: str, *, remote: bool = False) -> int:
        """Return how many tasks may wait in `group`."""
        own = self.groups.get(group)
        if own is not None and own.max_queue_length is not None:
            return own.max_queue_length
        return self.max_remote_length if remote else self.max_length

    def is_configured(self, group: str) -> bool:
        """Return whether the settings name `group`, or it is `default`."""
        return group in self.groups or group == "default"

    def is_external(self, group: str) -> bool:
        """Return whether an operator's own program runs the tasks of `group` instead of our workers."""
        own = self.groups.get(group)
        return own is not None and own.processor == "external"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings of the store: limits, and how long things are kept (seconds). Each is described where it is set."""

    key_prefix: str
    durability: Literal["everysec", "fsync", "replicated"]
    durability_replicas: int
    durability_timeout: float
    durability_failover: float
    lease: float
    hint_grace: float
    store_timeout: float
    tell_within: float
    tell_lease: float
    queues: QueueSettings
    max_scheduled: int
    max_task_events: int
    max_global_events: int
    max_log_lines: int
    max_delta_bytes: int
    audit_entries: int
    retention: float
    group_retention: float
    group_idle: float
    group_ownership: float
    idempotency_ttl: float
    replacement_wait: float
    #: How long a group without living gateways still counts as served by remote workers.
    presence: float
    steps: StepSettings
    notifications: NotificationSettings
    workflows: WorkflowSettings
    limits: LimitSettings
