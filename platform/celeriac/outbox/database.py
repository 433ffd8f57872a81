"""An outbox in a database that has a URL of its own, through SQLAlchemy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import MetaData, delete, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from celeriac.database.engine import LOST_LINK, create_engine, database_of, shown, transaction
from celeriac.outbox.source import CHANNEL, NOW_MS, OutboxStanding, OutboxUnavailableError, TakenRow
from celeriac.outbox.table import outbox_table

if TYPE_CHECKING:
    import psycopg

_TABLE: Final = outbox_table(MetaData())


class DatabaseOutbox:
    """The outbox of the database at a URL of SQLite or PostgreSQL."""

    def __init__(self, database_url: str) -> None:
        """Raises `SettingsError` for a URL that cannot be one."""
        self._url = database_of(database_url)
        self._engine = create_engine(database_url, ours=False)
        self._now_ms = text(NOW_MS[self._url.drivername])
        self._listening: psycopg.AsyncConnection[Any] | None = None
        self.name = shown(database_url)

    async def take(self, limit: int, lease_s: float) -> list[TakenRow]:
        """See `OutboxSource.take`."""
        if self._url.drivername == "sqlite" and not await self._has_free():
            return []
        async with self._writing() as connection:
            now_ms = await connection.scalar(self._now_ms)
            free = (
                select(_TABLE.c.task_id, _TABLE.c.submission, _TABLE.c.attempts)
                .where(_TABLE.c.free_ms <= now_ms)
                .order_by(_TABLE.c.task_id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            rows = [TakenRow(*row[:2], row[2] + 1) for row in await connection.execute(free)]
            if rows:
                await connection.execute(
                    update(_TABLE)
                    .where(_TABLE.c.task_id.in_([row.task_id for row in rows]))
                    .values(free_ms=now_ms + round(lease_s * 1000), attempts=_TABLE.c.attempts + 1)
                )
        return rows

    async def _has_free(self) -> bool:
        # A writer of SQLite stops all others, so a look into an empty outbox only reads.
        with self._translated():
            async with self._engine.connect() as connection:
                now_ms = await connection.scalar(self._now_ms)
                free = select(_TABLE.c.task_id).where(_TABLE.c.free_ms <= now_ms).limit(1)
                return (await connection.execute(free)).first() is not None

    async def remove(self, task_ids: Sequence[str]) -> None:
        """See `OutboxSource.remove`."""
        async with self._writing() as connection:
            await connection.execute(delete(_TABLE).where(_TABLE.c.task_id.in_(task_ids)))

    async def put_back(self, task_id: str, problem: str, pause_s: float) -> None:
        """See `OutboxSource.put_back`."""
        async with self._writing() as connection:
            now_ms = await connection.scalar(self._now_ms)
            await connection.execute(
                update(_TABLE)
                .where(_TABLE.c.task_id == task_id)
                .values(free_ms=now_ms + round(pause_s * 1000), problem=problem)
            )

    async def standing(self) -> OutboxStanding:
        """See `OutboxSource.standing`."""
        with self._translated():
            async with self._engine.connect() as connection:
                now_ms = await connection.scalar(self._now_ms)
                rows, oldest = (
                    await connection.execute(select(func.count(), func.min(_TABLE.c.created_ms)).select_from(_TABLE))
                ).one()
                refused = select(_TABLE.c.problem, func.count().over()).where(_TABLE.c.problem != "")
                first = (await connection.execute(refused.order_by(_TABLE.c.task_id).limit(1))).first()
        problem, refused_rows = ("", 0) if first is None else first
        return OutboxStanding(rows, 0 if oldest is None else max(0, now_ms - oldest), refused_rows, problem)

    async def wait(self, timeout_s: float) -> None:
        """See `OutboxSource.wait`. PostgreSQL says when a row has come."""
        if self._url.drivername != "postgresql":
            await asyncio.sleep(timeout_s)
            return
        with self._translated():
            if self._listening is None or self._listening.closed:
                # A row may have come since the last look and before this; only another look finds it.
                self._listening = await self._listen()
                return
            async for _ in self._listening.notifies(timeout=timeout_s, stop_after=1):
                return

    async def _listen(self) -> psycopg.AsyncConnection[Any]:
        import psycopg

        address = self._url.render_as_string(hide_password=False)
        listening = await psycopg.AsyncConnection.connect(address, autocommit=True, connect_timeout=5, **LOST_LINK)
        await listening.execute(f"LISTEN {CHANNEL}")
        return listening

    async def close(self) -> None:
        """See `OutboxSource.close`."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.close()
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with self._translated():
            async with transaction(self._engine) as connection:
                yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as exc:
            raise OutboxUnavailableError(self.name, exc) from exc
        except Exception as exc:
            if type(exc).__module__.partition(".")[0] != "psycopg":
                raise
            raise OutboxUnavailableError(self.name, exc) from exc
