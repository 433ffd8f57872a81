"""Submits what is in an outbox, each row under its id, and deletes it.

Any number of relays may run on one outbox, and each may be killed at any moment. A row is deleted only after its task
is in the store. A relay takes a row for a while, not for ever, so another one goes on with what a dead one had. Two
relays that submit one row make one task, since the store, and after it the history, know its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Final

from celeriac import json_text
from celeriac.errors import CeleriacError, HistoryUnavailableError, StoreUnavailableError, TaskNotFoundError
from celeriac.history.history import History
from celeriac.outbox.database import DatabaseOutbox
from celeriac.outbox.reports import report
from celeriac.outbox.source import OutboxSource, OutboxUnavailableError, TakenRow, added_sources
from celeriac.settings import Settings
from celeriac.settings.outbox import OutboxSettings
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.service import Tasks

log = logging.getLogger(__name__)

#: First pause before a refused row is tried again (seconds); it doubles each time.
_FIRST_PAUSE_S: Final = 0.5
#: Instead of a problem: the store is away.
_AWAY: Final = "away"
#: Most of a problem's text that a row keeps (characters).
_MOST_TEXT: Final = 2000
#: How often a relay says how its outbox is doing (seconds).
_REPORT_S: Final = 5.0


class OutboxRelay(Role):
    """Relays one outbox."""

    pause_after_failure_s = 1.0

    def __init__(self, *, source: OutboxSource, tasks: Tasks, settings: OutboxSettings) -> None:
        super().__init__()
        self._source = source
        self._tasks = tasks
        self._settings = settings
        self._is_away = False
        self._report_due = 0.0

    async def step(self) -> float:
        """Relay one batch, or wait for a row."""
        try:
            await self._report()
            rows = await self._source.take(self._settings.batch, self._settings.lease)
            if rows:
                await self._relay(rows)
            else:
                await self._source.wait(self._settings.poll)
        except OutboxUnavailableError as exc:
            if not self._is_away:
                log.warning("%s; its tasks wait there", exc)
            self._is_away = True
            return self.pause_after_failure_s
        if self._is_away:
            log.info("the outbox of %s answers again", self._source.name)
        self._is_away = False
        return 0

    async def stop(self) -> None:
        """End the loop, and disconnect from the database."""
        await super().stop()
        await self._source.close()

    async def _relay(self, rows: list[TakenRow]) -> None:
        # They begin in one tick, so they share a round trip, and in this order: a row may name one before it.
        problems = await asyncio.gather(*map(self._submitted, rows))
        if done := [row.task_id for row, problem in zip(rows, problems, strict=True) if problem is None]:
            await self._source.remove(done)
        for row, problem in zip(rows, problems, strict=True):
            if problem == _AWAY:
                # The row is not to blame: as soon as the store is back it is tried again.
                await self._source.put_back(row.task_id, "", self.pause_after_failure_s)
            elif problem is not None:
                pause_s = min(_FIRST_PAUSE_S * 2 ** min(row.attempts - 1, 30), self._settings.longest_pause)
                log.warning(
                    "%s: the store refused the task %s: %s; again in %.1f s",
                    self._source.name,
                    row.task_id,
                    problem,
                    pause_s,
                )
                await self._source.put_back(row.task_id, _for_people(problem), pause_s)
        if all(problem is not None for problem in problems):
            # Others may not wait behind rows that are refused, but neither may this loop turn without a pause.
            await asyncio.sleep(_FIRST_PAUSE_S)

    async def _submitted(self, row: TakenRow) -> str | None:
        """Submit a row; returns None if its task is there, `_AWAY`, or why it was refused."""
        if not _is_uuid(row.task_id):
            return "task_id is not a UUID in lower case with hyphens"
        try:
            # Another relay may have submitted it so long ago that its task has left the store.
            if row.attempts > 1 and await self._is_kept(row.task_id):
                return None
            await self._tasks.submit_as(row.task_id, json_text.read(row.submission, "the submission"))
        except StoreUnavailableError as exc:
            log.debug("%s: the task %s waits for the store: %s", self._source.name, row.task_id, exc)
            return _AWAY
        except CeleriacError as exc:
            return str(exc)
        except Exception as exc:
            # A type's own validator may raise anything; the other rows have nothing to do with it.
            log.exception("a row of the outbox of %s failed unexpectedly", self._source.name)
            return f"{type(exc).__name__}: {exc}"
        return None

    async def _is_kept(self, task_id: str) -> bool:
        if self._tasks.history is None:
            return False
        try:
            await self._tasks.kept(task_id)
        except TaskNotFoundError:
            return False
        except HistoryUnavailableError as exc:
            raise StoreUnavailableError(f"only the history could know the task, and it is away: {exc}") from exc
        return True

    async def _report(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._report_due:
            self._report_due = now + _REPORT_S
            await report(self._tasks.store, self._source.name, await self._source.standing())


def _is_uuid(task_id: str) -> bool:
    try:
        return str(uuid.UUID(task_id)) == task_id
    except ValueError:
        return False


def _for_people(problem: str) -> str:
    """Return a problem as each database takes it: PostgreSQL has no zero characters."""
    return problem[:_MOST_TEXT].replace("\0", "\\0")


@contextlib.asynccontextmanager
async def relaying(store: TaskStore, settings: Settings) -> AsyncIterator[None]:
    """Relay the outboxes of the settings, and those that `imports` have added, for as long as the block runs."""
    sources = [*map(DatabaseOutbox, settings.outbox.databases), *added_sources()]
    if not sources:
        yield
        return
    history = None if settings.database_url is None else History(settings.history_url)
    tasks = Tasks(store=store, types=TypeCatalog(registry, store), settings=settings, history=history)
    relays = [OutboxRelay(source=source, tasks=tasks, settings=settings.outbox) for source in sources]
    try:
        for relay in relays:
            await relay.start()
        yield
    finally:
        for relay in relays:
            await relay.stop()
        if history is not None:
            await history.stop()
