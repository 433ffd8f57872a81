"""What a call of a type means: its payload as JSON, what is refused in words, and how its result is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr
from typing_extensions import TypedDict

from celeriac import Context, TaskType, task
from celeriac.calling.options import to_json
from celeriac.client.inputs import new_task_of
from celeriac.errors import InvalidResultError, InvalidSubmissionError, TaskFailedError
from celeriac.model import Failure, Status, Task
from celeriac.tasks.registry import Registry
from celeriac.tasks.registry import registry as process_registry


@pytest.fixture(autouse=True)
def _types_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_registry, "_types", dict(process_registry._types))


class Report(BaseModel):
    customer: int
    pages: int = 10


class Login(BaseModel):
    user: str = Field(alias="userName")
    password: SecretStr
    keys: list[SecretBytes] = []


@dataclass
class Order:
    number: int
    day: date | None = None


class Line(TypedDict):
    text: str


def parts(ctx: Context, customer: int, pages: int = 10, *, day: date | None = None) -> None: ...


def between(customer: int, ctx: Context, pages: int = 10) -> None: ...


def model(ctx: Context, report: Report) -> None: ...


def login(ctx: Context, login: Login) -> None: ...


def data(order: Order) -> None: ...


def typed_dict(ctx: Context, line: Line) -> None: ...


def anything(payload: dict[str, Any], ctx: Context) -> None: ...


def orders(orders: list[Order], by: Report) -> None: ...


def nothing() -> None: ...


def nothing_but_context(ctx: Context) -> None: ...


def odd(moment: datetime, span: timedelta, price: Decimal, path: Path, uid: UUID, some: set[int]) -> None: ...


def named(type: str, self: int, payload: int) -> None: ...


MEANT: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (parts, (7,), {}, {"customer": 7}),
    (parts, (7, 3), {}, {"customer": 7, "pages": 3}),
    (parts, (), {"pages": 3, "customer": 7}, {"pages": 3, "customer": 7}),
    (parts, (7,), {"day": date(2030, 1, 31)}, {"customer": 7, "day": "2030-01-31"}),
    (parts, ({"customer": 7},), {}, {"customer": 7}),
    (parts, (Report(customer=7),), {}, {"customer": 7, "pages": 10}),
    (between, (7, 3), {}, {"customer": 7, "pages": 3}),
    (model, (Report(customer=7),), {}, {"customer": 7, "pages": 10}),
    (model, (), {"report": Report(customer=7)}, {"customer": 7, "pages": 10}),
    (model, ({"customer": 7},), {}, {"customer": 7}),
    (
        login,
        (Login(userName="ann", password=SecretStr("s3cret"), keys=[SecretBytes(b"k")]),),
        {},
        {"userName": "ann", "password": "s3cret", "keys": ["k"]},
    ),
    (data, (Order(7, date(2030, 1, 31)),), {}, {"number": 7, "day": "2030-01-31"}),
    (data, ({"number": 7},), {}, {"number": 7}),
    (typed_dict, ({"text": "a"},), {}, {"text": "a"}),
    (anything, ({"a": [Report(customer=7), Order(7)]},), {},
     {"a": [{"customer": 7, "pages": 10}, {"number": 7, "day": None}]}),
    (anything, (Report(customer=7),), {}, {"customer": 7, "pages": 10}),
    (orders, ([Order(7)],), {"by": Report(customer=7)},
     {"orders": [{"number": 7, "day": None}], "by": {"customer": 7, "pages": 10}}),
    (nothing, (), {}, {}),
    (nothing_but_context, (), {}, {}),
    (odd, (datetime(2030, 1, 31, tzinfo=UTC), timedelta(minutes=1), Decimal("1.50"), Path("/a"), UUID(int=7), {1}), {},
     {"moment": "2030-01-31T00:00:00+00:00", "span": 60.0, "price": "1.50", "path": "/a",
      "uid": "00000000-0000-0000-0000-000000000007", "some": [1]}),
    (named, (), {"type": "t", "self": 1, "payload": 2}, {"type": "t", "self": 1, "payload": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs", "payload"), MEANT)
def test_a_call_means_this_payload(
    function: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], payload: dict[str, Any]
) -> None:
    made: TaskType = task(function)
    meant = made.new_task(args, kwargs)
    assert (meant["type"], meant["payload"]) == (function.__name__, payload)
    # A client takes the same, and what it sends is what the handler gets.
    assert new_task_of(made, args, kwargs)[0] == meant
    made.validate(payload, submitted=True)


WRONG: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (parts, (), {}, TypeError,
     "parts: missing a required argument: 'customer'; it is called as parts(customer: int, pages: int = 10, *, "
     "day: datetime.date | None = None)"),
    (parts, (), {"custmer": 7}, TypeError, "parts: got an unexpected keyword argument 'custmer'; it is called as "),
    (parts, (7, 3, 1), {}, TypeError, "parts: too many positional arguments; "),
    (parts, (7,), {"customer": 7}, TypeError, "parts: multiple values for argument 'customer'; "),
    (parts, ("x",), {}, InvalidSubmissionError, "payload.customer: Input should be a valid integer"),
    (parts, ({"custmer": 7},), {}, InvalidSubmissionError, "payload.custmer: there is no such field"),
    (parts, (object(),), {}, InvalidSubmissionError, "payload.customer: is of type object, which cannot be written"),
    (parts, (float("nan"),), {}, InvalidSubmissionError, "payload.customer: is NaN"),
    (model, ({"customer": "x"},), {}, InvalidSubmissionError, "payload.customer: Input should be a valid integer"),
    (model, (), {"customer": 7}, TypeError, "it is called as model(report: "),
    (model, (7,), {}, InvalidSubmissionError, "payload: "),
    (nothing, (1,), {}, TypeError, "nothing: too many positional arguments; it takes no arguments"),
    (nothing, ({},), {}, TypeError, "it takes no arguments"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs", "kind", "words"), WRONG)
def test_a_call_that_does_not_fit_is_refused_in_words(
    function: Callable[..., None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    made: TaskType = task(function)
    for call in (made.new_task, lambda args, kwargs: new_task_of(made, args, kwargs), made.options(queue="x").new_task):
        with pytest.raises(kind) as caught:
            call(args, kwargs)
        assert words in str(caught.value)


def test_options_are_checked_and_a_later_one_replaces_an_earlier_one() -> None:
    made: TaskType = task(nothing)
    both = made.options(queue="a", priority=1, depends_on=["x", made_handle("y")]).options(queue="b", delay="10m")
    meant = both.new_task((), {})
    assert {name: value for name, value in meant.items() if value is not None} == {
        "type": "nothing",
        "payload": {},
        "queue": "b",
        "priority": 1,
        "delay": "10m",
        "depends_on": ["x", "y"],
    }
    assert repr(made) == "<TaskType nothing()>"
    assert repr(both).startswith("<nothing with queue='b', priority=1, depends_on=['x', ")
    for options, kind, words in (
        ({"prio": 1}, TypeError, "there is no option 'prio' for a task; did you mean priority?"),
        ({"group": "a"}, TypeError, "did you mean queue?"),
        ({"priority": 10}, InvalidSubmissionError, "priority"),
        ({"delay": "soon"}, InvalidSubmissionError, "delay: 'soon' is not a duration"),
        ({"idempotency_key": "a b"}, InvalidSubmissionError, "idempotency_key: must be 1 to 255 visible ASCII"),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, InvalidSubmissionError, "exclude each other"),
        ({"run_at": datetime(2030, 1, 1)}, InvalidSubmissionError, "run_at"),
    ):
        with pytest.raises(kind, match=words.replace("?", r"\?")):
            made.options(**options).new_task((), {})


class made_handle:  # noqa: N801 - stands for a handle
    def __init__(self, task_id: str) -> None:
        self.id = task_id


def test_a_name_takes_one_payload() -> None:
    assert new_task_of("x", ({"a": 1},), {"delay": 1})[0] == {"type": "x", "payload": {"a": 1}, "delay": 1}
    assert new_task_of("x", (), {})[0] == {"type": "x"}
    for wrong in (lambda: new_task_of("x", (1, 2), {}), lambda: new_task_of("x", (1,), {"payload": 2})):
        with pytest.raises(TypeError, match="payload"):
            wrong()
    with pytest.raises(TypeError, match="is not a type of tasks: pass its name, or what the decorator"):
        new_task_of(parts, (), {})  # type: ignore[arg-type]


def ended(result: Any, status: Status = Status.COMPLETED) -> Task:
    fields: dict[str, Any] = dict.fromkeys(Task.__dataclass_fields__)
    error = Failure("c", "m", False) if status is Status.FAILED else None
    return Task(**{**fields, "task_id": "t", "type": "x", "status": status, "result": result, "error": error})


UNKNOWN = object()
RESULTS: list[tuple[Any, Any, Any]] = [
    (Report, {"customer": 7, "pages": 10}, Report(customer=7)),
    (list[Report], [{"customer": 7}], [Report(customer=7)]),
    (Order, {"number": 7, "day": "2030-01-31"}, Order(7, date(2030, 1, 31))),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2], {1, 2}),
    (dict[int, date], {"7": "2030-01-31"}, {7: date(2030, 1, 31)}),
    (timedelta, "PT60S", timedelta(minutes=1)),
    (Decimal, "1.50", Decimal("1.50")),
    (Report | None, None, None),
    (None, None, None),
    (Any, {"a": 1}, {"a": 1}),
    (UNKNOWN, {"a": 1}, {"a": 1}),
]


@pytest.mark.parametrize(("hint", "result", "value"), RESULTS)
def test_a_result_is_what_the_function_says(hint: Any, result: Any, value: Any) -> None:
    def returns() -> Any: ...

    returns.__annotations__ = {} if hint is UNKNOWN else {"return": hint}
    made: TaskType = task(returns)
    read = made.options(queue="x").reader()
    assert read(ended(result)) == value
    with pytest.raises(TaskFailedError):
        read(ended(None, Status.FAILED))


def test_a_result_of_another_type_is_named() -> None:
    def returns() -> Report: ...  # type: ignore[empty-body]

    made: TaskType = task(returns)
    with pytest.raises(
        InvalidResultError, match=r"the result of task 't' is not what 'returns' says .*result.customer"
    ):
        made.reader()(ended({"customer": "x"}))


def test_what_a_type_is_stays_when_it_is_replaced() -> None:
    made: TaskType = task(nothing)
    assert Registry([replace(made, group="other")]).get("nothing") == replace(made, group="other")
    assert to_json({"a": Order(1)}) == b'{"a":{"number":1,"day":null}}'
