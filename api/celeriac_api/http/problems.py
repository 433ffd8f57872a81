"""How an error looks on each front door: one table, and the RFC 9457 problems made from it.

Every answer above 399 is `application/problem+json` with `type`, `title`, `status`, `detail`, `instance` and
`code`, the stable name to program against. If fields are wrong it has `errors: [{field, message}]`. What the error
is about follows in further members (`task_id`, `group`, `limit`, …), so that a client need not read the text.
"""

from __future__ import annotations

import http
import logging
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from celeriac import json_text
from celeriac.errors import (
    MAX_VIOLATIONS,
    CeleriacError,
    ChangedDefinitionError,
    DefinitionNotFoundError,
    DuplicateTaskError,
    GroupLimitError,
    GroupNotFoundError,
    IllegalDefinitionMoveError,
    IllegalTransitionError,
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    KeyFullError,
    NodeExistsError,
    NotReplicatedError,
    PayloadTooLargeError,
    QueueFullError,
    RateLimitedError,
    RuleNotFoundError,
    SignalReceivedError,
    TaskNotFoundError,
    Violation,
    WorkerNotDrainableError,
    WorkerNotFoundError,
    WorkflowNotFoundError,
    bounded_violations,
    told_violations,
)
from celeriac.model import rfc3339
from celeriac.violations import and_more, plain_text
from celeriac_api.http.bodies import EncodedBodyError, is_json
from celeriac_api.http.responses import HEADERS

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Row:
    """One error on every front door."""

    http: int
    title: str
    #: Name of the gRPC status.
    grpc: str
    #: WebSocket close code (RFC 6455 and the IANA registry).
    ws_close: int
    #: Seconds after which the same request may succeed.
    retry_after_s: int | None = None


#: By `CeleriacError.code`, and the codes that only a front door has.
TABLE: Final[Mapping[str, Row]] = {
    "invalid_submission": Row(422, "Invalid submission", "INVALID_ARGUMENT", 1008),
    "invalid_request": Row(422, "Invalid request", "INVALID_ARGUMENT", 1008),
    "malformed_json": Row(400, "Malformed JSON", "INVALID_ARGUMENT", 1007),
    "invalid_header": Row(400, "Invalid header", "INVALID_ARGUMENT", 1008),
    "bad_request": Row(400, "Bad request", "INVALID_ARGUMENT", 1002),
    "unsupported_media_type": Row(415, "Unsupported media type", "INVALID_ARGUMENT", 1003),
    "too_large": Row(413, "Too large", "RESOURCE_EXHAUSTED", 1009),
    "head_too_large": Row(431, "Headers too large", "RESOURCE_EXHAUSTED", 1009),
    "uri_too_long": Row(414, "URL too long", "RESOURCE_EXHAUSTED", 1009),
    "request_timeout": Row(408, "Too slow", "DEADLINE_EXCEEDED", 1008),
    "not_found": Row(404, "Not found", "NOT_FOUND", 1008),
    "method_not_allowed": Row(405, "Method not allowed", "UNIMPLEMENTED", 1008),
    "task_not_found": Row(404, "Task not found", "NOT_FOUND", 1008),
    "group_not_found": Row(404, "Group not found", "NOT_FOUND", 1008),
    "worker_not_found": Row(404, "Worker not found", "NOT_FOUND", 1008),
    "worker_not_drainable": Row(409, "Not possible for this worker", "FAILED_PRECONDITION", 1008),
    "limit_not_found": Row(404, "Limit not found", "NOT_FOUND", 1008),
    "task_type_not_found": Row(404, "Task type not found", "NOT_FOUND", 1008),
    "key_not_found": Row(404, "API key not found", "NOT_FOUND", 1008),
    "illegal_transition": Row(409, "Not possible in this state", "FAILED_PRECONDITION", 1008),
    "task_ended": Row(409, "Not possible in this state", "FAILED_PRECONDITION", 1008),
    "signal_already_received": Row(409, "Already received", "ALREADY_EXISTS", 1008),
    "link_used": Row(410, "No longer valid", "FAILED_PRECONDITION", 1008),
    "definition_not_found": Row(404, "Definition not found", "NOT_FOUND", 1008),
    "illegal_definition_move": Row(409, "Not possible in this state", "FAILED_PRECONDITION", 1008),
    "definition_changed": Row(409, "Changed meanwhile", "ABORTED", 1008),
    "task_changed": Row(409, "Changed meanwhile", "ABORTED", 1008),
    "workflow_not_found": Row(404, "Workflow not found", "NOT_FOUND", 1008),
    "illegal_workflow_move": Row(409, "Not possible in this state", "FAILED_PRECONDITION", 1008),
    "node_exists": Row(409, "The node exists already", "ALREADY_EXISTS", 1008),
    "too_many_rules": Row(409, "Too many rules", "FAILED_PRECONDITION", 1008),
    "stale_claim": Row(409, "Claim no longer valid", "ABORTED", 1008),
    "file_not_found": Row(404, "File not found", "NOT_FOUND", 1008),
    "file_not_allowed": Row(422, "File not allowed", "INVALID_ARGUMENT", 1008),
    "file_busy": Row(409, "File in use", "ABORTED", 1008),
    "storage_full": Row(507, "No room", "RESOURCE_EXHAUSTED", 1013),
    "range_not_satisfiable": Row(416, "Range not satisfiable", "OUT_OF_RANGE", 1008),
    "wrong_offset": Row(409, "Wrong offset", "ABORTED", 1008),
    "unsupported_version": Row(412, "Unsupported version of tus", "FAILED_PRECONDITION", 1008),
    "checksum_mismatch": Row(422, "Checksum mismatch", "INVALID_ARGUMENT", 1008),
    "unauthenticated": Row(401, "Not authenticated", "UNAUTHENTICATED", 1008),
    "forbidden": Row(403, "Not allowed", "PERMISSION_DENIED", 1008),
    "origin_not_allowed": Row(403, "Origin not allowed", "PERMISSION_DENIED", 1008),
    "host_not_allowed": Row(421, "Host not allowed", "PERMISSION_DENIED", 1008),
    "rate_limited": Row(429, "Too many requests", "RESOURCE_EXHAUSTED", 1013, retry_after_s=1),
    "too_many_connections": Row(429, "Too many connections", "RESOURCE_EXHAUSTED", 1013, retry_after_s=5),
    "duplicate": Row(409, "Duplicate", "ALREADY_EXISTS", 1008),
    "queue_full": Row(429, "Queue full", "RESOURCE_EXHAUSTED", 1013, retry_after_s=1),
    "key_full": Row(429, "Key full", "RESOURCE_EXHAUSTED", 1013),
    "group_limit": Row(429, "Too many groups", "RESOURCE_EXHAUSTED", 1013),
    "no_worker": Row(503, "No worker connected", "UNAVAILABLE", 1013, retry_after_s=1),
    "too_many_waiters": Row(503, "Too many waiters", "RESOURCE_EXHAUSTED", 1013, retry_after_s=1),
    "too_many_watchers": Row(503, "Too many watchers", "RESOURCE_EXHAUSTED", 1013, retry_after_s=5),
    "store_unavailable": Row(503, "Store unavailable", "UNAVAILABLE", 1013, retry_after_s=1),
    "stopping": Row(503, "This server is stopping", "UNAVAILABLE", 1012, retry_after_s=1),
    "ledger_unavailable": Row(503, "History unavailable", "UNAVAILABLE", 1013, retry_after_s=5),
    "ledger_missing": Row(501, "No history here", "UNIMPLEMENTED", 1011),
    "internal": Row(500, "Internal error", "INTERNAL", 1011),
}

#: The codes of refusals by the framework, by status.
_CODE_OF_STATUS: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}

#: What a request is told that the stopping server does not finish.
STOPPED: Final = (
    "this server stopped before the request was done, so it may or may not have been carried out: send it again,"
    " with the same Idempotency-Key if it has one"
)
_INTERNAL_DETAIL: Final = "the server has an internal error; its log says more"


class RequestError(CeleriacError):
    """A request is refused because of its form; `code` is one of the table."""

    def __init__(self, code: str, detail: str, violations: Sequence[Violation] = ()) -> None:
        self.code = code
        self.violations = bounded_violations(violations)
        super().__init__(detail)


class TaskTypeNotFoundError(CeleriacError, LookupError):
    """Neither this process nor a worker knows a task type of this name."""

    code = "task_type_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no task type {name!r}")


class KeyNotFoundError(CeleriacError, LookupError):
    """There is no API key of this id."""

    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"there is no API key with the id {key_id[:100]!r}")


class TooManyWatchersError(CeleriacError):
    """This process serves as many live streams (`/api/v1/live`) as it may, in all or to this caller."""

    code = "too_many_watchers"


def row_of(error: BaseException) -> Row:
    """Return the table's row for an error; an error that is not a `CeleriacError` is internal."""
    code = error.code if isinstance(error, CeleriacError) else "internal"
    return TABLE.get(code, TABLE["internal"])


def retry_after_of(error: BaseException) -> int | None:
    """Return after how many seconds the same request may succeed, if that is known."""
    if isinstance(error, RateLimitedError | KeyFullError):
        return max(1, math.ceil(error.retry_after_s))
    return row_of(error).retry_after_s


def problem_of(error: BaseException, instance: str) -> Response:
    """Return the problem for an error that was raised while the path `instance` was served."""
    headers: dict[str, str] = {}
    if (retry_after_s := retry_after_of(error)) is not None:
        headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, EncodedBodyError):
        # RFC 9110, section 15.5.16: this tells the client that the encoding is the fault, and which one is accepted.
        headers["Accept-Encoding"] = "identity"
    return _respond(row_of(error), problem_document(error, instance), headers)


def problem_document(error: BaseException, instance: str) -> dict[str, Any]:
    """Return the RFC 9457 document for an error; it does not show the text of an internal one."""
    row = row_of(error)
    if row.http == 500:
        return _document("internal", row, _INTERNAL_DETAIL, instance)
    code = error.code if isinstance(error, CeleriacError) else "internal"
    violations = error.violations if isinstance(error, InvalidSubmissionError | RequestError) else ()
    return _document(code, row, str(error), instance, violations, _members(error))


def problem(
    code: str,
    row: Row,
    detail: str,
    instance: str,
    violations: Sequence[Violation] = (),
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return an RFC 9457 response; `extra` are further members of the document."""
    return _respond(row, _document(code, row, detail, instance, violations, extra), headers)


def _document(
    code: str,
    row: Row,
    detail: str,
    instance: str,
    violations: Sequence[Violation] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": f"urn:celeriac:problem:{code}",
        "title": row.title,
        "status": row.http,
        "detail": detail,
        "instance": instance,
        "code": code,
    }
    if violations:
        document["errors"] = [{"field": v.field, "message": v.message} for v in violations]
    return {**document, **(extra or {})}


def _members(error: BaseException) -> dict[str, Any]:
    """Return what the error is about, by field name."""
    match error:
        case TaskNotFoundError() | DuplicateTaskError():
            return {"task_id": error.task_id}
        case GroupNotFoundError():
            return {"group": error.group}
        case WorkerNotFoundError() | WorkerNotDrainableError():
            return {"worker_id": error.worker_id}
        case RuleNotFoundError():
            return {"limit": error.name, "known": list(error.known)}
        case IllegalTransitionError():
            return {"task_id": error.task_id, "task_status": error.status.lower(), "wanted": error.wanted}
        case SignalReceivedError():
            return {"task_id": error.task_id, "signal": error.signal, "received_at": rfc3339(error.received_at)}
        case DefinitionNotFoundError() | ChangedDefinitionError():
            return {"task_def_id": error.definition_id}
        case IllegalDefinitionMoveError():
            return {"task_def_id": error.definition_id, "definition_status": error.status, "wanted": error.wanted}
        case WorkflowNotFoundError():
            return {"workflow_id": error.workflow_id}
        case IllegalWorkflowMoveError():
            return {"workflow_id": error.workflow_id, "workflow_status": error.status, "wanted": error.wanted}
        case NotReplicatedError():
            named = {"task_id": error.task_id, "workflow_id": error.workflow_id}
            return {name: value for name, value in named.items() if value is not None}
        case NodeExistsError():
            return {"node": error.node}
        case QueueFullError():
            return {"group": error.group, "limit": error.limit}
        case KeyFullError():
            return {"key": error.key, "rule": error.rule, "limit": error.limit, "retry_after_s": error.retry_after_s}
        case GroupLimitError():
            return {"group": error.group, "limit": error.limit, "own": error.own}
        case PayloadTooLargeError():
            return {"what": error.what, "size": error.size, "limit": error.limit}
    return {}


def _respond(row: Row, document: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    sent = {**HEADERS, **(headers or {})}
    if row.retry_after_s is not None:
        sent.setdefault("Retry-After", str(row.retry_after_s))
    if row.http == 401:
        sent["WWW-Authenticate"] = 'Bearer realm="celeriac"'
    if row.http in (408, 413):
        # The rest of the body is not read, so the connection cannot be used again.
        sent["Connection"] = "close"
    return Response(json_text.encode(document), status_code=row.http, headers=sent, media_type=CONTENT_TYPE)


def instance_of(scope: Mapping[str, Any]) -> str:
    """Return the path of a request as it was sent, without the query, which may hold a token."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return raw.split(b"?", 1)[0].decode("latin-1")[:2000]


def install(app: FastAPI, methods_of: Callable[[str], Set[str]]) -> None:
    """Make every error of the application a problem; `methods_of` returns the methods that a path has."""
    app.add_exception_handler(HTTPException, partial(_from_http, methods_of))
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(CeleriacError, _from_ours)
    app.add_exception_handler(Exception, _from_unexpected)


async def _from_http(methods_of: Callable[[str], Set[str]], request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = _CODE_OF_STATUS.get(exc.status_code, "internal" if exc.status_code >= 500 else "bad_request")
    row = TABLE[code]
    if row.http != exc.status_code:
        row = Row(exc.status_code, http.HTTPStatus(exc.status_code).phrase, row.grpc, row.ws_close)
    detail = str(exc.detail)
    if code == "not_found":
        detail = f"there is nothing at {request.scope['path'][:200]}; /docs lists all routes"
    headers = exc.headers
    if code == "method_not_allowed":
        detail = f"this path does not support {request.method}"
        headers = {**(headers or {}), "Allow": ", ".join(sorted(methods_of(_path(request.scope))))}
    return problem(code, row, detail, instance_of(request.scope), headers=headers)


def _place(loc: tuple[str | int, ...]) -> str:
    """Return a dotted path; only the name for a parameter that may be repeated."""
    where, *path = loc
    return ".".join(str(part) for part in path if where != "query" or isinstance(part, str)) or str(where)


def _path(scope: Mapping[str, Any]) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _from_validation(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if refusal := _of_body(request, errors):
        return problem_of(refusal, instance_of(request.scope))
    found = [Violation(_place(error["loc"]), plain_text(error)) for error in errors[:MAX_VIOLATIONS]]
    violations = bounded_violations(found + and_more(len(errors)))
    detail = told_violations(violations)
    return problem("invalid_request", TABLE["invalid_request"], detail, instance_of(request.scope), violations)


def _of_body(request: Request, errors: Sequence[Mapping[str, Any]]) -> RequestError | None:
    """Return why a body that FastAPI could not read is refused, because the text of FastAPI does not help a client."""
    for error in errors:
        if error["type"] == "json_invalid":
            why = error.get("ctx", {}).get("error") or error["msg"]
            return RequestError("malformed_json", f"the body is not JSON: {why} at character {error['loc'][-1]}")
    kind = request.headers.get("content-type")
    # FastAPI reads a body that is not declared as JSON as a text, and says that an object is expected.
    if kind is not None and not is_json(kind.encode("latin-1")) and any(error["loc"] == ("body",) for error in errors):
        return RequestError(
            "unsupported_media_type", f"the body is {kind[:100] or 'of no type'}: send Content-Type: application/json"
        )
    return None


async def _from_ours(request: Request, exc: Exception) -> Response:
    if row_of(exc).http == 500:
        log.error("an error reached a front door that should not", exc_info=exc)
    return problem_of(exc, instance_of(request.scope))


async def _from_unexpected(request: Request, exc: Exception) -> Response:
    # The server logs the traceback: Starlette raises the error again once this is sent.
    return problem_of(exc, instance_of(request.scope))
