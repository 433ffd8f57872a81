"""The handler of `celeriac.bulk`: walks through the history along the filter and acts on each task in the store.

Where it is, it notes in the store before each page. So it may be killed at any moment: the next attempt
repeats that page, and what was done already is recognised (a retry by its nonce, a cancelled task by its status).
A task that changed since the history saw it is skipped, not retried a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import orjson

from celeriac.errors import (
    CeleriacError,
    ChangedTaskError,
    HistoryUnavailableError,
    IllegalTransitionError,
    QueueFullError,
    SkipRetry,
    StoreUnavailableError,
    TaskError,
    TaskNotFoundError,
)
from celeriac.handlers.context import Context
from celeriac.history.history import History
from celeriac.model import ms_from_utc
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from celeriac.tasks.filter import Sort, TaskFilter
from celeriac.tasks.registry import Registry
from celeriac.tasks.types.bulk import BULK, BulkPayload

#: Tasks between two notes, and of those at once on their way.
_PAGE: Final = 200
_AT_ONCE: Final = 50
#: How long the history may take to catch up with what was there when the operation began (seconds).
_CATCH_UP_S: Final = 30.0
#: Pause between two looks at a history that is behind, or a group that is full (seconds).
_LOOK_S: Final = 0.2
#: Failures of which the result tells.
_TOLD: Final = 20


@dataclass(slots=True)
class _Place:
    """How far the operation is: `page` are the tasks (id, revision) on which it acts now."""

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
        noted = orjson.loads(text)
        return cls(**{**noted, "page": [(task_id, rev) for task_id, rev in noted["page"]]})


class BulkHandler:
    """Runs bulk operations, on connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __call__(self, payload: BulkPayload, ctx: Context) -> dict[str, Any]:
        """Act on all tasks that the filter selects; returns how many there were and what became of them."""
        assert self._settings.redis_url is not None
        if self._settings.database_url is None:
            raise SkipRetry("this worker knows no history: set DATABASE_URL", code="ledger_unavailable")
        try:
            async with (
                TaskStore(self._settings.redis_url, self._settings.store) as store,
                History(
                    self._settings.database_url, statement_timeout_s=self._settings.ledger.statement_timeout
                ) as history,
            ):
                return await _Operation(payload, ctx, store, history).run()
        except (HistoryUnavailableError, StoreUnavailableError) as exc:
            raise TaskError(str(exc), code=exc.code) from exc


class _Operation:
    def __init__(self, payload: BulkPayload, ctx: Context, store: TaskStore, history: History) -> None:
        self._action = payload.action
        self._targets = payload.targets
        self._ctx = ctx
        self._store = store
        self._history = history
        self._slots = asyncio.Semaphore(_AT_ONCE)

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
        # Counted again: what matched at first may have ended before its turn came.
        return {"matched": sum(result.values()), **result, "errors": place.errors}

    async def _bounded(self) -> TaskFilter:
        """Return the filter without what came after this operation."""
        # What came in the same millisecond came before it, for whoever asked for both in turn.
        created_at = (await self._store.get(self._ctx.task_id)).created_at + timedelta(milliseconds=1)
        bounds: dict[str, Any] = {}
        # What is retried here and fails again ends later than this.
        for name in ("created_before", *(["finished_before"] if self._action == "retry" else [])):
            before = getattr(self._targets, name)
            bounds[name] = created_at if before is None else min(before, created_at)
        return self._targets.model_copy(update=bounds)

    async def _catch_up(self) -> None:
        """Wait until everything that came before this operation is in the history."""
        began_ms = ms_from_utc((await self._store.get(self._ctx.task_id)).created_at)
        feed = EventFeed(self._store, consumer="")
        for _ in range(round(_CATCH_UP_S / _LOOK_S)):
            lag = await feed.lag()
            if lag.recording and lag.recorded_until_ms > began_ms:
                return
            await asyncio.sleep(_LOOK_S)
        raise TaskError("the history is behind, so it does not know all tasks yet", code="ledger_behind")

    def _is_meant(self, task: Any) -> bool:
        if task.type == BULK.name and self._targets.type != BULK.name:
            return False
        return bool(task.task_id != self._ctx.task_id)

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
                    await self._store.cancel(task_id, f"cancelled with others by {self._ctx.task_id}")
                else:
                    await self._retry(task_id, rev)
            except (StoreUnavailableError, HistoryUnavailableError):
                raise
            except CeleriacError as exc:
                return exc
        return None

    async def _retry(self, task_id: str, rev: int) -> None:
        nonce = f"bulk:{self._ctx.task_id}"
        kept: dict[str, str] | None = None
        while True:
            try:
                await self._store.retry(task_id, rev=rev, nonce=nonce, kept=kept)
                return
            except TaskNotFoundError:
                if kept is not None:
                    raise
                kept = (await self._history.get(task_id)).record
            except QueueFullError:
                # Its workers make room; until then nothing else is worth trying either.
                await asyncio.sleep(_LOOK_S)

    async def _note(self, place: _Place) -> None:
        await self._store.set_checkpoint(self._ctx.task_id, orjson.dumps(place).decode())

    def _report(self, place: _Place) -> Awaitable[None]:
        ended = place.done + place.skipped + place.failed
        percentage = 100 * min(ended / place.matched, 1) if place.matched else 100
        return self._ctx.progress(round(percentage, 1), self._action, f"{ended} of {place.matched}")


def install(settings: Settings, registry: Registry) -> BulkHandler:
    """Give `celeriac.bulk` its handler in `registry` and return it."""
    handler = BulkHandler(settings)
    registry.add(replace(BULK, handler=handler.__call__))
    return handler
