"""The one connection of this process."""

from __future__ import annotations

import atexit
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol, cast

from celeriac.calling.access import Ended, TaskAccess, provide
from celeriac.calling.blocking import finish
from celeriac.calling.options import NewTask, Payload
from celeriac.client.async_client import AsyncClient
from celeriac.connection.place import Mark, Place, find_place, mark_of
from celeriac.errors import SettingsError
from celeriac.model import LogLine, Outcome, Progress, Status, Task
from celeriac.settings import client_environment
from celeriac.threads.forking import call_after_fork, keep_inherited

if TYPE_CHECKING:
    from celeriac.connection.store_access import StoreAccess

#: How long the end of the process waits for the connection to close (seconds).
_GOODBYE_S: Final = 2.0


class _Opened(Protocol):
    """A connection that is in use."""

    @property
    def access(self) -> TaskAccess: ...

    async def close(self) -> None: ...


class ProcessConnection:
    """Finds a connection at its first use and keeps it: it is a `TaskAccess` for the thread of `calling/blocking.py`.

    It finds another one if a variable of the environment has changed, or if the `celeriac up` that it found was started
    again. A forked child connects anew.
    """

    def __init__(self) -> None:
        self._chosen: list[Place] = []
        self._opened: _Opened | None = None
        #: Where it leads to, and what named that, if it was not found.
        self._place: Place | None = None
        self._named: Place | None = None
        self._mark: Mark = ()
        call_after_fork(self)
        atexit.register(self._at_exit)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        keep_inherited(self._opened)
        self._opened = None

    def use(self, place: Place) -> Callable[[], None]:
        """Submit to this place from now on, wherever else the environment leads; returns what ends that.

        A worker submits to its own store, and a test to its platform. The last one that was named counts.
        """
        self._chosen.append(place)
        return lambda: self._chosen.remove(place) if place in self._chosen else None

    async def close(self) -> None:
        """Disconnect. The next call connects again. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def _at_exit(self) -> None:
        if self._opened is not None:
            finish(self.close(), _GOODBYE_S)

    # --- a TaskAccess

    async def submit(self, task: NewTask) -> tuple[str, Status]:
        """See `TaskAccess.submit`."""
        return await (await self._access()).submit(task)

    def takes_ids(self) -> bool:
        """Whether `submit_as` works: the store takes an id, the API chooses it. Asks nobody."""
        if self._chosen:
            return self._chosen[-1].api is None
        return client_environment().url is None

    async def submit_as(self, task_id: str, task: NewTask) -> tuple[str, Status]:
        """Submit a task under an id that was chosen before, once; raises as `submit` does.

        Raises `SettingsError` over HTTP: only the store takes an id.
        """
        access = await self._access()
        if self._place is not None and self._place.api is not None:
            raise SettingsError(
                "a task whose id is known before it is submitted needs the store, not an API: set REDIS_URL instead of"
                " CELERIAC_URL, or use an outbox"
            )
        return await cast("StoreAccess", access).submit_as(task_id, task)

    async def get(self, task_id: str) -> Task:
        """See `TaskAccess.get`."""
        return await (await self._access()).get(task_id)

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`."""
        return await (await self._access()).ended(task_id, timeout)

    async def outcome(self, task_id: str, timeout: float | None) -> Outcome:
        """See `TaskAccess.outcome`."""
        return await (await self._access()).outcome(task_id, timeout)

    async def run(self, task: NewTask) -> Outcome:
        """See `TaskAccess.run`."""
        return await (await self._access()).run(task)

    async def cancel(self, task_id: str) -> Status:
        """See `TaskAccess.cancel`."""
        return await (await self._access()).cancel(task_id)

    async def retry(self, task_id: str, payload: Payload | None) -> Status:
        """See `TaskAccess.retry`."""
        return await (await self._access()).retry(task_id, payload)

    async def follow(self, task_id: str) -> AsyncGenerator[Progress | Ended]:
        """See `TaskAccess.follow`."""
        async with aclosing((await self._access()).follow(task_id)) as items:
            async for item in items:
                yield item

    async def log(self, task_id: str, level: str) -> AsyncGenerator[LogLine]:
        """See `TaskAccess.log`."""
        async with aclosing((await self._access()).log(task_id, level)) as lines:
            async for line in lines:
                yield line

    async def _access(self) -> TaskAccess:
        chosen = self._chosen[-1] if self._chosen else None
        if self._opened is None or chosen is not self._named or self._mark != self._present_mark():
            # Nothing is awaited between the look and the connection, so that all callers share one.
            before = self._opened
            self._place = chosen or find_place()
            self._opened, self._named, self._mark = _open(self._place), chosen, self._present_mark()
            if before is not None:
                await before.close()
        return self._opened.access

    def _present_mark(self) -> Mark:
        return () if self._place is None or self._place is self._named else mark_of(self._place)


def _open(place: Place) -> _Opened:
    if place.api is not None:
        return AsyncClient(place.api.url, token=place.api.token)
    # Imported here: a program that uses the API does not need the store's driver.
    from celeriac.connection.store_access import StoreAccess

    assert place.settings is not None
    return StoreAccess(place.settings)


#: Types of tasks use it (see `calling/access.py`).
process_connection: Final = ProcessConnection()
provide(process_connection)
