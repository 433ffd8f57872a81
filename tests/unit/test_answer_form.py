"""The form for a signal's value has a field for each property, and its texts become a value that fits the schema."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from html.parser import HTMLParser
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from celeriac.signals.schemas import misfits
from celeriac_api.pages.answer_form import FormField, fields_of, form_html, value_of


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Address(BaseModel):
    city: str
    zip: int


class Order(BaseModel):
    approve: bool
    amount: float = Field(description="In euros.")
    size: Size
    day: date
    address: Address
    note: str = "none"
    limit: int | None = None
    sizes: list[Size] = []
    lines: list[str] = []
    numbers: list[int] = []
    further: list[Address] = []


ORDER = Order.model_json_schema()


class Drawn(HTMLParser):
    """The names of a form's controls, and the labels of controls."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.buttons: list[tuple[str | None, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("input", "select", "textarea"):
            self.names.append(found["name"] or "")
            self.ids.append(found.get("id") or "")
        if tag == "label" and "for" in found:
            self.labels.append(found["for"] or "")
        if tag == "button":
            self.buttons.append((found.get("name"), found.get("value")))


def test_each_property_has_a_field_with_its_name_and_label() -> None:
    fields = fields_of(ORDER)
    assert [(one.name, one.kind, one.required) for one in fields] == [
        ("approve", "choice", True),
        ("amount", "number", True),
        ("size", "choice", True),
        ("day", "text", True),
        ("address.city", "long_text", True),
        ("address.zip", "number", True),
        ("note", "long_text", False),
        ("limit", "number", False),
        ("sizes", "choices", False),
        ("lines", "lines", False),
        ("numbers", "lines", False),
        ("further", "json", False),
    ]
    drawn = Drawn(form_html(fields))
    assert set(drawn.names) == {one.name for one in fields}
    assert sorted(drawn.labels) == sorted(one for one in drawn.ids if one)
    assert drawn.buttons == [(None, None)]


def test_a_filled_in_form_is_the_value_that_the_model_takes() -> None:
    filled = {
        "approve": ["true"],
        "amount": ["2.50"],
        "size": ["large"],
        "day": ["2030-01-31"],
        "address.city": ["Ulm"],
        "address.zip": ["89073"],
        "note": ["two\r\nlines"],
        "limit": [""],
        "sizes": ["small", "large"],
        "lines": ["a\r\n\r\nb\r\n"],
        "numbers": ["1\n2"],
        "further": ['[{"city": "Bonn", "zip": 1}]'],
        "unknown": ["left out"],
    }
    value = value_of(fields_of(ORDER), filled, ORDER)
    assert misfits(value, ORDER) == []
    order = Order.model_validate(value, strict=False)
    assert order == Order(
        approve=True,
        amount=2.5,
        size=Size.LARGE,
        day=date(2030, 1, 31),
        address=Address(city="Ulm", zip=89073),
        note="two\nlines",
        sizes=[Size.SMALL, Size.LARGE],
        lines=["a", "b"],
        numbers=[1, 2],
        further=[Address(city="Bonn", zip=1)],
    )


def test_what_cannot_be_read_is_named_by_the_schema() -> None:
    filled = {"approve": ["maybe"], "amount": ["much"], "size": ["huge"], "day": ["soon"], "further": ["[["]}
    value = value_of(fields_of(ORDER), filled, ORDER)
    assert {one.field for one in misfits(value, ORDER)} == {"approve", "amount", "size", "day", "address", "further"}


@pytest.mark.parametrize(
    ("shape", "filled", "value"),
    [
        (bool, "true", True),
        (bool, "false", False),
        (Literal["yes", "no", 3], "3", 3),
        (int, " 7 ", 7),
        (str, "7", "7"),
        (str | None, "", ""),
        (list[int], "1\n2", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
def test_a_value_that_is_not_an_object_with_fields_is_the_field_value(shape: Any, filled: str, value: Any) -> None:
    schema = TypeAdapter(shape).json_schema()
    fields = fields_of(schema)
    assert [one.name for one in fields] == ["value"]
    assert value_of(fields, {"value": [filled]}, schema) == value
    assert misfits(value, schema) == []


@pytest.mark.parametrize(
    ("text", "value"), [("yes", "yes"), ("12", 12), ('{"a": 1}', {"a": 1}), ("", ""), ("null", None)]
)
def test_without_a_schema_the_answer_is_json_or_else_a_text(text: str, value: Any) -> None:
    assert value_of(fields_of(None), {"value": [text]}, None) == value


def test_an_object_with_a_property_named_value_stays_an_object() -> None:
    schema = {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]}
    assert value_of(fields_of(schema), {"value": ["3"]}, schema) == {"value": 3}


def test_a_single_choice_is_drawn_as_buttons() -> None:
    assert Drawn(form_html(fields_of({"type": "boolean"}))).buttons == [("value", "true"), ("value", "false")]
    one = {"properties": {"decision": {"enum": ["approve", "reject"]}}, "required": ["decision"]}
    assert Drawn(form_html(fields_of(one))).buttons == [("decision", "approve"), ("decision", "reject")]


def test_an_object_without_properties_needs_no_field() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    assert fields_of(schema) == []
    assert value_of([], {}, schema) == {}


def test_no_text_of_a_schema_or_of_an_earlier_try_becomes_markup() -> None:
    evil = '"><script>alert(1)</script>'
    properties = {
        evil: {"title": evil, "description": evil, "default": evil, "type": "string"},
        "b": {"enum": [evil, "c", "d"]},
        "e": {"type": "array", "items": {"enum": [evil]}},
        "f": {"type": "number", "default": evil},
    }
    schema = {"type": "object", "properties": properties, "required": ["b"]}
    for filled in (None, {name: [evil] for name in properties}):
        html = form_html(fields_of(schema), filled)
        assert "<script" not in html
        assert evil in Drawn(html).names
    assert "<script" not in form_html(fields_of({"enum": [evil]}))


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "object", "properties": [1]},
        {"enum": []},
        {"anyOf": "x"},
        {"type": "array", "items": 3},
        {"properties": {f"a{n}": {} for n in range(500)}},
    ],
)
def test_any_schema_has_a_form(schema: Any) -> None:
    fields = fields_of(schema)
    assert all(isinstance(one, FormField) for one in fields)
    assert form_html(fields)
    value_of(fields, {"value": ["1"]}, schema)
