"""`celeriac beat`: a process for the background roles. Any number may run.

Workers also run the roles that keep tasks moving. This process records the history as well, as workers with
`ledger.in_workers` do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Any

from celeriac.errors import SettingsError
from celeriac.execution.last_moment import ENOUGH_S, end_within
from celeriac.history.roles import keeping
from celeriac.outbox.relay import relaying
from celeriac.schedules.running_scheduler import scheduling
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import load, registry
from celeriac.tasks.titles import Titles
from celeriac.up.heartbeat import beating
from celeriac_tasks.adoption.adopting import process_app
from celeriac_tasks.beat_schedule import BeatScheduleImport
from celeriac_tasks.celeryconfig_file import celeryconfig_settings
from celeriac_tasks.engine.background import background_roles
from celeriac_tasks.engine.brokers.broker import Broker
from celeriac_tasks.mirror.mirror import RemoteMirror

log = logging.getLogger(__name__)

#: How long the process waits for the store when it starts (seconds).
_PATIENCE_S = 60.0


def main(settings: Settings, options: dict[str, Any]) -> int:
    """Run the roles until SIGTERM or SIGINT; returns 0. Raises `SettingsError` as `load` does."""
    del options
    # Like every process: what cannot be imported is said at the start.
    load(settings.imports)
    asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    if settings.redis_url is None:
        raise SettingsError("redis_url is not set: set REDIS_URL, or start `celeriac up` and use its --data-dir")
    if settings.database_url is not None:
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: not on Windows
            os.nice(settings.ledger.nice)
    stopping = asyncio.Event()

    def stop() -> None:
        # What it holds is taken over by another beat: the last moments may not wait for a store that is away.
        end_within(ENOUGH_S)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(number, stop)
    async with TaskStore(settings.redis_url, settings.store, patience_s=_PATIENCE_S) as store:
        mirrored = settings.dispatch.mirror and settings.worker.send_events
        app = process_app(lambda: settings) if mirrored or settings.other_broker else None
        roles = background_roles(store, Broker(app) if settings.other_broker else None)
        if settings.database_url is not None and celeryconfig_settings().get("beat_schedule"):
            roles.append(BeatScheduleImport(app=app or process_app(lambda: settings), store=store))
        if mirrored:
            roles.append(RemoteMirror(store=store, app=app, most_workers=settings.dispatch.mirror_workers))
        titles = Titles(TypeCatalog(registry, store))
        async with beating(), keeping(store, settings, titles), scheduling(store, settings), relaying(store, settings):
            for role in roles:
                await role.start()
            log.info(
                "beat: promoting, reaping, sweeping%s",
                "" if settings.database_url is None else ", firing definitions and recording history",
            )
            await stopping.wait()
            for role in reversed(roles):
                await role.stop()
