"""What commands ask of a platform. All answers are records as the HTTP API writes them: JSON-ready dictionaries.

Every method raises `StoreUnavailableError`, `HistoryUnavailableError` or `ApiUnavailableError` while what it needs is
away, and the errors of the service that it asks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from celeriac.error_filter import ErrorSort
from celeriac.limits.rules import LimitRule
from celeriac.task_filter import Sort, TaskFilter

Record: TypeAlias = dict[str, Any]
BulkAction: TypeAlias = Literal["cancel", "retry"]
Move: TypeAlias = Literal["pause", "resume", "cancel"]


class TaskCalls(Protocol):
    """Tasks: submit, find, follow and change them."""

    async def submit(self, document: Mapping[str, Any], *, idempotency_key: str | None) -> Record:
        """Submit a task; returns `task_id`, `status`, and `created`: false for the task of an earlier key."""

    async def find(self, task_id: str) -> Record:
        """Return the task's record."""

    async def why(self, task_id: str) -> Record:
        """Return the task's `status` and the `reasons` for which it waits, each with a `text`."""

    async def ids(self, prefix: str, limit: int) -> list[str]:
        """Return up to `limit` ids that begin with `prefix`, in order; of a short prefix only the id that equals it."""

    async def recent_ids(self, prefix: str, limit: int) -> list[str]:
        """Return up to `limit` ids of tasks that something happened to lately and that begin with `prefix`."""

    async def cancel(self, task_id: str) -> Record:
        """Cancel the task; returns `task_id` and its `status` now."""

    async def run_now(self, task_id: str) -> Record:
        """Run the task without waiting for its time; returns `task_id` and its `status` now."""

    async def retry(self, task_id: str, payload: Any | None, from_step: str | None = None) -> Record:
        """Run the task again, its steps from `from_step` on too; returns `task_id` and its `status` now."""

    async def signal(self, task_id: str, name: str, value: Any) -> Record:
        """Send the task a signal; returns `task_id`, `signal` and `received_at`."""

    def waits(self, limit: int) -> AsyncGenerator[Record]:
        """Yield up to `limit` (0: all) signals that tasks wait for, the oldest wait first."""

    async def bulk(self, action: BulkAction, chosen: Mapping[str, Any]) -> Record:
        """Start a bulk operation on what a filter selects; returns its `task_id` and `status`."""

    async def count(self, action: BulkAction, chosen: Mapping[str, Any]) -> int:
        """Return how many tasks the bulk operation would act on now."""

    def listed(self, chosen: TaskFilter, sort: Sort, limit: int, fields: Sequence[str] = ()) -> AsyncGenerator[Record]:
        """Yield up to `limit` (0: all) records of the history, page by page; with `fields` only these of each."""

    def errors(
        self, start: datetime, end: datetime, chosen: Mapping[str, Any], *, sort: ErrorSort, limit: int
    ) -> AsyncGenerator[Record]:
        """Yield up to `limit` (0: all) groups of failures in the time; `chosen` are fields of `ErrorFilter`."""

    async def events(self, task_id: str, limit: int) -> list[Record]:
        """Return the first `limit` events of the task's timeline."""

    def watch(self, task_id: str) -> AsyncGenerator[Record]:
        """Yield the task's events live: `event` is `status`, `progress`, and at last `done` with the result."""

    def log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """Yield the lines of the task's log that are at least so severe."""

    def follow_log(self, task_id: str, level: str) -> AsyncGenerator[Record]:
        """Yield these lines live, until the task has ended."""

    async def stats(
        self, start: datetime, end: datetime, bucket: str, *, task_type: str | None, queue: str | None, key: str | None
    ) -> Record:
        """Return counts and durations over time."""

    async def types_of(self, start: datetime, end: datetime) -> list[Record]:
        """Return what ended by type, those with the most tasks first, as `by` of the statistics has it."""


class WorkflowCalls(Protocol):
    """Workflows: graphs of tasks."""

    async def submit(self, document: Any, *, idempotency_key: str | None) -> Record:
        """Submit a workflow; returns `workflow_id`, `status`, `nodes` (task ids by name) and `created`."""

    async def get(self, workflow_id: str) -> Record:
        """Return a workflow with its nodes."""

    def listed(self, limit: int, *, status: str | None, name: str | None) -> AsyncGenerator[Record]:
        """Yield up to `limit` workflows without their nodes, the newest first, page by page."""

    async def cancel(self, workflow_id: str) -> Record:
        """Cancel the workflow; returns `workflow_id` and its `status` now."""

    async def retry(self, workflow_id: str) -> Record:
        """Run it again; returns `workflow_id` and its `status` now."""

    def watch(self, workflow_id: str) -> AsyncGenerator[Record]:
        """Yield its events live: `event` is `node` for each change of a node, and at last `done`."""


class GroupCalls(Protocol):
    """Worker groups. Each method that changes one returns it as it is then."""

    async def listed(self) -> tuple[list[Record], int]:
        """Return the groups by name, and how many are left out because there are very many."""

    async def get(self, name: str) -> Record:
        """Return one group."""

    async def pause(self, name: str, note: str, *, action: str = "group.pause") -> Record:
        """Pause a group; the audit calls it `action`."""

    async def resume(self, name: str) -> Record:
        """Resume a group."""

    async def limit(self, name: str, *, max_running: int | None, rate: str | None, note: str) -> Record:
        """Replace the limits of a group."""

    async def unlimit(self, name: str) -> Record:
        """Remove the limits of a group."""


class LimitCalls(Protocol):
    """The rules that limit tasks. The methods that name one raise `RuleNotFoundError`."""

    async def listed(self) -> list[Record]:
        """Return all rules, by name."""

    async def get(self, name: str) -> Record:
        """Return one rule."""

    async def keys(self, name: str, *, sort: str, limit: int) -> list[Record]:
        """Return up to `limit` keys of a rule, those first of which most tasks wait, or run."""

    async def set(self, rule: LimitRule) -> Record:
        """Set a rule in place of the one of its name, and return it."""

    async def delete(self, name: str) -> None:
        """Delete a rule."""


class DefinitionCalls(Protocol):
    """Definitions, which make tasks on a schedule."""

    async def listed(
        self, limit: int, *, user_id: str | None, status: str | None, group: str | None, id_prefix: str | None = None
    ) -> list[Record]:
        """Return up to `limit` definitions, the newest first."""

    async def get(self, definition_id: str) -> Record:
        """Return a definition with `next_runs`, `last_runs` and `changes`, ten of each."""

    async def create(self, document: Mapping[str, Any]) -> Record:
        """Create a definition."""

    async def edit(self, definition_id: str, fields: Mapping[str, Any]) -> Record:
        """Change fields of a definition."""

    async def move(self, definition_id: str, move: Move, note: str | None) -> Record:
        """Pause, resume or cancel a definition."""

    async def trigger(self, definition_id: str) -> Record:
        """Run an instance now."""

    async def preview(self, definition_id: str, count: int) -> list[Record]:
        """Return the next firings."""

    async def backfill(self, definition_id: str, start: datetime, end: datetime, *, one_by_one: bool) -> list[Record]:
        """Run the slots of a past range again."""


class OperatorCalls(Protocol):
    """What operators look at, and the API keys that they hand out."""

    async def workers(self) -> list[Record]:
        """Return the workers that run now."""

    async def drain_worker(self, worker_id: str, *, drained: bool) -> Record:
        """Have a worker take no more tasks, or tasks again (`drained` is false); returns it as it is then."""

    async def types(self) -> list[Record]:
        """Return the task types, by name."""

    async def type_names(self) -> list[str]:
        """Return the names of the task types; what this folder imports may be missing."""

    async def audit(self, limit: int) -> list[Record]:
        """Return the last entries of the audit, the newest first."""

    async def keys(self) -> list[Record]:
        """Return the API keys, without their secrets."""

    async def create_key(self, name: str, *, user_id: str | None, scopes: Sequence[str], ttl_s: float | None) -> Record:
        """Create an API key; `key` is its text."""

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke an API key; returns whether there was one."""


class AnyPlatform(Protocol):
    """A platform that commands act on."""

    @property
    def tasks(self) -> TaskCalls:
        """See `TaskCalls`."""

    @property
    def workflows(self) -> WorkflowCalls:
        """See `WorkflowCalls`."""

    @property
    def groups(self) -> GroupCalls:
        """See `GroupCalls`."""

    @property
    def limits(self) -> LimitCalls:
        """See `LimitCalls`."""

    @property
    def definitions(self) -> DefinitionCalls:
        """See `DefinitionCalls`."""

    @property
    def operators(self) -> OperatorCalls:
        """See `OperatorCalls`."""
