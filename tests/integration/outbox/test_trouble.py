"""An outbox in trouble: damaged rows, savepoints, connections that break, writers that hold the database."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, MetaData, create_engine, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from celeriac.contrib.sqlalchemy import asubmit_in, outbox_table, submit_in
from celeriac.outbox.database import DatabaseOutbox
from celeriac.outbox.entries import uuid7
from celeriac.store.counts import read_counts
from celeriac.store.task_store import TaskStore
from tests.integration.outbox.conftest import OUTBOX
from tests.integration.outbox.test_relay import all_ended, relay_on, rows_left
from tests.kit.cuttable_proxy import CuttableProxy
from tests.kit.servers import free_port
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers
from tests.kit.workers.outbox_types import invoice, receipt

GOOD = {"type": "outbox.invoice", "payload": {"order": 1}}


def problems(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.task_id: row.problem for row in connection.execute(select(OUTBOX.c.task_id, OUTBOX.c.problem))}


async def test_a_damaged_row_stays_with_the_reason_and_others_pass(
    engine: Engine, database_url: str, store: TaskStore
) -> None:
    damaged = {
        uuid7(1): ("{", "is not JSON"),
        uuid7(2): ("[]", "object"),
        uuid7(3): ("", "is not JSON"),
        uuid7(4): (json.dumps({"type": "outbox.invoice"}), "payload"),
        uuid7(5): (json.dumps({"type": "no\0type", "payload": {}}), "type"),
        uuid7(6): (json.dumps({**GOOD, "payload": {"order": "x"}}), "order"),
        uuid7(7): (json.dumps({**GOOD, "once": {"by": ["order"]}}), "once"),
        uuid7(8): (json.dumps({**GOOD, "surprise": 1}), "surprise"),
        "not an id": (json.dumps(GOOD), "is not a UUID"),
        "": (json.dumps(GOOD), "is not a UUID"),
    }
    with engine.begin() as connection:
        for task_id, (submission, _) in damaged.items():
            connection.execute(insert(OUTBOX).values(task_id=task_id, submission=submission, created_ms=1))
        kept = submit_in(connection, invoice, order=2)
    async with relay_on(database_url, store):
        await eventually(lambda: kept.id not in rows_left(engine), because="the good one has gone")
        await eventually(lambda: all(problems(engine).values()), because="all reasons are there")
    told = problems(engine)
    assert told.keys() == damaged.keys()
    assert [one for one, (_, reason) in damaged.items() if reason not in told[one]] == [], told


async def test_a_savepoint_that_is_rolled_back_takes_its_tasks_with_it(
    engine: Engine, database_url: str, store: TaskStore
) -> None:
    with Session(engine) as session, session.begin():
        outer = submit_in(session, invoice, order=1)
        with session.begin_nested():
            kept = submit_in(session, invoice, order=2)
            with suppress(RuntimeError), session.begin_nested():
                lost = submit_in(session, invoice, order=3)
                raise RuntimeError
        last = submit_in(session, invoice, order=4)
    assert rows_left(engine) == [outer.id, kept.id, last.id]
    async with relay_on(database_url, store):
        await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    assert await store.known([outer.id, kept.id, lost.id, last.id]) == [True, True, False, True]


async def test_each_kind_of_session_submits_and_others_are_named(engine: Engine, database_url: str) -> None:
    url = database_url.replace("postgresql:", "postgresql+psycopg:").replace("sqlite:", "sqlite+aiosqlite:")
    asynchronous = create_async_engine(url)
    registry = scoped_session(sessionmaker(engine))
    ids = [submit_in(registry, invoice, 1).id]
    registry.commit()
    registry.remove()
    async with AsyncSession(asynchronous) as session, session.begin():
        ids.append((await asubmit_in(session, invoice, 2)).id)
        async with session.begin_nested() as savepoint:
            await asubmit_in(session, invoice, 3)
            await savepoint.rollback()
    scoped = async_scoped_session(async_sessionmaker(asynchronous), asyncio.current_task)
    ids.append((await asubmit_in(scoped, invoice, 4)).id)
    await scoped.commit()
    await scoped.remove()
    assert rows_left(engine) == ids
    wrong: Any = engine
    with pytest.raises(TypeError, match="takes a Session or a Connection, not Engine"):
        submit_in(wrong, invoice, 1)
    with pytest.raises(TypeError, match="takes an AsyncSession or an AsyncConnection, not Engine"):
        await asubmit_in(wrong, invoice, 1)
    with Session(engine) as plain:
        wrong = "outbox.invoice"
        with pytest.raises(TypeError, match=r"takes a task type of Celeriac, as @celeriac\.task returns it, not str"):
            submit_in(plain, wrong, order=1)
    async with AsyncSession(asynchronous) as session:
        wrong = session
        with pytest.raises(TypeError, match="not AsyncSession; see asubmit_in"):
            submit_in(wrong, invoice, 1)
    await asynchronous.dispose()


def test_tables_of_a_schema_have_the_outbox_where_writers_and_relays_look() -> None:
    assert outbox_table(MetaData(schema="shop")).fullname == "celeriac_outbox"


async def test_a_look_into_an_empty_outbox_does_not_wait_for_a_writer(engine: Engine, database_url: str) -> None:
    source = DatabaseOutbox(database_url)
    try:
        # The application is in the middle of a long transaction.
        with Session(engine) as session, session.begin():
            session.execute(text("DELETE FROM orders"))
            async with asyncio.timeout(60):
                assert await source.take(10, 60) == []
    finally:
        await source.close()


@pytest.fixture
def cut_url(engine: Engine, database_url: str) -> Any:
    """The database behind a proxy that can cut it off."""
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connections that break")
    parts = urlsplit(database_url)
    proxy = CuttableProxy(free_port(), parts.port or 5432)
    proxy.start()
    try:
        address = f"{parts.username or 'postgres'}@127.0.0.1:{proxy.port}"
        yield parts._replace(netloc=address).geturl(), proxy
    finally:
        proxy.stop()


async def test_a_relay_that_was_cut_off_listens_again(
    engine: Engine, cut_url: tuple[str, CuttableProxy], store: TaskStore, caplog: pytest.LogCaptureFixture
) -> None:
    url, proxy = cut_url

    async def relayed(number: int) -> None:
        with Session(engine) as session, session.begin():
            submit_in(session, invoice, order=number)
        await eventually(lambda: not rows_left(engine), because="it is relayed", timeout_s=30)

    # With this pause only a notification can wake it in time.
    async with relay_on(url, store, poll=60):
        await relayed(1)
        proxy.drop()
        await eventually(lambda: "its tasks wait there" in caplog.text, because="it says so")
        proxy.open()
        await relayed(2)
        await relayed(3)
    assert "Traceback" not in caplog.text


async def test_a_database_that_is_cut_off_again_and_again_neither_loses_nor_doubles(
    engine: Engine, cut_url: tuple[str, CuttableProxy], store: TaskStore, workers: Workers
) -> None:
    url, proxy = cut_url
    relaying = {"imports": ["tests.kit.workers.outbox_types"], "outbox": {"databases": url, "lease": 1, "batch": 20}}
    await workers.start(store, **relaying)
    # The application loses its connections, too: what was not committed is not there.
    its_engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.002):
            number += 1
            with suppress(SQLAlchemyError), Session(its_engine) as session:
                handle = submit_in(session, receipt, order=number)
                session.commit()
                written.append(handle.id)

    writing = asyncio.create_task(asyncio.to_thread(write))
    try:
        for _ in range(5):
            goal = len(written) + 40
            await eventually(more_than(written, goal), because="rows were written")
            proxy.drop()
            await asyncio.sleep(0.05)
            proxy.open()
    finally:
        stop.set()
        await writing
        its_engine.dispose()
    await eventually(lambda: not rows_left(engine), because="the outbox is empty")
    await eventually(lambda: all_ended(store, written), because="all have ended")
    counts = await read_counts(store)
    # A commit whose answer was lost may have happened; nothing is there twice.
    assert len(written) <= sum(counts.counters["submitted"].values()) <= len(written) + 5


def more_than(written: list[str], goal: int) -> Callable[[], bool]:
    return lambda: len(written) > goal
