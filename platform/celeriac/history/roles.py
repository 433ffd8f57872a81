"""The background roles of the history, for any process that runs them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator

from celeriac.database.engine import create_engine
from celeriac.history.error_grouper import ErrorGrouper
from celeriac.history.pruner import Pruner
from celeriac.history.recorder import Recorder
from celeriac.history.search_indexer import SearchIndexer
from celeriac.settings import Settings
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from celeriac.store.watching.titles import TaskTitles

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def keeping(
    store: TaskStore, settings: Settings, titles: TaskTitles, *, pruning: bool = True
) -> AsyncIterator[None]:
    """Record and prune inside the block; without `database_url` there is no history.

    If the database is away or not migrated yet, this does not fail: the roles wait for it and catch up.
    """
    if settings.database_url is None:
        yield
        return
    engine = create_engine(settings.database_url, statement_timeout_s=settings.ledger.statement_timeout)
    consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    feed = EventFeed(store, consumer=consumer)
    roles: list[Role] = [
        Recorder(feed=feed, engine=engine, ledger=settings.ledger, lease_s=settings.lease, titles=titles),
        SearchIndexer(engine=engine, ledger=settings.ledger),
    ]
    if pruning:
        roles += [Pruner(engine=engine, store=store, retentions=settings.retentions), ErrorGrouper(engine=engine)]
    try:
        for role in roles:
            await role.start()
        yield
    finally:
        for role in reversed(roles):
            await role.stop()
        await feed.close()
        await engine.dispose()
