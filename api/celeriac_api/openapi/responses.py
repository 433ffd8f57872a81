"""What routes declare for OpenAPI beyond what FastAPI reads from them. `document.py` joins both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.errors import CeleriacError
from celeriac_api.http.problems import CONTENT_TYPE, TABLE, Row, problem_document
from celeriac_api.openapi.problem_examples import EXAMPLES

#: The `responses` of a route.
Responses = dict[int | str, dict[str, Any]]

_SCHEMA_PATH: Final = "#/components/schemas/{model}"

_TASKS: Final[dict[str, Any]] = {
    "grpc_task": {
        "summary": "Call a method of the example executor",
        "value": {
            "type": "grpc_task",
            "payload": {"service": "demo", "method": "count", "data": {"seconds": 5}},
        },
    },
    "later": {
        "summary": "Ten minutes later, with few attempts, before all others",
        "value": {
            "type": "grpc_task",
            "payload": {"service": "demo", "method": "echo", "data": {"text": "hello"}},
            "delay": "10m",
            "max_retries": 1,
            "priority": 9,
        },
    },
}


def ref(model: str) -> dict[str, Any]:
    """Return a schema: the one of this name among the components."""
    return {"$ref": _SCHEMA_PATH.format(model=model)}


def header(description: str, kind: str = "string", example: Any = None) -> dict[str, Any]:
    """Return the description of a response's header."""
    shown = {} if example is None else {"example": example}
    return {"description": description, "schema": {"type": kind}, **shown}


def request_header(
    name: str, description: str, *, required: bool = False, example: str | None = None, **schema: Any
) -> dict[str, Any]:
    """Return a parameter: a header that a route reads by itself."""
    shown = {} if example is None else {"example": example}
    fields = {"name": name, "in": "header", "required": required, "description": description, **shown}
    return {**fields, "schema": {"type": "string", **schema}}


def idempotency_key(description: str, *, example: str | None = None, most: int = 255) -> dict[str, Any]:
    """Return a parameter: the key of a request that a route reads by itself; `most` characters."""
    return request_header(
        "Idempotency-Key", description, example=example, minLength=1, maxLength=most, pattern="^[!-~]+$"
    )


RETRY_AFTER: Final = header("Seconds to wait before trying again.", "integer", 1)
WWW_AUTHENTICATE: Final = header("How to authenticate.", example='Bearer realm="celeriac"')


def location(what: str, path: str) -> dict[str, Any]:
    """Return the headers of an answer that has the path of something new; `path` is an example."""
    return {"Location": header(f"The path of {what}.", example=path)}


def problems(*causes: str | CeleriacError, rows: Mapping[str, Row] | None = None) -> Responses:
    """Return the `responses` of a route that may answer with these problems, each with an example.

    A cause is a code of the table of problems, or an error that says more than the example for its code. `rows` replace
    the statuses of the table for some codes.
    """
    found: Responses = {}
    for cause in causes:
        error = EXAMPLES[cause] if isinstance(cause, str) else cause
        row = (rows or {}).get(error.code) or TABLE[error.code]
        answer = found.setdefault(
            row.http,
            {"description": row.title, "content": {CONTENT_TYPE: {"schema": ref("Problem"), "examples": {}}}},
        )
        document = {**problem_document(error, ""), "title": row.title, "status": row.http}
        answer["content"][CONTENT_TYPE]["examples"][error.code] = {"summary": row.title, "value": document}
        if row.http in (429, 503):
            answer["headers"] = {"Retry-After": RETRY_AFTER}
        elif row.http == 401:
            answer["headers"] = {"WWW-Authenticate": WWW_AUTHENTICATE}
    return found


def example(summary: str, value: Any) -> dict[str, Any]:
    """Return one of several examples."""
    return {"summary": summary, "value": value}


def json_body(model: str, *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body itself."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": ref(model)}}}}


def event_stream(example: str) -> Responses:
    """Return the `responses` of a route that answers with server-sent events and goes on after `Last-Event-ID`."""
    return {
        200: {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": example}},
        },
        204: {
            "description": "Nothing follows `Last-Event-ID`: it is the id of the `done` event, or lies in the future."
        },
    }


#: The body of a submission, which the hot route reads without FastAPI.
SUBMISSION_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ref("SubmitRequest"), "examples": _TASKS}},
    },
    "parameters": [
        idempotency_key(
            "A repeated key (per user) is answered with 200 and the first task; no other task is created.",
            example="order-4711",
        ),
        {
            "name": "wait",
            "in": "query",
            "required": False,
            "description": (
                "Answer 201 when the task has ended, with its result, at the latest after so many seconds (at most the "
                "setting `server.max_wait`)."
            ),
            "example": 30,
            "schema": {"type": "number", "minimum": 0},
        },
    ],
}

#: The body of a batch, which its route reads itself.
BATCH_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": ref("BatchRequest"),
                "examples": {
                    "two": example(
                        "Two tasks, the second one later", {"tasks": [known["value"] for known in _TASKS.values()]}
                    )
                },
            }
        },
    },
    "parameters": [
        idempotency_key(
            "Gives each task without its own key the key `KEY:PLACE`; places count from 0.",
            example="import-2030-01-31",
            most=250,
        )
    ],
}
