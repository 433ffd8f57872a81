"""What OpenAPI says beyond the routes' own declarations."""

from __future__ import annotations

from typing import Any, Final

from celeriac.definition_request import BackfillRequest, DefinitionRequest, MoveRequest, TriggerFields
from celeriac.submission import BatchItem, SubmitRequest
from celeriac_api.access.policy import ROUTES
from celeriac_api.problems import CONTENT_TYPE, TABLE

DESCRIPTION: Final = """\
Hand in background work, watch it live, get its result.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problems; program against their `code`.
"""

TAGS: Final = [
    {"name": "tasks", "description": "Submit, read, cancel, retry."},
    {"name": "progress", "description": "Watch a task while it runs."},
    {"name": "history", "description": "Find tasks, run the failed ones again, act on many at once, draw charts."},
    {"name": "definitions", "description": "Task control: what runs again and again, or at a moment."},
    {"name": "files", "description": "Upload the files that tasks work on, download what came of them."},
    {"name": "uploads", "description": "Uploads that survive a lost connection: the tus protocol."},
    {"name": "notifications", "description": "A user's own tasks, by the user's token."},
    {"name": "operations", "description": "Groups, workers, task types, health."},
]

_SCHEMA_PATH: Final = "#/components/schemas/{model}"

_EXAMPLES: Final[dict[str, Any]] = {
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


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may end with these codes of the table of problems."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        row = TABLE[code]
        example = {
            "type": f"urn:celeriac:problem:{code}",
            "title": row.title,
            "status": row.http,
            "detail": row.title,
            "instance": "/api/v1/…",
            "code": code,
        }
        answer = found.setdefault(
            row.http,
            {
                "description": row.title,
                "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        answer["content"][CONTENT_TYPE]["examples"][code] = {"summary": row.title, "value": example}
        if row.retry_after_s is not None:
            answer["headers"] = {
                "Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}
            }
    return found


#: The body of a submission, which the hot route reads without FastAPI's help.
SUBMISSION_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": _SCHEMA_PATH.format(model="SubmitRequest")},
                "examples": _EXAMPLES,
            }
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A repeated key (per user) answers 200 with the first task instead of making another.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }
    ],
}

#: The body of a batch, which its route reads by itself.
BATCH_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["tasks"],
                    "properties": {
                        "tasks": {
                            "type": "array",
                            "maxItems": 1000,
                            "items": {"$ref": _SCHEMA_PATH.format(model="BatchItem")},
                        }
                    },
                },
                "examples": {
                    "two": {
                        "summary": "Two tasks, the second one later",
                        "value": {"tasks": [example["value"] for example in _EXAMPLES.values()]},
                    }
                },
            }
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Gives each task without a key of its own the key `KEY:PLACE`, places counted from 0.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 250, "pattern": "^[!-~]+$"},
        }
    ],
}


def json_body(model: str, *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a body of a schema by itself."""
    schema = {"$ref": _SCHEMA_PATH.format(model=model)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that no route declares by type, and take out FastAPI's own errors, which never occur."""
    from celeriac_api.schemas import Problem

    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (SubmitRequest, BatchItem, Problem, DefinitionRequest, TriggerFields, MoveRequest, BackfillRequest):
        schema = model.model_json_schema(ref_template=_SCHEMA_PATH)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for item in document["paths"].values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422", "")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, or an API key."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _add_access(f"{method.upper()} {path}", operation)
    return document


def _add_access(line: str, operation: dict[str, Any]) -> None:
    """Add what the guard ahead of a route may answer, and what it wants to see."""
    access = ROUTES.get(line) or next(
        (access for known, access in ROUTES.items() if known.replace(":path}", "}") == line), None
    )
    codes = ["host_not_allowed"]
    if operation.get("parameters"):
        codes.append("invalid_request")
    if "{" in line:
        codes.append("not_found")
    if not line.startswith(("GET ", "HEAD ", "OPTIONS ")):
        codes += ["bad_request", "origin_not_allowed", "too_large"]
    if access is None or not access.open:
        operation["security"] = [{"bearer": []}, {"apiKey": []}]
        codes += ["unauthenticated", "forbidden", "rate_limited"]
        if access is not None and access.scope is not None:
            operation["description"] = f"{operation.get('description', '')}\n\nScope: `{access.scope.value}`.".strip()
    for status, answer in problems(*codes).items():
        operation["responses"].setdefault(str(status), answer)
