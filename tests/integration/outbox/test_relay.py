"""The outbox: a committed row becomes one task under its id, a rolled-back one none, whatever dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from celeriac.contrib.sqlalchemy import asubmit_in, submit_in
from celeriac.errors import TaskNotFoundError
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Status
from celeriac.outbox.database import DatabaseOutbox
from celeriac.outbox.relay import OutboxRelay
from celeriac.outbox.reports import OutboxReport, read_reports
from celeriac.settings import OutboxSettings, Settings
from celeriac.store.counts import read_counts
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry, registry
from celeriac.tasks.service import Tasks
from celeriac.up.doctor import examine
from tests.integration.outbox.conftest import ORDERS, OUTBOX
from tests.kit.history import forget, record_all
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers
from tests.kit.workers.outbox_types import invoice, receipt

#: More than are written in the time of the test.
_MOST_ORDERS = 20_000


def attempts_of(engine: Engine, task_id: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(OUTBOX.c.attempts).where(OUTBOX.c.task_id == task_id)) or 0


def rows_left(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(OUTBOX.c.task_id).order_by(OUTBOX.c.task_id)))


@asynccontextmanager
async def relay_on(
    database_url: str, store: TaskStore, *, types: Registry = registry, history: History | None = None, **options: Any
) -> AsyncIterator[OutboxRelay]:
    """Yield a relay that runs."""
    tasks = Tasks(store=store, types=TypeCatalog(types, store), settings=Settings(), history=history)
    settings = OutboxSettings.model_validate({"poll": 0.05, **options})
    relay = OutboxRelay(source=DatabaseOutbox(database_url), tasks=tasks, settings=settings)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def test_what_is_committed_is_submitted_under_its_id_and_what_is_rolled_back_is_not(
    engine: Engine, database_url: str, store: TaskStore
) -> None:
    with Session(engine) as session, session.begin():
        session.execute(insert(ORDERS).values(number=17))
        kept = submit_in(session, invoice.options(priority=4, key="ada"), order=17)
    with Session(engine) as session:
        session.execute(insert(ORDERS).values(number=18))
        lost = submit_in(session, invoice, order=18)
        session.rollback()
    async with relay_on(database_url, store):
        await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    record = await store.get(kept.id)
    assert (record.type, record.payload, record.priority, record.key) == ("outbox.invoice", {"order": 17}, 4, "ada")
    with pytest.raises(TaskNotFoundError):
        await store.get(lost.id)


async def test_asyncio_and_connections_do_the_same(engine: Engine, database_url: str, store: TaskStore) -> None:
    url = database_url.replace("postgresql:", "postgresql+psycopg:").replace("sqlite:", "sqlite+aiosqlite:")
    asynchronous = create_async_engine(url)
    async with asynchronous.begin() as connection:
        first = await asubmit_in(connection, invoice, 1)
    await asynchronous.dispose()
    with engine.begin() as plain:
        second = submit_in(plain, invoice, 2)
    assert rows_left(engine) == [first.id, second.id]
    async with relay_on(database_url, store):
        await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    assert [(await store.get(one.id)).payload for one in (first, second)] == [{"order": 1}, {"order": 2}]


async def test_a_task_may_depend_on_one_of_the_same_transaction(
    engine: Engine, database_url: str, store: TaskStore
) -> None:
    with Session(engine) as session, session.begin():
        first = submit_in(session, invoice, order=1)
        second = submit_in(session, invoice.options(depends_on=[first]), order=2)
    async with relay_on(database_url, store):
        await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    assert [one.task_id for one in (await store.get(second.id)).depends_on] == [first.id]


async def test_a_row_whose_task_was_submitted_already_makes_no_second_one(
    engine: Engine, database_url: str, store: TaskStore, kept: tuple[Recorder, History]
) -> None:
    recorder, history = kept
    with Session(engine) as session, session.begin():
        known, gone = submit_in(session, invoice, order=1), submit_in(session, invoice, order=2)
    tasks = Tasks(store=store, types=TypeCatalog(registry, store), settings=Settings())
    for handle, number in ((known, 1), (gone, 2)):
        await tasks.submit_as(handle.id, {"type": "outbox.invoice", "payload": {"order": number}})
        await store.cancel(handle.id)
    await record_all(recorder, store)
    # Its record has left the store, as if the relay had been away for longer than the retention.
    await forget(store, gone.id)
    with engine.begin() as connection:
        connection.execute(update(OUTBOX).values(attempts=1))
    async with relay_on(database_url, store, history=history):
        await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    assert (await store.get(known.id)).status is Status.CANCELLED
    assert await store.known([gone.id]) == [False]


async def test_a_refused_row_stays_with_the_reason_and_others_do_not_wait_for_it(
    engine: Engine, database_url: str, store: TaskStore, settings: Settings
) -> None:
    with Session(engine) as session, session.begin():
        refused, accepted = submit_in(session, invoice, order=1), submit_in(session, receipt, order=2)
    known = Registry([receipt])
    options: dict[str, Any] = {"longest_pause": 1}
    async with relay_on(database_url, store, types=known, **options):
        await eventually(lambda: rows_left(engine) == [refused.id], because="the other row has gone")
        assert (await store.get(accepted.id)).payload == {"order": 2}
        reports = await eventually(lambda: refusals(store), because="it is told")
        assert reports[0].standing.rows == 1
        assert "there is no task type 'outbox.invoice'" in reports[0].standing.problem
        assert reports[0].lag_ms > 0
        findings = [one async for one in examine(settings, store.address.url) if one.subject == "outboxes"]
        assert ["no task type" in one.detail for one in findings] == [True]
        # Somebody deploys the type.
        known.add(invoice)
        await eventually(lambda: not rows_left(engine), because="it is accepted then")
    assert (await store.get(refused.id)).status is Status.PENDING


async def test_postgresql_tells_the_relay_of_a_row(engine: Engine, database_url: str, store: TaskStore) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite tells nobody")
    # With this pause only the notification can have woken it before the test gives up.
    async with relay_on(database_url, store, poll=60):
        await eventually(lambda: read_reports(store), because="the relay has looked once")
        for number in range(3):
            with Session(engine) as session, session.begin():
                submit_in(session, invoice, order=number)
            await eventually(lambda: not rows_left(engine), because="it is relayed", timeout_s=30)


async def test_a_database_that_is_away_is_waited_for(
    engine: Engine, database_url: str, store: TaskStore, caplog: pytest.LogCaptureFixture
) -> None:
    OUTBOX.drop(engine)
    async with relay_on(database_url, store):
        await eventually(lambda: "its tasks wait there" in caplog.text, because="it says so")
        OUTBOX.create(engine)
        with Session(engine) as session, session.begin():
            handle = submit_in(session, invoice, order=1)
        await eventually(lambda: not rows_left(engine), because="it goes on")
    assert (await store.get(handle.id)).payload == {"order": 1}


async def test_a_store_that_is_away_refuses_nothing(engine: Engine, database_url: str, tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with (
            TaskStore(server.url(), Settings().store, patience_s=1) as its_store,
            relay_on(database_url, its_store),
        ):
            await eventually(lambda: read_reports(its_store), because="the relay has looked once")
            server.kill()
            with Session(engine) as session, session.begin():
                handle = submit_in(session, invoice, order=1)
            await eventually(lambda: attempts_of(engine, handle.id) > 1, because="it was tried")
            with engine.connect() as connection:
                assert connection.scalar(select(OUTBOX.c.problem)) == ""
            server.start()
            await eventually(lambda: not rows_left(engine), because="it goes on")
            assert (await its_store.get(handle.id)).payload == {"order": 1}
    finally:
        server.kill()


async def test_killed_relays_neither_lose_nor_double(
    engine: Engine, database_url: str, store: TaskStore, workers: Workers
) -> None:
    relaying = {"imports": ["tests.kit.workers.outbox_types"], "outbox": {"databases": database_url, "lease": 1}}
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        for number in range(_MOST_ORDERS):
            with Session(engine) as session:
                handle = submit_in(session, receipt, order=number)
                if number % 5 == 0:
                    session.rollback()
                else:
                    session.commit()
                    written.append(handle.id)
            if stop.wait(0.002):
                return

    writing = asyncio.create_task(asyncio.to_thread(write))
    try:
        for _ in range(3):
            # While rows come in, so that it dies anywhere between taking and deleting.
            running = await workers.start(store, **relaying)
            goal = len(written) + 50
            await eventually(lambda goal=goal: len(written) > goal or writing.done(), because="rows were written")
            running.kill()
    finally:
        stop.set()
        await writing
    await workers.start(store, **relaying)
    await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    await eventually(lambda: all_ended(store, written), because="all have ended")
    assert {(await store.get(task_id)).status for task_id in written} == {Status.COMPLETED}
    counts = await read_counts(store)
    assert sum(counts.counters["submitted"].values()) == len(written)


async def all_ended(store: TaskStore, ids: Sequence[str]) -> bool:
    return all([(await store.get(one)).status.final for one in ids])


async def refusals(store: TaskStore) -> list[OutboxReport]:
    return [one for one in await read_reports(store) if one.standing.refused]


async def test_a_row_that_comes_before_the_relay_listens_is_found_by_the_next_look(
    engine: Engine, database_url: str
) -> None:
    source = DatabaseOutbox(database_url)
    try:
        assert await source.take(10, 60) == []
        with Session(engine) as session, session.begin():
            handle = submit_in(session, invoice, order=1)
        # PostgreSQL told nobody of it, so one who waited now would wait for the next one.
        async with asyncio.timeout(60):
            await source.wait(3600 if engine.dialect.name == "postgresql" else 0)
        assert [row.task_id for row in await source.take(10, 60)] == [handle.id]
    finally:
        await source.close()
