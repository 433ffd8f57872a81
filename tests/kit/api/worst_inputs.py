"""The worst inputs that a route can be sent, made from what the route declares: its parameters and its body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from celeriac_api.routing import WEBSOCKET, Route, WebSocketRoute

#: What a parameter or a field is given, by its kind.
EXTREME_TEXTS = {
    "a long text": "x" * 6000,
    "a text of brackets": "[(" * 2000,
    "a text that a careless expression repeats": "a" * 3000 + "!",
    "many digits": "9" * 4000,
    "a negative number": "-1",
    "an infinite number": "1e400",
    "the first date": "0001-01-01T00:00:00Z",
    "the last date": "9999-12-31T23:59:59Z",
    "NUL": "\x00",
}
_DATES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]
_RARE = {"cron": "0 0 * 2 1#5"}
_EVERY_SECOND = {"cron": "* * * * * *"}
#: Values for fields of these names, beyond those that every field gets.
_OF_NAME: dict[str, list[Any]] = {
    "trigger_args": [
        {"rules": [_EVERY_SECOND, *[_RARE] * 49], "exclude": [_EVERY_SECOND]},
        {"rules": [_EVERY_SECOND, *[{"cron": f"{n} 0 * 2 1#5"} for n in range(49)]], "exclude": [_EVERY_SECOND] * 50},
        {"cron": "* * * * * *", "exclude": [{"cron": "*/2 * * * * *"}, {"cron": "1/2 * * * * *"}]},
        {
            "rules": [{"cron": f"{n} * * * * *"} for n in range(50)],
            "exclude": [{"cron": f"* * * * {n % 7}"} for n in range(50)],
        },
        {"cron": "0 0 29 2 0#5"},
        {"cron": "0," * 500_000 + "0 * * * *"},
        {"interval": 1e-300},
        {"interval": 10**300},
        {"rules": [{"interval": 60}] * 20_000},
        {"interval": 60, "timezone": "x/" * 100_000},
        {"interval": 60, "exclude": [{"date": "9999-12-31"}]},
        {"run_at": "9999-12-31T23:59:59-23:59"},
    ],
    "type": ["file_process", "grpc_task", "remote", "celeriac.bulk", "celeriac.dem" + "o" * 60],
    "payload": [
        {"processor": "thumbnail", "options": {f"option{n}": n for n in range(20_000)}},
        {"service": "x", "method": "y", **{f"field{n}": n for n in range(20_000)}},
        {"action": "retry", "filter": {f"field{n}": n for n in range(20_000)}},
    ],
    "tasks": [
        [{"type": f"unknown{n}", "payload": {}} for n in range(1000)],
        [{"type": "x", "payload": {}, **{f"field{m}": m for m in range(60)}} for _ in range(1000)],
        [{}] * 50_000,
    ],
}


@dataclass(frozen=True)
class WorstInput:
    """One request: what is bad about it, and what is sent."""

    kind: str
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path[:80]} with {self.kind}"


def worst_inputs(route: Route | WebSocketRoute, document: dict[str, Any], known: dict[str, str]) -> list[WorstInput]:
    """Return the worst inputs of a route; `document` is OpenAPI's, `known` has values of path parameters that exist."""
    (method,) = route.methods
    method = "GET" if method == WEBSOCKET else method
    path = re.sub(r"{(\w+)(:path)?}", lambda found: quote(known.get(found[1], "x"), safe=""), route.path)
    found = [
        WorstInput(f"{kind} in its path", method, re.sub(r"{\w+(:path)?}", quote(text[:3000], safe=""), route.path))
        for kind, text in EXTREME_TEXTS.items()
        if "{" in route.path
    ]
    for name in [*_parameters(route), "unknown"]:
        found += [
            WorstInput(f"{kind} as {name}", method, f"{path}?{urlencode({name: text})}")
            for kind, text in EXTREME_TEXTS.items()
        ]
        found.append(WorstInput(f"{name} many times", method, f"{path}?{'&'.join([f'{name}=1'] * 2000)}"))
    if method in ("POST", "PUT", "PATCH"):
        bodies = {**_any_bodies(), **dict(_bodies_of(_schema(route, document), document))}
        headers = {"Content-Type": "application/json", "Tus-Resumable": "1.0.0"}
        found += [WorstInput(kind, method, path, body, headers) for kind, body in bodies.items()]
    return found


@cache
def _any_bodies() -> dict[str, bytes]:
    """Return bodies that are bad for every route."""
    megabyte = 1_000_000
    return {
        "very many fields": json.dumps({f"field{n}": n for n in range(120_000)}).encode(),
        "long names of fields": json.dumps({f"{n:05}" + "n" * 9000: n for n in range(200)}).encode(),
        "deep nesting": b"[" * megabyte + b"]" * megabyte,
        "nesting that is just allowed": b'{"a":' * 250 + b"1" + b"}" * 250,
        "very many lists": b"[" + b"[]," * (megabyte // 2) + b"1]",
        "very many long numbers": b"[" + b"12345678901234567890123," * 80_000 + b"1]",
        "a very long number": b'{"n":' + b"9" * megabyte + b"}",
        "what is not JSON": b"{" * megabyte,
        "a text without an end": b'"' + b"x" * megabyte,
        "brackets in a text": json.dumps({"text": "[{" * megabyte}).encode(),
        "nulls": json.dumps({"values": [None] * 200_000}).encode(),
    }


@cache
def _any_values() -> dict[str, str]:
    """Return values that are bad for every field, as JSON: written once, since they are long."""
    values: dict[str, Any] = {
        "a long text": "x" * 300_000,
        "many numbers": list(range(50_000)),
        "many texts": [f"value{n}" for n in range(20_000)],
        "many fields": {f"field{n}": n for n in range(20_000)},
        "a huge number": 10**300,
        "a negative number": -1,
        **{f"the date {date}": date for date in _DATES},
    }
    return {kind: json.dumps(value) for kind, value in values.items()}


def _bodies_of(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield bodies that are right but for one field."""
    fields = schema.get("properties", {})
    right = {name: _right(_resolved(fields[name], document)) for name in schema.get("required", ())}
    right |= (schema.get("examples") or [{}])[0]
    written = {name: json.dumps(value) for name, value in right.items()}
    for name in fields:
        own = {f"bad value {n}": json.dumps(value) for n, value in enumerate(_OF_NAME.get(name, ()))}
        for kind, value in {**_any_values(), **own}.items():
            body = ", ".join(f'"{field}": {text}' for field, text in {**written, name: value}.items())
            yield f"{kind} as {name}", f"{{{body}}}".encode()


def _right(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"object": {}, "array": [], "integer": 1, "number": 1}.get(schema.get("type", "string"), "x")


def _schema(route: Route | WebSocketRoute, document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a route's body; empty if it declares none."""
    (method,) = route.methods
    operation = document["paths"].get(route.path.replace(":path", ""), {}).get(method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return _resolved(content.get("schema", {}), document)


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    for part in [schema, *schema.get("anyOf", ()), *schema.get("allOf", ())]:
        if "$ref" in part:
            found: dict[str, Any] = document["components"]["schemas"][part["$ref"].rpartition("/")[2]]
            return found
    return schema


def _parameters(route: Route | WebSocketRoute) -> list[str]:
    """Return the names of the parameters in the query; those of a model are its fields."""
    names: list[str] = []
    for parameter in route.dependant.query_params:
        fields = getattr(parameter.field_info.annotation, "model_fields", None)
        names += list(fields) if fields else [parameter.alias]
    return names


def worst_messages(
    fields: dict[str, tuple[str, ...]], *, most_bytes: int, whole_bytes: int
) -> Iterator[tuple[str, str]]:
    """Yield the worst messages of a WebSocket protocol with these fields by type; `TASK` in them is a task's id.

    Those with one bad field have up to `most_bytes`, those that are bad as a whole up to `whole_bytes`.
    """
    values = {
        "null": "null",
        "a boolean": "true",
        "a negative number": "-1",
        "a huge number": "1" + "0" * 300,
        "a number of very many digits": "9" * (most_bytes // 2),
        "a fraction": "1.5e308",
        "an infinite number": "1e400",
        "what is not a number": "NaN",
        "a long text": json.dumps("x\u200b" * (most_bytes // 10)),
        "a text of brackets": json.dumps("[{" * (most_bytes // 4)),
        "NUL": '"\\u0000"',
        "half a character": '"\\ud800"',
        "a long list": json.dumps(list(range(most_bytes // 10))),
        "a list of long texts": json.dumps(["y\u200b" * (most_bytes // 40)] * 3),
        "very many fields": json.dumps({f"f{n}": n for n in range(most_bytes // 20)}),
        "deep nesting": "[" * (most_bytes // 3) + "]" * (most_bytes // 3),
        "nesting that is just allowed": '{"a":' * 90 + "1" + "}" * 90,
    }
    for kind in [*fields, "unknown"]:
        for name in fields.get(kind, ("type", "taskId", "unknown")):
            for value, text in values.items():
                right = {"type": f'"{kind}"', "taskId": '"TASK"', "task_id": '"TASK"', "percentage": "1"} | {
                    "content": '"x"',
                    "message": '"x"',
                }
                whole = ",".join(f'"{field}":{given}' for field, given in (right | {name: text}).items())
                if len(whole) < most_bytes:
                    yield f"{value} as {name} of {kind}", f"{{{whole}}}"
        yield f"a long name in {kind}", f'{{"type":"{kind}","{"n" * (most_bytes - 100)}":1}}'
    for kind, body in _any_bodies().items():
        yield kind, body.decode()[:whole_bytes]


def tiny_frames(size: int) -> dict[str, bytes]:
    """Return floods of frames that hold next to nothing, of `size` bytes each."""
    mask = bytes(4)
    return {
        "pings": (b"\x89\x80" + mask) * (size // 6),
        "pongs": (b"\x8a\x80" + mask) * (size // 6),
        "empty fragments": b"\x01\x80" + mask + (b"\x00\x80" + mask) * (size // 6 - 2) + b"\x80\x80" + mask,
        "empty messages": (b"\x81\x80" + mask) * (size // 6),
        "empty binary messages": (b"\x82\x80" + mask) * (size // 6),
        "messages of one character": (b"\x81\x81" + mask + b"x") * (size // 7),
    }
