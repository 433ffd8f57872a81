"""Both clients in one list of tests. A scripted transport replaces the network, and time moves by pauses only."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from celeriac.client import AsyncClient, AsyncTaskHandle, Client, TaskHandle
from celeriac.client.address import Address
from celeriac.client.http import wire as wires
from celeriac.client.http.api import Api
from celeriac.client.http.calls import LostConnectionError
from celeriac.client.http.clock import Clock
from celeriac.client.http.retrying import Retrying, retry_after_s
from celeriac.client.http.wire import Wire
from celeriac.errors import (
    ApiError,
    ApiUnavailableError,
    BatchRefusedError,
    BlockingCallError,
    InvalidSubmissionError,
    QueueFullError,
    StoreUnavailableError,
    TaskFailedError,
    WaitTimeoutError,
)
from celeriac.model import Progress, Status
from celeriac.settings import Settings
from tests.kit.waiting import eventually

ADDRESS = "http://api"


@dataclass(frozen=True)
class Answer:
    """What the server says."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lost:
    """The connection fails instead."""


LOST = Lost()


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an event stream, in these pieces; where one is `LOST`, the connection fails."""

    def __init__(self, *chunks: bytes | Lost) -> None:
        self._chunks = chunks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Lost):
                raise httpx.ReadError("cut")
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


Script = Answer | Lost | Body | Callable[[httpx.Request], Answer]


class InThread:
    """What blocks, called from threads: each method returns an awaitable."""

    def __init__(self, blocking: Client | TaskHandle[Any]) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        if not inspect.isroutine(getattr(type(self._blocking), name, None)):
            return getattr(self._blocking, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            done = await asyncio.to_thread(getattr(self._blocking, name), *args, **kwargs)
            if isinstance(done, list):
                return [InThread(one) if isinstance(one, TaskHandle) else one for one in done]
            return InThread(done) if isinstance(done, TaskHandle) else done

        return call

    def __repr__(self) -> str:
        return repr(self._blocking)


@dataclass
class World:
    """A server that answers from a list, and a clock that its client's pauses move."""

    kind: str
    answers: list[Script]
    retries: int = 3
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        keys = iter(f"key-{n}" for n in range(10_000))
        retrying = Retrying(self.retries, chance=lambda: 0.0)
        transport = httpx.MockTransport(self._answer)
        wire = Wire(lambda: httpx.AsyncClient(base_url=ADDRESS, transport=transport))
        api = Api(ADDRESS, wire, retrying, new_key=lambda: next(keys), clock=Clock(lambda: self.now_s, self._sleep))
        client = AsyncClient(ADDRESS)
        client._use(api)
        handle: AsyncTaskHandle[Any] = AsyncTaskHandle(client.access, "t", Status.PENDING)
        self.client: Any = client
        self.handle: Any = handle
        if self.kind == "blocking":
            blocking = Client(ADDRESS)
            blocking._client = client
            self.client, self.handle = InThread(blocking), InThread(TaskHandle(handle))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(request)
        match answer:
            case Lost():
                raise httpx.ConnectError("cut")
            case Body():
                return httpx.Response(200, stream=answer)
            case _:
                return httpx.Response(answer.status, headers=answer.headers, content=answer.body)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 3))
        self.now_s += seconds

    def sent(self, name: str) -> list[str | None]:
        """Return this header of every request."""
        return [request.headers.get(name) for request in self.requests]


Worlds = Callable[..., World]


@pytest.fixture(params=["blocking", "asyncio"])
def scripted(request: pytest.FixtureRequest) -> Worlds:
    def make(*answers: Script, retries: int = 3) -> World:
        return World(request.param, list(answers), retries)

    return make


async def outcome(of: Any) -> Any:
    """Return what a method of either client returned."""
    return await of if inspect.isawaitable(of) else of


async def items(of: Any) -> list[Any]:
    """Return what either client iterates over."""
    of = await outcome(of)
    return [item async for item in of] if hasattr(of, "__aiter__") else await asyncio.to_thread(list, of)


def good(document: Any, status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(document).encode())


def problem(status: int, code: str, /, headers: dict[str, str] | None = None, **members: Any) -> Answer:
    return Answer(
        status, headers or {}, json.dumps({"code": code, "status": status, "detail": code, **members}).encode()
    )


STORED = good({"task_id": "t", "status": "pending"}, 202)
AWAY = problem(503, "store_unavailable")


async def test_the_blocking_client_names_the_other_one_on_a_running_event_loop() -> None:
    with Client(ADDRESS) as client:
        for call, words in (
            (lambda: client.get("t"), "Client.get() would block the running event loop: use await AsyncClient.get()"),
            (lambda: client.submit("x"), "Client.submit() would block the running event loop"),
            (lambda: client.submit_many([{"type": "x"}]), "use await AsyncClient.submit_many()"),
            (lambda: list(client.list()), "use async for … in AsyncClient.list()"),
        ):
            with pytest.raises(BlockingCallError, match=re.escape(words)):
                call()


async def test_a_submission_is_repeated_with_the_same_key(scripted: Worlds) -> None:
    world = scripted(LOST, AWAY, Answer(502, {}, b"<html>"), STORED)
    handle = await outcome(world.client.submit("x", {"n": 1}))
    assert (handle.id, handle.status) == ("t", Status.PENDING)
    assert world.sent("idempotency-key") == ["key-0"] * 4
    assert len({request.content for request in world.requests}) == 1
    assert world.pauses == [0.1, 0.2, 0.4]


async def test_a_retry_and_a_bulk_operation_are_repeated_with_the_same_key(scripted: Worlds) -> None:
    world = scripted(LOST, STORED, LOST, STORED)
    assert await outcome(world.handle.retry({"n": 2})) is Status.PENDING
    await outcome(world.client.bulk("retry", type="x"))
    assert world.sent("idempotency-key") == ["key-0", "key-0", "key-1", "key-1"]
    assert [request.url.path for request in world.requests[1:3]] == ["/api/v1/tasks/t/retry", "/api/v1/bulk"]


async def test_a_key_of_the_caller_is_checked_before_anything_is_sent(scripted: Worlds) -> None:
    world = scripted(STORED)
    await outcome(world.client.submit("x", idempotency_key="mine"))
    assert world.sent("idempotency-key") == ["mine"]
    with pytest.raises(InvalidSubmissionError, match="idempotency_key"):
        await outcome(world.client.submit("x", idempotency_key="ä b"))
    assert len(world.requests) == 1


async def test_patience_ends_with_the_last_error(scripted: Worlds) -> None:
    lost = scripted(LOST, LOST, retries=1)
    with pytest.raises(ApiUnavailableError, match="http://api cannot be reached: ConnectError: cut") as unavailable:
        await outcome(lost.client.get("t"))
    assert isinstance(unavailable.value.__cause__, LostConnectionError)
    assert isinstance(unavailable.value.__cause__.__cause__, httpx.ConnectError)
    with pytest.raises(StoreUnavailableError):
        await outcome(scripted(AWAY, retries=0).client.get("t"))
    html = scripted(Answer(502, {"content-type": "text/html"}, b"<html>"), retries=0)
    with pytest.raises(ApiError) as error:
        await outcome(html.client.get("t"))
    assert (error.value.status, error.value.code) == (502, "unreadable")


async def test_a_request_that_is_not_http_is_not_repeated(scripted: Worlds) -> None:
    def invalid(request: httpx.Request) -> Answer:
        raise httpx.LocalProtocolError("not HTTP")

    world = scripted(invalid)
    with pytest.raises(httpx.LocalProtocolError):
        await outcome(world.client.get("t"))
    assert world.pauses == []


async def test_the_client_closes_an_idle_connection_before_the_server_does() -> None:
    address, keep_alive = Address(ADDRESS, None), Settings().keep_alive
    async with wires.connect(address, 1) as pool:
        assert keep_alive / 2 < pool._transport._pool._keepalive_expiry < keep_alive  # type: ignore[attr-defined]


async def test_what_the_server_asks_for_is_waited(scripted: Worlds) -> None:
    full = problem(429, "queue_full", {"retry-after": "2"}, group="g", limit=1)
    world = scripted(full, full, STORED)
    await outcome(world.client.submit("x"))
    assert world.pauses == [2, 2]
    with pytest.raises(QueueFullError, match="'g' already has 1 waiting"):
        await outcome(scripted(full, retries=0).client.submit("x"))


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
async def test_an_answer_without_its_members_says_so(scripted: Worlds, document: Any) -> None:
    with pytest.raises(ApiError) as unreadable:
        await outcome(scripted(good(document)).handle.cancel())
    assert unreadable.value.code == "unreadable"


async def test_a_refusal_for_good_is_not_repeated(scripted: Worlds) -> None:
    world = scripted(problem(500, "internal"))
    with pytest.raises(ApiError):
        await outcome(world.client.submit("x"))
    assert world.pauses == []


#: A server of an earlier version has no route that tells an outcome alone.
EARLIER = problem(404, "not_found")


async def test_waiting_on_an_earlier_server_looks_less_and_less_often_and_stops_in_time(scripted: Worlds) -> None:
    world = scripted(EARLIER, *[good({"status": "pending"})] * 100)
    with pytest.raises(WaitTimeoutError, match="'t' is still pending after 20 s"):
        await outcome(world.handle.wait(20))
    assert world.pauses[0] == 0.02
    assert max(world.pauses) == 1
    assert sum(world.pauses) == pytest.approx(20, abs=0.01)
    assert len(world.pauses) < 70
    asked, *polled = [request.url.path for request in world.requests]
    assert asked == "/api/v1/tasks/t/result"
    assert set(polled) == {"/api/v1/tasks/t/progress"}, "the record may be large"


async def test_waiting_ends_with_the_record_and_the_handle_knows_its_status(scripted: Worlds) -> None:
    world = scripted(EARLIER, good({"status": "pending"}), good({"status": "failed"}), good(RECORD))
    with pytest.raises(TaskFailedError, match="m"):
        await outcome(world.handle.result())
    assert world.handle.status is Status.FAILED
    assert [request.url.path.removeprefix("/api/v1/tasks/t") for request in world.requests] == [
        *("/result", "/progress", "/progress", ""),
    ]


def after(world_of: Callable[[], World], seconds: float, answer: Script) -> Script:
    """Return what answers after so many seconds."""

    def later(_: httpx.Request) -> Answer:
        world_of().now_s += seconds
        if isinstance(answer, Lost):
            raise httpx.ReadError("cut")
        assert isinstance(answer, Answer)
        return answer

    return later


def told(status: str, result: Any = None) -> Answer:
    return good({"task_id": "t", "status": status, "result": result, "error": None})


def waits_of(world: World) -> list[float]:
    """Return how long each request wanted to wait, -1 for those that did not."""
    return [float(request.url.params.get("wait", -1)) for request in world.requests]


async def test_a_result_is_asked_for_once_while_the_server_waits(scripted: Worlds) -> None:
    world = scripted(told("completed", 7))
    assert await outcome(world.handle.result()) == 7
    assert world.handle.status is Status.COMPLETED
    (request,) = world.requests
    assert (request.url.path, request.url.params["wait"]) == ("/api/v1/tasks/t/result", "20.000")
    assert request.extensions["timeout"]["read"] >= 20, "the connection is to be as patient"


async def test_a_server_that_waits_is_asked_again_at_once_and_no_longer_than_the_caller_waits(scripted: Worlds) -> None:
    world: World
    world = scripted(*[after(lambda: world, seconds, told("pending")) for seconds in (20, 20, 5)])
    with pytest.raises(WaitTimeoutError):
        await outcome(world.handle.result(45))
    assert waits_of(world) == [20, 20, 5]
    assert world.pauses == []


async def test_a_server_that_answers_early_is_not_asked_in_a_loop(scripted: Worlds) -> None:
    world = scripted(*[told("pending")] * 10, told("completed", 1))
    assert await outcome(world.handle.result()) == 1
    assert len(world.pauses) == 10
    assert min(world.pauses) == 0.02


@pytest.mark.parametrize("cut", [LOST, Answer(504, {}, b"too long"), Answer(502, {}, b"")])
async def test_a_proxy_that_cuts_long_requests_gets_shorter_ones(scripted: Worlds, cut: Script) -> None:
    world: World
    world = scripted(
        after(lambda: world, 10, cut),
        good({"status": "pending"}),
        after(lambda: world, 8, told("pending")),
        told("completed", 1),
    )
    assert await outcome(world.handle.result()) == 1
    assert waits_of(world) == [20, -1, 8, 16]


async def test_a_server_with_too_many_waiters_is_polled_and_asked_later(scripted: Worlds) -> None:
    def answer(request: httpx.Request) -> Answer:
        return good({"status": "pending"}) if request.url.path.endswith("/progress") else told("completed", 1)

    world = scripted(problem(503, "too_many_waiters", {"retry-after": "1"}), *[answer] * 100)
    assert await outcome(world.handle.result()) == 1
    waits = waits_of(world)
    assert waits[0] == waits[-1] == 20
    assert set(waits[1:-1]) == {-1}


async def test_a_server_that_allows_shorter_waits_only_gets_them(scripted: Worlds) -> None:
    refused = {"code": "invalid_request", "status": 422, "errors": [{"field": "wait", "message": "must be at most 7"}]}
    world = scripted(Answer(422, {}, json.dumps(refused).encode()), good({"status": "pending"}), told("completed", 1))
    assert await outcome(world.handle.result()) == 1
    assert waits_of(world) == [20, -1, 5]


async def test_a_run_is_one_request(scripted: Worlds) -> None:
    world = scripted(Answer(201, {}, told("completed", 7).body))
    assert await outcome(world.client.run("x", {"a": 1})) == 7
    (request,) = world.requests
    assert (request.method, request.url.path, request.url.params["wait"]) == ("POST", "/api/v1/tasks", "20.000")
    assert request.headers["idempotency-key"] == "key-0"


async def test_a_run_of_an_earlier_server_goes_on_by_looking(scripted: Worlds) -> None:
    world = scripted(
        Answer(202, {}, b'{"task_id":"t","status":"pending"}'), EARLIER, good({"status": "completed"}), good(RECORD)
    )
    with pytest.raises(TaskFailedError):
        await outcome(world.client.run("x"))
    assert [request.method for request in world.requests] == ["POST", "GET", "GET", "GET"]


@pytest.mark.parametrize("trouble", [LOST, Answer(503, {}, b"away"), Answer(504, {}, b"too long")])
async def test_a_run_whose_answer_got_lost_is_the_same_submission(scripted: Worlds, trouble: Script) -> None:
    world = scripted(trouble, Answer(200, {}, b'{"task_id":"t","status":"pending"}'), told("completed", 7))
    assert await outcome(world.client.run("x")) == 7
    first, second, _ = world.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert "wait" not in second.url.params


async def test_a_refused_run_raises_as_a_submission_does(scripted: Worlds) -> None:
    refused = {"code": "invalid_submission", "errors": [{"field": "type", "message": "unknown"}]}
    world = scripted(Answer(422, {}, json.dumps(refused).encode()))
    with pytest.raises(InvalidSubmissionError, match="unknown"):
        await outcome(world.client.run("x"))
    assert len(world.requests) == 1


async def test_an_api_that_is_away_is_not_waited_for_longer_than_the_task(scripted: Worlds) -> None:
    world = scripted(EARLIER, good({"status": "pending"}), *[LOST] * 100, retries=100)
    with pytest.raises(ApiUnavailableError):
        await outcome(world.handle.wait(2))
    assert 1 < world.now_s <= 2


async def test_what_was_stored_before_the_api_went_away_is_told(scripted: Worlds) -> None:
    stored = good({"results": [{"status": 202, "task_id": "t", "task_status": "pending"}] * 500})
    world = scripted(stored, LOST, retries=0)
    with pytest.raises(BatchRefusedError) as refused:
        await outcome(world.client.submit_many({"type": "x"} for _ in range(1200)))
    assert list(refused.value.accepted) == list(range(500))
    assert list(refused.value.refused) == list(range(500, 1000))
    assert isinstance(refused.value.refused[500], ApiUnavailableError)


async def test_an_answer_with_too_few_results_says_so(scripted: Worlds) -> None:
    world = scripted(good({"results": []}))
    with pytest.raises(BatchRefusedError, match="the answer has 0 results for 2 tasks"):
        await outcome(world.client.submit_many([{"type": "x"}] * 2))


async def test_only_what_met_a_full_queue_is_sent_again(scripted: Worlds) -> None:
    def answer(request: httpx.Request) -> Answer:
        tasks = json.loads(request.content)["tasks"]
        stored = [{"status": 202, "task_id": t["idempotency_key"], "task_status": "pending"} for t in tasks]
        full = {"status": 429, "error": {"code": "queue_full", "status": 429, "group": "g", "limit": 2}}
        bad = {"status": 422, "error": {"code": "too_odd", "status": 422, "detail": "odd"}}
        return good(
            {"results": [full if len(tasks) > 2 and i > 1 else stored[i] for i in range(len(tasks) - 1)] + [bad]}
        )

    world = scripted(answer, answer)
    with pytest.raises(BatchRefusedError) as refused:
        await outcome(world.client.submit_many({"type": "x"} for _ in range(5)))
    assert refused.value.accepted == {0: "key-0", 1: "key-1", 2: "key-2"}
    assert list(refused.value.refused) == [3, 4]
    assert [len(json.loads(request.content)["tasks"]) for request in world.requests] == [5, 2]
    assert world.pauses == [0.1]


async def test_an_iterable_is_taken_as_it_is_sent(scripted: Worlds) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Any]:
        for n in range(1001):
            taken.append(n)
            yield {"type": "x"}

    def answer(request: httpx.Request) -> Answer:
        asked.append(len(taken))
        count = len(json.loads(request.content)["tasks"])
        return good({"results": [{"status": 202, "task_id": "t", "task_status": "pending"}] * count})

    asked: list[int] = []
    world = scripted(answer, answer, answer)
    assert len(await outcome(world.client.submit_many(tasks()))) == 1001
    assert asked == [501, 1001, 1001]


async def test_pages_are_read_as_they_are_asked_for(scripted: Worlds) -> None:
    world = scripted(
        good({"items": [RECORD] * 200, "next_cursor": "c1"}), good({"items": [RECORD] * 100, "next_cursor": "c2"})
    )
    chosen = {"status": [Status.FAILED, "cancelled"], "type": "x", "tag": None, "created_after": datetime(2030, 1, 1)}
    found = world.client.list(limit=300, **chosen)
    assert world.requests == [], "nothing is asked for before the first record is"
    assert len(await items(found)) == 300
    assert world.requests[0].url.params.multi_items() == [
        ("status", "failed"), ("status", "cancelled"), ("type", "x"), ("created_after", "2030-01-01T00:00:00"),
        ("sort", "-created_at"), ("limit", "200"),
    ]  # fmt: skip
    assert world.requests[1].url.params.multi_items()[-2:] == [("limit", "100"), ("cursor", "c1")]


async def test_a_stream_goes_on_after_the_last_whole_event(scripted: Worlds) -> None:
    first = Body(event("progress", "1-0", 1), event("progress", "2-0", 2)[:-4])
    broken = Body(event("progress", "2-0", 2), LOST)
    world = scripted(first, LOST, broken, Body(DONE), retries=2)
    assert await items(world.handle.progress()) == [report(1), report(2)]
    assert world.handle.status is Status.COMPLETED
    assert world.sent("last-event-id") == [None, "1-0", "1-0", "2-0"]
    assert world.pauses == [0.1, 0.2, 0.1]
    assert first.closed
    assert broken.closed


async def test_streams_that_tell_nothing_exhaust_the_patience(scripted: Worlds) -> None:
    world = scripted(Body(), Body(), Body(), retries=2)
    with pytest.raises(ApiUnavailableError, match="the event stream ended early"):
        await items(world.handle.progress())


async def test_a_stream_that_is_refused_for_a_while_is_tried_again(scripted: Worlds) -> None:
    world = scripted(problem(429, "too_many_streams", {"retry-after": "3"}), Body(DONE))
    assert await items(world.handle.progress()) == []
    assert world.pauses == [3]
    with pytest.raises(StoreUnavailableError):
        await items(scripted(problem(500, "store_unavailable")).handle.progress())


async def test_a_position_in_the_future_of_the_store_is_waited_for(scripted: Worlds) -> None:
    ahead = Answer(204, {}, b"")
    world = scripted(Body(event("progress", "9-0", 9)), ahead, good({"status": "processing"}), Body(DONE))
    assert await items(world.handle.progress()) == [report(9)]
    assert world.handle.status is Status.COMPLETED
    assert world.pauses == [0.1, 1.0]
    ended = scripted(ahead, good({"status": "failed"}))
    assert await items(ended.handle.progress()) == []
    assert ended.handle.status is Status.FAILED


async def test_leaving_an_iteration_closes_its_stream(scripted: Worlds) -> None:
    body = Body(event("progress", "1-0", 1), event("progress", "2-0", 2))
    reports = scripted(body).handle.progress()

    def leave(reports: Any) -> None:
        assert next(reports) == report(1)
        reports.close()

    if hasattr(reports, "__anext__"):
        assert await anext(reports) == report(1)
        await reports.aclose()
    else:
        await asyncio.to_thread(leave, await reports)
    await eventually(lambda: body.closed, because="the stream is closed")


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
