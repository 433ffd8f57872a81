"""The pure parts of the remote worker: pauses, messages, the queue of what is to be sent."""

from __future__ import annotations

import asyncio
import json

import pytest

from celeriac import RemoteWorker, SkipRetry, TaskError
from celeriac.errors import SettingsError
from celeriac.remote_worker import messages
from celeriac.remote_worker.backoff import TRY_LATER, pause_s
from celeriac.remote_worker.outbox import Outbox, Result


def test_pauses_grow_to_their_ceiling_and_are_spread_from_none_on() -> None:
    ceilings = [pause_s(failures, None, longest_s=30, random=1.0) for failures in range(8)]
    assert ceilings == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pause_s(5, None, longest_s=30, random=0.0) == 0
    assert pause_s(10_000, None, longest_s=30, random=1.0) == 30


def test_a_server_without_room_is_given_more_time() -> None:
    assert pause_s(0, TRY_LATER, longest_s=30, random=1.0) == 5


def test_a_result_that_is_no_json_says_what_to_return_instead() -> None:
    with pytest.raises(SkipRetry, match="return dicts, lists") as raised:
        messages.complete("t", {"x": object()}, 1, limit=1000)
    assert raised.value.code == "bad_result"


def test_a_result_above_the_limit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(SkipRetry, match="above the limit of 100"):
        messages.complete("t", "x" * 200, 1, limit=100)


def test_failures_carry_code_and_finality_where_the_handler_named_them() -> None:
    final = json.loads(messages.failed("t", SkipRetry("no such cat", code="no_cat"), 7))
    assert final == {
        "type": "task_error", "taskId": "t", "error": "no such cat", "code": "no_cat", "retryable": False, "duration": 7
    }  # fmt: skip
    assert "retryable" not in json.loads(messages.failed("t", TaskError("later"), 7))
    assert json.loads(messages.failed("t", ValueError("bad"), 7))["error"] == "ValueError: bad"


def test_ready_has_only_what_differs_from_the_plain_one() -> None:
    assert json.loads(messages.ready(1, (), None)) == {"type": "ready"}
    assert json.loads(messages.ready(4, ("m",), "n")) == {
        "type": "ready",
        "concurrency": 4,
        "models": ["m"],
        "name": "n",
    }


async def test_progress_that_waits_is_replaced_in_its_place() -> None:
    outbox = Outbox()
    outbox.put_progress("a", "10 %")
    outbox.put("between")
    outbox.put_progress("a", "20 %")
    assert [await outbox.take(), await outbox.take()] == ["20 %", "between"]


async def test_partial_results_wait_for_room_and_answers_do_not() -> None:
    outbox = Outbox(capacity=1)
    await outbox.put_delta("1")
    waiting = asyncio.create_task(outbox.put_delta("2"))
    await asyncio.sleep(0)
    outbox.put(Result("t", "answer", ok=True))
    assert not waiting.done()
    assert await outbox.take() == "1"
    assert await outbox.take() == Result("t", "answer", ok=True)
    await waiting
    assert await outbox.take() == "2"


async def test_an_answer_that_may_not_have_gone_out_is_given_back() -> None:
    outbox = Outbox()
    outbox.put(Result("sent", "", ok=True))
    outbox.put(Result("taken", "", ok=True))
    outbox.put("a message")
    outbox.put(Result("waiting", "", ok=False))
    await outbox.take()
    outbox.sent()
    await outbox.take()
    assert [result.task_id for result in outbox.close()] == ["taken", "waiting"]


@pytest.mark.parametrize(
    ("url", "group", "expected"),
    [
        ("http://localhost:8000", "default", "ws://localhost:8000/ws?group=default"),
        ("https://example.org/celeriac/", "a b/ü", "wss://example.org/celeriac/ws?group=a%20b%2F%C3%BC"),
        ("ws://localhost:9/ws", "g", "ws://localhost:9/ws?group=g"),
    ],
)
def test_the_gateway_is_found_from_every_spelling_of_the_address(url: str, group: str, expected: str) -> None:
    assert RemoteWorker(url, group=group).url == expected


def test_mistakes_of_the_caller_are_said_clearly() -> None:
    with pytest.raises(SettingsError, match="http or https"):
        RemoteWorker("ftp://localhost")
    with pytest.raises(SettingsError, match="a list of names"):
        RemoteWorker("http://localhost", models="llama")
    with pytest.raises(SettingsError, match=r"@worker\.handler"):
        RemoteWorker("http://localhost").run()
