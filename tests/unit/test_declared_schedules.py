"""`cron`, `every` and `@task(schedule=...)`: what they take, and what they say of what they do not take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from celeriac import cron, every, task
from celeriac.errors import SettingsError
from celeriac.tasks.registry import registry
from celeriac.tasks.task_type import TaskType


class Order(BaseModel):
    number: int
    lines: list[str] = []


@dataclass
class Parcel:
    number: int


class Login(BaseModel):
    password: SecretStr


def type_with(handler: Callable[..., Any], schedule: Any) -> TaskType:
    """Return the type that `@task` makes, without keeping it."""
    made = task("declared", schedule=schedule)(handler)
    registry._types.pop("declared")
    return made


def order(payload: Order) -> None: ...
def parcel(payload: Parcel) -> None: ...
def login(payload: Login) -> None: ...
def number(number: int) -> None: ...
def nothing() -> None: ...


@pytest.mark.parametrize("interval", [90, 90.0, "90", "90s", "1m30s", timedelta(seconds=90)])
def test_an_interval_is_written_as_people_do(interval: Any) -> None:
    assert every(interval).fields["trigger_args"] == {"interval": 90}


def test_policies_and_the_offset_are_those_of_definitions() -> None:
    made = every("1h", offset="10m", overlap="skip", misfire="fire_all", jitter="30s", name="hourly")
    assert made.fields == {
        "trigger_args": {"interval": 3600, "offset": 600},
        "overlap": "skip",
        "misfire": "fire_all",
        "jitter": 30,
    }


@pytest.mark.parametrize(
    ("handler", "payload", "stored"),
    [
        (nothing, None, {}),
        (number, {"number": 3}, {"number": 3}),
        (order, Order(number=3), {"number": 3, "lines": []}),
        (order, {"number": 3}, {"number": 3}),
        (parcel, Parcel(3), {"number": 3}),
    ],
)
def test_a_payload_may_be_a_mapping_a_model_or_a_dataclass(
    handler: Callable[..., Any], payload: Any, stored: dict[str, Any]
) -> None:
    (one,) = type_with(handler, every("30s", payload=payload)).schedules
    assert one.payload == stored


def test_a_type_may_have_several_schedules_or_none() -> None:
    made = type_with(nothing, [every("30s"), cron("@daily", timezone="Europe/Berlin")])
    assert [one.fields["trigger_args"] for one in made.schedules] == [
        {"interval": 30},
        {"cron": "@daily", "timezone": "Europe/Berlin"},
    ]
    assert type_with(nothing, None).schedules == type_with(nothing, []).schedules == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: every("soon"), "every('soon'): interval: must be a duration above zero"),
        (lambda: every(0), "every(0): interval: must be a duration above zero"),
        (lambda: every(30, offset="1m"), "every(30): offset: must be a duration from zero to below the interval"),
        (lambda: every(30, overlap="never"), "every(30): overlap: Input should be 'allow', 'skip'"),
        (lambda: every(30, name=""), "every(30): name='' is not a name"),
        (lambda: cron("0 8 * *"), "cron('0 8 * *'): cron: has 4 fields; write five"),
        (lambda: cron("0 0 30 2 *"), "cron('0 0 30 2 *'): cron: '0 0 30 2 *' is not a cron expression"),
        (lambda: cron("@daily", timezone="Mars"), "cron('@daily'): timezone: unknown time zone 'Mars'"),
        (lambda: type_with(nothing, "30s"), "task type 'declared': schedule='30s' is not a schedule: write"),
        (lambda: type_with(nothing, [every(1), 2]), "task type 'declared': schedule=[Schedule("),
        (lambda: type_with(number, every(30)), "'declared': schedule=every(30): payload.number: is required (write "),
        (
            lambda: type_with(number, every(30, payload={"number": "x"})),
            "'declared': schedule=every(30): payload.number: Input should be a valid integer",
        ),
        (
            lambda: type_with(nothing, [every(1, name="a"), every(2, name="a")]),
            "task type 'declared': two schedules have the same name",
        ),
        (lambda: type_with(nothing, every(1, payload={"x": object()})), "cannot be written as JSON"),
        (lambda: type_with(login, every(1, payload=Login(password=SecretStr("x")))), "must be a dict here"),
    ],
)
def test_what_cannot_be_used_is_refused_where_it_is_written(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make()
    assert said in str(refused.value)


def test_a_type_whose_schedule_is_refused_is_not_registered() -> None:
    with pytest.raises(SettingsError):
        type_with(number, every(30))
    assert "declared" not in registry
