"""Values: what a task gets and what its caller gets back."""

from __future__ import annotations

from typing import Any

from tests.kit.conformance.probing import WAIT, probe, raised
from tests.kit.conformance.project import tasks as t
from tests.kit.conformance.project.values import VALUES


def both_ways(name: str) -> Any:
    """Return a value as a task gives it back, and what a task sees that is called with it."""
    given = raised(lambda: t.gives.delay(name).get(timeout=WAIT))
    called = raised(lambda: t.type_of.delay(VALUES[name]).get(timeout=WAIT))
    return [_shown(given), _shown(called)]


def _shown(found: Any) -> Any:
    """Show an exception by its class: texts of errors of serializers name memory and modules."""
    return type(found).__name__ if isinstance(found, Exception) else [type(found).__name__, found]


@probe
def a_datetime_without_a_zone() -> Any:
    return both_ways("naive")


@probe
def a_datetime_in_utc() -> Any:
    return both_ways("aware")


@probe
def a_datetime_in_another_zone() -> Any:
    return both_ways("zoned")


@probe
def a_date() -> Any:
    return both_ways("date")


@probe
def a_time() -> Any:
    return both_ways("time")


@probe
def a_timedelta() -> Any:
    return both_ways("delta")


@probe
def a_decimal() -> Any:
    return both_ways("decimal")


@probe
def a_uuid() -> Any:
    return both_ways("uuid")


@probe
def bytes_that_are_not_text() -> Any:
    return both_ways("bytes")


@probe
def bytes_that_are_text() -> Any:
    return both_ways("text bytes")


@probe
def a_big_number() -> Any:
    return both_ways("big")


@probe
def a_big_negative_number() -> Any:
    return both_ways("negative big")


@probe
def a_float() -> Any:
    return both_ways("float")


@probe
def a_whole_float() -> Any:
    return both_ways("whole float")


@probe
def a_tiny_float() -> Any:
    return both_ways("tiny")


@probe
def infinity() -> Any:
    return both_ways("infinity")


@probe
def a_tuple() -> Any:
    return both_ways("tuple")


@probe
def a_set() -> Any:
    return both_ways("set")


@probe
def a_frozen_set() -> Any:
    return both_ways("frozen")


@probe
def a_named_tuple() -> Any:
    return both_ways("named")


@probe
def an_ordered_dict() -> Any:
    return both_ways("ordered")


@probe
def keys_that_are_numbers() -> Any:
    return both_ways("number keys")


@probe
def nested_values() -> Any:
    return both_ways("nested")


@probe
def empty_values() -> Any:
    return both_ways("empty")


@probe
def a_text_of_all_planes() -> Any:
    return both_ways("unicode")


@probe
def half_a_surrogate_pair() -> Any:
    return both_ways("surrogate")


@probe
def a_dataclass() -> Any:
    return both_ways("box")


@probe
def a_number_of_an_enum() -> Any:
    return both_ways("level")


@probe
def an_enum() -> Any:
    return both_ways("mood")


@probe
def a_complex_number() -> Any:
    return both_ways("complex")


@probe
def an_exception_as_a_value() -> Any:
    return both_ways("exception")


@probe
def a_class_as_a_value() -> Any:
    return both_ways("class")


@probe
def a_generator() -> Any:
    return both_ways("generator")


@probe
def a_range() -> Any:
    return both_ways("range")


@probe
def a_list_of_typed_values() -> Any:
    return both_ways("typed list")


@probe
def deeply_nested_lists() -> Any:
    return both_ways("deep")


@probe
def a_mapping_that_looks_like_a_typed_value() -> Any:
    return both_ways("marked")


@probe
def a_long_text() -> Any:
    value = t.gives.delay("long").get(timeout=WAIT)
    return [len(value), t.identity.delay(value).get(timeout=WAIT) == value]


@probe
def a_model_of_pydantic() -> Any:
    return [t.moved.delay({"x": 1}, by=2).get(timeout=WAIT), t.moved.delay(t.Point(x=3).model_dump()).get(timeout=WAIT)]


@probe
def a_model_of_pydantic_that_does_not_fit() -> Any:
    result = t.moved.delay({"x": "no number"})
    found = raised(lambda: result.get(timeout=WAIT))
    return [type(found).__name__, str(found).splitlines()[:2], result.state]


@probe
def a_strict_model_of_pydantic() -> Any:
    return type(raised(lambda: t.moved_strictly.delay({"x": "1"}).get(timeout=WAIT))).__name__


@probe
def a_text_that_is_an_enum() -> Any:
    return t.type_of.delay(t.Colour.RED).get(timeout=WAIT)
