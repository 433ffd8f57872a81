"""Task control on real stores under a clock of the test's own; the test is the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from celeriac.history.history import History
from celeriac.model import Claim, Failure, Task, rfc3339, utc_from_ms
from celeriac.schedules.running_scheduler import scheduler_on
from celeriac.schedules.scheduler import Scheduler
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api import http_serving  # noqa: F401 - its task types
from tests.kit.definitions import BEGIN_MS


def at(seconds: float) -> str:
    """Return the moment so many seconds after the beginning."""
    return rfc3339(utc_from_ms(BEGIN_MS + seconds * 1000))


@dataclass
class ManualClock:
    """The clock by which everything goes: it stands still until the test moves it."""

    ms: int = BEGIN_MS

    async def __call__(self) -> int:
        return self.ms

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@dataclass
class SchedulesKit:
    """Everything of task control that a test uses."""

    clock: ManualClock
    schedules: Schedules
    scheduler: Scheduler
    store: TaskStore
    history: History

    async def create(self, **fields: Any) -> str:
        """Create a definition of an echo task every minute, unless the fields say otherwise."""
        document = {
            "user_id": 7,
            "task": {"type": "http_test.echo", "payload": {}},
            "trigger_type": "LOOP",
            "trigger_args": {"interval": 60},
            **fields,
        }
        seen, created = await self.schedules.create(document, actor="tester")
        assert created
        return seen.definition.definition_id

    async def run_for(self, seconds: float, *, step_s: float = 1) -> None:
        """Let a beat run for so long."""
        for _ in range(round(seconds / step_s)):
            self.clock.pass_s(step_s)
            await self.fire()

    async def fire(self) -> None:
        """Let a beat do all that is to be done now."""
        while await self.scheduler.step() == 0:
            pass

    async def instances(self, definition_id: str) -> list[Task]:
        """Return all instances, the oldest slot first."""
        found, cursor = await self.schedules.instances(definition_id, limit=500)
        assert cursor is None
        return sorted(found, key=lambda task: (_slot(task), task.created_at))

    async def slots(self, definition_id: str) -> list[int]:
        """Return the slots that were fired, in seconds since the beginning."""
        return [round(_slot(task).timestamp() - BEGIN_MS / 1000) for task in await self.instances(definition_id)]

    async def counters(self, definition_id: str) -> dict[str, int]:
        """Return the counters that are not zero."""
        definition = (await self.schedules.get(definition_id)).definition
        names = ("fired", "skipped", "missed", "buffered", "succeeded", "failed", "cancelled")
        return {name: getattr(definition, name) for name in names if getattr(definition, name)}

    async def status(self, definition_id: str) -> str:
        return (await self.schedules.get(definition_id)).status.value

    async def claim(self, task: Task) -> Claim:
        claim = await self.store.claim(task.task_id, worker="w")
        assert isinstance(claim, Claim), claim
        return claim

    async def end(self, task: Task, *, failing: bool = False) -> None:
        """Run an instance to its end."""
        claim = await self.claim(task)
        if failing:
            await self.store.fail(claim, Failure("broken", "boom", False), 0)
        else:
            await self.store.complete(claim, '"done"')

    async def rows(self, statement: str) -> list[Any]:
        async with self.history.engine.connect() as connection:
            return list((await connection.execute(text(statement))).all())


@asynccontextmanager
async def task_control(store: TaskStore, settings: Settings) -> AsyncIterator[SchedulesKit]:
    """Yield task control on `settings.database_url`, at `BEGIN_MS`."""
    from celeriac.tasks.registry import registry

    clock = ManualClock()

    async def types(_: str) -> Any:
        return registry

    assert settings.database_url is not None
    async with (
        History(settings.database_url) as history,
        scheduler_on(store, settings, clock=clock) as scheduler,
    ):
        schedules = Schedules(store=store, history=history, types=types, settings=settings, clock=clock)
        yield SchedulesKit(clock, schedules, scheduler, store, history)


def _slot(task: Task) -> datetime:
    assert task.scheduled_at is not None, f"{task.task_id} is not an instance of a definition"
    return task.scheduled_at
