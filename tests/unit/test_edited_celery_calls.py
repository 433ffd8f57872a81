"""An edit of a definition that calls a plain Celery task changes what it names in the message that Celery made."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from celeriac.errors import InvalidSubmissionError
from celeriac.schedules.celery_calls import edited_template, is_celery_call
from celeriac.settings import Settings
from celeriac.tasks.key_source import PayloadPath
from celeriac.tasks.request import read_request

EMBED = {"callbacks": [{"task": "next"}], "errbacks": None, "chain": None, "chord": None}


def template(content_type: str = "application/json") -> dict[str, Any]:
    message = {
        "headers": {
            "retries": 0,
            "id": "celeriac-instance-id",
            "argsrepr": "(1,)",
            "timelimit": [None, 8],
            "tenant": "t",
        },
        "body": base64.b64encode(json.dumps([[1], {}, EMBED]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "properties": {"delivery_info": {"exchange": "", "routing_key": "shop"}, "priority": 0},
    }
    return {
        "type": "shop.add",
        "payload": '{"args":[1],"kwargs":{}}',
        "group": "shop",
        "priority": 9,
        "max_retries": 3,
        "expires_in_ms": 5000,
        "timeout_ms": None,
        "metadata": {},
        "tags": [],
        "delivery": "celery",
        "celery_message": json.dumps(message),
    }


def edited(before: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    document = {"type": "shop.add", "payload": {"args": [1], "kwargs": {}}, **fields}
    after = edited_template(before, read_request(document), Settings(redis_url="redis://localhost/0"))
    return after, json.loads(after["celery_message"])


def test_other_arguments_have_another_key_unless_the_edit_names_one() -> None:
    source = PayloadPath(("kwargs.customer", "args.0"))
    before = {**template(), "key": "1", "cost": 2}

    def key_after(**fields: Any) -> tuple[Any, Any]:
        document = {"type": "shop.add", "payload": {"args": [1], "kwargs": {}}, **fields}
        settings = Settings(redis_url="redis://localhost/0")
        after = edited_template(before, read_request(document), settings, source)
        return after["key"], after["cost"]

    assert key_after() == ("1", 2)
    assert key_after(payload={"args": [7], "kwargs": {}}) == ("7", 2)
    assert key_after(payload={"args": [7], "kwargs": {}}, key="mine", cost=3) == ("mine", 3)
    with pytest.raises(InvalidSubmissionError, match=r"payload\.kwargs\.customer has 0 characters"):
        key_after(payload={"args": [""], "kwargs": {}})


def test_other_arguments_are_in_the_message_and_its_callbacks_stay() -> None:
    after, message = edited(template(), payload={"args": [2], "kwargs": {"b": 3}}, expires=60)
    assert json.loads(base64.b64decode(message["body"])) == [[2], {"b": 3}, EMBED]
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("(2,)", "{'b': 3}")
    assert (message["headers"]["tenant"], message["headers"]["id"]) == ("t", "celeriac-instance-id")
    assert (json.loads(after["payload"]), after["expires_in_ms"]) == ({"args": [2], "kwargs": {"b": 3}}, 60_000)


def test_another_queue_priority_and_limit_are_in_both() -> None:
    after, message = edited(template(), queue="slow", priority=2, timeout=30)
    assert (after["group"], after["priority"], after["timeout_ms"]) == ("slow", 2, 30_000)
    assert message["properties"] == {"delivery_info": {"exchange": "", "routing_key": "slow"}, "priority": 7}
    hard, soft = message["headers"]["timelimit"]
    assert hard > 30, "the pool kills later than the record's limit"
    assert soft == 8


def test_arguments_that_are_not_json_stay_as_they_are() -> None:
    before = template("application/x-python-serialize")
    after, message = edited(before, queue="slow")
    assert message["body"] == json.loads(before["celery_message"])["body"]
    assert after["group"] == "slow"
    with pytest.raises(InvalidSubmissionError, match="change the arguments there"):
        edited(before, payload={"args": [2], "kwargs": {}})


@pytest.mark.parametrize("payload", [{}, {"args": [1]}, {"args": {}, "kwargs": {}}, {"args": [], "kwargs": {}, "x": 1}])
def test_a_payload_of_another_form_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidSubmissionError, match="it calls a Celery task"):
        edited(template(), payload=payload)


def test_another_task_is_not_the_same_call() -> None:
    assert is_celery_call(template(), {"type": "shop.add"})
    assert not is_celery_call(template(), {"type": "shop.bill"})
    assert not is_celery_call({**template(), "celery_message": None}, {"type": "shop.add"})
    assert not is_celery_call(None, {"type": "shop.add"})
