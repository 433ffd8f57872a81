"""Secret fields of a payload: `SecretStr`, or any field whose JSON schema says `writeOnly`.

Only the worker gets their values; answers, lists and messages show `***` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

MASK: Final = "***"
#: The field of a record that has the paths of its payload's secrets, separated by line breaks.
FIELD: Final = "secret_fields"
#: How deep a schema is looked into: some refer to themselves.
_DEPTH: Final = 8


def secret_paths(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dotted paths of the secrets in a JSON schema; `*` is any item of a list or any key of a map."""
    return tuple(dict.fromkeys(_paths(schema, schema.get("$defs", {}), "", _DEPTH)))


def masked(payload: Any, paths: Iterable[str]) -> Any:
    """Return `payload` with the values at `paths` masked; a path that does not exist adds nothing."""
    for path in paths:
        payload = _masked(payload, path.split("."))
    return payload


def restored(payload: Any, before: Any, paths: Iterable[str]) -> Any:
    """Return `payload` with each mask at `paths` replaced by what `before` has there.

    A document that was read with its secrets masked, edited and sent back keeps its secrets in this way.
    """
    for path in paths:
        payload = _restored(payload, before, path.split("."))
    return payload


def _paths(schema: Any, defs: Mapping[str, Any], path: str, depth: int) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth == 0:
        return
    if schema.get("writeOnly") and path:
        yield path
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _paths(defs.get(reference.rpartition("/")[2]), defs, path, depth - 1)
    for name in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(name, ()):
            yield from _paths(part, defs, path, depth - 1)
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, Mapping) else ():
        yield from _paths(part, defs, f"{path}.{name}" if path else name, depth - 1)
    for name in ("items", "additionalProperties"):
        if path:
            yield from _paths(schema.get(name), defs, f"{path}.*", depth - 1)


def _masked(value: Any, path: list[str]) -> Any:
    if not path:
        return MASK if value is not None else None
    name, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        names = list(value) if name == "*" else [name] if name in value else []
        return {**value, **{key: _masked(value[key], rest) for key in names}}
    if isinstance(value, list) and name == "*":
        return [_masked(item, rest) for item in value]
    return value


def _restored(value: Any, before: Any, path: list[str]) -> Any:
    if not path:
        return before if value == MASK and before is not None else value
    name, rest = path[0], path[1:]
    if isinstance(value, Mapping) and isinstance(before, Mapping):
        names = [key for key in (value if name == "*" else [name]) if key in value and key in before]
        return {**value, **{key: _restored(value[key], before[key], rest) for key in names}}
    if isinstance(value, list) and isinstance(before, list) and name == "*":
        kept = [_restored(item, old, rest) for item, old in zip(value, before, strict=False)]
        return kept + value[len(kept) :]
    return value
