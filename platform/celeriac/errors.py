"""Every error that Celeriac raises on purpose.

    CeleriacError
    ├── SettingsError (ValueError)        the configuration is wrong; says which key and what to do
    │   └── MissingExtraError (ImportError)  … a package is missing; says which extra of `celeriac` brings it
    ├── InvalidSubmissionError (ValueError)  a submission does not fit; `violations` names the fields
    ├── TaskNotFoundError (LookupError)   no such task, or it is older than its retention
    ├── GroupNotFoundError (LookupError)  no group of this name
    ├── WorkerNotFoundError (LookupError)  no worker of this id runs
    ├── WorkerNotDrainableError           the worker cannot be told to take no more tasks
    ├── RuleNotFoundError (LookupError)   no limit of this name
    ├── IllegalTransitionError            the task is not in a state that allows this
    │   ├── DependedOnError               … a task that has not ended depends on it
    │   ├── TaskEndedError                … it has ended
    │   └── TaskTakenError                … the id belongs to another user's task, which has not ended
    ├── DefinitionNotFoundError (LookupError)  no such definition
    ├── IllegalDefinitionMoveError        the definition is not in a state that allows this
    ├── ChangedDefinitionError            the definition is no longer as the caller saw it
    ├── ChangedTaskError                  the task is no longer as the caller saw it
    ├── WorkflowNotFoundError (LookupError)  no such workflow, or it is older than its retention
    ├── IllegalWorkflowMoveError          the workflow is not in a state that allows this
    ├── NodeExistsError                   the workflow has a node of this name
    ├── SignalReceivedError               the task has a signal of this name already; says since when
    ├── DuplicateTaskError                another task holds the key of `once`; says which
    ├── QueueFullError                    the group has as many waiting tasks as it may
    ├── TooManyRulesError                 the rule would be one too many, for a task or at all
    ├── GroupLimitError                   there are as many groups as there may be
    ├── NoWorkerError                     no remote worker is connected to the group
    ├── PayloadTooLargeError (ValueError) a payload or result is above its limit
    ├── StoreUnavailableError (ConnectionError)  Redis is away or refuses writes
    │   └── NotReplicatedError             … it has the call, but too few replicas have it: repeat the call
    ├── AuthenticationError (PermissionError)  a credential is missing or not valid
    ├── ForbiddenError (PermissionError)  … the caller may not do this
    ├── RateLimitedError              too much at once: try again later
    ├── HistoryUnavailableError (ConnectionError)  the SQL database cannot be reached
    │   └── HistoryMissingError            … it has no tables, or older ones: run `celeriac migrate`
    ├── StaleClaimError                   another worker owns this attempt now
    ├── ApiError                          the API answered a client with an error that has no class here
    ├── ApiUnavailableError (ConnectionError)  the API could not be reached within a client's retries
    ├── WorkerRefusedError                the gateway does not want this remote worker, now or later
    ├── BatchRefusedError                 some tasks of a batch were refused; says which, and why
    ├── WaitTimeoutError (TimeoutError)   a client's time to wait for a task's end is over
    │   └── SignalTimeoutError (also SkipRetry)  … a handler's time to wait for a signal
    ├── TaskFailedError                   a client asked for the result of a task that failed
    │   └── ChildFailedError (also SkipRetry)  … a handler, for that of its child
    ├── TaskCancelledError                … that was cancelled
    ├── InvalidResultError (ValueError)   … whose result is not what its function says that it returns
    ├── BlockingCallError (RuntimeError)  a blocking call on a running event loop; says what to await instead
    ├── PlatformStartError (RuntimeError)  the platform of a test did not start
    ├── FileMissingError (LookupError)    no such file, upload or result
    ├── FileNotAllowedError (ValueError)  a path that may not be handed in
    ├── FileBusyError                     another task or program has the file
    ├── StorageFullError                  no room: the disk, or the quota of uploads
    ├── FileTypeRefusedError (ValueError) a media type that is not taken
    ├── ChecksumMismatchError (ValueError)  what arrived is not what was sent
    └── TaskError                         what a handler may raise to say how its task failed
        ├── SkipRetry                     failed for good: no further attempts
        │   └── StepLimitError            … its task would keep more steps or sleep longer than it may
        ├── TaskTimeoutError (TimeoutError)  the attempt's time limit passed
        ├── ExecutorLostError             the program that did the work went away
        ├── RetryAfter                    failed; the handler sets the delay itself
        └── RateLimited                   not failed: somebody else's service says when to try again

`code` is the canonical name that front doors put on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from celeriac.durations import seconds_of


class CeleriacError(Exception):
    """Base of all errors of this project."""

    #: Stable, lower-case name of the error on every front door.
    code = "internal"


class SettingsError(CeleriacError, ValueError):
    """The configuration cannot be used as it is."""

    code = "invalid_settings"


class MissingExtraError(SettingsError, ImportError):
    """A package is not installed; `extra` is the extra of the distribution that brings it."""

    def __init__(self, needed_by: str, package: str, extra: str) -> None:
        self.needed_by, self.package, self.extra = needed_by, package, extra
        super().__init__(
            f"{needed_by} needs the package {package}, which is not installed: run pip install 'celeriac[{extra}]'"
        )


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with an input: `field` is a dotted path, `""` for the whole."""

    field: str
    message: str


#: An error tells of at most this many violations. A field's path and a message have at most so many characters.
MAX_VIOLATIONS: Final = 20
_MAX_FIELD: Final = 200
_MAX_MESSAGE: Final = 1000
#: What the last violation says if some were left out.
_MORE: Final = re.compile(r"and (\d{1,18}) more")


def bounded_violations(found: Sequence[Violation], most: int = MAX_VIOLATIONS) -> tuple[Violation, ...]:
    """Return the first violations, shortened, and how many more there are: a refusal is never a long answer."""
    more = _MORE.fullmatch(found[-1].message) if found and not found[-1].field else None
    real = found if more is None else found[:-1]
    told = [Violation(_shortened(v.field, _MAX_FIELD), _shortened(v.message, _MAX_MESSAGE)) for v in real[:most]]
    if rest := len(real) - len(told) + (0 if more is None else int(more[1])):
        told.append(Violation("", f"and {rest} more"))
    return tuple(told)


def told_violations(violations: Iterable[Violation]) -> str:
    """Return violations as one text."""
    return "; ".join(f"{v.field}: {v.message}" if v.field else v.message for v in violations)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


class JsonError(CeleriacError, ValueError):
    """A text is not JSON, or a value has no form in JSON; `place` is where (`payload.items[3]`), or what was read."""

    code = "malformed_json"

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"{place} {problem}")


class InvalidSubmissionError(CeleriacError, ValueError):
    """A submission was refused; nothing of it was stored."""

    code = "invalid_submission"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = bounded_violations(violations)
        super().__init__(told_violations(self.violations))

    def below(self, place: str) -> InvalidSubmissionError:
        """Return the same refusal of a document that is at `place` in another one."""
        return InvalidSubmissionError(
            [Violation(f"{place}.{one.field}" if one.field else place, one.message) for one in self.violations]
        )

    def brief(self) -> InvalidSubmissionError:
        """Return the same refusal with its first violation only."""
        return InvalidSubmissionError(bounded_violations(self.violations, 1))


class UnknownParentError(InvalidSubmissionError):
    """A submission was refused, because the store does not have a task that it depends on.

    `node` is the name of the node of a workflow that was submitted.
    """

    def __init__(self, place: int, task_id: str, node: str | None = None) -> None:
        message = f"there is no task {task_id!r} that this one can depend on"
        field = f"depends_on.{place}"
        super().__init__([Violation(field if node is None else f"nodes.{node}.{field}", message)])


class TaskNotFoundError(CeleriacError, LookupError):
    """No task has this id, or its record has expired."""

    code = "task_not_found"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"no task has the id {task_id!r}, or its record has expired")


class GroupNotFoundError(CeleriacError, LookupError):
    """No group has this name: it never had a task, no worker serves it and the settings do not name it."""

    code = "group_not_found"

    def __init__(self, group: str, *, known: Sequence[str] = ()) -> None:
        self.group = group
        #: The groups that exist, as far as the code that raised this knows them.
        self.known = known
        super().__init__(f"there is no group {group!r}")


class WorkerNotFoundError(CeleriacError, LookupError):
    """No worker with this id runs: it has ended, or there was none."""

    code = "worker_not_found"

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(f"no worker with the id {worker_id!r} runs")


class WorkerNotDrainableError(CeleriacError):
    """The worker cannot be told to take no more tasks, because they come through another broker."""

    code = "worker_not_drainable"

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"the worker {worker_id} cannot be drained from here: its tasks come through another broker;"
            " stop it, and it takes no more tasks and finishes what it runs"
        )


class IllegalTransitionError(CeleriacError):
    """The task's status does not allow this move."""

    code = "illegal_transition"

    def __init__(self, task_id: str, status: str, wanted: str, *, why: str = "") -> None:
        self.task_id, self.status, self.wanted = task_id, status.lower(), wanted
        reason = f", but {why}" if why else ""
        super().__init__(f"task {task_id!r} is {status.lower()}{reason}: cannot {wanted} it")


class DependedOnError(IllegalTransitionError):
    """A task that has not ended depends on this one, whose record is kept until then."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(task_id, status, "remove", why="a task that has not ended depends on it")


class TaskEndedError(IllegalTransitionError):
    """The task has ended, so it takes no signal."""

    code = "task_ended"

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(task_id, status, "signal")


class TaskTakenError(IllegalTransitionError):
    """A program reports a task under the id of another user's task, which has not ended."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(task_id, status, "register")
        self.args = (f"task id {task_id!r} is in use: another user's task is still {status.lower()} under it",)


class ChangedTaskError(CeleriacError):
    """The task changed since the caller looked at it, so it was left alone."""

    code = "task_changed"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id!r} has changed: read it again before you change it")


class SignalReceivedError(CeleriacError):
    """The task has a signal of this name already: the first one counts."""

    code = "signal_already_received"

    def __init__(self, task_id: str, signal: str, received_at: datetime) -> None:
        self.task_id, self.signal, self.received_at = task_id, signal, received_at
        at = received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        super().__init__(f"task {task_id!r} received the signal {signal!r} at {at}: the first one counts")


class DefinitionNotFoundError(CeleriacError, LookupError):
    """There is no definition of this id, or it ended longer ago than definitions are kept."""

    code = "definition_not_found"

    def __init__(self, definition_id: str) -> None:
        self.definition_id = definition_id
        super().__init__(f"no definition has the id {definition_id[:200]!r}")


class IllegalDefinitionMoveError(CeleriacError):
    """The definition's status does not allow this move."""

    code = "illegal_definition_move"

    def __init__(self, definition_id: str, status: str, wanted: str, why: str = "") -> None:
        self.definition_id, self.status, self.wanted = definition_id, status, wanted
        super().__init__(
            f"definition {definition_id!r} is {status.lower()}: cannot {wanted} it" + (why and f" ({why})")
        )


class ChangedDefinitionError(CeleriacError):
    """The definition changed since the caller looked at it, so it was left alone."""

    code = "definition_changed"

    def __init__(self, definition_id: str) -> None:
        self.definition_id = definition_id
        super().__init__(f"definition {definition_id!r} has changed: read it again before you change it")


class WorkflowNotFoundError(CeleriacError, LookupError):
    """No workflow has this id, or its record has expired."""

    code = "workflow_not_found"

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(f"no workflow has the id {workflow_id!r}, or its record has expired")


class IllegalWorkflowMoveError(CeleriacError):
    """The workflow's status does not allow this move."""

    code = "illegal_workflow_move"

    def __init__(self, workflow_id: str, status: str, wanted: str) -> None:
        self.workflow_id, self.status, self.wanted = workflow_id, status.lower(), wanted
        super().__init__(f"workflow {workflow_id!r} is {status.lower()}: cannot {wanted}")


class NodeExistsError(CeleriacError):
    """The workflow has a node of this name already."""

    code = "node_exists"

    def __init__(self, node: str) -> None:
        self.node = node
        super().__init__(f"the workflow has a node {node!r} already: choose another name")


class DuplicateTaskError(CeleriacError):
    """Another task holds the key of `once`; the submission left nothing behind."""

    code = "duplicate"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id!r} holds the same key of `once`: only one task at a time may")


class QueueFullError(CeleriacError):
    """The group's waiting tasks are at the limit; the submission left nothing behind."""

    code = "queue_full"

    def __init__(self, group: str, limit: int) -> None:
        self.group, self.limit = group, limit
        super().__init__(f"group {group!r} already has {limit} waiting tasks, which is its limit")


class KeyFullError(CeleriacError):
    """A key has as many waiting tasks as a rule allows; the submission left nothing behind."""

    code = "key_full"

    def __init__(self, key: str, *, rule: str, limit: int, retry_after_s: int) -> None:
        self.key, self.rule, self.limit, self.retry_after_s = key, rule, limit, retry_after_s
        super().__init__(
            f"{key!r} already has {limit} waiting tasks, which is its limit (rule {rule!r}): try again later"
        )


class TooManyRulesError(CeleriacError):
    """The rule would be one too many."""

    code = "too_many_rules"


class RuleNotFoundError(CeleriacError, LookupError):
    """There is no rule of this name."""

    code = "limit_not_found"

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        self.name = name
        #: The rules that exist, as far as the code that raised this knows them.
        self.known = known
        some = f"; known are: {', '.join(known)}" if known else "; there are none"
        super().__init__(f"there is no limit {name[:200]!r}{some}")


class GroupLimitError(CeleriacError):
    """The group would be a new one, and there are as many groups as there may be; the submission left nothing behind.

    `own`: it is the caller's own limit that is reached, not that of the installation.
    """

    code = "group_limit"

    def __init__(self, group: str, limit: int, *, own: bool) -> None:
        self.group, self.limit, self.own = group, limit, own
        whose = (
            f"you have made {limit} groups, which is the limit (max_user_groups)"
            if own
            else f"users have made {limit} groups, which is the limit (max_groups)"
        )
        super().__init__(
            f"group {group!r} would be new, and {whose}: use a group that exists, or ask an operator to configure it"
        )


class NoWorkerError(CeleriacError):
    """No remote worker is connected to the group; the submission left nothing behind."""

    code = "no_worker"

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(f"no worker is connected to group {group!r}")


class PayloadTooLargeError(CeleriacError, ValueError):
    """A payload, result or body is above its limit."""

    code = "too_large"

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what, self.size, self.limit = what, size, limit
        super().__init__(f"{what} is {size} bytes, above the limit of {limit}")


class StoreUnavailableError(CeleriacError, ConnectionError):
    """Redis cannot be reached, is loading, or refuses writes."""

    code = "store_unavailable"


class NotReplicatedError(StoreUnavailableError):
    """The store has done what the call asks for, but too few replicas had it in time (`durability: replicated`).

    It takes effect unless the store's machine dies now. Repeat the same call, a submission with the same
    `Idempotency-Key`, until the replicas have it. `task_id` or `workflow_id` is what was submitted.
    """

    def __init__(self, message: str, *, task_id: str | None = None, workflow_id: str | None = None) -> None:
        self.task_id, self.workflow_id = task_id, workflow_id
        super().__init__(message)


class StoreRefusedError(StoreUnavailableError):
    """Redis refused a command as wrong, so repeating it does not help."""


class AuthenticationError(CeleriacError, PermissionError):
    """The credential is missing or not valid; the message never quotes it."""

    code = "unauthenticated"


class ForbiddenError(CeleriacError, PermissionError):
    """The caller is known but may not do this."""

    code = "forbidden"


class RateLimitedError(CeleriacError):
    """The caller sends more requests than it may; it may try again after `retry_after_s` seconds."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{message}: try again in {retry_after_s:.1f} s")


class HistoryUnavailableError(CeleriacError, ConnectionError):
    """The database of the history cannot be reached, or refuses to work."""

    code = "ledger_unavailable"


class HistoryMissingError(HistoryUnavailableError):
    """The history cannot be used: no database is configured, or its tables are missing or of another version."""

    code = "ledger_missing"


class StaleClaimError(CeleriacError):
    """This claim no longer owns the task: its lease ran out, or the task ended."""

    code = "stale_claim"

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(f"the claim on task {task_id!r} is no longer valid (status {status or 'gone'})")


class PlatformStartError(CeleriacError, RuntimeError):
    """The platform that a test asked for did not start. `output` is the end of what it said."""

    code = "platform_start"

    def __init__(self, reason: str, output: str) -> None:
        self.reason, self.output = reason, output
        super().__init__(f"the platform {reason}; it said:\n{output}")


class ApiError(CeleriacError):
    """The API answered with an error. `status` is that of HTTP, `code` the stable name to program against."""

    def __init__(self, detail: str, *, status: int, code: str) -> None:
        self.detail, self.status, self.code = detail, status, code
        super().__init__(f"{detail} ({code}, HTTP {status})")


class ApiUnavailableError(CeleriacError, ConnectionError):
    """The API could not be reached within the client's retries."""

    code = "api_unavailable"

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"the API at {url} cannot be reached: {reason}")


class WorkerRefusedError(CeleriacError):
    """The gateway does not want this remote worker: its token, its group or the address is wrong."""

    code = "worker_refused"

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"the gateway at {url} refuses this worker: {reason}")


class BatchRefusedError(CeleriacError):
    """Some tasks of a batch were refused; the others are stored. Both by place in the batch, from 0."""

    code = "batch_refused"

    def __init__(self, accepted: Mapping[int, str], refused: Mapping[int, CeleriacError]) -> None:
        #: Task ids.
        self.accepted = dict(accepted)
        self.refused = dict(refused)
        place, first = next(iter(self.refused.items()))
        total = len(self.accepted) + len(self.refused)
        super().__init__(f"{len(self.refused)} of {total} tasks were refused; the first one is number {place}: {first}")


class WaitTimeoutError(CeleriacError, TimeoutError):
    """The task did not end within the caller's time. It keeps running."""

    code = "wait_timeout"

    def __init__(self, task_id: str, status: str, timeout_s: float) -> None:
        self.task_id, self.status, self.timeout_s = task_id, status.lower(), timeout_s
        super().__init__(f"task {task_id!r} is still {status.lower()} after {timeout_s:g} s")


class TaskFailedError(CeleriacError):
    """The task failed. `code` and `message` are those of its failure."""

    def __init__(self, task_id: str, code: str, message: str) -> None:
        self.task_id, self.code, self.message = task_id, code, message
        super().__init__(f"task {task_id!r} failed: {code}: {message}")


class TaskCancelledError(CeleriacError):
    """The task was cancelled. `message` says when, as far as is known."""

    code = "task_cancelled"

    def __init__(self, task_id: str, message: str) -> None:
        self.task_id, self.message = task_id, message
        super().__init__(f"task {task_id!r} was cancelled" + (f": {message}" if message else ""))


class InvalidResultError(CeleriacError, ValueError):
    """The task's result does not have the type that its function says that it returns."""

    code = "invalid_result"

    def __init__(self, task_id: str, name: str, violations: Sequence[Violation]) -> None:
        self.task_id, self.violations = task_id, bounded_violations(violations)
        super().__init__(
            f"the result of task {task_id!r} is not what {name!r} says that it returns:"
            f" {told_violations(self.violations)}; the task's record has it as it is"
        )


class BlockingCallError(CeleriacError, RuntimeError):
    """A blocking call was made on a running event loop, which it would have stopped."""

    code = "blocking_call"

    def __init__(self, call: str, instead: str) -> None:
        self.call, self.instead = call, instead
        super().__init__(f"{call} would block the running event loop: use {instead}")


class FileMissingError(CeleriacError, LookupError):
    """The file does not exist: it never did, a task took it over, or it was swept."""

    code = "file_not_found"


class FileNotAllowedError(CeleriacError, ValueError):
    """A path that may not be handed in; `field` is what named it."""

    code = "file_not_allowed"

    def __init__(self, message: str, *, field: str = "path") -> None:
        self.field = field
        super().__init__(message)


class FileBusyError(CeleriacError):
    """Another task or program has the file, or still writes it."""

    code = "file_busy"


class StorageFullError(CeleriacError):
    """There is no room for the file: the disk is full, or the quota of uploads is used up."""

    code = "storage_full"


class FileTypeRefusedError(CeleriacError, ValueError):
    """Uploads of this media type are not taken."""

    code = "unsupported_media_type"


class ChecksumMismatchError(CeleriacError, ValueError):
    """The content that arrived does not have the digest that the sender announced; nothing was kept."""

    code = "checksum_mismatch"


class TaskError(CeleriacError):
    """A handler raises this to fail its task with a code of its own; retried by policy."""

    code = "task_failed"
    #: Whether the failure may be retried (within the task's attempts).
    retryable = True

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        self.message = message
        if code is not None:
            self.code = code
        super().__init__(message)


class SkipRetry(TaskError):  # noqa: N818 - the name users know from their task queues
    """Fail the task at once: no further attempts, whatever its retry policy."""

    retryable = False


class InvalidReferenceError(SkipRetry):
    """A payload refers to something that the result of a parent does not have."""

    code = "invalid_reference"


class StepLimitError(SkipRetry):
    """A task would keep more of its work, or sleep for longer, than it may."""

    code = "step_limit"


class SignalTimeoutError(WaitTimeoutError, SkipRetry):
    """A signal that the handler waits for has not come in time. Another attempt would find the same."""

    code = "wait_timeout"

    def __init__(self, task_id: str, signal: str) -> None:
        self.task_id, self.signal = task_id, signal
        self.message = f"the signal {signal} has not come in time"
        CeleriacError.__init__(self, self.message)


class ChildFailedError(TaskFailedError, SkipRetry):
    """A task that the handler called has failed or was cancelled. Another attempt would find the same."""

    def __init__(self, task_id: str, code: str, message: str) -> None:
        self.task_id, self.code, self.message = task_id, code, message
        CeleriacError.__init__(self, f"task {task_id!r} failed: {code}: {message}")


class TaskTimeoutError(TaskError, TimeoutError):
    """The attempt ran longer than its time limit."""

    code = "timeout"


class ExecutorLostError(TaskError):
    """The program that works for the handler went away: this attempt failed, others may follow.

    While the worker itself stops, the attempt does not count, and the worker gives the task back.
    """

    code = "executor_lost"


class RetryAfter(TaskError):  # noqa: N818
    """Fail this attempt and run the next one after `delay_s` seconds instead of the policy's backoff."""

    def __init__(self, message: str = "", *, delay_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.delay_s = delay_s


class RateLimited(TaskError):  # noqa: N818
    """Somebody else's service refuses the work for now: the attempt does not count, and the task runs again later.

    `retry_after` is the time until then, as seconds, a text (`"30s"`, `"2m"`) or a `timedelta`; raises `ValueError` for
    anything else. Until then no other task of the same key starts in the group, or none of the group at all if the
    task has no key.
    """

    code = "rate_limited"

    def __init__(self, message: str = "", *, retry_after: float | str | timedelta) -> None:
        self.retry_after_s = seconds_of(retry_after)
        super().__init__(message or f"the service says that it takes more after {self.retry_after_s:g} s")
