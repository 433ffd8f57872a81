"""Fires what is due. Any number may run; if one dies, another one does what it left undone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from celeriac.errors import CeleriacError, HistoryUnavailableError, IllegalTransitionError, TaskNotFoundError
from celeriac.schedules import transitions
from celeriac.schedules.definition import Decision, Definition, DefinitionStatus, Open
from celeriac.schedules.firing import FiringSubmitter
from celeriac.schedules.request import limits_of
from celeriac.schedules.settling import settle
from celeriac.schedules.sql.firings import DueWork, FiringTable
from celeriac.settings import ScheduleSettings
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms

log = logging.getLogger(__name__)

#: Returns the present time (ms), by the store's clock or a test's.
Clock = Callable[[], Awaitable[int]]

#: Most open instances that one step looks at.
_LOOKED_AT: Final = 1000
#: Most slots of one definition that one transaction fires.
_SLOTS: Final = 1000
#: A decision about slots that were missed may cost this many times what a question may cost: they are counted.
_CATCH_UP: Final = 10
#: Pause while another beat holds what is due (seconds).
_HELD_S: Final = 0.02
#: How often old rows are deleted (ms), and how many at once.
_PRUNE_MS: Final = 30_000
_PRUNED: Final = 1000
#: Pause while the database is away (seconds).
_AWAY_S: Final = 1.0


class Scheduler(Role):
    """Claims due definitions, submits their firings, follows their instances."""

    def __init__(
        self,
        *,
        store: TaskStore,
        firings: FiringTable,
        submitter: FiringSubmitter,
        schedule: ScheduleSettings,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._firings = firings
        self._settings = schedule
        self._clock: Clock = clock or (lambda: server_ms(store))
        self._submitter = submitter
        self._looked_until = ""
        self._kept_ms = 0
        self._pruned_ms = 0
        self._away = False

    async def step(self) -> float:
        """Fire what is due, and do the housekeeping; returns the seconds until the next step."""
        try:
            pause_s = await self._step()
        except HistoryUnavailableError as exc:
            if not self._away:
                log.warning("definitions cannot fire until the database is back: %s", exc)
            self._away = True
            return _AWAY_S
        self._away = False
        return pause_s

    async def _step(self) -> float:
        now_ms = await self._clock()
        seen = await self._due_work(now_ms)
        tick_ms = self._settings.tick * 1000
        held = False
        if seen.next_ms is not None and seen.next_ms <= now_ms:
            held = not await self._fire(now_ms, seen)
            seen = await self._due_work(now_ms)
        # The housekeeping also runs if a test turns the clock back.
        if not 0 <= now_ms - self._kept_ms < tick_ms:
            await self._keep_house(now_ms, seen)
            self._kept_ms = now_ms
        if seen.next_ms is None:
            return self._settings.tick
        if seen.next_ms <= now_ms:
            return _HELD_S if held else 0
        return min(tick_ms, seen.next_ms - now_ms) / 1000

    async def _due_work(self, now_ms: int) -> DueWork:
        return await self._firings.due_work(now_ms, older_ms=round(self._settings.takeover * 1000))

    async def _fire(self, now_ms: int, seen: DueWork) -> bool:
        """Fire one batch; returns False if another beat holds everything that is due."""
        if seen.opened:
            await settle(self._store, self._firings, await self._firings.awaited_ids(now_ms, _LOOKED_AT), now_ms)

        def decide(definition: Definition, unended: Open) -> Decision:
            decision = transitions.fire(
                definition,
                unended,
                now_ms,
                most=_SLOTS,
                max_buffered=self._settings.max_buffered,
                budget=limits_of(self._settings).budget(_CATCH_UP),
            )
            if decision.change is not None:
                log.warning("definition %s is paused: %s", definition.definition_id, decision.change.note)
            return decision

        planned, due = await self._firings.claim(now_ms, self._settings.batch, decide)
        await self._submitter.submit(planned, now_ms)
        return due > 0

    async def _keep_house(self, now_ms: int, seen: DueWork) -> None:
        if seen.orphans:
            takeover_ms = round(self._settings.takeover * 1000)
            orphans = await self._firings.take_over(now_ms, older_ms=takeover_ms, limit=self._settings.batch)
            await self._submitter.submit(orphans, now_ms)
        if seen.cancels:
            await self._cancel()
        if seen.opened:
            if seen.buffered:
                await settle(self._store, self._firings, await self._firings.awaited_ids(-1, _LOOKED_AT), now_ms)
            some = await self._firings.open_ids(self._looked_until, _LOOKED_AT)
            self._looked_until = some[-1] if len(some) == _LOOKED_AT else ""
            await settle(self._store, self._firings, some, now_ms)
        if seen.buffered:
            released = await self._firings.release(
                now_ms, self._settings.batch, lambda d: d.status is not DefinitionStatus.PAUSED
            )
            await self._submitter.submit(released, now_ms)
        if not 0 <= now_ms - self._pruned_ms < _PRUNE_MS:
            keep_ms = round(self._settings.retention * 1000)
            while await self._firings.prune(now_ms, keep_ms=keep_ms, limit=_PRUNED) >= _PRUNED:
                await asyncio.sleep(0)
            self._pruned_ms = now_ms

    async def _cancel(self) -> None:
        for task_id in await self._firings.to_cancel(_LOOKED_AT):
            await cancel_instance(self._store, task_id)


async def cancel_instance(store: TaskStore, task_id: str) -> None:
    """Cancel an instance, unless it has ended or no longer exists."""
    try:
        await store.cancel(task_id, "cancelled with its definition")
    except (TaskNotFoundError, IllegalTransitionError):
        pass
    except CeleriacError as exc:
        log.info("instance %s could not be cancelled yet: %s", task_id, exc)
