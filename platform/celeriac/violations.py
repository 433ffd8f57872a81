"""What is wrong with an input, in plain words for its sender: Pydantic's findings, and names that do not exist."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from celeriac.errors import MAX_VIOLATIONS, InvalidSubmissionError, Violation

#: Most names that a text lists.
_LISTED: Final = 20
#: Pydantic makes texts of all its findings at once. If there are more than this, it is not asked for them.
_MOST_FINDINGS: Final = 2000
#: An object with more fields than this times those of the model is refused before any of them is looked at.
_TIMES_KNOWN: Final = 4
_FEW: Final = 20
#: A longer name is not compared, and a name is compared with at most so many.
_MAX_COMPARED: Final = 64
_MOST_COMPARED: Final = 500
#: Pydantic's words for what a caller of a JSON API knows by another name.
_PLAINER: Final = {
    "missing": "is required",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "extra_forbidden": "there is no such field",
}


def violations_of(exc: ValidationError, prefix: str = "") -> list[Violation]:
    """Return Pydantic's findings as violations with dotted paths, below `prefix`: the first ones, and their number."""
    if (countless := _countless(exc, prefix)) is not None:
        return [countless]
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    told = [
        Violation(
            ".".join([*([prefix] if prefix else []), *(shown(str(part)) for part in error["loc"])]), plain_text(error)
        )
        for error in errors[:MAX_VIOLATIONS]
    ]
    return told + and_more(len(errors))


def outer_violations(exc: ValidationError, model: type[BaseModel]) -> list[Violation]:
    """Return Pydantic's findings by the fields of `model`, or by the items of one; as many as `violations_of`.

    For models whose inner paths are names that Pydantic gives to the members of a union, except in the items of lists.
    """
    if (countless := _countless(exc, "")) is not None:
        return [countless]
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    told = [
        Violation(_outer_place(error), plain_text(error, model.model_fields if len(error["loc"]) == 1 else ()))
        for error in errors[:MAX_VIOLATIONS]
    ]
    return told + and_more(len(errors))


def _outer_place(error: ErrorDetails) -> str:
    place = error["loc"]
    of_item = len(place) > 1 and isinstance(place[1], int)
    return ".".join(shown(str(part)) for part in (place if of_item else place[:1]))


def check_field_count(document: object, known: Iterable[str], prefix: str = "") -> None:
    """Raise `InvalidSubmissionError` if an object has many more fields than the `known` ones.

    It names the first unknown ones, and looks at no more of them.
    """
    names = set(known)
    if not isinstance(document, Mapping) or len(document) <= _TIMES_KNOWN * len(names) + _FEW:
        return
    unknown = islice((str(name) for name in document if name not in names), MAX_VIOLATIONS)
    told = [Violation(f"{prefix}{shown(name)}", "there is no such field") for name in unknown]
    many = Violation(prefix.rstrip("."), f"has {len(document)} fields; at most {len(names)} are possible")
    raise InvalidSubmissionError([many, *told[: MAX_VIOLATIONS - 1]])


def _countless(exc: ValidationError, prefix: str) -> Violation | None:
    count = exc.error_count()
    if count <= _MOST_FINDINGS:
        return None
    return Violation(prefix, f"{count} of its values are not as they must be: too many to name them")


def and_more(count: int) -> list[Violation]:
    """Return a violation that says how many of `count` the first ones leave out; none if they are all."""
    return [Violation("", f"and {count - MAX_VIOLATIONS} more")] if count > MAX_VIOLATIONS else []


def plain_text(error: ErrorDetails, known: Iterable[str] = ()) -> str:
    """Return what is wrong, without the names of our classes; `known` are the fields that exist."""
    if error["type"] == "extra_forbidden" and (names := list(known)):
        return no_such("field", str(error["loc"][-1]), names)
    return _PLAINER.get(error["type"]) or error["msg"].removeprefix("Value error, ")


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a field, option or the like does not exist, and name the nearest one, or all that exist."""
    names = list(dict.fromkeys(known))
    if near := suggested(name, names):
        return f"there is no such {what}; did you mean {near[0]}?"
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"there is no such {what}; known are: {listed or '(none)'}"


def unknown_names(field: str, what: str, unknown: Sequence[str], known: Iterable[str]) -> list[Violation]:
    """Return violations for names below `field` that do not exist: the first ones, and how many there are."""
    names = list(known)
    told = [Violation(f"{field}.{shown(name)}", no_such(what, name, names)) for name in unknown[:MAX_VIOLATIONS]]
    return told + and_more(len(unknown))


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known name that is most like `name`, if one is alike enough; a `cutoff` of 1 demands the same.

    A long name is not compared with any.
    """
    near = _alike(name, known, 1, cutoff)
    return near[0] if near else None


def suggested(name: str, known: Iterable[str], *, most: int = 1) -> list[str]:
    """Return the known names that are most like `name`; none if the time for suggestions is up."""
    if not _SUGGESTING.open:
        return []
    begun = time.thread_time()
    near = _alike(name, known, most, 0.5)
    _SUGGESTING.spend(time.thread_time() - begun)
    return near


def _alike(name: str, known: Iterable[str], most: int, cutoff: float) -> list[str]:
    if len(name) > _MAX_COMPARED:
        return []
    candidates = [one for one in islice(known, _MOST_COMPARED) if len(one) <= _MAX_COMPARED]
    return difflib.get_close_matches(name, candidates, n=most, cutoff=cutoff)


class _Allowance:
    """Time that all suggestions of this process may take together: they are a courtesy, and callers choose the names.

    It fills up at a tenth of the time that passes, to half a second at most.
    """

    _SHARE: Final = 0.1
    _MOST_S: Final = 0.5

    def __init__(self) -> None:
        self._left_s = self._MOST_S
        self._seen_s = time.monotonic()

    @property
    def open(self) -> bool:
        now_s = time.monotonic()
        self._left_s = min(self._left_s + (now_s - self._seen_s) * self._SHARE, self._MOST_S)
        self._seen_s = now_s
        return self._left_s > 0

    def spend(self, seconds: float) -> None:
        self._left_s -= seconds


_SUGGESTING: Final = _Allowance()


def shown(name: str) -> str:
    """Return a caller's name short enough to be sent back."""
    return name if len(name) <= 100 else name[:100] + "…"
