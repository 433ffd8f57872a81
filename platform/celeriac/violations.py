"""What is wrong with an input, in plain words for its sender: Pydantic's findings, and names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from celeriac.errors import Violation

#: Most names that a text lists.
_LISTED: Final = 20
#: Pydantic's words for what a caller of a JSON API knows by another name.
_PLAINER: Final = {
    "missing": "is required",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "extra_forbidden": "there is no such field",
}


def violations_of(exc: ValidationError, prefix: str = "") -> list[Violation]:
    """Return Pydantic's findings as violations with dotted paths, below `prefix`."""
    return [
        Violation(".".join([*([prefix] if prefix else []), *(str(part) for part in error["loc"])]), plain_text(error))
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]


def outer_violations(exc: ValidationError, model: type[BaseModel]) -> list[Violation]:
    """Return Pydantic's findings by the fields of `model`, whatever is wrong inside one.

    For models whose inner paths are names that Pydantic gives to the members of a union.
    """
    return [
        Violation(shown(str(error["loc"][0])) if error["loc"] else "", plain_text(error, model.model_fields))
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]


def plain_text(error: ErrorDetails, known: Iterable[str] = ()) -> str:
    """Return what is wrong, without the names of our classes; `known` are the fields that exist."""
    if error["type"] == "extra_forbidden" and (names := list(known)):
        return no_such("field", str(error["loc"][-1]), names)
    return _PLAINER.get(error["type"]) or error["msg"].removeprefix("Value error, ")


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a field, option or the like does not exist, and name the nearest one, or all that exist."""
    names = list(dict.fromkeys(known))
    if near := nearest(name, names):
        return f"there is no such {what}; did you mean {near}?"
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"there is no such {what}; known are: {listed or '(none)'}"


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known name that is most like `name`, if one is alike enough; a `cutoff` of 1 demands the same."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def shown(name: str) -> str:
    """Return a caller's name short enough to be sent back."""
    return name if len(name) <= 100 else name[:100] + "…"
