"""The checks on a submission that all front doors share."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from celeriac.errors import InvalidSubmissionError, PayloadTooLargeError
from celeriac.model import Delivery, Submission
from celeriac.settings import Settings
from celeriac.tasks.catalog import KnownTypes, announced_type
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import read_request
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.submission import build_submission
from celeriac.tasks.task_type import TaskType


class Thumbnail(BaseModel):
    path: str
    width: int = 100


REGISTRY = Registry(
    [
        TaskType("echo", TypeAdapter(dict[str, Any])),
        TaskType(
            "thumbnail",
            TypeAdapter(Thumbnail),
            group="media",
            retry=RetryPolicy(max_retries=7),
            timeout_s=30.0,
        ),
    ]
)


def submit(settings: Settings | None = None, /, **fields: Any) -> Submission:
    request = read_request({"type": "echo", "payload": {}, **fields})
    return build_submission(request, settings or Settings(), REGISTRY)


def refusal(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSubmissionError) as caught:
        submit(**fields)
    return {violation.field: violation.message for violation in caught.value.violations}


def test_what_is_left_out_comes_from_the_type() -> None:
    made = submit(type="thumbnail", payload={"path": "a.png"})
    assert (made.group, made.max_retries, made.timeout_ms, made.priority) == ("media", 7, 30_000, 0)
    assert UUID(made.task_id).version == 4
    assert made.payload == '{"path":"a.png"}'
    assert submit().group == "default"


def test_what_is_given_wins_over_the_type() -> None:
    made = submit(type="thumbnail", payload={"path": "a"}, queue="big", max_retries=0, timeout="2m", priority=9)
    assert (made.group, made.max_retries, made.timeout_ms, made.priority) == ("big", 0, 120_000, 9)


def test_null_means_left_out() -> None:
    names = ["queue", "max_retries", "priority", "delay", "run_at", "expires", "user_id", "metadata", "timeout"]
    made = submit(**dict.fromkeys(names))
    assert (made.group, made.max_retries, made.metadata) == ("default", 3, {})


@pytest.mark.parametrize(("text", "ms"), [(10, 10_000), (0, 0), (0.25, 250), ("10s", 10_000), ("500ms", 500)])
def test_a_delay_is_seconds_or_a_duration(text: object, ms: int) -> None:
    assert submit(delay=text).delay_ms == ms


def test_moments_become_milliseconds_whatever_their_zone() -> None:
    wanted = int(datetime(2030, 1, 31, 8, tzinfo=UTC).timestamp() * 1000)
    assert submit(run_at="2030-01-31T08:00:00Z").run_at_ms == wanted
    assert submit(run_at="2030-01-31T10:00:00+02:00").run_at_ms == wanted
    assert submit(expires="2030-01-31t08:00:00z").expires_at_ms == wanted


def test_expires_is_a_duration_or_a_moment() -> None:
    assert submit(expires=60).expires_in_ms == 60_000
    assert submit(expires="1h").expires_in_ms == 3_600_000
    assert submit(expires="1h").expires_at_ms is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"type": "thumbnial"}, "type", "did you mean thumbnail?"),
        ({"type": "quite other"}, "type", "known are: echo, thumbnail"),
        ({"type": ""}, "type", "at least 1 character"),
        ({"type": 5}, "type", "valid string"),
        ({"type": "a\ud800"}, "type", ""),
        ({"payload": [1]}, "payload", "must be a JSON object"),
        ({"payload": {"a": "\ud800"}}, "payload.a", "half of a surrogate pair"),
        ({"payload": {"a": 10**400}}, "payload.a", "the largest number that every reader of JSON holds"),
        ({"payload": {"a": [1, float("nan")]}}, "payload.a[1]", "is NaN; JSON has no such number"),
        ({"metadata": {"a": float("inf")}}, "metadata.a", "is Infinity; JSON has no such number"),
        ({"queue": ""}, "queue", "is not a name for a group"),
        ({"queue": "a b"}, "queue", "is not a name for a group"),
        ({"queue": "a\n"}, "queue", "is not a name for a group"),
        ({"queue": "a" * 129}, "queue", "is not a name for a group"),
        ({"max_retries": -1}, "max_retries", "greater than or equal to 0"),
        ({"max_retries": 1001}, "max_retries", "less than or equal to 1000"),
        ({"max_retries": True}, "max_retries", "integer"),
        ({"max_retries": "3"}, "max_retries", "integer"),
        ({"priority": 10}, "priority", "less than or equal to 9"),
        ({"priority": 1.5}, "priority", "integer"),
        ({"priority": True}, "priority", "integer"),
        ({"delay": -1}, "delay", "greater than or equal to 0"),
        ({"delay": "soon"}, "delay", "is not a duration"),
        ({"delay": True}, "delay", "is not a duration"),
        ({"delay": 1e300}, "delay", "less than or equal to"),
        ({"delay": "9" * 400 + "s"}, "delay", ""),
        ({"run_at": "2030-01-31T08:00:00"}, "run_at", "timezone"),
        ({"run_at": 1_900_000_000}, "run_at", "RFC 3339"),
        ({"run_at": "2030-01-31"}, "run_at", "RFC 3339"),
        ({"expires": 0}, "expires", "above zero"),
        ({"expires": "T"}, "expires", "duration or an RFC 3339 moment"),
        ({"expires": []}, "expires", "above zero"),
        ({"timeout": 0}, "timeout", "greater than 0"),
        ({"user_id": ""}, "user_id", "at least 1 character"),
        ({"user_id": "a\x00b"}, "user_id", "printable"),
        ({"user_id": "u" * 257}, "user_id", "at most 256"),
        ({"metadata": "x"}, "metadata", "must be a JSON object"),
        ({"metadata": {"a": "x" * 16_384}}, "metadata", "above the limit of 16384"),
        ({"paylod": {}}, "paylod", "did you mean payload?"),
        ({"zzz": {}}, "zzz", "known are: type, payload"),
        ({"k" * 5000: {}}, "k" * 100 + "…", "there is no such field"),
        ({"delay": 1, "run_at": "2030-01-31T08:00:00Z"}, "", "exclude each other"),
        ({"delay": 10, "expires": 5}, "", "never run"),
    ],
)
def test_a_field_that_does_not_fit_is_named(fields: dict[str, Any], field: str, words: str) -> None:
    assert words in refusal(**fields)[field]


def test_a_user_id_may_be_a_whole_number() -> None:
    document = {"type": "thumbnail", "payload": {"path": "a", "width": 1}}
    assert read_request({**document, "user_id": 7}).user_id == "7"
    for wrong in (True, 7.5, [7]):
        assert "string" in refusal(user_id=wrong)["user_id"]


def test_a_payload_field_that_does_not_fit_its_type_has_a_dotted_path() -> None:
    assert "payload.width" in refusal(type="thumbnail", payload={"path": "a", "width": "wide"})
    assert "payload.path" in refusal(type="thumbnail", payload={})


def test_what_is_wrong_is_named_together_and_the_payload_may_be_left_out() -> None:
    with pytest.raises(InvalidSubmissionError) as caught:
        read_request({"payload": None})
    assert [v.field for v in caught.value.violations] == ["type", "payload"]
    assert read_request({"type": "x"}).payload == {}


@pytest.mark.parametrize("document", [None, [], "text", 5])
def test_only_an_object_is_a_submission(document: object) -> None:
    with pytest.raises(InvalidSubmissionError, match="JSON object"):
        read_request(document)


def test_a_payload_nested_too_deep_is_refused_not_a_crash() -> None:
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    refused = refusal(payload={"a": nested})
    assert list(refused.values()) == ["is nested more than 254 levels deep"]
    assert next(iter(refused)).startswith("payload.a[0][0][0]")


def test_a_payload_above_the_body_limit_is_too_large() -> None:
    with pytest.raises(PayloadTooLargeError):
        submit(Settings(max_body_bytes=1000), payload={"a": "x" * 1000})


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\n"])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    request = read_request({"type": "echo", "payload": {}})
    with pytest.raises(InvalidSubmissionError) as caught:
        build_submission(request, Settings(), REGISTRY, idempotency_key=key)
    assert caught.value.violations[0].field == "idempotency_key"


def test_delivery_follows_the_group_and_the_broker() -> None:
    assert submit().delivery is Delivery.CELERY
    foreign = Settings.model_validate({"groups": {"video": {"processor": "external"}}})
    assert submit(foreign, queue="video").delivery is Delivery.EXTERNAL
    assert submit(foreign).delivery is Delivery.CELERY
    assert submit(Settings(broker_url="amqp://localhost")).delivery is Delivery.BROKER
    same = Settings(redis_url="redis://localhost/0", broker_url="redis://localhost/0")
    assert submit(same).delivery is Delivery.CELERY


def test_an_announced_type_takes_any_object_and_its_own_policies() -> None:
    known = KnownTypes(REGISTRY, {"remote": {"group": "gpu", "max_retries": 9, "timeout_s": 5}, "echo": {"group": "x"}})
    made = build_submission(read_request({"type": "remote", "payload": {"any": [1]}}), Settings(), known)
    assert (made.group, made.max_retries, made.timeout_ms) == ("gpu", 9, 5000)
    local = build_submission(read_request({"type": "echo", "payload": {}}), Settings(), known)
    assert local.group == "default", "a type of this process comes first"
    assert [t.name for t in known] == ["echo", "remote", "thumbnail"]


def test_a_strange_announcement_is_read_as_far_as_it_goes() -> None:
    odd = announced_type("odd", {"group": 5, "max_retries": "many", "timeout_s": [], "description": None})
    assert (odd.group, odd.retry.max_retries, odd.timeout_s) == ("default", 3, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["queue", "max_retries", "priority", "delay", "run_at", "expires", "metadata", "x"]), JSON
    ),
    JSON,
)
def test_no_document_raises_anything_but_a_refusal(fields: dict[str, Any], payload: Any) -> None:
    with contextlib.suppress(InvalidSubmissionError, PayloadTooLargeError):
        submit(**fields, payload=payload)
