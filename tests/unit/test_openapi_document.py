"""The OpenAPI document, operation by operation, as a code generator and a reader of /docs need it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from celeriac.settings import Settings
from celeriac_api.access.rights import Access
from celeriac_api.app import create_app
from celeriac_api.http.problems import TABLE, problem_document
from celeriac_api.openapi.problem_examples import EXAMPLES
from celeriac_api.routing import WEBSOCKET, RouteTable

#: What OpenAPI cannot say (a second path parameter's name at one place), and what is for people in browsers.
NOT_IN_IT = {
    "GET /",
    "GET /dashboard",
    "GET /dashboard/examples",
    "GET /dashboard/{path:path}",
    "GET /dashboard/session",
    "GET /dashboard/static/{path:path}",
    "GET /docs",
    "GET /openapi.json",
    "GET /a/{token}",
    "POST /a/{token}",
    "GET /sign-in",
    "POST /sign-in",
    "POST /sign-out",
    "GET /test-worker",
    # Other spellings of what is in it.
    "PUT /api/v1/files",
    "PUT /api/v1/files/{filename}",
    "OPTIONS /api/v1/uploads/{file_id}",
}
#: New things are announced by where they are.
LOCATED = {
    "POST /api/v1/tasks": ("200", "202"),
    "POST /api/v1/bulk": ("202",),
    "POST /api/v1/files": ("201",),
    "POST /api/v1/uploads": ("201",),
    "POST /api/v1/definitions": ("200", "201"),
    "POST /tasks": ("200", "201"),
    "POST /api/v1/workflows": ("200", "202"),
}
#: Sent again with the same key they do nothing more.
WITH_KEY = {
    "POST /api/v1/tasks",
    "POST /api/v1/tasks/batch",
    "POST /api/v1/tasks/{task_id}/retry",
    "POST /api/v1/tasks/{waiting_id}/signals/{name}",
    "POST /api/v1/bulk",
    "POST /api/v1/workflows",
    "POST /api/v1/definitions",
    "POST /tasks",
    "POST /api/v1/definitions/{task_def_id}/trigger",
    "POST /tasks/{task_def_id}/trigger",
    "POST /api/v1/definitions/{task_def_id}/backfill",
}
#: All that they say is in the headers.
WITHOUT_BODY = {"POST /api/v1/uploads", "HEAD /api/v1/uploads/{file_id}"}
STREAMS = {
    "GET /api/v1/live",
    "GET /api/v1/tasks/{task_id}/progress/stream",
    "GET /api/v1/tasks/{task_id}/log/stream",
    "GET /api/v1/workflows/{workflow_id}/stream",
    "POST /v1/chat/completions",
}
PROBLEM = "application/problem+json"


APP = create_app(Settings(redis_url="redis://127.0.0.1:1/0"))
ROUTES = RouteTable(APP.routes).access()


@cache
def document() -> dict[str, Any]:
    return APP.openapi()


def access_of(line: str) -> Access:
    return {known.replace(":path}", "}"): access for known, access in ROUTES.items()}[line]


LINES = [f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item]
every_operation = pytest.mark.parametrize("line", LINES)


def operation_of(line: str) -> dict[str, Any]:
    method, _, path = line.partition(" ")
    operation: dict[str, Any] = document()["paths"][path][method.lower()]
    return operation


def examples_of(content: dict[str, Any]) -> list[Any]:
    return [content["example"]] if "example" in content else [e["value"] for e in content.get("examples", {}).values()]


def validator_of(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document()["components"]})


def test_the_document_is_openapi() -> None:
    errors = list(OpenAPIV31SpecValidator(document()).iter_errors())
    assert errors == []


def test_every_route_is_in_it() -> None:
    served = {line.replace(":path}", "}") for line in ROUTES if not line.startswith(WEBSOCKET)}
    left_out = {line.replace(":path}", "}") for line in NOT_IN_IT}
    assert served - left_out == set(LINES)


def test_operations_have_names_of_their_own() -> None:
    names = [operation_of(line)["operationId"] for line in LINES]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if re.fullmatch(r"[a-z][a-z_]{3,40}", name) is None] == []


def test_no_schema_is_left_over() -> None:
    text = str(document())
    unused = [name for name in document()["components"]["schemas"] if f"#/components/schemas/{name}'" not in text]
    assert unused == []


@every_operation
def test_it_says_what_it_does(line: str) -> None:
    operation = operation_of(line)
    assert operation["summary"]
    assert operation["description"].partition("\n\nScope:")[0] not in ("", operation["summary"])
    known = {tag["name"] for tag in document()["tags"]}
    assert len(operation["tags"]) == 1
    assert set(operation["tags"]) <= known
    access = access_of(line)
    assert bool(operation.get("security")) is not access.open
    if access.scope is not None:
        assert f"Scope: `{access.scope.value}`" in operation["description"]


@every_operation
def test_its_parameters_are_described(line: str) -> None:
    parameters = operation_of(line).get("parameters", [])
    for parameter in parameters:
        assert parameter["description"], parameter["name"]
        assert parameter["schema"], parameter["name"]
        if parameter["in"] == "path":
            assert parameter["required"]
            assert parameter["schema"]["examples"], parameter["name"]
    headers = {parameter["name"].lower() for parameter in parameters if parameter["in"] == "header"}
    assert ("idempotency-key" in headers) is (line in WITH_KEY)
    assert ("last-event-id" in headers) is (line in STREAMS and line.startswith("GET "))
    assert ("tus-resumable" in headers) is ("/uploads" in line and not line.startswith("OPTIONS "))


@every_operation
def test_its_body_has_an_example_that_fits(line: str) -> None:
    operation = operation_of(line)
    body = operation.get("requestBody")
    if body is None:
        assert not line.startswith(("PUT ", "PATCH "))
        return
    for media_type, content in body["content"].items():
        assert content["schema"]
        if media_type == "application/json":
            shown = examples_of(content)
            assert shown
            for example in shown:
                validator_of(content["schema"]).validate(example)


@every_operation
def test_its_answers_have_a_schema_and_an_example_that_fits(line: str) -> None:
    good = {status: answer for status, answer in operation_of(line)["responses"].items() if status.startswith("2")}
    assert good
    for status, answer in good.items():
        assert answer["description"] not in ("", "Successful Response") or status == "200"
        for name, header in answer.get("headers", {}).items():
            assert header["description"], name
            assert header["schema"], name
        if status == "204" or line in WITHOUT_BODY:
            assert "content" not in answer, status
            continue
        for media_type, content in answer["content"].items():
            if content["schema"].get("format") == "binary":
                continue
            shown = examples_of(content)
            assert shown, (status, media_type)
            if media_type == "application/json":
                assert "$ref" in content["schema"], "a schema with a name, for generated clients"
            for example in shown:
                validator_of(content["schema"]).validate(example)
    for status in LOCATED.get(line, ()):
        assert "Location" in good[status]["headers"], status
    streams = any("text/event-stream" in answer.get("content", {}) for answer in good.values())
    assert streams is (line in STREAMS)


@every_operation
def test_its_errors_are_there_with_examples(line: str) -> None:
    operation, access = operation_of(line), access_of(line)
    responses = operation["responses"]
    # What the guard ahead of each route may say.
    expected = {"421", "429"}
    if not access.open:
        expected |= {"401", "403", "503"}
    if not line.startswith(("GET ", "HEAD ", "OPTIONS ")):
        expected |= {"400", "403", "413"}
    if "{" in line:
        expected.add("404")
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        expected |= {"400", "413"} if access.plain_errors or access.openai_errors else {"413", "422"}
    assert expected - set(responses) == set()
    for status, answer in responses.items():
        if status < "400":
            continue
        media_type = "application/json" if access.plain_errors or access.openai_errors else PROBLEM
        assert list(answer["content"]) == [media_type], status
        content = answer["content"][media_type]
        shown = examples_of(content)
        assert shown, status
        for example in shown:
            validator_of(content["schema"]).validate(example)
            if media_type == PROBLEM:
                assert str(example["status"]) == status
                assert example["instance"].startswith("/")
                assert "{" not in example["instance"]
        if status in ("429", "503"):
            assert "Retry-After" in answer["headers"], status
        if status == "401":
            assert "WWW-Authenticate" in answer["headers"]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_a_problem_is_what_the_server_says(code: str) -> None:
    said = problem_document(EXAMPLES[code], "/x")
    assert (said["code"], said["status"], said["title"]) == (code, TABLE[code].http, TABLE[code].title)
