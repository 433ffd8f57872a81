"""A request to the API and the answer to it, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

TASKS: Final = "/api/v1/tasks"
DEAD: Final = "/api/v1/dead"
ERRORS: Final = "/api/v1/errors"
BULK: Final = "/api/v1/bulk"
WAITS: Final = "/api/v1/waits"
STATS: Final = "/api/v1/stats"
COUNTS: Final = "/api/v1/task-counts"
HISTOGRAM: Final = "/api/v1/task-histogram"
GROUPS: Final = "/api/v1/groups"
LIMITS: Final = "/api/v1/limits"
WORKFLOWS: Final = "/api/v1/workflows"


class LostConnectionError(Exception):
    """The answer did not arrive, or not all of it. The server may or may not have acted on the request."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `path` is below the API's address; `body` is JSON."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The server is asked to keep the answer back for up to so many seconds.
    waits_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. The names of headers are lower case. The body is empty while a stream of it is being read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def task_path(task_id: str) -> str:
    """Return the path of a task."""
    return f"{TASKS}/{quote(task_id, safe='')}"


def workflow_path(workflow_id: str) -> str:
    """Return the path of a workflow."""
    return f"{WORKFLOWS}/{quote(workflow_id, safe='')}"


def group_path(name: str) -> str:
    """Return the path of a group."""
    return f"{GROUPS}/{quote(name, safe='')}"


def idempotent(key: str) -> dict[str, str]:
    """Return the header that makes a request safe to repeat."""
    return {"idempotency-key": key}
