"""Where keys come from: a path of the payload, or a function of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.settings import Settings
from celeriac.tasks.catalog import announced_type
from celeriac.tasks.key_source import PayloadPath, announced_path, key_source
from celeriac.tasks.registry import Registry, registry, task
from celeriac.tasks.request import read_request
from celeriac.tasks.submission import build_submission
from celeriac.tasks.task_type import TaskType


class Customer(BaseModel):
    id: int
    secret: SecretStr = SecretStr("")
    parent: Customer | None = None


class Order(BaseModel):
    customer: Customer
    area: str = "north"
    seller: Annotated[str | None, Field(alias="soldBy")] = None
    more: dict[str, Any] = {}


PAYLOAD = {"customer": {"id": 7, "parent": {"id": 3}}, "soldBy": "ann", "more": {"deep": {"er": "x"}, "list": ["a"]}}


@pytest.fixture(autouse=True)
def _own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_types", {})


def order_type(key: Any) -> TaskType:
    @task("order", key=key)
    async def order(payload: Order) -> None: ...

    return order


def key_of(known: TaskType, payload: dict[str, Any] | None = None, **fields: Any) -> str | None:
    request = read_request({"type": known.name, "payload": PAYLOAD if payload is None else payload, **fields})
    return build_submission(request, Settings(), Registry([known])).key


def refusal(known: TaskType, payload: dict[str, Any] | None = None, **fields: Any) -> str:
    with pytest.raises(InvalidSubmissionError) as caught:
        key_of(known, payload, **fields)
    (violation,) = caught.value.violations
    assert violation.field == "key"
    return violation.message


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("customer.id", "7"),
        ("customer.parent.id", "3"),
        ("customer.parent.parent.id", None),
        ("area", "north"),
        ("soldBy", "ann"),
        ("more.deep.er", "x"),
        ("more.list.0", "a"),
        ("more.list.1", None),
        ("more.nothing", None),
    ],
)
def test_a_path_gives_the_same_key_here_and_where_only_workers_have_the_type(path: str, key: str | None) -> None:
    known = order_type(path)
    assert key_of(known) == key
    assert isinstance(known.key, PayloadPath)
    elsewhere = announced_type("order", {"schema": known.json_schema(), "key": known.key.announced()})
    assert key_of(elsewhere) == key


def test_a_key_of_the_caller_wins() -> None:
    assert key_of(order_type("customer.id"), key="mine") == "mine"
    assert key_of(order_type(lambda _: 1 / 0), key="mine") == "mine"


def test_a_function_gets_the_validated_payload() -> None:
    assert key_of(order_type(lambda order: order.customer.id + 1)) == "8"
    assert key_of(order_type(lambda order: None)) is None
    assert key_of(order_type(lambda order: UUID(int=1))) == str(UUID(int=1))


def test_a_parameter_may_be_the_key() -> None:
    @task("fields", key="customer")
    async def fields(customer: int, area: str = "north") -> None: ...

    assert key_of(fields, {"customer": 7}) == "7"

    @task("computed", key=lambda given: given["customer"])
    async def computed(customer: int) -> None: ...

    assert key_of(computed, {"customer": 7}) == "7"


def test_what_cannot_be_a_key_is_refused_with_its_place() -> None:
    assert refusal(order_type("customer")) == "payload.customer is of the type dict: a key is a text or a whole number"
    assert "payload.area has 0 characters" in refusal(order_type("area"), {**PAYLOAD, "area": ""})
    assert "cannot be printed" in refusal(order_type("area"), {**PAYLOAD, "area": "a\nb"})
    assert "is of the type bool" in refusal(order_type(lambda _: True))
    assert "has 129 characters" in refusal(order_type(lambda _: "a" * 129))
    assert "failed: ZeroDivisionError: division by zero" in refusal(order_type(lambda _: 1 / 0))


def test_a_function_has_nothing_to_compute_from_while_results_are_missing() -> None:
    refers = {"customer": {"$result": "parent"}}
    fields = {"depends_on": ["parent"]}
    assert "are not there yet" in refusal(order_type(lambda order: order.customer.id), refers, **fields)
    assert key_of(order_type("area"), refers, **fields) == "north"
    assert key_of(order_type(lambda order: order.customer.id), refers, key="c7", **fields) == "c7"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("custmer", "its payload has no field 'custmer'; did you mean 'customer'"),
        ("customer.idd", "the field 'customer' of its payload has no field 'idd'"),
        ("customer.secret", "is a secret"),
        ("customer..id", "is not a path"),
        ("", "is not a path"),
        (7, "is neither a path"),
    ],
)
def test_a_key_that_can_never_be_found_is_refused_with_the_type(key: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        order_type(key)


def test_an_async_function_is_refused_with_the_type() -> None:
    async def later(order: Order) -> str:
        return "c7"

    with pytest.raises(SettingsError, match="not async"):
        order_type(later)


def test_a_path_of_a_payload_without_a_schema_is_taken_as_it_is() -> None:
    source = key_source("any", "a.b", TypeAdapter(dict[str, Any]))
    assert isinstance(source, PayloadPath)
    assert source.found({"a": {"b": 1}}, None) == 1


@pytest.mark.parametrize("about", [None, 7, {}, {"paths": []}, {"paths": [7]}, {"paths": "customer"}, {"paths": [""]}])
def test_an_announcement_of_another_version_is_no_path(about: object) -> None:
    assert announced_path(about) is None


def test_a_typed_call_takes_its_key_along() -> None:
    known = order_type(lambda order: order.customer.id)
    assert known.new_task((PAYLOAD,), {}).get("key") == "7"
    assert known.new_task((PAYLOAD,), {}, {"key": "mine"}).get("key") == "mine"
