"""Where an attempt keeps what it does durably: the store, the threads and the loop of its process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar, cast

from celeriac.execution.attempt_store import AttemptStore
from celeriac.handlers.durable import NewChild
from celeriac.model import Claim, Dependency, Kept, Noted, Parent, When
from celeriac.settings import StepSettings

T = TypeVar("T")

#: Submits a child of the task of a claim, unless there is a task of its id.
SpawnChild = Callable[[Claim, NewChild], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """What durable work of all attempts of a process needs."""

    limits: StepSettings
    suspend_after_s: float
    spawn: SpawnChild
    #: Sleeps in place.
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep


class AttemptWork:
    """The durable work of one attempt; a `celeriac.handlers.durable.Work`."""

    def __init__(
        self,
        claim: Claim,
        *,
        store: AttemptStore,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        settings: WorkSettings,
    ) -> None:
        self.loop = loop
        self.limits = settings.limits
        self.suspend_after_s = settings.suspend_after_s
        self._claim = claim
        self._store = store
        self._threads = threads
        self._spawn = settings.spawn
        self._pause = settings.pause

    async def kept(self) -> Kept:
        """Return all that the task keeps."""
        return await self._store.kept(self._claim.task_id)

    async def signal(self, name: str) -> Noted | None:
        """Return a signal that the task has received."""
        return (await self._store.signals(self._claim.task_id, name)).get(name)

    async def note(self, name: str, value: str, took_ms: int = 0) -> tuple[Noted, int]:
        """Keep something, and renew the lease."""
        return await self._store.note_step(self._claim, name, value, took_ms=took_ms)

    async def child(self, task_id: str) -> Parent | None:
        """Return the state of a child, None if it has left the store."""
        return (await self._store.parents([Dependency(task_id, When.ENDED)])).get(task_id)

    async def spawn(self, child: NewChild) -> None:
        """Submit a child."""
        await self._spawn(self._claim, child)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a plain function in a thread for plain functions."""
        raised: list[BaseException] = []

        def body() -> T | None:
            # As a value: a StopIteration cannot pass through a future, and a SystemExit would end the loop.
            try:
                return function()
            except BaseException as exc:
                raised.append(exc)
                return None

        value = await self.loop.run_in_executor(self._threads, body)
        if raised:
            raise raised[0]
        return cast(T, value)

    async def pause(self, seconds: float) -> None:
        """Sleep in place."""
        await self._pause(seconds)
