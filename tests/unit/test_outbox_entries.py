"""What an application writes into its outbox: an id of its own, and a submission that the store will take."""

from __future__ import annotations

import time
import uuid

import pytest

from celeriac import json_text, task
from celeriac.errors import InvalidSubmissionError, TaskNotFoundError, WaitTimeoutError
from celeriac.outbox.entries import Ids, after_relay, entry_for_call, uuid7


@task("outbox.unit")
def invoice(order: int, copies: int = 1) -> str:
    """Pretend to send an invoice."""
    return f"{order}: {copies}"


def test_an_entry_has_an_id_and_the_whole_submission() -> None:
    entry = entry_for_call(invoice.options(priority=3, tags=["paid"], key="ada"), (17,), {"copies": 2})
    assert uuid.UUID(entry.task_id).version == 7
    assert json_text.read(entry.submission) == {
        "type": "outbox.unit",
        "payload": {"order": 17, "copies": 2},
        "priority": 3,
        "tags": ["paid"],
        "key": "ada",
    }


def test_ids_are_in_the_order_of_the_calls() -> None:
    begun = time.time_ns() // 1_000_000
    ids = [uuid7(begun + number // 100) for number in range(1000)]
    assert ids == sorted(set(ids))
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert {(uuid.UUID(one).int >> 80) - begun for one in ids} == set(range(10))


def test_a_clock_that_goes_back_makes_no_id_twice() -> None:
    ids = Ids()
    later, earlier = ids.new(2**47), ids.new(1)
    assert earlier > later


def test_a_call_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(InvalidSubmissionError, match=r"payload\.order"):
        entry_for_call(invoice, ("many",), {})
    with pytest.raises(TypeError, match=r"it is called as outbox\.unit"):
        entry_for_call(invoice, (), {"oder": 1})


@pytest.mark.parametrize(
    "options", [{"once": {"key": "k"}}, {"debounce": {"key": "k", "delay": "1s"}}, {"idempotency_key": "k"}]
)
def test_what_may_lead_to_another_task_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidSubmissionError, match="is not for an outbox"):
        entry_for_call(invoice.options(**options), (17,), {})  # type: ignore[arg-type]


async def test_a_handle_waits_for_the_relay_and_says_when_it_gives_up() -> None:
    looks = 0

    async def wait(task_id: str, timeout: float | None) -> str:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise TaskNotFoundError(task_id)
        return f"{task_id} has ended"

    assert await after_relay(wait, "a", None) == "a has ended"
    looks = -1000
    with pytest.raises(WaitTimeoutError):
        await after_relay(wait, "b", 0.05)
