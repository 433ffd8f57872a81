"""What a running task knows of itself and can say: the second argument of a handler."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cached_property
from typing import Any, Protocol

from celeriac.handlers.stopping import Stoppable
from celeriac.model import Claim, LogLine


class AttemptSink(Protocol):
    """Where a context's reports and lines go; the worker's attempt is one."""

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        """Take one report, in order, from any thread."""
        ...

    def log(self, line: LogLine) -> None:
        """Take one line of the task's log, in order, from any thread; never waits."""
        ...


class Context(Stoppable):
    """A running attempt, as its handler sees it.

    Works alike in `async def` handlers and in plain functions (which run in a thread). `stop_reason` is `cancel`
    (by a caller), `timeout`, `lost` (another worker took over), `shutdown`, or None.
    """

    def __init__(self, claim: Claim, sink: AttemptSink) -> None:
        super().__init__()
        self._sink = sink
        self._claim = claim
        #: Set by a handler whose result is a file: written to the record, as `result_file_path`, with the task's end.
        self.result_file_path: str = ""

    @cached_property
    def log(self) -> Any:
        """A structlog logger that knows the task: `ctx.log.info("page written", page=3)`.

        Lines go to the worker's log, and from the level `task_log.level` on to the task's own, where all who may see
        the task can read them. The call does not wait; lines that come faster than the store takes them are left out.
        """
        # Imported when it is used: a quarter of a second that the child processes of file processors need not spend.
        from celeriac.handlers.task_log import task_logger

        return task_logger(self._claim, self._sink.log)

    @property
    def task_id(self) -> str:
        """The task's id; the same in every attempt."""
        return self._claim.task_id

    @property
    def type(self) -> str:
        """The name of the task type."""
        return self._claim.type

    @property
    def group(self) -> str:
        """The worker group that runs it."""
        return self._claim.group

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return self._claim.attempt

    @property
    def max_retries(self) -> int:
        """How many attempts may follow the first; a retry by hand grants more than the submission did."""
        return self._claim.attempts_allowed - 1

    @property
    def timeout_s(self) -> float | None:
        """The time limit that the task's submission set for each attempt (seconds), None if it set none."""
        return None if self._claim.timeout_ms is None else self._claim.timeout_ms / 1000

    @property
    def user_id(self) -> str | None:
        """The user on whose behalf it runs."""
        return self._claim.user_id

    @property
    def metadata(self) -> dict[str, Any]:
        """What the submitter attached."""
        return self._claim.metadata

    @property
    def original_file_path(self) -> str | None:
        """Where the file is that was handed over with the task, None if none was."""
        return self._claim.original_file_path

    @property
    def extra(self) -> dict[str, str]:
        """The same, by its name in the record, if there is a file."""
        path = self.original_file_path
        return {} if path is None else {"original_file_path": path}

    def progress(
        self, percentage: float, stage: str = "", message: str = "", *, timestamp_ms: int | None = None
    ) -> Awaitable[None]:
        """Report progress: `percentage` 0 to 100, a stage and a message for people.

        Reports are stored in the order of the calls, all of them before the task's end. Awaiting
        the answer is optional; it waits until the report is stored, and so slows a handler that
        reports faster than the store takes it. In a plain function the call itself waits when too
        many reports are on their way.
        """
        return self._sink.report(percentage, stage, message, timestamp_ms)
