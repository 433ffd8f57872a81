"""What lists call a task: a template over its payload, or the payload's first values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter

from celeriac.errors import SettingsError
from celeriac.tasks.catalog import announced_type
from celeriac.tasks.titles import TITLE_CHARACTERS, announced_title, title_of, title_template


class Customer(BaseModel):
    id: int
    name: str = "unknown"


class Order(BaseModel):
    order: int
    customer: Customer | None = None
    copies: int = 1
    token: SecretStr | None = None


PAYLOAD: TypeAdapter[Any] = TypeAdapter(Order)


def titled(template: str, payload: Any) -> str | None:
    return title_of(title_template("ship", template, PAYLOAD), payload)


@pytest.mark.parametrize(
    ("template", "payload", "title"),
    [
        ("order {order}", {"order": 1017}, "order 1017"),
        (
            "order {order} for {customer.name}",
            {"order": 1, "customer": {"id": 2, "name": "Ada  L."}},
            "order 1 for Ada L.",
        ),
        ("order {order} for {customer.name}", {"order": 1}, "order 1 for unknown"),
        ("{copies} copies of {order}", {"order": 1}, "1 copies of 1"),
        ("{{{order}}} is {order}", {"order": 1}, "{1} is 1"),
        ("{order}", {"order": None}, None),
        ("{order}", {"order": None, "copies": 3}, "copies 3"),
        ("{order}", {"order": [1, "two"]}, '[1,"two"]'),
        ("{order}", {"order": "x" * 500}, "x" * (TITLE_CHARACTERS - 1) + "…"),
        ("order {order}", "no object", "order"),
    ],
)
def test_a_template_takes_values_of_the_payload(template: str, payload: Any, title: str | None) -> None:
    assert titled(template, payload) == title
    announced = announced_title(json.loads(json.dumps(title_template("ship", template, PAYLOAD).announced())))  # type: ignore[union-attr]
    assert title_of(announced, payload) == title


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("order {ordr}", "did you mean 'order'"),
        ("for {customer.nmae}", "did you mean 'name'"),
        ("token {token}", "everybody sees the titles of tasks"),
        ("order {order:>10}", "without a format"),
        ("order {order!r}", "without a format"),
        ("order {}", "is not a path of the payload"),
        ("order {order", "write a brace that is none of a field twice"),
        ("  ", "is not a text"),
        ("x" * 501, "is not a text"),
        (7, "is not a text"),
    ],
)
def test_a_template_that_cannot_be_is_refused_where_it_is_written(template: Any, problem: str) -> None:
    with pytest.raises(SettingsError, match="title=") as refused:
        title_template("ship", template, PAYLOAD)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("payload", "title"),
    [
        ({"customer": 7, "pages": 10}, "customer 7 · pages 10"),
        ({"max_width": 7, "options": {"a": 1}, "tags": ["b"], "fast": True, "none": None}, "max width 7 · fast true"),
        ({"text": "one\n two " * 20}, "text one two one two one two one two one two…"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "a 1 · b 2 · c 3 · d 4"),
        ({"secret": "***", "name": "n"}, "name n"),
        ({"args": [1, "two", {"deep": 1}], "kwargs": {"n": 5}}, "1, two · n 5"),
        ({"args": [], "kwargs": {}}, None),
        ({"args": 5}, "args 5"),
        ({}, None),
        ([1, 2], None),
    ],
)
def test_without_a_template_the_first_values_are_the_title(payload: Any, title: str | None) -> None:
    assert title_of(None, payload) == title


@pytest.mark.parametrize("about", [None, "order", {}, [], [["text"]], [[1, None]], ["text"]])
def test_an_announcement_of_another_version_is_ignored(about: Any) -> None:
    assert announced_title(about) is None
    assert announced_type("ship", {"title": about}).title_template is None
