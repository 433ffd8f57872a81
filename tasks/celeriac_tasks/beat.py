"""`celery -A celeriac_tasks beat`: Celery's beat process around our scheduler.

It fires definitions, and it turns the entries of `beat_schedule` into definitions. Any number of these processes
may run, together with any number of `celeriac beat` processes.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Any, Final

import celery.beat

from celeriac.errors import HistoryUnavailableError, StoreUnavailableError
from celeriac.schedules.running_scheduler import following_code, scheduler_on
from celeriac.schedules.scheduler import Scheduler as DefinitionScheduler
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.threads.loop_thread import LoopThread
from celeriac_tasks.beat_schedule import CELERYCONFIG, CODE, import_beat_schedule

log = logging.getLogger(__name__)

#: How long a step waits for an unavailable store, and the pause after a failed step (seconds).
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.5
#: How long a process that ends may take to disconnect (seconds).
_GOODBYE_S: Final = 5.0


class BeatScheduler(celery.beat.Scheduler):
    """A scheduler with Celery's interface (`beat_scheduler`) that reads the due definitions from the database."""

    def setup_schedule(self) -> None:
        """Connect. Celery calls this once, when the process starts."""
        self._settings: Settings = self.app.celeriac_settings
        self.max_interval = self._settings.schedule.tick
        self._thread = LoopThread("definitions")
        self._thread.start()
        self._open = AsyncExitStack()
        self._imported = False
        self._closed = False
        self._store: TaskStore
        self._scheduler: DefinitionScheduler
        self._thread.wait(self._connect())

    def tick(self, *_: Any, **__: Any) -> float:
        """Fire the definitions that are due; returns the seconds until the next call."""
        try:
            return self._thread.wait(self._step())
        except (StoreUnavailableError, HistoryUnavailableError) as exc:
            log.warning("beat waits until the store and the database are available: %s", exc)
        except Exception:
            log.exception("a step of beat failed; beat continues")
        return _PAUSE_S

    def sync(self) -> None:
        """Do nothing: the database already has everything."""

    def close(self) -> None:
        """Disconnect. Idempotent."""
        if self._closed:
            return
        # Set first: a signal handler may call this during a step, and the end of the process calls it again.
        self._closed = True
        try:
            self._thread.wait(self._open.aclose(), _GOODBYE_S)
        except TimeoutError:
            log.warning("beat ends without disconnecting, because the store or the database does not answer")
        self._thread.stop(abandon=True)

    @property
    def info(self) -> str:
        """The line that Celery prints when the process starts."""
        return "    . db -> definitions in SQL"

    async def _connect(self) -> None:
        settings = self._settings.model_copy(update={"database_url": self._settings.history_url})
        assert settings.redis_url is not None
        self._store = TaskStore(settings.redis_url, settings.store, patience_s=_PATIENCE_S)
        self._open.push_async_callback(self._store.stop)
        self._scheduler = await self._open.enter_async_context(scheduler_on(self._store, settings))
        follower = await self._open.enter_async_context(following_code(self._store, settings))
        await follower.start()
        self._open.push_async_callback(follower.stop)

    async def _step(self) -> float:
        if not self._imported:
            await import_beat_schedule(self.app, self._store, origins=[CELERYCONFIG, CODE])
            self._imported = True
        return await self._scheduler.step()
