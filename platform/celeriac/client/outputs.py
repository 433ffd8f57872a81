"""Reads answers of the API as the tasks, statuses and errors of the core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from celeriac import json_text
from celeriac.client.http.calls import Answer
from celeriac.errors import (
    ApiError,
    CeleriacError,
    ChangedDefinitionError,
    DefinitionNotFoundError,
    DuplicateTaskError,
    GroupLimitError,
    GroupNotFoundError,
    HistoryMissingError,
    HistoryUnavailableError,
    IllegalTransitionError,
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    JsonError,
    KeyFullError,
    NodeExistsError,
    NotReplicatedError,
    PayloadTooLargeError,
    QueueFullError,
    RuleNotFoundError,
    SignalReceivedError,
    StoreUnavailableError,
    TaskEndedError,
    TaskNotFoundError,
    TooManyRulesError,
    Violation,
    WorkerNotDrainableError,
    WorkerNotFoundError,
    WorkflowNotFoundError,
)
from celeriac.model import LogLine, Outcome, Status, Task, Workflow
from celeriac.signals.records import TaskStep, Wait, step_from_record, wait_from_record
from celeriac.tasks.reasons import Why, why_from_record
from celeriac.tasks.record import log_line_from_record, outcome_from_record, task_from_record
from celeriac.workflows.record import workflow_from_record

T = TypeVar("T")


def document_of(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of a successful answer; raises the error that any other answer describes."""
    if answer.status >= 400:
        raise error_of(answer)
    try:
        document = json_text.read(answer.body)
    except JsonError:
        document = None
    if answer.status >= 300 or not isinstance(document, dict):
        raise _foreign(answer)
    return document


def member(document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a member of an answer; raises `ApiError` if it is missing or of another type."""
    value = document.get(name)
    if not isinstance(value, kind):
        raise ApiError(f"the answer has no valid member {name!r}", status=200, code="unreadable")
    return value


def task_of(document: Mapping[str, Any]) -> Task:
    """Read the record of a task; raises `ApiError` if `document` is not one."""
    try:
        return task_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    """Read what a task has come to; raises `ApiError` if `document` does not say it."""
    try:
        return outcome_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def wait_of(document: Mapping[str, Any]) -> Wait:
    """Read a wait; raises `ApiError` if `document` is not one."""
    try:
        return wait_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def why_of(document: Mapping[str, Any]) -> Why:
    """Read why a task waits; raises `ApiError` if `document` does not say it."""
    try:
        return why_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def step_of(document: Mapping[str, Any]) -> TaskStep:
    """Read a step of a task; raises `ApiError` if `document` is not one."""
    try:
        return step_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def workflow_of(document: Mapping[str, Any]) -> Workflow:
    """Read the record of a workflow, with or without its nodes; raises `ApiError` if `document` is not one."""
    try:
        return workflow_from_record(document)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe a workflow: {exc!r}", status=200, code="unreadable") from exc


def log_line_of(document: Mapping[str, Any]) -> LogLine:
    """Read a line of a log; raises `ApiError` if `document` is not one."""
    try:
        return log_line_from_record(document)
    except ValueError as exc:
        raise ApiError(str(exc), status=200, code="unreadable") from exc


def status_of(document: Mapping[str, Any], name: str = "status") -> Status:
    """Read the status in the member `name`; raises `ApiError` if it is missing or unknown."""
    try:
        return Status(document[name])
    except (KeyError, ValueError) as exc:
        raise ApiError(f"the answer has no valid status: {exc!r}", status=200, code="unreadable") from exc


def error_of(answer: Answer) -> CeleriacError:
    """Return the error that an answer describes."""
    try:
        problem = json_text.read(answer.body)
    except JsonError:
        problem = None
    return error_of_problem(problem) if isinstance(problem, dict) and "code" in problem else _foreign(answer)


def error_of_problem(problem: Mapping[str, Any]) -> CeleriacError:
    """Return the error of an RFC 9457 problem: the class of its code if the problem has its fields, else `ApiError`."""
    code, detail = str(problem.get("code")), str(problem.get("detail") or problem.get("title") or "")
    try:
        match code:
            case "invalid_submission" | "invalid_request" if "errors" in problem:
                return InvalidSubmissionError([Violation(e["field"], e["message"]) for e in problem["errors"]])
            case "task_not_found":
                return TaskNotFoundError(problem["task_id"])
            case "group_not_found":
                return GroupNotFoundError(problem["group"])
            case "worker_not_found":
                return WorkerNotFoundError(problem["worker_id"])
            case "worker_not_drainable":
                return WorkerNotDrainableError(problem["worker_id"])
            case "limit_not_found":
                return RuleNotFoundError(problem["limit"], problem["known"])
            case "too_many_rules":
                return TooManyRulesError(detail)
            case "definition_not_found":
                return DefinitionNotFoundError(problem["task_def_id"])
            case "definition_changed":
                return ChangedDefinitionError(problem["task_def_id"])
            case "illegal_transition":
                return IllegalTransitionError(problem["task_id"], problem["task_status"], problem["wanted"])
            case "workflow_not_found":
                return WorkflowNotFoundError(problem["workflow_id"])
            case "illegal_workflow_move":
                return IllegalWorkflowMoveError(problem["workflow_id"], problem["workflow_status"], problem["wanted"])
            case "node_exists":
                return NodeExistsError(problem["node"])
            case "task_ended":
                return TaskEndedError(problem["task_id"], problem["task_status"])
            case "signal_already_received":
                received_at = datetime.fromisoformat(problem["received_at"])
                return SignalReceivedError(problem["task_id"], problem["signal"], received_at)
            case "duplicate":
                return DuplicateTaskError(problem["task_id"])
            case "queue_full":
                return QueueFullError(problem["group"], problem["limit"])
            case "key_full":
                facts = {name: problem[name] for name in ("rule", "limit", "retry_after_s")}
                return KeyFullError(problem["key"], **facts)
            case "group_limit":
                return GroupLimitError(problem["group"], problem["limit"], own=problem["own"])
            case "too_large":
                return PayloadTooLargeError(problem["what"], problem["size"], problem["limit"])
            case "store_unavailable" if "task_id" in problem or "workflow_id" in problem:
                ids = {name: problem.get(name) for name in ("task_id", "workflow_id")}
                return NotReplicatedError(detail, **ids)
            case "store_unavailable":
                return StoreUnavailableError(detail)
            case "ledger_unavailable":
                return HistoryUnavailableError(detail)
            case "ledger_missing":
                return HistoryMissingError(detail)
    except (KeyError, TypeError, ValueError):
        pass  # a server of another version may leave fields out
    return ApiError(detail, status=int(problem.get("status") or 0), code=code)


def _foreign(answer: Answer) -> ApiError:
    """Return the error for an answer that Celeriac did not send: the address is wrong, or a proxy answered."""
    kind = answer.headers.get("content-type", "no type")
    return ApiError(
        f"the answer is {kind}, not what the API sends: is the address right?", status=answer.status, code="unreadable"
    )
