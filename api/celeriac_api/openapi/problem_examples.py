"""One real error of each code, so that the examples in OpenAPI are what the server answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from celeriac.errors import (
    AuthenticationError,
    CeleriacError,
    ChangedDefinitionError,
    ChecksumMismatchError,
    DefinitionNotFoundError,
    DuplicateTaskError,
    FileBusyError,
    FileMissingError,
    FileNotAllowedError,
    ForbiddenError,
    GroupLimitError,
    GroupNotFoundError,
    HistoryMissingError,
    HistoryUnavailableError,
    IllegalDefinitionMoveError,
    IllegalTransitionError,
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    KeyFullError,
    NodeExistsError,
    NoWorkerError,
    PayloadTooLargeError,
    QueueFullError,
    RateLimitedError,
    RuleNotFoundError,
    SignalReceivedError,
    StorageFullError,
    StoreUnavailableError,
    TaskEndedError,
    TaskNotFoundError,
    TooManyRulesError,
    Violation,
    WorkerNotDrainableError,
    WorkerNotFoundError,
    WorkflowNotFoundError,
)
from celeriac.store.watching.ends import TooManyWaitersError
from celeriac_api.http.problems import KeyNotFoundError, RequestError, TaskTypeNotFoundError, TooManyWatchersError

#: Ids that examples use.
TASK_ID: Final = "0f0fb8a4-8a8e-4c0a-9d5b-3f8a4c0a9d5b"
DEFINITION_ID: Final = "6b1d1c0e-52c7-4d4b-8f6e-6f2a8f1f7c11"
WORKFLOW_ID: Final = "3c9a5e0e-6f1b-4a63-9a0e-0b6a1a2f4c77"
KEY_ID: Final = "5f0c2b9d1e7a"
FILE_ID: Final = "c2a7b1de-7c0f-4f0e-9a55-0d6f5d1f2b3c"

_ERRORS: Final[tuple[CeleriacError, ...]] = (
    InvalidSubmissionError([Violation("payload.service", "there is no service 'dem' in the configuration")]),
    RequestError(
        "invalid_request",
        "limit: Input should be less than or equal to 500",
        [Violation("limit", "Input should be less than or equal to 500")],
    ),
    RequestError("malformed_json", "the body is not JSON: unexpected end of data: line 1 column 10 (char 9)"),
    RequestError(
        "invalid_header",
        "Last-Event-ID must be the id of an event of this stream, e.g. 1896076800000-0",
        [Violation("Last-Event-ID", "is not the id of an event")],
    ),
    RequestError("bad_request", "Invalid HTTP request received."),
    RequestError("not_found", "there is nothing at /api/v1/task; /docs lists all routes"),
    RequestError(
        "origin_not_allowed",
        "pages of https://elsewhere.example may not do this; the setting access.cors_origins names those that may",
    ),
    RequestError(
        "host_not_allowed",
        "this server is not called 'elsewhere.example': use localhost or an IP address, or name it in the setting"
        " access.allowed_hosts (CELERIAC_ACCESS__ALLOWED_HOSTS), or turn authentication on",
    ),
    RequestError("range_not_satisfiable", "the header Range asks for bytes that the file does not have"),
    RequestError("wrong_offset", "the upload is at 1048576, not at 0"),
    RequestError("unsupported_version", "send the header Tus-Resumable: 1.0.0"),
    PayloadTooLargeError("the body", 10_485_761, 10_485_760),
    RequestError(
        "unsupported_media_type",
        "a submission is application/json, not text/plain: send Content-Type: application/json",
    ),
    TaskNotFoundError(TASK_ID),
    GroupNotFoundError("medai"),
    WorkerNotFoundError("worker-4711@host"),
    WorkerNotDrainableError("W3-9f2c1a7e"),
    RuleNotFoundError("custmers", ["customers", "group:mail"]),
    TooManyRulesError("at most 4 rules may cover a task, and these would: a, b, c, customers, group:mail"),
    TaskTypeNotFoundError("thumbnial"),
    KeyNotFoundError(KEY_ID),
    IllegalTransitionError(TASK_ID, "COMPLETED", "cancel"),
    WorkflowNotFoundError(WORKFLOW_ID),
    IllegalWorkflowMoveError(WORKFLOW_ID, "COMPLETED", "retry it"),
    NodeExistsError("fetch"),
    DuplicateTaskError(TASK_ID),
    TaskEndedError(TASK_ID, "COMPLETED"),
    SignalReceivedError(TASK_ID, "approval", datetime(2030, 1, 31, 8, tzinfo=UTC)),
    RequestError("link_used", "this question has been answered"),
    DefinitionNotFoundError(DEFINITION_ID),
    IllegalDefinitionMoveError(DEFINITION_ID, "CANCELLED", "pause"),
    ChangedDefinitionError(DEFINITION_ID),
    FileMissingError(f"there is no upload {FILE_ID}"),
    FileNotAllowedError("/etc/passwd is outside the folders that files may come from (ALLOWED_FILE_ROOTS)"),
    FileBusyError(f"another request is writing to the upload {FILE_ID}: try again later"),
    StorageFullError("the upload area has no room: No space left on device"),
    ChecksumMismatchError("what arrived has another sha-256 than announced; it was not kept: send it again"),
    AuthenticationError("show a credential: Authorization: Bearer TOKEN (see celeriac token)"),
    ForbiddenError("this needs the scope submit; the credential's scopes are: read"),
    RateLimitedError("too many requests (limit: 1000 per second)", retry_after_s=0.4),
    QueueFullError("default", 100_000),
    KeyFullError("customer-7", rule="per-customer", limit=1000, retry_after_s=1),
    GroupLimitError("report-7f3a", 100, own=True),
    NoWorkerError("default"),
    TooManyWaitersError(
        "10000 callers wait for tasks in this process already (setting server.max_waiters): ask again without `wait`,"
        " or later"
    ),
    TooManyWatchersError("500 clients watch this process already (setting pages.live_watchers): try again later"),
    StoreUnavailableError("the store does not answer"),
    HistoryUnavailableError("the database of the history does not answer"),
    HistoryMissingError("there is no history: no database is configured"),
)

#: By code.
EXAMPLES: Final[Mapping[str, CeleriacError]] = {error.code: error for error in _ERRORS}
