"""The OpenAPI document: what the routes declare, joined with what the guard ahead of them requires and may answer.

Each JSON body and answer gets an example, its own or that of its schema. The example of a problem has the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from celeriac import json_text
from celeriac.errors import CeleriacError
from celeriac.schedules.request import EDITABLE, BackfillRequest, DefinitionRequest, MoveRequest, TriggerFields
from celeriac.tasks.request import BatchItem, SubmitRequest
from celeriac.workflows.request import NodesRequest, WorkflowRequest
from celeriac_api.access.rights import Access
from celeriac_api.dispatch.completions import error_document
from celeriac_api.http.problems import CONTENT_TYPE
from celeriac_api.openapi.dispatch_schemas import ChatRequest, DispatchBody, DispatchError, OpenAIError
from celeriac_api.openapi.problem_examples import EXAMPLES
from celeriac_api.openapi.responses import Responses, problems, ref
from celeriac_api.openapi.schemas import BatchRequest, Problem

DESCRIPTION: Final = """\
Hand in background work, watch it live, get its result.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problems; program against their `code`.
"""

TAGS: Final = [
    {"name": "tasks", "description": "Submit, read, cancel, retry."},
    {"name": "progress", "description": "Watch a task while it runs."},
    {"name": "signals", "description": "Answer what tasks wait for, and read what they have done so far."},
    {"name": "history", "description": "Find tasks, run the failed ones again, act on many at once, draw charts."},
    {"name": "workflows", "description": "Graphs of tasks that depend on each other."},
    {"name": "definitions", "description": "Task control: what runs again and again, or at a point in time."},
    {"name": "files", "description": "Upload the files that tasks work on, download their results."},
    {"name": "uploads", "description": "Uploads that survive a lost connection: the tus protocol."},
    {"name": "dispatch", "description": "Have remote workers do something and wait for the answer."},
    {"name": "openai", "description": "The same for OpenAI clients. Errors have OpenAI's shape."},
    {"name": "notifications", "description": "A user's own tasks, by the user's token."},
    {"name": "operations", "description": "Groups, limits, workers, task types, health."},
]

#: Schemas that no route declares as a type, because the routes read these bodies themselves.
_MODELS: Final[tuple[type[BaseModel], ...]] = (
    SubmitRequest,
    BatchItem,
    BatchRequest,
    WorkflowRequest,
    NodesRequest,
    Problem,
    DefinitionRequest,
    TriggerFields,
    MoveRequest,
    BackfillRequest,
    DispatchBody,
    DispatchError,
    ChatRequest,
    OpenAIError,
)
_SAFE: Final = ("GET ", "HEAD ", "OPTIONS ")


def complete(document: dict[str, Any], routes: Mapping[str, Access]) -> dict[str, Any]:
    """Return FastAPI's document with what FastAPI cannot know, and without its own errors, which never occur.

    `routes` has what each route needs, by `METHOD path`.
    """
    needs = {line.replace(":path}", "}"): access for line, access in routes.items()}
    # Routes share parts of their declarations. Here each gets a copy.
    document = json_text.read(json_text.write_bytes(document))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in _MODELS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    schemas.pop("Status", None)  # documented in place, as records write it
    schemas["DefinitionEdit"] = _edit_schema(schemas["DefinitionRequest"])
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, or an API key."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    }
    for schema in schemas.values():
        if "examples" in schema:
            schema["examples"] = [_whole(shown, schema, schemas) for shown in schema["examples"]]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            line = f"{method.upper()} {path}"
            checked = _take_out_frameworks_error(operation)
            _add_access(line, operation, needs[line], checked=checked)
            for content in _contents(operation):
                _add_example(content, schemas)
            _place_problems(path, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document


def _take_out_frameworks_error(operation: dict[str, Any]) -> bool:
    """Remove FastAPI's own 422; returns whether the request has something that is checked."""
    if "HTTPValidationError" in str(operation["responses"].get("422", "")):
        del operation["responses"]["422"]
    return "requestBody" in operation or any(map(_may_be_wrong, operation.get("parameters", ())))


def _may_be_wrong(parameter: dict[str, Any]) -> bool:
    """Return whether FastAPI refuses some values of a parameter, which is so for all but plain texts."""
    schema = parameter["schema"]
    kinds = schema.get("anyOf", [schema])
    plain = {"type", "title", "description", "examples"}
    return any(kind.get("type") not in ("string", "null") or set(kind) - plain for kind in kinds)


def _add_access(line: str, operation: dict[str, Any], access: Access, *, checked: bool) -> None:
    """Add the answers of the guard ahead of a route, and the credential that it requires."""
    codes = ["host_not_allowed", "rate_limited"]
    if checked and "422" not in operation["responses"] and "400" not in operation["responses"]:
        codes.append("invalid_request")
    if "{" in line:
        codes.append("not_found")
    if not line.startswith(_SAFE):
        codes += ["bad_request", "origin_not_allowed", "too_large"]
        if "requestBody" in operation and not access.plain_errors:
            codes.append("unsupported_media_type")
    if not access.open:
        operation["security"] = [{"bearer": []}, {"apiKey": []}]
        # Only the history may know whose task it is.
        codes += ["unauthenticated", "forbidden", "store_unavailable"]
        if access.scope is not None:
            operation["description"] = f"{operation.get('description', '')}\n\nScope: `{access.scope.value}`.".strip()
    for status, answer in _answers(access, codes).items():
        known = operation["responses"].setdefault(str(status), answer)
        for name, shown in answer.get("headers", {}).items():
            known.setdefault("headers", {}).setdefault(name, shown)


def _answers(access: Access, codes: list[str]) -> Responses:
    """Return the refusals in the shape that the route's clients expect."""
    found = problems(*codes)
    if not (access.plain_errors or access.openai_errors):
        return found
    for answer in found.values():
        shown = answer.pop("content")[CONTENT_TYPE]["examples"]
        examples = {
            code: {"summary": known["summary"], "value": _reshaped(access, EXAMPLES[code], known["value"]["status"])}
            for code, known in shown.items()
        }
        model = "DispatchError" if access.plain_errors else "OpenAIError"
        answer["content"] = {"application/json": {"schema": ref(model), "examples": examples}}
    return found


def _reshaped(access: Access, error: CeleriacError, status: int) -> dict[str, Any]:
    if access.plain_errors:
        return {"error": str(error)}
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return error_document(str(error), kind, "invalid_api_key" if status == 401 else error.code)


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the JSON contents of an operation: of its request and its answers."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        for media_type, content in part.get("content", {}).items():
            if media_type == "application/json":
                yield content


def _add_example(content: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Show the example of a content's schema, unless the content has one of its own."""
    schema = content.get("schema", {})
    if "example" in content:
        content["example"] = _whole(content["example"], schema, schemas)
        return
    if "examples" in content:
        for shown in content["examples"].values():
            shown["value"] = _whole(shown["value"], schema, schemas)
        return
    for choice in schema.get("anyOf", [schema]):
        model = schemas.get(choice.get("$ref", "").rpartition("/")[2], choice)
        if model.get("examples"):
            content["example"] = model["examples"][0]
            return


def _whole(shown: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an example with the nulls that FastAPI left out, if its schema requires them."""
    kind = "object" if isinstance(shown, dict) else "array" if isinstance(shown, list) else None
    for choice in schema.get("anyOf", [schema]):
        found = schemas.get(choice.get("$ref", "").rpartition("/")[2], choice)
        if kind is None or found.get("type") != kind:
            continue
        if kind == "array":
            return [_whole(item, found.get("items", {}), schemas) for item in shown]
        fields: dict[str, Any] = found.get("properties", {})
        whole = {name: shown.get(name) for name in fields if name in shown or name in found.get("required", ())}
        others = found.get("additionalProperties")
        other = others if isinstance(others, dict) else {}
        return {name: _whole(value, fields.get(name, other), schemas) for name, value in {**whole, **shown}.items()}
    return shown


def _place_problems(path: str, operation: dict[str, Any]) -> None:
    """Put the path of the operation into each example of a problem."""
    shown = {
        p["name"]: p.get("example") or (p["schema"].get("examples") or [None])[0]
        for p in operation.get("parameters", ())
    }
    instance = re.sub(r"\{([^}]+)\}", lambda match: str(shown.get(match[1]) or match[0]), path)
    for answer in operation["responses"].values():
        for known in answer.get("content", {}).get(CONTENT_TYPE, {}).get("examples", {}).values():
            known["value"]["instance"] = instance


def _edit_schema(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an edit: each field of a definition that can be edited, or null for its default."""
    fields = {
        name: field if {"type": "null"} in field.get("anyOf", ()) else _or_null(field)
        for name, field in whole["properties"].items()
        if name in EDITABLE
    }
    return {
        "type": "object",
        "title": "DefinitionEdit",
        "description": "The fields to change; all others stay, also within `trigger_args` and `task`. "
        "`null` sets a field back to its default.",
        "additionalProperties": False,
        "properties": fields,
        "examples": [{"trigger_args": {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}, "overlap": "skip"}],
    }


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    about = {name: value for name, value in field.items() if name in ("title", "description")}
    rest = {name: value for name, value in field.items() if name not in about and name != "default"}
    choices = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    return {"anyOf": [*choices, {"type": "null"}], **about}
