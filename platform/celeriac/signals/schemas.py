"""Compares a JSON value with a JSON schema (draft 2020-12), within a bound of work.

Schemas come from Pydantic models, and from callers who may write anything. So a comparison takes a bounded number of
steps, patterns are matched in linear time, and nothing is loaded from elsewhere. A keyword that is not known here does
not restrict anything, and neither does a pattern that needs more than a regular language, such as a look-ahead, or that
is very large: the handler's own model has the last word.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from typing import Any, Final, TypeGuard
from uuid import UUID

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from celeriac import json_text
from celeriac.errors import MAX_VIOLATIONS, JsonError, Violation

#: Largest schema (bytes of JSON).
MAX_SCHEMA_BYTES: Final = 16 * 1024
#: Steps that one comparison takes at most; each one looks at one value with one schema. A step takes about 2 µs.
_MOST_STEPS: Final = 10_000
#: A pattern of more states than about this many restricts nothing: `(a{90}){90}` would take too long.
_MOST_STATES: Final = 5000
_REPETITION: Final = re.compile(r"\{([0-9]*),?([0-9]*)\}")
#: Levels of values and schemas in each other.
_MOST_LEVELS: Final = 60
#: Characters of a value that a violation shows.
_SHOWN: Final = 60

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "number": lambda value: _is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_FORMATS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "date": (date.fromisoformat, "a date, such as 2030-01-31"),
    "date-time": (datetime.fromisoformat, "a moment, such as 2030-01-31T08:00:00Z"),
    "time": (time.fromisoformat, "a time of day, such as 08:00:00"),
    "uuid": (UUID, "a UUID"),
}
#: Keywords whose values are a schema, a list of schemas, and schemas by name.
_ONE_INNER: Final = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_INNER_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_INNER_OBJECTS: Final = ("$defs", "definitions", "patternProperties", "properties")


class _TooMuchError(Exception):
    """The comparison takes too many steps."""


def schema_problem(schema: Any) -> str | None:
    """Return why `schema` cannot be used, or None if it can."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return "must be a JSON schema, which is an object"
    try:
        size = len(json_text.write_bytes(schema))
    except JsonError as exc:
        return f"is not JSON: {exc}"
    if size > MAX_SCHEMA_BYTES:
        return f"is {size} bytes as JSON, above the limit of {MAX_SCHEMA_BYTES}"
    for reference in _references(schema):
        if _target(reference, schema) is None:
            return f"refers to {json_text.encode(reference).decode()[:200]}, which is not in it"
    for wanted in _types(schema):
        if not _is_type(wanted):
            shown = json_text.encode(wanted).decode()[:200]
            return f"has {shown} as a type: use {', '.join(_TYPES)}, or a list of these"
    return None


def misfits(value: Any, schema: Any) -> list[Violation]:
    """Return what of a JSON value does not fit a schema that can be used, at most `MAX_VIOLATIONS`; [] if it fits.

    A violation's field is a dotted path into the value, "" for the whole.
    """
    found: list[Violation] = []
    try:
        for violation in _Comparison(schema).look(value, schema, "", 0):
            found.append(violation)
            if len(found) == MAX_VIOLATIONS:
                break
    except _TooMuchError:
        found.append(Violation("", "takes too long to compare with the schema: send a smaller value"))
    return found


def resolved(schema: Any, root: Any) -> Any:
    """Return a schema, or what it refers to with `$ref` alone; {} for a reference that leads nowhere or in a circle."""
    for _ in range(_MOST_LEVELS):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        found = _target(schema["$ref"], root)
        further = {name: one for name, one in schema.items() if name != "$ref"}
        schema = {**found, **further} if isinstance(found, dict) else found
    return {}


class _Comparison:
    """One comparison: its root schema, for references, and the steps that it may still take."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = _MOST_STEPS
        self._matchers: dict[str, SchemaValidator | None] = {}

    def look(self, value: Any, schema: Any, place: str, level: int) -> Iterator[Violation]:
        """Yield what does not fit."""
        self._left -= 1
        if self._left < 0 or level > _MOST_LEVELS:
            raise _TooMuchError
        if schema is False:
            yield Violation(place, "is not allowed here")
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            yield from self.look(value, _target(schema["$ref"], self._root), place, level + 1)
        if "type" in schema and (told := _type_problem(value, schema["type"])):
            # All else would only say the same again.
            yield Violation(place, told)
            return
        yield from (Violation(place, told) for told in self._plain(value, schema))
        yield from self._combined(value, schema, place, level)
        if isinstance(value, dict):
            yield from self._members(value, schema, place, level)
        elif isinstance(value, list):
            yield from self._items(value, schema, place, level)

    def fits(self, value: Any, schema: Any, level: int) -> bool:
        """Return whether a value fits."""
        return next(self.look(value, schema, "", level + 1), None) is None

    def _plain(self, value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
        if "const" in schema and not self._same(value, schema["const"]):
            yield f"must be {_shown(schema['const'])}"
        if isinstance(options := schema.get("enum"), list) and not any(self._same(value, one) for one in options):
            yield f"must be one of {', '.join(map(_shown, options[:20]))}{', …' if len(options) > 20 else ''}"
        if _is_number(value):
            yield from _number_problems(value, schema)
        elif isinstance(value, str):
            yield from _text_problems(value, schema)
            pattern = schema.get("pattern")
            if isinstance(pattern, str) and self._matches(pattern, value) is False:
                yield f"must match {pattern[:200]}"

    def _matches(self, pattern: str, text: str) -> bool | None:
        """Return whether a pattern is somewhere in a text; None if it is not a regular one."""
        size = _size_of(pattern)
        if size > _MOST_STATES:
            return None
        if pattern not in self._matchers:
            self._left -= 100 + size // 10
            self._matchers[pattern] = _matcher(pattern) if self._left > 0 else None
        self._left -= 5 + size * len(text) // 200
        if self._left < 0:
            raise _TooMuchError
        matcher = self._matchers[pattern]
        return None if matcher is None else _is_in(matcher, text)

    def _same(self, one: Any, other: Any) -> bool:
        self._left -= 1
        if isinstance(one, bool) or isinstance(other, bool):
            return one is other
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self._same, one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self._same(one[name], other[name]) for name in one)
        return bool(one == other)

    def _combined(self, value: Any, schema: Mapping[str, Any], place: str, level: int) -> Iterator[Violation]:
        for one in _schemas(schema, "allOf"):
            yield from self.look(value, one, place, level + 1)
        if options := _schemas(schema, "anyOf"):
            yield from self._any(value, options, place, level)
        if options := _schemas(schema, "oneOf"):
            fitting = sum(self.fits(value, one, level) for one in options)
            if fitting == 0:
                yield from self._any(value, options, place, level)
            elif fitting > 1:
                yield Violation(place, f"fits {fitting} of the allowed shapes, and must fit only one")
        if "not" in schema and self.fits(value, schema["not"], level):
            yield Violation(place, "is a value that is not allowed")
        if "if" in schema:
            branch = "then" if self.fits(value, schema["if"], level) else "else"
            if branch in schema:
                yield from self.look(value, schema[branch], place, level + 1)

    def _any(self, value: Any, options: list[Any], place: str, level: int) -> Iterator[Violation]:
        """Yield nothing if one of the options fits, else what is wrong with the only one that could be meant."""
        if any(self.fits(value, one, level) for one in options):
            return
        meant = [one for one in options if not self._is_null(one)]
        if len(meant) == 1:
            yield from self.look(value, meant[0], place, level + 1)
        else:
            yield Violation(place, f"fits none of the {len(options)} allowed shapes")

    def _is_null(self, schema: Any) -> bool:
        found = resolved(schema, self._root)
        return isinstance(found, dict) and found.get("type") == "null"

    def _members(self, value: dict[str, Any], schema: Mapping[str, Any], place: str, level: int) -> Iterator[Violation]:
        for name in _names(schema.get("required")):
            if name not in value:
                yield Violation(_inner(place, name), "is required")
        known, patterns = _object(schema, "properties"), _object(schema, "patternProperties")
        for name, one in value.items():
            inner = _inner(place, name)
            covered = name in known
            if covered:
                yield from self.look(one, known[name], inner, level + 1)
            for pattern, further in patterns.items():
                if self._matches(pattern, name) is not False:
                    covered = True
                    yield from self.look(one, further, inner, level + 1)
            if covered:
                continue
            if schema.get("additionalProperties") is False:
                yield Violation(inner, "there is no such field")
            elif "additionalProperties" in schema:
                yield from self.look(one, schema["additionalProperties"], inner, level + 1)
        if "propertyNames" in schema:
            for name in value:
                yield from self.look(name, schema["propertyNames"], _inner(place, name), level + 1)
        yield from _count_problems(len(value), schema, place, "Properties", "field")

    def _items(self, value: list[Any], schema: Mapping[str, Any], place: str, level: int) -> Iterator[Violation]:
        first = _schemas(schema, "prefixItems")
        for index, one in enumerate(value):
            inner = _inner(place, str(index))
            if index < len(first):
                yield from self.look(one, first[index], inner, level + 1)
            elif "items" in schema:
                yield from self.look(one, schema["items"], inner, level + 1)
        yield from _count_problems(len(value), schema, place, "Items", "item")
        if schema.get("uniqueItems") is True:
            self._left -= len(value)
            if len({_canonical(one) for one in value}) < len(value):
                yield Violation(place, "must not have the same item twice")
        if "contains" in schema:
            fitting = sum(self.fits(one, schema["contains"], level) for one in value)
            least, most = _whole(schema, "minContains", 1), _whole(schema, "maxContains", None)
            if least is not None and fitting < least:
                yield Violation(place, f"needs {least} or more items of a certain shape, and has {fitting}")
            if most is not None and fitting > most:
                yield Violation(place, f"may have {most} items of a certain shape, and has {fitting}")


def _type_problem(value: Any, wanted: Any) -> str | None:
    names = [wanted] if isinstance(wanted, str) else _names(wanted)
    known = [name for name in names if name in _TYPES]
    if not known or any(_TYPES[name](value) for name in known):
        return None
    words = {"object": "an object", "array": "a list", "string": "a text", "integer": "a whole number"}
    told = [words.get(name, "null" if name == "null" else f"a {name}") for name in known]
    return f"must be {' or '.join(told)}"


def _number_problems(value: float, schema: Mapping[str, Any]) -> Iterator[str]:
    for name, wrong, words in (
        ("minimum", operator.lt, "at least"),
        ("maximum", operator.gt, "at most"),
        ("exclusiveMinimum", operator.le, "above"),
        ("exclusiveMaximum", operator.ge, "below"),
    ):
        if _is_number(bound := schema.get(name)) and wrong(value, bound):
            yield f"must be {words} {bound}"
    if _is_number(step := schema.get("multipleOf")) and step > 0 and not _is_multiple(value, step):
        yield f"must be a multiple of {step}"


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        quotient = value / step
    except OverflowError:
        return False
    return math.isfinite(quotient) and math.isclose(quotient, round(quotient), rel_tol=1e-9, abs_tol=1e-9)


def _text_problems(value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    least, most = _whole(schema, "minLength", None), _whole(schema, "maxLength", None)
    if least is not None and len(value) < least:
        yield "must not be empty" if least == 1 else f"must have at least {least} characters"
    if most is not None and len(value) > most:
        yield f"must have at most {most} characters"
    form = schema.get("format")
    if isinstance(form, str) and form in _FORMATS:
        read, words = _FORMATS[form]
        try:
            read(value)
        except ValueError:
            yield f"must be {words}"


def _count_problems(count: int, schema: Mapping[str, Any], place: str, of_what: str, word: str) -> Iterator[Violation]:
    least, most = _whole(schema, f"min{of_what}", None), _whole(schema, f"max{of_what}", None)
    if least is not None and count < least:
        yield Violation(place, f"must have at least {least} {word}{'' if least == 1 else 's'}")
    if most is not None and count > most:
        yield Violation(place, f"must have at most {most} {word}{'' if most == 1 else 's'}")


def _size_of(pattern: str) -> int:
    """Return about how many states a pattern has: its length, times the counts of its repetitions."""
    size = len(pattern)
    for least, most in _REPETITION.findall(pattern):
        size *= max(int(least[:9] or 1), int(most[:9] or 1), 1)
    return size


def _is_in(matcher: SchemaValidator, text: str) -> bool:
    try:
        matcher.validate_python(text)
    except ValidationError:
        return False
    return True


def _matcher(pattern: str) -> SchemaValidator | None:
    # Rust's engine takes linear time. Python's may take exponential time, and patterns come from callers.
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _references(schema: Any) -> Iterator[Any]:
    left = [schema]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if "$ref" in one:
                yield one["$ref"]
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _types(schema: Any) -> Iterator[Any]:
    """Yield what a schema and those in it have as `type`."""
    left = [schema]
    while left:
        one = left.pop()
        if not isinstance(one, dict):
            continue
        if "type" in one:
            yield one["type"]
        left.extend(one[name] for name in _ONE_INNER if name in one)
        for name in _INNER_LISTS:
            left.extend(_schemas(one, name))
        for name in _INNER_OBJECTS:
            left.extend(_object(one, name).values())


def _is_type(wanted: Any) -> bool:
    names = wanted if isinstance(wanted, list) and wanted else [wanted]
    return all(isinstance(name, str) and name in _TYPES for name in names)


def _target(reference: Any, root: Any) -> Any:
    """Return what a reference of the form `#/$defs/Name` leads to, or None."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found = root
    for token in reference.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, dict | bool) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(schema: Mapping[str, Any], name: str, otherwise: int | None) -> int | None:
    value = schema.get(name)
    return int(value) if _is_number(value) and abs(value) < 2**53 else otherwise


def _schemas(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _object(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = schema.get(name)
    return value if isinstance(value, dict) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _inner(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: Any) -> str:
    text = json_text.describe(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _canonical(value: Any) -> str:
    """Return a text that is equal for equal values."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_canonical(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if _is_number(value) and float(value).is_integer():
        return str(int(value))
    return json_text.encode(value).decode()
