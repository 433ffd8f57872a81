"""Run a command's coroutine on a connected store, or on the history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from celeriac.errors import SettingsError
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore

if TYPE_CHECKING:
    from celeriac.history.history import Ledger

T = TypeVar("T")


def on_store(settings: Settings, url: str, work: Callable[[TaskStore], Awaitable[T]]) -> T:
    """Connect, run `work` and disconnect; raises `SettingsError` for a URL that is none."""

    async def run() -> T:
        try:
            store = TaskStore(url, settings)
        except ValueError as exc:
            raise SettingsError(f"redis_url: {exc}") from exc
        async with store:
            return await work(store)

    return asyncio.run(run())


def on_ledger(settings: Settings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Connect to the history, run `work` and disconnect; raises `LedgerMissingError` where there is none."""
    # Here, so that the other commands do not import SQLAlchemy, which takes longer than they do.
    from celeriac.history.history import Ledger

    async def run() -> T:
        async with Ledger(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout) as ledger:
            return await work(ledger)

    return asyncio.run(run())
