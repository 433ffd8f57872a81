"""The payload of `grpc_task` as a front door checks it: no gRPC, no executor."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.errors import InvalidSubmissionError
from celeriac.settings import Settings
from celeriac.tasks.registry import Registry, registry
from celeriac.tasks.types.grpc_task import GRPC_TASK, GrpcTaskPayload, grpc_policy
from celeriac_tasks.grpc_task import install

SETTINGS = Settings.model_validate(
    {
        "grpc_services": {
            "services": {
                "plain": {"address": "h:1"},
                "own": {"address": "h:2", "max_retries": 7, "retry_delay": "250ms"},
            },
            "defaults": {"max_retries": 2, "retry_delay": "4s"},
        }
    }
)


def nested(levels: int, *, array: bool = False) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if array else {"a": value}
    return value


def fields(exc: InvalidSubmissionError) -> list[str]:
    return [violation.field for violation in exc.violations]


def test_left_out_and_null_parts_have_their_defaults() -> None:
    unset = {"timeout_ms": None, "enable_progress": None, "progress_interval_ms": None}
    for payload in ({}, {"data": None, "options": None}, {"options": unset}, {"extra": "ignored", "metadata": {}}):
        checked = GRPC_TASK.validate({"service": "plain", "method": "m", **payload})
        assert checked.data == {}
        assert checked.options.timeout_ms is None
        assert checked.options.enable_progress is True
        assert checked.options.progress_interval_ms is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"service": ""}, "payload.service"),
        ({"service": None}, "payload.service"),
        ({"method": ""}, "payload.method"),
        ({"method": 5}, "payload.method"),
        ({"data": [1]}, "payload.data"),
        ({"data": "text"}, "payload.data"),
        ({"data": {"a": 10**400}}, "payload.data"),
        ({"data": nested(40)}, "payload.data"),
        ({"data": {"a": nested(5000, array=True)}}, "payload.data"),
        ({"options": {"timeout_ms": 0}}, "payload.options.timeout_ms"),
        ({"options": {"timeout_ms": -1}}, "payload.options.timeout_ms"),
        ({"options": {"timeout_ms": True}}, "payload.options.timeout_ms"),
        ({"options": {"timeout_ms": 2**63}}, "payload.options.timeout_ms"),
        ({"options": {"timeout_ms": "5s"}}, "payload.options.timeout_ms"),
        ({"options": {"enable_progress": "no"}}, "payload.options.enable_progress"),
        ({"options": {"progress_interval_ms": -5}}, "payload.options.progress_interval_ms"),
        ({"options": {"timeout": 5}}, "payload.options.timeout"),
        ({"options": []}, "payload.options"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_field_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        GRPC_TASK.validate({"service": "plain", "method": "m", **wrong})
    assert fields(refused.value) == [field]


def test_service_and_method_are_required() -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        GRPC_TASK.validate({})
    assert fields(refused.value) == ["payload.service", "payload.method"]
    assert {violation.message for violation in refused.value.violations} == {"is required"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"data": 5}, "must be a JSON object"),
        ({"options": 5}, "must be a JSON object"),
        ({"options": {"timeout": 5}}, "there is no such field"),
        ({"dta": {}}, "there is no such field as 'dta'; did you mean data?"),
        ({"option": {}}, "there is no such field as 'option'; did you mean options?"),
        ({"data": nested(40)}, "is nested too deeply: about 30 objects, or 48 arrays, fit into each other"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_api(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        GRPC_TASK.validate({"service": "plain", "method": "m", **wrong}, submitted=True)
    assert refused.value.violations[0].message == text


def test_a_payload_that_was_accepted_once_is_run_whatever_its_further_keys_are_called() -> None:
    assert GRPC_TASK.validate({"service": "plain", "method": "m", "dta": {}}).data == {}
    assert GRPC_TASK.validate({"service": "plain", "method": "m", "date": 1, "metadata": {}}, submitted=True).data == {}


def test_retries_come_from_the_service_and_else_from_the_defaults() -> None:
    plain = grpc_policy(GrpcTaskPayload(service="plain", method="m"), SETTINGS)
    own = grpc_policy(GrpcTaskPayload(service="own", method="m"), SETTINGS)
    assert (plain.max_retries, plain.delay_s) == (2, 4.0)
    assert (own.max_retries, own.delay_s) == (7, 0.25)


@pytest.mark.parametrize(
    ("settings", "service", "text"),
    [
        (SETTINGS, "nobody", "known are: own, plain"),
        (Settings(), "nobody", "none is configured under grpc_services.services"),
        (
            Settings.model_validate({"grpc_services": {"enabled": False, "services": {"a": {"address": "h:1"}}}}),
            "a",
            "grpc_services.enabled is false",
        ),
    ],
)
def test_a_service_that_cannot_be_called_is_refused_and_the_text_says_why(
    settings: Settings, service: str, text: str
) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        GRPC_TASK.retry_policy(GrpcTaskPayload(service=service, method="m"), settings)
    assert fields(refused.value) == ["payload.service"]
    assert text in str(refused.value)


def test_the_type_is_known_without_a_handler_and_install_adds_an_async_one() -> None:
    known = registry.get("grpc_task")
    assert known is not None
    assert known.payload is GRPC_TASK.payload  # with a handler, where an earlier test made this process a worker
    assert GRPC_TASK.handler is None
    assert {"service", "method"} <= set(GRPC_TASK.json_schema()["required"])

    own = Registry([GRPC_TASK])
    handler = install(SETTINGS, own)
    installed = own.get("grpc_task")
    assert installed is not None
    assert installed.is_async
    assert installed.handler == handler.__call__
    install(SETTINGS, own)  # a second one takes its place
