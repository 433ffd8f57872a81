"""The operations of the clients, performed by the test: no network, no waiting."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac.client.following import Ended, follow
from celeriac.client.operations import Operations
from celeriac.client.retrying import Retrying, retry_after_s
from celeriac.client.steps import Answer, Call, Conversation, Emit, LostConnectionError, Open, Pause, Read, Send
from celeriac.errors import (
    ApiError,
    ApiUnavailableError,
    BatchRefusedError,
    QueueFullError,
    StoreUnavailableError,
    WaitTimeoutError,
)
from celeriac.model import Progress, Status


class World:
    """Performs steps from a list of answers; its clock moves by the pauses alone."""

    def __init__(self, *answers: Answer | LostConnectionError | Callable[[Call], Answer], retries: int = 3) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.chunks: list[bytes] = []
        self.emitted: list[Any] = []
        self.now_s = 0.0
        keys = iter(f"key-{n}" for n in range(10_000))
        retrying = Retrying(retries, chance=lambda: 0.0)
        self.api = Operations("http://api", retrying, new_key=lambda: next(keys), clock=lambda: self.now_s)

    def perform(self, operation: Generator[Any, Any, Any]) -> Any:
        conversation = Conversation(operation)
        for step in conversation:
            match step:
                case Send(call) | Open(call):
                    self.calls.append(call)
                    answer = self.answers.pop(0)
                    conversation.came = answer(call) if callable(answer) else answer
                case Read():
                    conversation.came = self.chunks.pop(0) if self.chunks else b""
                case Pause(seconds):
                    self.pauses.append(round(seconds, 3))
                    self.now_s += seconds
                case Emit(item):
                    self.emitted.append(item)
        return conversation.outcome


def good(document: Any, status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(document).encode())


def problem(status: int, code: str, /, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    return Answer(
        status, headers or {}, json.dumps({"code": code, "status": status, "detail": code, **members}).encode()
    )


LOST = LostConnectionError("cut")
STORED = good({"task_id": "t", "status": "pending"}, 202)
AWAY = problem(503, "store_unavailable")


def test_a_submission_is_repeated_with_the_same_key() -> None:
    world = World(LOST, AWAY, Answer(502, {}, b"<html>"), STORED)
    assert world.perform(world.api.submit({"type": "x", "payload": {"n": 1}})) == ("t", Status.PENDING)
    assert {call.headers["idempotency-key"] for call in world.calls} == {"key-0"}
    assert len({call.body for call in world.calls}) == 1
    assert world.pauses == [0.1, 0.2, 0.4]


def test_patience_ends_with_the_last_error() -> None:
    lost = World(LOST, LOST, retries=1)
    with pytest.raises(ApiUnavailableError, match="http://api cannot be reached: cut"):
        lost.perform(lost.api.get("t"))
    away = World(AWAY, retries=0)
    with pytest.raises(StoreUnavailableError):
        away.perform(away.api.get("t"))
    html = World(Answer(502, {"content-type": "text/html"}, b"<html>"), retries=0)
    with pytest.raises(ApiError) as error:
        html.perform(html.api.get("t"))
    assert (error.value.status, error.value.code) == (502, "unreadable")


def test_what_the_server_asks_for_is_waited() -> None:
    full = problem(429, "queue_full", {"retry-after": "2"}, group="g", limit=1)
    world = World(full, full, STORED)
    world.perform(world.api.submit({"type": "x"}))
    assert world.pauses == [2, 2]
    impatient = World(full, retries=0)
    with pytest.raises(QueueFullError, match="'g' already has 1 waiting"):
        impatient.perform(impatient.api.submit({"type": "x"}))


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2030, 1, 1, 0, 0, 0, tzinfo=UTC)
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after": "Tue, 01 Jan 2030 00:00:30 GMT"}, now) == 30
    assert retry_after_s({"retry-after": "Mon, 31 Dec 2029 00:00:00 GMT"}, now) == 0
    assert retry_after_s({"retry-after": "soon"}) == retry_after_s({}) == retry_after_s({"retry-after": "-1"}) == 0


def test_pauses_grow_to_a_bound_and_are_shortened_by_chance() -> None:
    pauses = [Retrying(100, chance=lambda: 0.0).pause_s(n) for n in (1, 2, 3, 7, 99)]
    assert pauses == [0.1, 0.2, 0.4, 5.0, 5.0]
    assert Retrying(1, chance=lambda: 0.5).pause_s(1) == pytest.approx(0.075)
    assert Retrying(1).pause_s(2) is None
    assert Retrying(1).pause_s(1, asked_s=1e9) == 60, "no server may send us to sleep for years"


@pytest.mark.parametrize("document", [{}, {"task_id": 7, "status": "pending"}, {"task_id": "t", "status": "odd"}, []])
def test_an_answer_without_its_members_says_so(document: Any) -> None:
    world = World(good(document))
    with pytest.raises(ApiError) as unreadable:
        world.perform(world.api.cancel("t"))
    assert unreadable.value.code == "unreadable"


def test_a_refusal_for_good_is_not_repeated() -> None:
    world = World(problem(500, "internal"))
    with pytest.raises(ApiError):
        world.perform(world.api.submit({"type": "x"}))
    assert world.pauses == []


def test_waiting_looks_less_and_less_often_and_stops_in_time() -> None:
    pending = good({"status": "pending"})
    world = World(*[pending] * 100)
    with pytest.raises(WaitTimeoutError, match="'t' is still pending after 20 s"):
        world.perform(world.api.wait("t", 20))
    assert world.pauses[0] == 0.02
    assert max(world.pauses) == 1
    assert sum(world.pauses) == pytest.approx(20, abs=0.01)
    assert len(world.pauses) < 70
    assert {call.path for call in world.calls} == {"/api/v1/tasks/t/progress"}, "the record may be large"


def test_an_api_that_is_away_is_not_waited_for_longer_than_the_task() -> None:
    world = World(good({"status": "pending"}), *[LOST] * 100, retries=100)
    with pytest.raises(ApiUnavailableError):
        world.perform(world.api.wait("t", 2))
    assert 1 < world.now_s <= 2


def test_what_was_stored_before_the_api_went_away_is_told() -> None:
    stored = good({"results": [{"status": 202, "task_id": "t", "task_status": "pending"}] * 500})
    world = World(stored, LOST, retries=0)
    with pytest.raises(BatchRefusedError) as refused:
        world.perform(world.api.submit_many({"type": "x"} for _ in range(1200)))
    assert list(refused.value.accepted) == list(range(500))
    assert list(refused.value.refused) == list(range(500, 1000))
    assert isinstance(refused.value.refused[500], ApiUnavailableError)


def test_only_what_met_a_full_queue_is_sent_again() -> None:
    def answer(call: Call) -> Answer:
        tasks = json.loads(call.body or b"")["tasks"]
        stored = [{"status": 202, "task_id": t["idempotency_key"], "task_status": "pending"} for t in tasks]
        full = {"status": 429, "error": {"code": "queue_full", "status": 429, "group": "g", "limit": 2}}
        bad = {"status": 422, "error": {"code": "too_odd", "status": 422, "detail": "odd"}}
        return good(
            {"results": [full if len(tasks) > 2 and i > 1 else stored[i] for i in range(len(tasks) - 1)] + [bad]}
        )

    world = World(answer, answer)
    with pytest.raises(BatchRefusedError) as refused:
        world.perform(world.api.submit_many({"type": "x"} for _ in range(5)))
    assert refused.value.accepted == {0: "key-0", 1: "key-1", 2: "key-2"}
    assert list(refused.value.refused) == [3, 4]
    assert [len(json.loads(call.body or b"")["tasks"]) for call in world.calls] == [5, 2]
    assert world.pauses == [0.1]


def test_an_iterable_is_taken_as_it_is_sent() -> None:
    taken: list[int] = []

    def tasks() -> Generator[Any, None, None]:
        for n in range(1001):
            taken.append(n)
            yield {"type": "x"}

    def answer(call: Call) -> Answer:
        asked.append(len(taken))
        count = len(json.loads(call.body or b"")["tasks"])
        return good({"results": [{"status": 202, "task_id": "t", "task_status": "pending"}] * count})

    asked: list[int] = []
    world = World(answer, answer, answer)
    assert len(world.perform(world.api.submit_many(tasks()))) == 1001
    assert asked == [501, 1001, 1001]


def test_pages_are_read_as_they_are_asked_for() -> None:
    record = RECORD
    world = World(
        good({"items": [record] * 200, "next_cursor": "c1"}), good({"items": [record] * 100, "next_cursor": "c2"})
    )
    chosen = {"status": [Status.FAILED, "cancelled"], "type": "x", "tag": None, "created_after": datetime(2030, 1, 1)}
    world.perform(world.api.tasks("/api/v1/tasks", chosen, sort="-created_at", limit=300))
    assert len(world.emitted) == 300
    assert world.calls[0].query == (
        ("status", "failed"), ("status", "cancelled"), ("type", "x"), ("created_after", "2030-01-01T00:00:00"),
        ("sort", "-created_at"), ("limit", "200"),
    )  # fmt: skip
    assert world.calls[1].query[-2:] == (("limit", "100"), ("cursor", "c1"))


def test_a_stream_goes_on_after_the_last_whole_event() -> None:
    opened = Answer(200, {}, b"")
    world = World(opened, LOST, opened, retries=2)
    world.chunks = [
        event("progress", "1-0", 1),
        event("progress", "2-0", 2)[:-4],
        b"",
        event("progress", "2-0", 2),
        DONE,
    ]
    world.perform(follow(world.api, "t"))
    assert world.emitted == [report(1), report(2), Ended(Status.COMPLETED)]
    assert [call.headers.get("last-event-id") for call in world.calls] == [None, "1-0", "1-0"]
    assert world.pauses == [0.1, 0.2]


def test_streams_that_tell_nothing_exhaust_the_patience() -> None:
    world = World(*[Answer(200, {}, b"")] * 3, retries=2)
    with pytest.raises(ApiUnavailableError, match="ended before the task did"):
        world.perform(follow(world.api, "t"))


def test_a_position_in_the_future_of_the_store_is_waited_for() -> None:
    opened, ahead = Answer(200, {}, b""), Answer(204, {}, b"")
    world = World(opened, ahead, good({"status": "processing"}), opened)
    world.chunks = [event("progress", "9-0", 9), b"", DONE]
    world.perform(follow(world.api, "t"))
    assert world.emitted == [report(9), Ended(Status.COMPLETED)]
    assert world.pauses == [0.1, 1.0]
    ended = World(ahead, good({"status": "failed"}))
    ended.perform(follow(ended.api, "t"))
    assert ended.emitted == [Ended(Status.FAILED)]


def event(name: str, event_id: str, number: int) -> bytes:
    data = {"task_id": "t", "percentage": number, "stage": "", "message": "", "timestamp_ms": number}
    return f"event: {name}\nid: {event_id}\ndata: {json.dumps(data)}\n\n".encode()


def report(number: int) -> Progress:
    return Progress(float(number), "", "", number)


DONE = b'event: done\nid: 10-0\ndata: {"task_id": "t", "status": "completed"}\n\n'
MOMENT = "2030-01-01T00:00:00.000Z"
RECORD = {
    "task_id": "t", "type": "x", "queue": "default", "status": "failed", "payload": {},
    "progress": {"percentage": 0, "stage": "", "message": "", "timestamp_ms": 1}, "result": None,
    "error": {"code": "c", "message": "m", "retryable": False}, "attempt": 1, "max_retries": 0, "user_id": None,
    "worker": None, "created_at": MOMENT, "started_at": None, "finished_at": MOMENT, "updated_at": MOMENT,
    "priority": 0, "metadata": {}, "tags": [], "run_at": None, "expires_at": None, "cancel_requested": False,
}  # fmt: skip
