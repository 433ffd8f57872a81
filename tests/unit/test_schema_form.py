"""Which fields the dashboard draws for a JSON schema: the module of the page, in Node."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from tests.kit.pages.page_modules import PageModules, page_modules


class Speed(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Address(BaseModel):
    street: str
    zip: int | None = None


class Decision(BaseModel):
    """What a reviewer says."""

    approve: bool = Field(title="Approve it", description="Whether the money goes back")
    amount: float = Field(120, ge=0)
    parts: int | None = None
    reason: str | None = Field(None, max_length=500)
    speed: Speed
    channel: Literal["mail", "phone"] = "mail"
    kind: Literal["refund"] = "refund"
    address: Address | None = None
    tags: list[Literal["a", "b"]] = []
    either: int | str = 1
    mail: str = Field(json_schema_extra={"format": "email"})
    rest: dict[str, Any] = {}


class Tree(BaseModel):
    name: str
    children: list[Tree] = []
    parent: Tree | None = None


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageModules]:
    with page_modules(tmp_path_factory.mktemp("form")) as running:
        yield running


def short(field: dict[str, Any]) -> Any:
    """Return the kind of a field and what belongs to it."""
    more = [field[name] for name in ("options", "input", "whole", "value") if name in field]
    kind = field["kind"] + ("?" if field.get("nullable") else "")
    if "fields" in field:
        return {one["name"] + ("*" if one["required"] else ""): short(one["field"]) for one in field["fields"]}
    return (kind, *more) if more else kind


def test_a_model_of_pydantic_has_a_field_for_each_of_its_own(pages: PageModules) -> None:
    form = pages.ask(schema=Decision.model_json_schema())
    assert (form["title"], form["description"]) == ("Decision", "What a reviewer says.")
    assert short(form) == {
        "approve*": "boolean",
        "amount": ("number", False),
        "parts": ("number?", True),
        "reason": ("text?", "area"),
        "speed*": ("choice", ["slow", "fast"]),
        "channel": ("choice", ["mail", "phone"]),
        "kind": ("constant", "refund"),
        "address": {"street*": ("text", "text"), "zip": ("number?", True)},
        "tags": ("many", ["a", "b"]),
        "either": "json",
        "mail*": ("text", "email"),
        "rest": "json",
    }
    fields = {one["name"]: one["field"] for one in form["fields"]}
    assert (fields["approve"]["title"], fields["approve"]["description"]) == (
        "Approve it",
        "Whether the money goes back",
    )
    assert fields["amount"]["initial"] == 120
    assert fields["amount"]["schema"]["minimum"] == 0
    assert fields["address"]["nullable"]


def test_a_schema_that_refers_to_itself_ends_in_json(pages: PageModules) -> None:
    form = pages.ask(schema=Tree.model_json_schema())
    depth = 0
    while "fields" in form:
        form = next(one["field"] for one in form["fields"] if one["name"] == "parent")
        depth += 1
    assert (depth, form["kind"]) == (3, "json")


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "boolean"}, "boolean"),
        ({"type": ["integer", "null"]}, ("number?", True)),
        ({"enum": [1, "x", None]}, ("choice", [1, "x", None])),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, ("choice", [1, 2])),
        ({"type": "string", "format": "date-time"}, ("text", "datetime-local")),
        ({"type": "object"}, "json"),
        ({"allOf": [{"type": "string"}]}, "json"),
        ({"$ref": "#/$defs/Missing"}, "json"),
        ({"$ref": "https://example.org/schema"}, "json"),
        ({"type": "array", "items": {"type": "string"}}, "json"),
        ({}, "json"),
    ],
)
def test_other_schemas(pages: PageModules, schema: dict[str, Any], kind: Any) -> None:
    assert short(pages.ask(schema=schema)) == kind


def test_a_reference_in_a_circle_ends(pages: PageModules) -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert short(pages.ask(schema=schema)) == "json"
