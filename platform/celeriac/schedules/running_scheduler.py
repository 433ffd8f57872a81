"""A scheduler on the database of the settings: in `celeriac beat` and in Celery's beat."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from celeriac.database.engine import create_engine
from celeriac.schedules.firing import FiringSubmitter
from celeriac.schedules.following import CodeFollower
from celeriac.schedules.scheduler import Clock, Scheduler
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.schedules.sql.firings import FiringTable
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms


@contextlib.asynccontextmanager
async def scheduler_on(store: TaskStore, settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Scheduler]:
    """Yield a scheduler on `database_url`; the caller starts it."""
    assert settings.database_url is not None
    engine = create_engine(settings.database_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        firings = FiringTable(DefinitionTable(engine))
        submitter = FiringSubmitter(store=store, firings=firings, settings=settings)
        yield Scheduler(store=store, firings=firings, submitter=submitter, schedule=settings.schedule, clock=clock)
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def following_code(
    store: TaskStore, settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[CodeFollower]:
    """Yield what keeps the definitions of `@task(schedule=...)` up to date on `database_url`; the caller starts it."""
    assert settings.database_url is not None
    engine = create_engine(settings.database_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        yield CodeFollower(
            store=store,
            definitions=DefinitionTable(engine),
            settings=settings,
            clock=clock or (lambda: server_ms(store)),
        )
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def scheduling(store: TaskStore, settings: Settings) -> AsyncIterator[None]:
    """Fire definitions for as long as the block runs; without `database_url` there are none.

    Does not fail when the database is away, or not migrated yet: it waits for it.
    """
    if settings.database_url is None:
        yield
        return
    async with scheduler_on(store, settings) as scheduler, following_code(store, settings) as follower:
        for role in (scheduler, follower):
            await role.start()
        try:
            yield
        finally:
            for role in (follower, scheduler):
                await role.stop()
