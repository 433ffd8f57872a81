"""JSON, read and written in one place, so that every part can read what any part wrote.

What is odd in JSON has one rule here, for every front door, worker, record and client:

- NaN and the infinities are refused, and so is a number above a double's range (`1e400`).
- An integer is exact, however long it is, within a double's range. JavaScript rounds those above 2^53.
- Text is Unicode: half of a surrogate pair is refused. NUL (`\\u0000`) is a character like any other.
- At most `MAX_DEPTH` levels are nested. The last one of repeated keys counts.
- Bytes, sets and other objects are refused, unless the caller says with `default` what to write for them.

`read` and `write` check all of this and name the place (`payload.items[3] is NaN; ...`). `encode` is for answers, which
are made of values that were read or checked before. `describe` is for logs and people: it writes anything.
"""

from __future__ import annotations

import dataclasses
import enum
import gc
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, time
from itertools import chain
from typing import Any, Final
from uuid import UUID

import orjson

from celeriac.errors import JsonError

#: Levels of arrays and objects in each other: what orjson writes.
MAX_DEPTH: Final = 254
#: The largest double, about 1.8e308: beyond it many readers take an integer for infinite.
_MAX_INTEGER: Final = int(sys.float_info.max)
_MAX_DIGITS: Final = len(str(_MAX_INTEGER))

#: Every digit and minus sign becomes `0`, all else a blank. 20 in a row may be an integer that 64 bits do not hold.
_MARKS: Final = bytes(0x30 if byte in b"-0123456789" else 0x20 for byte in range(256))
_LONG_NUMBER: Final = b"0" * 20
#: A text of more bytes is read without the garbage collector, which would take most of the time.
_LONG_TEXT: Final = 65_536
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PLAIN_NAME: Final = re.compile(r"[\w$-]{1,60}")
_MAX_PATH: Final = 200
#: What `describe` makes of a value that is not JSON: levels that it keeps, and characters of one text.
_TOLD_DEPTH: Final = 20
_MAX_TOLD: Final = 1000

#: Turns a value that JSON does not know into one that it knows, or raises; of a `JsonError` the problem counts.
Default = Callable[[Any], Any]

_DECODER: Final = json.JSONDecoder()
#: What stands before the first item of a list, and before any other.
_LIST_BEGINS: Final = re.compile(r"\s*\[\s*")
_NEXT_ITEM: Final = re.compile(r"\s*,\s*")
#: What orjson writes by itself besides JSON's own types.
_WRITTEN_AS_TEXT: Final = (date, time, UUID)


def read(text: str | bytes | bytearray, what: str = "the text") -> Any:
    """Read JSON; raises `JsonError`, which names the place in the document, or else `what`."""
    try:
        if len(text) <= _LONG_TEXT:
            value = orjson.loads(text)
        else:
            with _without_collections():
                value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise _unreadable(text, what, exc) from None
    if _LONG_NUMBER in (text.encode() if isinstance(text, str) else text).translate(_MARKS):
        return _read_exactly(text, what)
    return value


def after_items(text: str, count: int) -> int:
    """Return the place after the first `count` items of a JSON list; the rest is not read. Raises `JsonError`."""
    end, gap = 0, _LIST_BEGINS
    for _ in range(count):
        found = gap.match(text, end)
        if found is None:
            raise JsonError("the text", f"has no list with {count} items")
        try:
            _, end = _DECODER.raw_decode(text, found.end())
        except (ValueError, RecursionError) as exc:
            raise JsonError("the text", f"cannot be read as JSON: {exc}") from exc
        gap = _NEXT_ITEM
    return end


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector: it would look again and again through all that a long text is read into."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write(
    value: Any, what: str = "", *, default: Default | None = None, any_keys: bool = False, indent: bool = False
) -> str:
    """Write JSON on one line, or with `indent` on many; raises `JsonError`, whose places begin with `what`.

    With `any_keys`, keys that are numbers, dates and the like are written as texts.
    """
    return write_bytes(value, what, default=default, any_keys=any_keys, indent=indent).decode()


def write_bytes(
    value: Any, what: str = "", *, default: Default | None = None, any_keys: bool = False, indent: bool = False
) -> bytes:
    """Write JSON as UTF-8; see `write`."""
    option = None
    if any_keys or indent:
        option = (orjson.OPT_NON_STR_KEYS if any_keys else 0) | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        encoded = orjson.dumps(value, default, option)
    except TypeError:
        return _write_slowly(value, what, default, any_keys=any_keys, indent=indent)
    # orjson writes NaN as null.
    if b"null" in encoded:
        _check_numbers(value, what, default, any_keys=any_keys)
    return encoded


def salvage(text: str | bytes | bytearray) -> Any:
    """Read a text that `read` refuses for odd values: such numbers are None, half of a surrogate pair is U+FFFD.

    It tells what a message was about. Raises `JsonError` if the text is not JSON at all.
    """
    try:
        document = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_short_integer)
        return json.loads(_SURROGATE.sub("\ufffd", json.dumps(document, ensure_ascii=False)))
    except (ValueError, RecursionError) as exc:
        raise JsonError("the text", f"is not JSON: {exc}") from None


def encode(document: Any) -> bytes:
    """Write an answer as UTF-8. Half of a surrogate pair, which a message may quote, becomes U+FFFD."""
    try:
        return orjson.dumps(document)
    except TypeError:
        pass
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_native)
    except (TypeError, ValueError, RecursionError) as exc:
        raise JsonError("the answer", f"cannot be written as JSON: {exc}") from exc
    return _SURROGATE.sub("\ufffd", text).encode()


def written(text: str) -> Any:
    """Return JSON that was written before as a part of a document for `encode`, which takes it as it is."""
    return orjson.Fragment(text)


def describe(value: Any, *, text: Callable[[Any], str] = ascii, indent: bool = False) -> str:
    """Write JSON of anything, on one line unless with `indent`: what has no form in JSON becomes the text of it."""
    try:
        return write(value, default=text, any_keys=True, indent=indent)
    except Exception:  # also of an object that cannot say what it is
        return write(_told(value, text, _TOLD_DEPTH), indent=indent)


def _told(value: Any, text: Callable[[Any], str], depth: int) -> Any:
    if depth and isinstance(value, dict):
        return {_text_of(key, text): _told(one, text, depth - 1) for key, one in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_told(one, text, depth - 1) for one in value]
    if isinstance(value, str | int | float | bool | None) and _problem_of(value) is None:
        return value
    return _text_of(value, text)[:_MAX_TOLD]


def _text_of(value: Any, text: Callable[[Any], str]) -> str:
    if isinstance(value, str) and _problem_of_text(value) is None:
        return value
    try:
        return _SURROGATE.sub("\ufffd", text(value))
    except Exception:  # an object that cannot say what it is
        return f"<{type(value).__name__}>"


# --- reading what orjson does not


def _read_exactly(text: str | bytes | bytearray, what: str) -> Any:
    """Read a text that orjson has accepted, with integers beyond 64 bits, which it takes for doubles."""
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonError(what, _TOO_DEEP) from None


class _Odd:
    """A number that JSON has no place for, as the document has it."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def _unreadable(text: str | bytes | bytearray, what: str, error: orjson.JSONDecodeError) -> JsonError:
    """Return why orjson does not read a text: Python's reader takes some of it, which tells the place."""
    try:
        document = json.loads(text, parse_constant=_constant, parse_float=_float, parse_int=_integer)
    except RecursionError:
        return JsonError(what, _TOO_DEEP)
    except (ValueError, TypeError):
        return JsonError(what, f"is not JSON: {error}")
    flaw = next(_flaws(document, "", None, any_keys=False), None)
    if flaw is None:
        return JsonError(what, f"is not JSON: {error}")
    return _error(*flaw, what)


def _constant(name: str) -> _Odd:
    return _Odd(_no_such_number(name))


def _float(text: str) -> Any:
    number = _finite(text)
    return _Odd(_too_large(text)) if number is None else number


def _integer(text: str) -> Any:
    number = _short_integer(text)
    return _Odd(_too_large(text)) if number is None else number


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _short_integer(text: str) -> int | None:
    return int(text) if len(text) <= _MAX_DIGITS + 1 else None


# --- writing what orjson does not


def _write_slowly(value: Any, what: str, default: Default | None, *, any_keys: bool, indent: bool) -> bytes:
    """Write what orjson refused, if only for its long integers; else raise what is wrong."""
    flaw = next(_flaws(value, what, default, any_keys=any_keys), None)
    if flaw is not None:
        raise _error(*flaw)
    separators, width = ((",", ": "), 2) if indent else ((",", ":"), None)
    try:
        return json.dumps(
            value,
            default=lambda one: _native(one, default),
            allow_nan=False,
            ensure_ascii=False,
            separators=separators,
            indent=width,
        ).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise JsonError(what or "the value", f"cannot be written as JSON: {exc}") from exc


def _native(value: Any, default: Default | None = None) -> Any:
    """Return what json writes for a value that orjson writes by itself, and else what `default` makes of it."""
    if isinstance(value, orjson.Fragment):
        return read(value.contents)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, _WRITTEN_AS_TEXT):
        return orjson.loads(orjson.dumps(value))
    if default is None:
        raise JsonError("the value", _unknown_type(value))
    return default(value)


def _fields(value: Any) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(value))
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


def _check_numbers(value: Any, what: str, default: Default | None, *, any_keys: bool) -> None:
    try:
        odd = _holds_odd_number(value, default, any_keys=any_keys)
    except Exception as exc:  # of a serializer that somebody wrote
        raise JsonError(what or "the value", f"cannot be written as JSON: {_said(exc)}") from exc
    if odd and (flaw := next(_flaws(value, what, default, any_keys=any_keys), None)) is not None:
        raise _error(*flaw)


def _holds_odd_number(value: Any, default: Default | None, *, any_keys: bool) -> bool:
    """Whether NaN or an infinity is somewhere in a value that orjson wrote."""
    pending = [value]
    while pending:
        one = pending.pop()
        kind = type(one)
        if kind is str or kind is int or one is None or kind is bool:
            continue
        if kind is dict:
            pending.extend(one.values())
            if any_keys:
                pending.extend(one)
        elif kind is list or kind is tuple:
            pending.extend(one)
        elif isinstance(one, float):
            if not math.isfinite(one):
                return True
        elif isinstance(one, dict):
            pending.extend(chain(one.values(), one))
        elif isinstance(one, list):
            pending.extend(one)
        elif not isinstance(one, str | int | date | time | UUID):
            pending.append(_native(one, default))
    return False


# --- finding the place


def _error(place: str, problem: str, what: str = "the value") -> JsonError:
    return JsonError(place.lstrip(".") or what, problem)


def _flaws(
    value: Any, place: str, default: Default | None, *, any_keys: bool, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (place, problem) of everything in a value that JSON has no form for, in the document's order.

    `above` are the ids of what the value is inside of.
    """
    inside = (*above, id(value))
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, dict | list | tuple):
        if id(value) in above:
            yield _short(place), "is circular: it contains itself"
        elif len(above) >= MAX_DEPTH:
            yield _short(place), _TOO_DEEP
        elif isinstance(value, dict):
            for key, one in value.items():
                if (problem := _problem_of_key(key, any_keys=any_keys)) is not None:
                    yield _short(place), problem
                yield from _flaws(one, _member(place, key), default, any_keys=any_keys, above=inside)
        else:
            for number, one in enumerate(value):
                yield from _flaws(one, f"{place}[{number}]", default, any_keys=any_keys, above=inside)
    elif isinstance(value, str | int | float | bool | _Odd | None):
        if (problem := _problem_of(value)) is not None:
            yield _short(place), problem
    elif isinstance(value, _WRITTEN_AS_TEXT):
        return
    elif len(above) >= MAX_DEPTH:
        yield _short(place), _TOO_DEEP
    else:
        try:
            known = _native(value, default)
        except JsonError as exc:
            yield _short(place), exc.problem
        except Exception as exc:  # of a serializer that somebody wrote
            yield _short(place), f"cannot be written as JSON: {_said(exc)}"
        else:
            yield from _flaws(known, place, default, any_keys=any_keys, above=inside)


def _problem_of(value: object) -> str | None:
    if isinstance(value, _Odd):
        return value.problem
    if isinstance(value, str):
        return _problem_of_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return _no_such_number("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if isinstance(value, int) and not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return _too_large(None)
    return None


def _problem_of_text(text: str) -> str | None:
    found = _SURROGATE.search(text)
    return (
        None if found is None else f"holds half of a surrogate pair (\\u{ord(found[0]):04x}), which is not Unicode text"
    )


def _problem_of_key(key: object, *, any_keys: bool) -> str | None:
    if isinstance(key, str):
        problem = _problem_of_text(key)
        return problem and f"has a key that {problem}"
    if not any_keys:
        return f"has the key {_name_of(key)!r} of type {type(key).__name__}: keys are strings"
    if isinstance(key, float | int):
        problem = _problem_of(key)
        return problem and f"has a key that {problem}"
    if key is None or isinstance(key, enum.Enum | date | time | UUID):
        return None
    return f"has a key of type {type(key).__name__}, which cannot be written as a string"


def _no_such_number(name: str) -> str:
    return f"is {name}; JSON has no such number: send null or a string"


def _too_large(text: str | None) -> str:
    shown = "an integer" if text is None else text if len(text) <= 40 else f"{text[:20]}… of {len(text)} characters"
    return f"is {shown}; the largest number that every reader of JSON holds is about 1.8e308: send a string"


_TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} levels deep"


def _unknown_type(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "is bytes, which cannot be written as JSON: send a string, in base64 for example"
    return f"is of type {type(value).__name__}, which cannot be written as JSON"


def _said(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # also of an exception that somebody wrote
        return type(error).__name__


def _member(place: str, key: object) -> str:
    name = _name_of(key)
    return f"{place}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{place}[{name!a}]"


def _name_of(key: object) -> str:
    try:
        return str(key)[:60]
    except Exception:  # Python writes no integer of more than 4300 digits
        return type(key).__name__


def _short(place: str) -> str:
    return place if len(place) <= _MAX_PATH else f"{place[: _MAX_PATH // 2]}…{place[-_MAX_PATH // 2 :]}"
