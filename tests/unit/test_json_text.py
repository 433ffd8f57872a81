"""What is odd in JSON: refused with the place and a word of advice, or exact after writing and reading."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac import json_text
from celeriac.errors import JsonError

LARGEST = int(sys.float_info.max)

EXACT = [
    *(2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1, -(2**200) - 1),
    *(10**40, -LARGEST, LARGEST, 0, -0.0, 0.1, 5e-324, 1e22, sys.float_info.max),
    *("", "\x00", "a\x00b", "\U0001f600", "\u2028", "12345678901234567890", "null"),
    *(None, True, [], {}, {"": 1}, [[]], {"a": {}, "b": []}, {"\x00": "\x00"}),
]


def nested(levels: int, inner: Any = None) -> Any:
    for _ in range(levels):
        inner = [inner] if inner is not None else []
    return inner


@pytest.mark.parametrize("value", EXACT, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("beside", [None, 1.5, 2**70])
def test_what_is_written_is_read_back_exactly(value: Any, beside: Any) -> None:
    document = {"a": value, "list": [value, beside]}
    for text in (json_text.write(document), json_text.write(document, indent=True), json_text.encode(document)):
        found = json_text.read(text)
        assert found == document
        assert type(found["a"]) is type(value)
        assert math.copysign(1, found["a"]) == math.copysign(1, value) if isinstance(value, float) else True
    # Every reader of JSON takes it.
    assert json.loads(json_text.write(document)) == document
    orjson.loads(json_text.write(document))


_TEXTS = st.text(st.characters(codec="utf-8"))
_NUMBERS = st.integers(-LARGEST, LARGEST) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
)


@given(_JSON)
def test_any_document_is_read_back_exactly(document: Any) -> None:
    assert json_text.read(json_text.write(document)) == document
    assert json_text.read(json_text.write_bytes(document, indent=True)) == document


REFUSED: list[tuple[Any, str]] = [
    (math.nan, "is NaN; JSON has no such number: send null or a string"),
    (math.inf, "is Infinity; JSON has no such number"),
    (-math.inf, "is -Infinity; JSON has no such number"),
    (LARGEST + 1, "is an integer; the largest number that every reader of JSON holds is about 1.8e308"),
    (10**5000, "the largest number"),
    ("half \ud83d", r"holds half of a surrogate pair (\ud83d)"),
    (b"bytes", "is bytes, which cannot be written as JSON: send a string, in base64 for example"),
    ({1, 2}, "is of type set, which cannot be written as JSON"),
    (object(), "is of type object, which cannot be written as JSON"),
]


@pytest.mark.parametrize(("value", "problem"), REFUSED, ids=[problem[:20] for _, problem in REFUSED])
@pytest.mark.parametrize("beside", [None, 1, 2**70, "12345678901234567890123"])
def test_what_has_no_form_in_json_is_refused_with_its_place(value: Any, problem: str, beside: Any) -> None:
    for document, place in (
        (value, "payload"),
        ({"items": [1, beside, (value,)]}, "payload.items[2][0]"),
        ({"a b": {"x": value}, "y": beside}, "payload['a b'].x"),
    ):
        with pytest.raises(JsonError) as caught:
            json_text.write(document, "payload")
        assert caught.value.place == place
        assert problem in caught.value.problem
        assert str(caught.value) == f"{place} {caught.value.problem}"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"a": {"\ud800": 1}}, "payload.a has a key that holds half of a surrogate pair"),
        ({"a": {7: 1}}, "payload.a has the key '7' of type int: keys are strings"),
        ({"a": {(1,): None}}, "payload.a has the key '(1,)' of type tuple"),
    ],
)
def test_a_key_that_is_no_text_is_refused(document: Any, text: str) -> None:
    with pytest.raises(JsonError) as caught:
        json_text.write(document, "payload")
    assert text in str(caught.value)


def test_other_keys_become_texts_if_the_caller_says_so() -> None:
    assert json_text.read(json_text.write({7: 1, 2**70: 2, None: 3}, any_keys=True)) == {
        "7": 1, str(2**70): 2, "null": 3,
    }  # fmt: skip
    for key, problem in ((math.nan, "has a key that is NaN"), ((1,), "has a key of type tuple")):
        with pytest.raises(JsonError, match=problem):
            json_text.write({"a": {key: 1}}, any_keys=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"payload":{"a":[1,NaN]}}', "payload.a[1] is NaN; JSON has no such number"),
        ('{"a":-Infinity}', "a is -Infinity; JSON"),
        ("NaN", "the body is NaN; JSON"),
        ('{"a":{"b":1e400}}', "a.b is 1e400; the largest number"),
        ('{"a":-1e400}', "a is -1e400; the largest number"),
        ('{"a":' + "1" * 400 + "}", "a is 11111111111111111111… of 400 characters; the largest number"),
        ("1" * 5000, "of 5000 characters"),
        (r'{"a":["done \ud83d"]}', r"a[0] holds half of a surrogate pair (\ud83d), which is not Unicode text"),
        (r'{"\udc00":1}', "the body has a key that holds half of a surrogate pair"),
        ("", "the body is not JSON: "),
        ("{", "the body is not JSON: "),
        ('{"a":1,}', "the body is not JSON: "),
        ('"\x01"', "the body is not JSON: "),
        (b'"\xff"', "the body is not JSON: "),
        ('{"a":1}'.encode("utf-16"), "the body is not JSON: "),
        (b'\xef\xbb\xbf{}', "the body is not JSON: "),
        ("[" * 50_000, "the body is nested"),
        ("[" * 2000 + "]" * 2000, "the body is nested"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_read_is_refused_with_words(text: str | bytes, words: str) -> None:
    for form in (text, text.encode()) if isinstance(text, str) else (text,):
        with pytest.raises(JsonError) as caught:
            json_text.read(form, "the body")
        assert words in str(caught.value)


def test_nesting_has_one_bound() -> None:
    assert json_text.read(json_text.write(nested(json_text.MAX_DEPTH))) == nested(json_text.MAX_DEPTH)
    for inner in (None, 2**70):
        deep = nested(json_text.MAX_DEPTH + 1, inner)
        with pytest.raises(JsonError, match="is nested more than 254 levels deep"):
            json_text.write({"a": deep}, "payload")
    endless: list[Any] = []
    endless += [{"a": endless}, endless]
    with pytest.raises(JsonError, match=r"payload\[0\]\.a is circular: it contains itself"):
        json_text.write(endless, "payload")
    # An answer puts what it quotes some levels deeper.
    assert json_text.read(json_text.encode({"items": [{"result": nested(json_text.MAX_DEPTH)}]}))


def test_the_last_one_of_repeated_keys_counts() -> None:
    assert json_text.read('{"a":1,"a":2}') == {"a": 2}
    assert json_text.read(f'{{"a":1,"a":{2**70}}}') == {"a": 2**70}


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    colour: Colour = Colour.RED
    _hidden: float = math.nan


@pytest.mark.parametrize("beside", [1, 2**70])
def test_what_orjson_writes_by_itself_is_written_beside_long_integers_too(beside: int) -> None:
    at, number = datetime(2030, 1, 31, 8, tzinfo=UTC), UUID(int=1)
    document = {"at": at, "id": number, "point": Point(1.5), "colour": Colour.RED, "beside": beside, "none": None}
    assert json_text.read(json_text.write(document)) == {
        "at": "2030-01-31T08:00:00+00:00", "id": str(number), "point": {"x": 1.5, "colour": "red"}, "colour": "red",
        "beside": beside, "none": None,
    }  # fmt: skip
    with pytest.raises(JsonError, match=r"payload\.point\.x is NaN"):
        json_text.write({**document, "point": Point(math.nan)}, "payload")


def test_default_says_what_to_write_for_other_objects() -> None:
    def listed(value: Any) -> Any:
        if isinstance(value, set):
            return sorted(value)
        raise TypeError("only sets, please")

    assert json_text.read(json_text.write({"s": {1, 2}, "n": None}, default=listed)) == {"s": [1, 2], "n": None}
    assert json_text.read(json_text.write({"s": {1, 2**70}}, default=listed)) == {"s": [1, 2**70]}
    with pytest.raises(JsonError, match=r"result\.s\[0\] is NaN"):
        json_text.write({"s": {math.nan}}, "result", default=listed)
    with pytest.raises(JsonError, match=r"result\.s cannot be written as JSON: only sets, please"):
        json_text.write({"s": object()}, "result", default=listed)


def test_an_answer_that_quotes_half_a_surrogate_pair_is_readable() -> None:
    assert json_text.read(json_text.encode({"detail": "what is 'a\ud800'?"})) == {"detail": "what is 'a\ufffd'?"}


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("not a word")


def test_anything_can_be_described() -> None:
    told = json_text.read(
        json_text.describe(
            {
                7: math.nan,
                "half": "\ud800",
                "long": 2**70,
                "object": {1},
                "mute": Mute(),
                "\udc00": 1,
                "plain": ["a", None],
            }
        )
    )
    assert told == {
        "7": "nan", "half": ascii("\ud800"), "long": 2**70, "object": "{1}", "mute": "<Mute>", ascii("\udc00"): 1,
        "plain": ["a", None],
    }  # fmt: skip
    assert json_text.describe({"a": 1, "b": Colour.RED}) == '{"a":1,"b":"red"}'
    deep = json_text.read(json_text.describe({"deep": nested(300)}))
    for _ in range(19):
        deep = deep["deep"] if isinstance(deep, dict) else deep[0]
    assert deep[0].startswith("[[[")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('[[1, "]"], {"a": [2]}, {"callbacks": null}]', '[[1, "]"], {"a": [2]}'),
        (" [ [] , {} , null ]", " [ [] , {}"),
        ('["\\"]", 2]', '["\\"]", 2'),
    ],
)
def test_the_first_items_of_a_list_are_found_without_reading_the_rest(text: str, first: str) -> None:
    assert text[: json_text.after_items(text, 2)] == first


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", "[[1],", "[1 2]", "x", "[" * 100_000])
def test_a_list_without_these_items_is_refused(text: str) -> None:
    with pytest.raises(JsonError):
        json_text.after_items(text, 2)
