"""The handler of `celeriac.bulk`: finds the tasks of a filter in the history and acts on each one in the store.

Before each page it saves its position in the store, so it may be killed at any moment. The next attempt repeats
that page and recognises finished work: a retry by its nonce, a cancelled task by its status. A task that has
changed since the history recorded it is skipped, not retried a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import (
    CeleriacError,
    ChangedTaskError,
    HistoryUnavailableError,
    IllegalTransitionError,
    KeyFullError,
    QueueFullError,
    SkipRetry,
    StoreUnavailableError,
    TaskError,
    TaskNotFoundError,
)
from celeriac.handlers.context import Context
from celeriac.history.history import History
from celeriac.model import Task, ms_from_utc
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry, registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.bulk import BULK, BulkPayload

#: How many tasks are one page, and how many of them are changed at once.
_PAGE: Final = 200
_AT_ONCE: Final = 50
#: How long the history may take to record everything that existed when the operation began (seconds).
_CATCH_UP_S: Final = 30.0
#: The pause before another look at a history that lags or a group that is full (seconds).
_LOOK_S: Final = 0.2
#: At most this many failures are listed in the result.
_TOLD: Final = 20


@dataclass(slots=True)
class _Place:
    """The position of the operation; `page` lists the tasks (id, revision) on which it acts now."""

    matched: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    cursor: str | None = None
    page: list[tuple[str, int]] = field(default_factory=list)
    last: bool = False
    errors: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> _Place:
        noted = json_text.read(text)
        return cls(**{**noted, "page": [(task_id, rev) for task_id, rev in noted["page"]]})


class BulkHandler:
    """Runs bulk operations on its own connections."""

    def __init__(self, settings: Settings, types: Registry = registry) -> None:
        self._settings = settings
        self._types = types

    async def __call__(self, payload: BulkPayload, ctx: Context) -> dict[str, Any]:
        """Act on all tasks that the filter selects; returns how many matched and how they ended."""
        assert self._settings.redis_url is not None
        if self._settings.database_url is None:
            raise SkipRetry("this worker does not have a history database: set DATABASE_URL", code="ledger_unavailable")
        try:
            async with (
                TaskStore(self._settings.redis_url, self._settings.store) as store,
                History(
                    self._settings.database_url, statement_timeout_s=self._settings.ledger.statement_timeout
                ) as history,
            ):
                tasks = Tasks(
                    store=store, types=TypeCatalog(self._types, store), settings=self._settings, history=history
                )
                return await _Operation(payload, ctx, tasks, history).run()
        except (HistoryUnavailableError, StoreUnavailableError) as exc:
            raise TaskError(str(exc), code=exc.code) from exc


class _Operation:
    def __init__(self, payload: BulkPayload, ctx: Context, tasks: Tasks, history: History) -> None:
        self._action = payload.action
        self._targets = payload.targets
        self._ctx = ctx
        self._tasks = tasks
        self._store = tasks.store
        self._history = history
        self._slots = asyncio.Semaphore(_AT_ONCE)
        user_id = payload.targets.user_id
        #: The user who acts on their own tasks makes the groups that are known again by that.
        self._maker = f"user:{user_id}" if user_id is not None and user_id == ctx.user_id else None

    async def run(self) -> dict[str, Any]:
        noted = await self._store.checkpoint(self._ctx.task_id)
        place = _Place() if noted is None else _Place.read(noted)
        targets = await self._bounded()
        if noted is None:
            await self._catch_up()
            place.matched = await self._history.count(targets)
        while True:
            if place.page:
                await self._act(place)
                await self._report(place)
            if place.last:
                break
            found = await self._history.find(targets, sort=Sort.CREATED, limit=_PAGE, cursor=place.cursor)
            place.page = [(kept.task.task_id, kept.rev) for kept in found.tasks if self._is_meant(kept.task)]
            place.cursor, place.last = found.next_cursor, found.next_cursor is None
            await self._note(place)
        result = {name: getattr(place, name) for name in ("done", "skipped", "failed")}
        # Counted again, because a task that matched at first may have ended before its turn came.
        return {"matched": sum(result.values()), **result, "errors": place.errors}

    async def _bounded(self) -> TaskFilter:
        """Return the filter, limited to tasks that were submitted before this operation."""
        # A caller may submit a task and then this operation within the same millisecond: the task counts as earlier.
        created_at = (await self._store.get(self._ctx.task_id)).created_at + timedelta(milliseconds=1)
        bounds: dict[str, Any] = {}
        # A task that this operation retries and that fails again ends after this time, so it is not found twice.
        for name in ("created_before", *(["finished_before"] if self._action == "retry" else [])):
            before = getattr(self._targets, name)
            bounds[name] = created_at if before is None else min(before, created_at)
        if self._targets.q is not None:
            # "24h ago" is counted from here, also when another worker continues.
            bounds["q"] = self._targets.query.at(created_at).written()
        return self._targets.model_copy(update=bounds)

    async def _catch_up(self) -> None:
        """Wait until the history has recorded everything that happened before this operation."""
        began_ms = ms_from_utc((await self._store.get(self._ctx.task_id)).created_at)
        feed = EventFeed(self._store, consumer="")
        for _ in range(round(_CATCH_UP_S / _LOOK_S)):
            lag = await feed.lag()
            if lag.recording and lag.recorded_until_ms > began_ms:
                return
            await asyncio.sleep(_LOOK_S)
        raise TaskError("the history lags, so it does not have all tasks yet", code="ledger_behind")

    def _is_meant(self, task: Task) -> bool:
        by_name_only = self._tasks.types.local.hooks_of(task.type).bulk_by_name_only
        named = (self._targets.type, *(self._targets.query.values("type") or ()))
        if by_name_only and task.type not in named:
            return False
        return task.task_id != self._ctx.task_id

    async def _act(self, place: _Place) -> None:
        outcomes = await asyncio.gather(*(self._one(task_id, rev) for task_id, rev in place.page))
        for (task_id, _), outcome in zip(place.page, outcomes, strict=True):
            if outcome is None:
                place.done += 1
            elif isinstance(outcome, IllegalTransitionError | ChangedTaskError | TaskNotFoundError):
                place.skipped += 1
            else:
                place.failed += 1
                if len(place.errors) < _TOLD:
                    place.errors.append({"task_id": task_id, "code": outcome.code, "message": str(outcome)[:500]})
        place.page = []

    async def _one(self, task_id: str, rev: int) -> CeleriacError | None:
        async with self._slots:
            try:
                if self._action == "cancel":
                    await self._tasks.cancel(task_id, f"cancelled with others by {self._ctx.task_id}")
                else:
                    await self._retry(task_id, rev)
            except (StoreUnavailableError, HistoryUnavailableError):
                raise
            except CeleriacError as exc:
                return exc
        return None

    async def _retry(self, task_id: str, rev: int) -> None:
        nonce = f"bulk:{self._ctx.task_id}"
        while True:
            try:
                await self._tasks.retry(task_id, rev=rev, nonce=nonce, maker=self._maker)
                return
            except (QueueFullError, KeyFullError):
                # Workers will make room; until then, other retries would most likely fail too.
                await asyncio.sleep(_LOOK_S)

    async def _note(self, place: _Place) -> None:
        await self._store.set_checkpoint(self._ctx.task_id, json_text.write(place))

    def _report(self, place: _Place) -> Awaitable[None]:
        ended = place.done + place.skipped + place.failed
        percentage = 100 * min(ended / place.matched, 1) if place.matched else 100
        return self._ctx.progress(round(percentage, 1), self._action, f"{ended} of {place.matched}")


def install(settings: Settings, types: Registry) -> BulkHandler:
    """Give `celeriac.bulk` its handler in `types` and return it."""
    handler = BulkHandler(settings, types)
    types.add(replace(BULK, handler=handler.__call__))
    return handler
