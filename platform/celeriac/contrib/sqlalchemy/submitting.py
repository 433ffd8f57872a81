"""Rows of the outbox in the transaction of a session or a connection."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Executable, MetaData, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from typing_extensions import ParamSpec

from celeriac.calling.handle import TaskHandle
from celeriac.calling.submittable import Submittable
from celeriac.outbox.entries import OutboxEntry, entry_for_call, handle_of
from celeriac.outbox.source import CHANNEL
from celeriac.outbox.table import outbox_table

P = ParamSpec("P")
R = TypeVar("R")

_TABLE = outbox_table(MetaData())
#: PostgreSQL tells the relay of it when the transaction has been committed.
_NOTIFY = text(f"NOTIFY {CHANNEL}")


def submit_in(
    session: Session | scoped_session[Any] | Connection, what: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> TaskHandle[R]:
    """Submit a task with the transaction of `session`; returns its handle, whose id is final.

    `what` is a task type, or one with `.options(…)`. Raises `TypeError` and `InvalidSubmissionError` as `submit` does,
    and whatever the database raises. `once`, `debounce` and `idempotency_key` are refused: they may lead to another
    task. `result` and `wait` of the handle wait for the relay too; a task that is rolled back never comes.
    """
    opened: object = session() if isinstance(session, scoped_session) else session
    connection = opened.connection() if isinstance(opened, Session) else opened
    if not isinstance(connection, Connection):
        raise TypeError(f"submit_in takes a Session or a Connection, not {type(connection).__name__}; see asubmit_in")
    entry = entry_for_call(what, args, kwargs)
    for statement in _statements(entry, connection.dialect):
        connection.execute(statement)
    return handle_of(entry, what.reader())


async def asubmit_in(
    session: AsyncSession | async_scoped_session[Any] | AsyncConnection,
    what: Submittable[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> TaskHandle[R]:
    """Do the same as `submit_in`, for asyncio."""
    opened: object = session() if isinstance(session, async_scoped_session) else session
    connection = await opened.connection() if isinstance(opened, AsyncSession) else opened
    if not isinstance(connection, AsyncConnection):
        raise TypeError(f"asubmit_in takes an AsyncSession or an AsyncConnection, not {type(connection).__name__}")
    entry = entry_for_call(what, args, kwargs)
    for statement in _statements(entry, connection.dialect):
        await connection.execute(statement)
    return handle_of(entry, what.reader())


def _statements(entry: OutboxEntry, dialect: Dialect) -> list[Executable]:
    row = {"task_id": entry.task_id, "submission": entry.submission, "created_ms": entry.created_ms}
    return [insert(_TABLE).values(row), *([_NOTIFY] if dialect.name == "postgresql" else [])]
