"""References in a payload: `{"$result": "ID", "path": "/a/0"}` stands for what a parent of the task has returned.

`path` is a JSON Pointer (RFC 6901) into the result. References are put in at the start of an attempt, so executors in
any language get plain data; the record keeps the payload as it was submitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final, NamedTuple

from celeriac.errors import InvalidReferenceError, InvalidSubmissionError, Violation
from celeriac.model import Parent, Status

_KEY: Final = "$result"
_PATH: Final = "path"
#: An index of an array in a JSON Pointer.
_INDEX: Final = re.compile(r"0|[1-9][0-9]*")
_ESCAPE: Final = re.compile(r"~[01]?")


class Reference(NamedTuple):
    """A reference to the result of a parent."""

    parent: str
    #: A JSON Pointer; "" is the whole result.
    path: str


def may_have_references(text: str) -> bool:
    """Return whether a payload, as JSON, may hold a reference; without a look at its structure."""
    return f'"{_KEY}"' in text


def check_references(payload: Any, parents: Set[str]) -> bool:
    """Return whether a payload has references; raises `InvalidSubmissionError` for one that is not to a parent."""
    found = False
    for place, reference in _references_in(payload):
        found = True
        if reference.parent not in parents:
            message = f"refers to the result of {reference.parent!r}, on which this task does not depend"
            raise InvalidSubmissionError([Violation(place, message)])
    return found


def resolved(payload: Any, parents: Mapping[str, Parent]) -> Any:
    """Return the payload with results in the place of references; raises `InvalidReferenceError`.

    The result of a parent that did not complete is None, whatever the path.
    """
    if isinstance(payload, list):
        return [resolved(one, parents) for one in payload]
    if not isinstance(payload, dict):
        return payload
    if _KEY in payload:
        return _value(_reference(payload, "payload"), parents)
    return {name: resolved(one, parents) for name, one in payload.items()}


def _references_in(payload: Any) -> Iterator[tuple[str, Reference]]:
    # Not recursive: this looks at what a caller sent.
    left: list[tuple[str, Any]] = [("payload", payload)]
    while left:
        place, value = left.pop()
        if isinstance(value, dict):
            if _KEY in value:
                yield place, _reference(value, place)
            else:
                left.extend((f"{place}.{name}", one) for name, one in value.items())
        elif isinstance(value, list):
            left.extend((f"{place}.{index}", one) for index, one in enumerate(value))


def _reference(value: Mapping[str, Any], place: str) -> Reference:
    parent, path = value[_KEY], value.get(_PATH, "")
    if not isinstance(parent, str) or value.keys() - {_KEY, _PATH}:
        message = f'a reference is an object with only "{_KEY}", the id of a task, and "{_PATH}"'
        raise InvalidSubmissionError([Violation(place, message)])
    valid = isinstance(path, str) and (path == "" or path.startswith("/"))
    if not valid or any(len(escape) == 1 for escape in _ESCAPE.findall(path)):
        raise InvalidSubmissionError([Violation(f"{place}.{_PATH}", "is not a JSON Pointer, such as /items/0/name")])
    return Reference(parent, path)


def _value(reference: Reference, parents: Mapping[str, Parent]) -> Any:
    parent = parents.get(reference.parent)
    if parent is None:
        raise InvalidReferenceError(f"the task {reference.parent} has left the store, and its result with it")
    if parent.status is not Status.COMPLETED:
        return None
    value = parent.result
    for token in reference.path.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        try:
            if isinstance(value, list) and _INDEX.fullmatch(name):
                value = value[int(name)]
            elif isinstance(value, dict):
                value = value[name]
            else:
                raise KeyError(name)
        except LookupError:
            message = f"the result of the task {reference.parent} has nothing at {reference.path}"
            raise InvalidReferenceError(message) from None
    return value
