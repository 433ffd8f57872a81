"""How the attempts of remote workers end, where two things happen at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from celeriac.errors import StoreUnavailableError
from celeriac.execution.attempt_state import End
from celeriac.model import Claim, Delivery, Failure, Status, Submission
from celeriac.settings import DispatchSettings, Settings
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac_api.gateway.attempts import Attempts
from celeriac_api.gateway.connection import RemoteAttempt, WorkerConnection
from tests.kit.remote.claims import claim_next
from tests.kit.waiting import eventually

GRACE_S = 0.1


@dataclass
class Worker:
    """A connected worker with one task in hand, and what it was sent."""

    attempts: Attempts
    connection: WorkerConnection
    sent: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    async def with_task(cls, store: TaskStore) -> Worker:
        sent: list[dict[str, Any]] = []

        async def send(message: Message) -> None:
            sent.append(json.loads(message["text"]) if "text" in message else dict(message))

        remote = RemoteTasks(store, "here")
        dispatch = DispatchSettings(cancel_grace=GRACE_S)
        attempts = Attempts(
            store=store, remote=remote, dispatch=dispatch, task_log=Settings().task_log, let_go=lambda _: None
        )
        connection = WorkerConnection("W1-0", "gpu", "somewhere", 0, send=send, buffer=10, heard_at=0, ready=True)
        await store.submit(Submission("t", "remote", group="gpu", delivery=Delivery.REMOTE, max_retries=0))
        (grant,) = (await claim_next(remote, "gpu", ["W1-0"])).granted
        attempts.begin(grant, connection)
        await eventually(lambda: sent, because="the worker has the task")
        sent.clear()
        return cls(attempts, connection, sent)

    @property
    def attempt(self) -> RemoteAttempt:
        return self.connection.running["t"]

    def answers(self, result: str) -> None:
        """Answer as the conversation does: the worker lets go, and its result is on its way."""
        attempt = self.connection.running.pop("t")
        attempt.state.let_go()
        self.attempts.complete(attempt, result)


async def test_a_cancel_that_comes_while_the_result_is_on_its_way_does_not_disturb_the_worker(store: TaskStore) -> None:
    worker = await Worker.with_task(store)
    worker.answers("1")
    worker.attempts.cancel_asked("t")
    await worker.attempts.finish(5)
    await asyncio.sleep(2 * GRACE_S)
    assert (await store.get("t")).status is Status.COMPLETED
    assert (worker.sent, worker.connection.closed) == ([], False)


async def test_an_answer_after_a_cancel_counts_no_more(store: TaskStore) -> None:
    worker = await Worker.with_task(store)
    await store.cancel("t")
    worker.attempts.cancel_asked("t")
    attempt = worker.attempt
    worker.answers("1")
    await worker.attempts.finish(5)
    assert (await store.get("t")).status is Status.CANCELLED
    assert attempt.state.end is End.CANCELLED
    assert [message["type"] for message in worker.sent] == ["cancel"]


async def test_a_worker_that_does_not_let_go_of_a_cancelled_task_is_disconnected(store: TaskStore) -> None:
    worker = await Worker.with_task(store)
    worker.attempts.cancel_asked("t")
    await eventually(lambda: worker.connection.closed, because="the grace is over")


@pytest.mark.parametrize("failing", [False, True])
async def test_an_end_is_recorded_once_the_store_is_back_and_its_lease_is_held_until_then(
    store: TaskStore, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await Worker.with_task(store)
    renewed: list[list[Claim]] = []
    away = True
    send_result, fail, renew = store.send_result, store.fail, store.renew

    def no_result(claim: Claim, result: str, path: str = "") -> asyncio.Future[str]:
        if not away:
            return send_result(claim, result, path)
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(StoreUnavailableError("away"))
        return answer

    async def no_failure(claim: Claim, failure: Failure, delay_ms: int) -> Status:
        if away:
            raise StoreUnavailableError("away")
        return await fail(claim, failure, delay_ms)

    async def noted(gateway: str, claims: list[Claim], facts: Any = None) -> Any:
        renewed.append(claims)
        return await renew(gateway, claims, facts)

    monkeypatch.setattr(store, "send_result", no_result)
    monkeypatch.setattr(store, "fail", no_failure)
    monkeypatch.setattr(store, "renew", noted)
    if failing:
        worker.attempts.fail(worker.attempt, Failure("code", "message", retryable=False))
    else:
        worker.attempts.complete(worker.attempt, "1")
    await asyncio.sleep(0.05)
    await worker.attempts.leases.renew(store, "here")
    away = False
    await worker.attempts.finish(5)
    await worker.attempts.leases.renew(store, "here")
    assert [len(claims) for claims in renewed] == [1], "the lease is dropped with the end"
    assert (await store.get("t")).status is (Status.FAILED if failing else Status.COMPLETED)
