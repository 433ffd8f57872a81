"""What is wrong with an input is told briefly, however much is wrong."""

from __future__ import annotations

from itertools import count, product
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from celeriac.errors import MAX_VIOLATIONS, InvalidSubmissionError, Violation
from celeriac.schedules.request import read_definition, read_trigger
from celeriac.settings import Settings
from celeriac.task_filter import read_filter
from celeriac.tasks.registry import registry
from celeriac.tasks.request import read_batch_item, read_request
from celeriac.tasks.submission import build_submission
from celeriac.tasks.task_type import TaskType
from celeriac.tasks.types import file_process  # noqa: F401 - its task type
from celeriac.violations import nearest, no_such, suggested


class Numbers(BaseModel, extra="forbid"):
    numbers: list[int] = []


TYPE = TaskType("violations_test.numbers", TypeAdapter(Numbers))


def many(number: int, length: int = 10) -> dict[str, Any]:
    return {f"{place:0{length}}": place for place in range(number)}


def payload(options: dict[str, Any], processor: str = "thumbnail") -> Any:
    request = read_request(
        {"type": "file_process", "payload": {"path": "/x", "processor": processor, "options": options}}
    )
    return build_submission(request, Settings(), registry)


DOORS = {
    "submission": lambda fields: read_request({"type": "x", "payload": {}, **fields}),
    "batch": lambda fields: read_batch_item({"type": "x", "payload": {}, **fields}),
    "definition": lambda fields: read_definition({"user_id": 1, "trigger_type": "IMMEDIATE", **fields}),
    "trigger": lambda fields: read_trigger({"trigger_type": "IMMEDIATE", **fields}),
    "filter": read_filter,
    "options": payload,
    "payload": lambda fields: TYPE.validate(fields),
    "values": lambda fields: TYPE.validate({"numbers": list(fields)}),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    # 300,000 long names are more than a body holds.
    ("number", "length"),
    [*product([1, 19, 20, 21, 60, 3000], [10, 300]), (300_000, 10)],
)
def test_a_refusal_is_short_however_much_is_wrong(door: str, number: int, length: int) -> None:
    fields = {f"{'x' * (length - 6)}{place:06}": place for place in range(number)}
    with pytest.raises(InvalidSubmissionError) as refused:
        DOORS[door](fields)
    violations = refused.value.violations
    assert len(violations) <= MAX_VIOLATIONS + 1
    assert len(str(refused.value)) < 30_000
    assert all(len(violation.field) <= 220 for violation in violations)
    if number > 50:
        assert any(
            str(word) in str(refused.value)
            for word in (number, number + 1, number + 2, number + 3, number - MAX_VIOLATIONS)
        )


def test_what_was_told_before_is_not_counted_again() -> None:
    error = InvalidSubmissionError([Violation(f"f{place}", "is wrong") for place in range(100)])
    assert error.violations[-1] == Violation("", "and 80 more")
    assert InvalidSubmissionError(error.violations).violations == error.violations
    assert error.brief().violations == (Violation("f0", "is wrong"), Violation("", "and 99 more"))
    assert error.brief().brief().violations == error.brief().violations


def test_long_texts_of_callers_are_cut() -> None:
    error = InvalidSubmissionError([Violation("f" * 10**6, "m" * 10**6)])
    assert len(str(error)) < 1500


def test_a_near_name_is_suggested_and_a_long_one_is_not_compared() -> None:
    assert no_such("field", "pririty", ["priority", "queue"]) == "there is no such field; did you mean priority?"
    assert nearest("q" * 65, ["q" * 64]) is None
    assert suggested("queu", ["queue"]) == ["queue"]


def test_suggestions_take_only_a_part_of_the_time() -> None:
    known = [f"{'ab' * 20}{place}" for place in range(500)]
    asked = next(place for place in count() if not suggested(f"{'ab' * 22}{place}", known) or place == 10_000)
    assert asked < 10_000, "callers cannot keep the process busy with names that do not exist"
