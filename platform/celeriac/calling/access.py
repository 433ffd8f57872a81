"""What handles and types of tasks need of a connection, and where they find the connection of this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Protocol

from celeriac.calling.options import NewTask, Payload
from celeriac.model import LogLine, Outcome, Progress, Status, Task


@dataclass(frozen=True, slots=True)
class Ended:
    """The task has ended with this status. Nothing follows."""

    status: Status


class TaskAccess(Protocol):
    """A connection through which a program submits tasks and follows them: HTTP, or the store itself.

    Every method may raise `ApiUnavailableError`, `StoreUnavailableError` and `ApiError`.
    """

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """Submit a task; return its id and its status.

        Raises `InvalidSubmissionError`, `PayloadTooLargeError`, `QueueFullError`.
        """
        ...

    async def get(self, task_id: str) -> Task:
        """Return a task's record; raises `TaskNotFoundError`."""
        ...

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """Return the record once the task has ended; raises `WaitTimeoutError` after `timeout` seconds."""
        ...

    async def outcome(self, task_id: str, timeout: float | None) -> Outcome:
        """Return what the task has come to once it has ended; raises as `ended` does."""
        ...

    async def run(self, task: NewTask) -> Outcome:
        """Submit a task, and return what it has come to once it has ended; raises as `submit` and `outcome` do."""
        ...

    async def cancel(self, task_id: str) -> Status:
        """Cancel a task; return its status now. Raises `TaskNotFoundError`, `IllegalTransitionError`."""
        ...

    async def retry(self, task_id: str, payload: Payload | None) -> Status:
        """Run an ended task again, with another payload if one is given; return its status now.

        Raises `TaskNotFoundError`, `IllegalTransitionError`, `InvalidSubmissionError`, `QueueFullError`.
        """
        ...

    def follow(self, task_id: str) -> AsyncGenerator[Progress | Ended]:
        """Yield every report of the task from the first one on, live, and finally `Ended`."""
        ...

    def log(self, task_id: str, level: str) -> AsyncGenerator[LogLine]:
        """Yield the lines that the task has logged by now, from a level on."""
        ...


#: The module that provides the connection of this process.
_PROVIDER: Final = "celeriac.connection.process"
_provided: Final[list[TaskAccess]] = []


def provide(access: TaskAccess) -> None:
    """Have types of tasks use this as the connection of the process."""
    _provided[:] = [access]


def process_access() -> TaskAccess:
    """Return the connection of this process, for use on the thread of `blocking.py`. It connects at its first use."""
    if not _provided:
        # By its name, at the first use: the room is above this one, and a program that only writes types does without.
        import_module(_PROVIDER)
    return _provided[0]
