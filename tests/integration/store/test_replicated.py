"""`durability: replicated`: what is answered has reached a replica, and what has not is said so and may be repeated."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis as redis_sync

from celeriac.errors import NotReplicatedError
from celeriac.model import Claim, Failure, LeaseState, Progress, Status, Submission
from celeriac.settings import Settings
from celeriac.store.server.channel import StoreChannel
from celeriac.store.task_store import TaskStore
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually

#: Patient where an answer is to come. Who expects none passes `patience_s=0`.
_SETTINGS = Settings(durability="replicated", durability_timeout=0.5, store_timeout=60).store


class Pair:
    """A primary and its replica, which can be frozen."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.replica = (ValkeyServer(folder / name) for name in ("primary", "replica"))

    def start(self) -> None:
        self.primary.start()
        self.replica.start()
        with redis_sync.Redis.from_url(self.primary.url()) as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with redis_sync.Redis.from_url(self.replica.url()) as client:
            client.replicaof("127.0.0.1", self.primary.port)

    async def follows(self) -> None:
        """Wait until the replica has a link to the primary."""

        def state() -> bool:
            with redis_sync.Redis.from_url(self.replica.url()) as client:
                return bool(client.info("replication")["master_link_status"] == "up")

        await eventually(state, because="the replica follows")

    def freeze(self) -> None:
        assert self.replica.process is not None
        self.replica.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.replica.process is not None
        self.replica.process.send_signal(signal.SIGCONT)

    async def fail_over(self) -> None:
        """Kill the primary; the replica, which goes on where it is, takes its place."""
        self.primary.kill()
        self.thaw()
        with redis_sync.Redis.from_url(self.replica.url()) as client:
            client.replicaof("NO", "ONE")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    try:
        pair.start()
        yield pair
    finally:
        pair.primary.kill()
        pair.replica.kill()


def _submission(task_id: str, **fields: object) -> Submission:
    return Submission(task_id=task_id, type="echo", payload="{}", **fields)  # type: ignore[arg-type]


async def test_what_was_answered_is_on_the_replica(pair: Pair) -> None:
    await pair.follows()
    async with TaskStore(pair.primary.url(), _SETTINGS) as store:
        await store.submit(_submission("t-1"))
        claim = await store.claim("t-1", worker="w")
        assert isinstance(claim, Claim)
        await store.complete(claim, '{"done":true}')
    await pair.fail_over()
    async with TaskStore(pair.replica.url(), _SETTINGS) as after:
        found = await after.get("t-1")
    assert found.status is Status.COMPLETED


async def test_without_a_replica_a_submission_names_its_task_and_its_key_names_it_later(pair: Pair) -> None:
    await pair.follows()
    async with TaskStore(pair.primary.url(), _SETTINGS, patience_s=0) as store:
        pair.freeze()
        with pytest.raises(NotReplicatedError, match="0 of 1 replicas") as raised:
            await store.submit(_submission("t-1", idempotency_key="k"))
        assert raised.value.task_id == "t-1"
        # A repetition finds the record and writes nothing; it is not answered before the replica has the first write.
        with pytest.raises(NotReplicatedError) as raised:
            await store.submit(_submission("t-2", idempotency_key="k"))
        assert raised.value.task_id == "t-1"
    pair.thaw()
    async with TaskStore(pair.primary.url(), _SETTINGS) as store:
        again = await store.submit(_submission("t-3", idempotency_key="k"))
    assert again.task_id == "t-1"
    assert not again.created


async def test_a_repetition_over_a_new_connection_waits_for_the_first_write(pair: Pair) -> None:
    await pair.follows()
    pair.freeze()
    for _ in range(2):
        async with TaskStore(pair.primary.url(), _SETTINGS, patience_s=0) as store:
            with pytest.raises(NotReplicatedError):
                await store.submit(_submission("t-1", idempotency_key="k"))
    async with TaskStore(pair.primary.url(), _SETTINGS, patience_s=0) as store:
        with pytest.raises(NotReplicatedError):
            await store.confirm("t-1")


async def test_a_claim_that_is_not_replicated_does_not_start_and_is_not_an_attempt(pair: Pair) -> None:
    await pair.follows()
    async with TaskStore(pair.primary.url(), _SETTINGS) as store:
        await store.submit(_submission("t-1"))
        pair.freeze()
        async with TaskStore(pair.primary.url(), _SETTINGS, patience_s=0) as impatient:
            with pytest.raises(NotReplicatedError):
                await impatient.claim("t-1", worker="w")
        found = await store.get("t-1")
        assert (found.status, found.attempt) == (Status.PENDING, 0)
        pair.thaw()
        claim = await store.claim("t-1", worker="w")
        assert isinstance(claim, Claim)
        assert claim.attempt == 1


async def test_an_end_that_is_not_replicated_is_sent_again_until_it_is(pair: Pair) -> None:
    await pair.follows()
    async with TaskStore(pair.primary.url(), _SETTINGS) as store:
        claims = []
        for name in ("t-1", "t-2"):
            await store.submit(_submission(name))
            claims.append(await store.claim(name, worker="w"))
        first, second = claims
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        pair.freeze()
        completing = asyncio.ensure_future(store.complete(first, '{"done":true}'))
        failing = asyncio.ensure_future(store.fail(second, Failure("broken", "it broke", False), 0))
        async with TaskStore(pair.primary.url(), _SETTINGS) as other:
            await eventually(lambda: _is(other, "t-1", Status.COMPLETED), because="the primary has the end")
        assert not completing.done()
        assert not failing.done()
        pair.thaw()
        await completing
        assert await failing is Status.FAILED


async def _is(store: TaskStore, task_id: str, status: Status) -> bool:
    return (await store.get(task_id)).status is status


async def test_reports_and_renewals_do_not_wait(pair: Pair) -> None:
    await pair.follows()
    async with TaskStore(pair.primary.url(), _SETTINGS) as store:
        await store.submit(_submission("t-1"))
        claim = await store.claim("t-1", worker="w")
        assert isinstance(claim, Claim)
        pair.freeze()
        assert await store.renew("w", [claim]) == [LeaseState.HELD]
        await store.progress(claim, 1, Progress(percentage=10, timestamp_ms=0))
        progress = (await store.get("t-1")).progress
        assert progress is not None
        assert progress.percentage == 10


async def test_a_blocking_submission_names_its_task_too(pair: Pair) -> None:
    await pair.follows()
    patient = StoreChannel(pair.primary.url(), _SETTINGS)
    assert (await asyncio.to_thread(patient.submit, _submission("t-1"))).created
    impatient = StoreChannel(pair.primary.url(), replace(_SETTINGS, store_timeout=0))
    pair.freeze()
    with pytest.raises(NotReplicatedError) as raised:
        await asyncio.to_thread(impatient.submit, _submission("t-2"), nonce="n")
    assert raised.value.task_id == "t-2"
    pair.thaw()
    again = await asyncio.to_thread(patient.submit, _submission("t-2"), nonce="n")
    assert again.task_id == "t-2"
    assert again.created


async def test_a_primary_that_a_replica_has_left_answers_nothing_while_that_may_be_promoted(tmp_path: Path) -> None:
    pair, third = Pair(tmp_path), ValkeyServer(tmp_path / "third")
    failover_s = 12.0
    settings = replace(_SETTINGS, durability_failover=failover_s)
    try:
        pair.start()
        third.start()
        with redis_sync.Redis.from_url(third.url()) as client:
            client.replicaof("127.0.0.1", pair.primary.port)
        await pair.follows()
        with redis_sync.Redis.from_url(pair.primary.url()) as client:
            await eventually(lambda: _online(client) == 2, because="both replicas follow")
        channel = StoreChannel(pair.primary.url(), replace(settings, store_timeout=0.1))
        async with TaskStore(pair.primary.url(), settings, patience_s=0) as store:
            await eventually(lambda: _answered(store, "t-1"), because="it is replicated")
            await eventually(lambda: _answered_by(channel, "c-1"), because="it is replicated")
            # As Sentinels do it; the primary lives and has another replica.
            with redis_sync.Redis.from_url(pair.replica.url()) as client:
                client.replicaof("NO", "ONE")
            with pytest.raises(NotReplicatedError, match="a replica has left") as refused:
                await store.submit(_submission("t-2"))
            assert refused.value.task_id == "t-2"
            with pytest.raises(NotReplicatedError, match="a replica has left"):
                channel.submit(_submission("c-2"))
            # Nobody has told it that another one is the primary: then that replica was only lost.
            await asyncio.sleep(failover_s)
            await eventually(lambda: _answered(store, "t-3"), because="the other replica has it")
            await eventually(lambda: _answered_by(channel, "c-2"), because="the other replica has it")
        # The promoted one waits for no replica that it never had.
        with redis_sync.Redis.from_url(third.url()) as client:
            client.replicaof("127.0.0.1", pair.replica.port)
        async with TaskStore(pair.replica.url(), settings) as after:
            await after.submit(_submission("t-4"))
            assert await after.get("t-1")
    finally:
        pair.primary.kill()
        pair.replica.kill()
        third.kill()


async def test_a_process_that_has_just_started_knows_which_replicas_were_there(tmp_path: Path) -> None:
    pair, third = Pair(tmp_path), ValkeyServer(tmp_path / "third")
    failover_s = 12.0
    settings = replace(_SETTINGS, durability_failover=failover_s)
    try:
        pair.start()
        third.start()
        with redis_sync.Redis.from_url(third.url()) as client:
            client.replicaof("127.0.0.1", pair.primary.port)
        await pair.follows()
        with redis_sync.Redis.from_url(pair.primary.url()) as client:
            await eventually(lambda: _online(client) == 2, because="both replicas follow")
        async with TaskStore(pair.primary.url(), settings) as store:
            await store.submit(_submission("t-1"))
        with redis_sync.Redis.from_url(pair.replica.url()) as client:
            client.replicaof("NO", "ONE")
        with redis_sync.Redis.from_url(pair.primary.url()) as client:
            await eventually(lambda: _online(client) == 1, because="the primary has noticed")
        async with TaskStore(pair.primary.url(), settings, patience_s=0) as fresh:
            for _ in range(2):
                with pytest.raises(NotReplicatedError, match="a replica has left"):
                    await fresh.submit(_submission("t-2", idempotency_key="k"))
            await asyncio.sleep(failover_s)
            # It gives the replica up, and says so with its next call.
            await eventually(lambda: _answered(fresh, "t-2", idempotency_key="k"), because="the other replica has it")
            await eventually(lambda: _answered(fresh, "t-3"), because="the other replica has it")
        async with TaskStore(pair.primary.url(), settings, patience_s=0) as later:
            await eventually(lambda: _answered(later, "t-4"), because="the other replica has it")
        # What was noted of the old primary is not meant for the promoted one.
        with redis_sync.Redis.from_url(third.url()) as client:
            client.replicaof("127.0.0.1", pair.replica.port)
        async with TaskStore(pair.replica.url(), settings) as after:
            await after.submit(_submission("t-5"))
    finally:
        pair.primary.kill()
        pair.replica.kill()
        third.kill()


async def _answered(store: TaskStore, task_id: str, **fields: object) -> bool:
    """Submit a task; return whether a replica took it in time, for which a busy machine may be too slow once."""
    try:
        assert (await store.submit(_submission(task_id, **fields))).task_id == task_id
    except NotReplicatedError:
        return False
    return True


def _answered_by(channel: StoreChannel, task_id: str) -> bool:
    try:
        assert channel.submit(_submission(task_id)).task_id == task_id
    except NotReplicatedError:
        return False
    return True


def _online(client: redis_sync.Redis) -> int:
    found = client.info("replication")
    return sum(
        one.get("state") == "online"
        for name, one in found.items()
        if name.startswith("slave") and isinstance(one, dict)
    )
