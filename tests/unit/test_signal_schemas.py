"""A signal's value is compared with a JSON schema as the standard says, in bounded time."""

from __future__ import annotations

import time
from datetime import date
from enum import StrEnum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from celeriac.errors import MAX_VIOLATIONS
from celeriac.signals.schemas import MAX_SCHEMA_BYTES, misfits, schema_problem

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0, -2.0]) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.integers(0, 3)
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(_TYPES) | st.lists(st.sampled_from(_TYPES), min_size=1, max_size=2, unique=True),
            "enum": st.lists(_VALUES, min_size=1, max_size=3),
            "const": _VALUES,
            "minimum": few,
            "maximum": few,
            "exclusiveMinimum": few,
            "exclusiveMaximum": few,
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minLength": few,
            "maxLength": few,
            "pattern": st.sampled_from(["a", "^a", "b$", "^[ab]*$"]),
            "minItems": few,
            "maxItems": few,
            "uniqueItems": st.booleans(),
            "items": inner,
            "prefixItems": several,
            "contains": inner,
            "minContains": few,
            "maxContains": few,
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["a", "[bc]"]), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "minProperties": few,
            "maxProperties": few,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
        },
    )


@settings(max_examples=600, deadline=None)
@given(st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=4), _VALUES)
def test_a_value_fits_exactly_if_another_implementation_says_so(schema: Any, value: Any) -> None:
    assert schema_problem(schema) is None
    assert (misfits(value, schema) == []) is Draft202012Validator(schema).is_valid(value), misfits(value, schema)


#: Each one looks at the next one twice, and the last one fits nothing.
DOUBLING: dict[str, Any] = {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(20)} | {"20": False}


class Kind(StrEnum):
    FULL = "full"
    PARTIAL = "partial"


class Address(BaseModel):
    city: str = Field(min_length=1)


class Decision(BaseModel, extra="forbid"):
    approve: bool
    amount: int | None = Field(None, ge=0, le=500)
    kind: Kind = Kind.FULL
    day: date | None = None
    note: Literal["a", "b"] | str = ""
    address: Address | None = None
    tags: list[str] = []


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({}, "approve", "is required"),
        ({"approve": "yes"}, "approve", "must be a boolean"),
        ({"approve": True, "amount": 501}, "amount", "must be at most 500"),
        ({"approve": True, "amount": "x"}, "amount", "must be a whole number"),
        ({"approve": True, "kind": "half"}, "kind", 'must be one of "full", "partial"'),
        ({"approve": True, "day": "soon"}, "day", "must be a date"),
        ({"approve": True, "address": {"city": ""}}, "address.city", "must not be empty"),
        ({"approve": True, "tags": ["a", 1]}, "tags.1", "must be a text"),
        ({"approve": True, "aprove": True}, "aprove", "there is no such field"),
        ([], "", "must be an object"),
    ],
)
def test_a_misfit_names_the_field_and_what_it_must_be(value: Any, field: str, words: str) -> None:
    (found,) = misfits(value, Decision.model_json_schema())
    assert found.field == field
    assert words in found.message
    with pytest.raises(ValidationError):
        TypeAdapter(Decision).validate_python(value, strict=True)


def test_what_a_model_writes_fits_its_schema() -> None:
    whole = Decision(approve=False, amount=3, day=date(2030, 1, 31), address=Address(city="Ulm"), tags=["x"])
    assert misfits(whole.model_dump(mode="json"), Decision.model_json_schema()) == []


def test_many_misfits_are_told_briefly() -> None:
    assert len(misfits(["x"] * 1000, {"items": {"type": "integer"}})) == MAX_VIOLATIONS


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, 1),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, 1),
        ({"not": {"$ref": "#"}}, 1),
        ({"items": {"anyOf": [{"const": n} for n in range(500)]}}, [-1] * 20_000),
        ({"items": {"anyOf": [{"const": n} for n in range(400)]}}, [399] * 20_000),
        ({"$ref": "#/$defs/0", "$defs": DOUBLING}, 1),
        ({"pattern": "^(a+)+$"}, "a" * 60_000 + "b"),
        ({"allOf": [{"pattern": f"((a{{90}}){{90}}){{{n}}}"} for n in range(300)] + [False]}, "a" * 60_000),
        ({"allOf": [{"pattern": f"(a{{20}}){{20}}{n}"} for n in range(300)]}, "a" * 60_000),
        ({"patternProperties": {f"(a|{n})*b": {} for n in range(500)}}, {"a" * n: 1 for n in range(300)}),
    ],
)
def test_no_schema_takes_long(schema: Any, value: Any) -> None:
    assert schema_problem(schema) is None
    began = time.process_time()
    assert misfits(value, schema)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("text", "is an object"),
        (None, "is an object"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "above the limit"),
        ({"$ref": "https://example.com/schema"}, "which is not in it"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "which is not in it"),
        ({"const": float("nan")}, "is not JSON"),
        ({"type": "bool"}, 'has "bool" as a type: use null, boolean, integer'),
        ({"type": ["string", 5]}, 'has ["string",5] as a type'),
        ({"type": []}, "has [] as a type"),
        ({"anyOf": [{"type": "null"}, {"items": {"type": "int"}}]}, 'has "int" as a type'),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "str"}}}, 'has "str" as a type'),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_a_reason(schema: Any, words: str) -> None:
    assert words in (schema_problem(schema) or "")


@pytest.mark.parametrize(
    "schema", [{"properties": {"type": {"type": "string"}}}, {"const": {"type": "bool"}}, {"enum": [{"type": "x"}]}]
)
def test_what_is_only_called_type_is_not_taken_for_one(schema: Any) -> None:
    assert schema_problem(schema) is None


@pytest.mark.parametrize("pattern", ["(?!b)", "(", "(a{90}){90}"])
def test_a_pattern_that_is_not_regular_or_too_large_restricts_nothing(pattern: str) -> None:
    assert misfits("b", {"pattern": pattern}) == []
