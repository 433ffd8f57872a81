"""Moves the global event stream into SQL, in batches.

Any number may run: the stream's consumer group gives each entry to one of them, and another recorder takes over what a
dead one had read. An entry is acknowledged after its transaction, and writing is idempotent. So a recorder may die, and
the database or the store may be away, at any moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from celeriac.database.migrating import check
from celeriac.errors import HistoryUnavailableError, WorkflowNotFoundError
from celeriac.history.rows import clean, row_of
from celeriac.history.search import SearchWriter
from celeriac.history.workflows import WorkflowWriter
from celeriac.history.writing import Writer
from celeriac.model import Status
from celeriac.settings import LedgerSettings
from celeriac.store.roles.role import Role
from celeriac.store.watching.feed import EventFeed, FeedEntry
from celeriac.store.watching.titles import TaskTitles
from celeriac.task_fields import status_of

log = logging.getLogger(__name__)

#: First and longest pause while the database is away (seconds); the pause doubles each time.
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
#: Records that one step of a resynchronisation reads, and events that are read of each.
_RESYNC_PAGE: Final = 200
_RESYNC_EVENTS: Final = 1000
#: By the setting `ledger.log`: how a task must end for its log to be kept.
_LOGGED: Final = {
    "none": (),
    "failed": (Status.FAILED.stored,),
    "all": tuple(status.stored for status in Status if status.final),
}
#: Logs that are held in memory at once; a line has at most about 24 KiB.
_LOGS_AT_ONCE: Final = 5
#: Workflows that are held in memory at once; one may have thousands of nodes.
_WORKFLOWS_AT_ONCE: Final = 20
#: A consumer that has not read for this long is forgotten (seconds).
_UNSEEN_S: Final = 3600.0


class Recorder(Role):
    """Writes what happened to the tasks into the database of `engine`.

    It takes over what another recorder read and did not write within `lease_s` seconds.
    """

    def __init__(
        self, *, feed: EventFeed, engine: AsyncEngine, ledger: LedgerSettings, lease_s: float, titles: TaskTitles
    ) -> None:
        super().__init__()
        self._titles = titles
        self._feed = feed
        self._engine = engine
        self._settings = ledger
        self._lease_s = lease_s
        search = SearchWriter(engine, parts=ledger.search, most=ledger.search_chars)
        self._writer = Writer(engine, progress=ledger.progress, search=search)
        self._workflow_writer = WorkflowWriter(engine)
        #: Entries that were read and are not acknowledged yet.
        self._batch: list[FeedEntry] = []
        self._checked = False
        self._away_s = 0.0
        self._housekeeping_due = 0.0

    async def step(self) -> float:
        """Record one batch; returns the seconds until the next one."""
        try:
            if not self._checked:
                await check(self._engine)
                self._checked = True
            pause_s = await self._step()
        except HistoryUnavailableError as exc:
            if not self._away_s:
                log.warning("history cannot be recorded at the moment; the store keeps the events: %s", exc)
            self._away_s = min(self._away_s * 2 or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            return self._away_s
        if self._away_s:
            log.warning("history is recorded again")
            self._away_s = 0.0
        return pause_s

    async def _step(self) -> float:
        batch_size = self._settings.batch
        resync = ""
        if not self._batch:
            await self._keep_house(batch_size)
        if not self._batch:
            reading = await self._feed.read(batch_size)
            self._batch, resync = reading.entries, reading.resync
            if reading.missed:
                log.warning(
                    "the event stream was trimmed before it was recorded (or nobody recorded so far): "
                    "all records that the store still holds are gone through now"
                )
        full = len(self._batch) >= batch_size
        if self._batch:
            await self._record(self._batch)
            await self._feed.ack([entry.entry_id for entry in self._batch])
            self._batch = []
        if resync and not full:
            return 0 if await self._resync(resync) else self._settings.interval
        return 0 if full else self._settings.interval

    async def _keep_house(self, batch_size: int) -> None:
        """Take over what dead recorders left, now and then."""
        if time.monotonic() < self._housekeeping_due:
            return
        idle_s = self._lease_s
        self._batch = await self._feed.take_over(batch_size, idle_s=idle_s)
        if self._batch:
            log.info("taking over %d events from a recorder that is gone", len(self._batch))
        else:
            await self._feed.retire(unseen_s=_UNSEEN_S)
            self._housekeeping_due = time.monotonic() + idle_s / 3

    async def _record(self, entries: Sequence[FeedEntry]) -> None:
        await self._titles.ready()
        of_task: dict[str, list[FeedEntry]] = {}
        for entry in entries:
            if not entry.task_id:
                continue  # another program added it to the stream
            of_task.setdefault(entry.task_id, []).append(entry)
        await self._record_workflows({entry.workflow_id: entry for entry in entries if entry.workflow_id})
        async for records in self._feed.records(of_task):
            await self._record_tasks(records, of_task)
            await self._record_steps(records)

    async def _record_steps(self, records: Mapping[str, Mapping[str, str]]) -> None:
        """Write the steps of tasks that have ended, of one after the other: those of one may be 8 MiB."""
        for task_id, record in records.items():
            if "noted" in record and status_of(record.get("status", "")).final:
                await self._writer.write_steps(task_id, await self._feed.steps_of(task_id))

    async def _record_workflows(self, last: Mapping[str, FeedEntry]) -> None:
        """Write workflows as they are now; `last` has the last event of each."""
        found, lost = [], {}
        for workflow_id, entry in last.items():
            try:
                found.append(await self._feed.workflow(workflow_id))
            except WorkflowNotFoundError:
                lost[workflow_id] = (entry.rev, entry.event.fields.get("status", ""))
            if len(found) == _WORKFLOWS_AT_ONCE:
                await self._workflow_writer.write(found, {})
                found = []
        await self._workflow_writer.write(found, lost)

    async def _record_tasks(
        self, records: Mapping[str, Mapping[str, str]], of_task: Mapping[str, Sequence[FeedEntry]]
    ) -> None:
        """Write tasks with their events, and the last lines of those logs that history keeps.

        A log is complete when its task has ended.
        """
        kept = _LOGGED[self._settings.log]
        logged = [i for i, record in records.items() if "log_seq" in record and record.get("status") in kept]
        rows = self._rows(records)
        plain = [task_id for task_id in records if task_id not in set(logged)]
        if plain:
            entries = [entry for task_id in plain for entry in of_task.get(task_id, ())]
            await self._writer.write({task_id: rows[task_id] for task_id in plain if task_id in rows}, entries)
        for start in range(0, len(logged), _LOGS_AT_ONCE):
            some = logged[start : start + _LOGS_AT_ONCE]
            entries = [entry for task_id in some for entry in of_task.get(task_id, ())]
            entries += await self._feed.log_lines_of(some, self._settings.log_lines)
            await self._writer.write({task_id: rows[task_id] for task_id in some if task_id in rows}, entries)

    async def _resync(self, number: str) -> bool:
        """Write one page of the records that the store holds; returns whether the next page is due at once."""
        page = await self._feed.resync_page(number, _RESYNC_PAGE)
        if page is None:
            return False
        task_ids, cursor = page
        await self._titles.ready()
        async for records in self._feed.records(task_ids):
            of_workflows = {record.get("workflow_id", ""): FeedEntry.unknown() for record in records.values()}
            of_workflows.pop("", None)
            await self._record_workflows(of_workflows)
            for start in range(0, len(records), 20):
                some = dict(list(records.items())[start : start + 20])
                of_task: dict[str, list[FeedEntry]] = {}
                for entry in await self._feed.events_of(list(some), _RESYNC_EVENTS):
                    of_task.setdefault(entry.task_id, []).append(entry)
                await self._record_tasks(some, of_task)
                await self._record_steps(some)
        await self._feed.resync_done(number, cursor)
        if cursor == "0":
            log.warning("history is complete again, except for what the store no longer had")
        return True

    def _rows(self, records: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
        """Return the rows of the records that exist and can be read."""
        rows = {}
        for task_id, record in records.items():
            try:
                if "status" in record:
                    rows[task_id] = row_of({"task_id": task_id, **record})
                    rows[task_id]["title"] = clean(self._titles.of_record(record))
            except ValueError as exc:
                # Foreign programs write records too.
                log.error("task %s is left out of the history: its record cannot be read: %s", task_id, exc)
        return rows
