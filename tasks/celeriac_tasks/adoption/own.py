"""The platform's own app (`celery -A celeriac_tasks`, `celeriac worker`): its settings and Celery's configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import celeriac.tasks.types.demo  # noqa: F401 - registers itself
from celeriac.errors import SettingsError
from celeriac.settings import Settings, WorkerSettings, load_settings
from celeriac.tasks.parameters import module_name
from celeriac.tasks.registry import load
from celeriac_tasks import bulk
from celeriac_tasks.adoption.configuration import use_store
from celeriac_tasks.celeryconfig_file import celeryconfig_settings
from celeriac_tasks.engine.app import CeleriacApp, SettingsSource
from celeriac_tasks.files import handler as file_process
from celeriac_tasks.grpc_task import install
from celeriac_tasks.own_pool import CLASS as OWN_POOL


class OwnSettings(SettingsSource):
    """Settings from the platform's files and environment; `celeryconfig.py` in the current folder overrides them.

    The app can be imported and its tasks called as functions with nothing running. What needs the store looks for it
    each time until it is found.
    """

    follows = True
    stops_revoked = True

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def find(self, app: CeleriacApp) -> Settings:
        """Return the settings with the store's address; raises `SettingsError`."""
        settings = self._settings()
        if settings.redis_url is None:
            raise SettingsError("redis_url is not set: set REDIS_URL, or start `celeriac up` and use its --data-dir")
        return settings

    def without_store(self, app: CeleriacApp) -> Settings:
        """Return the settings of the environment and the file alone."""
        return load_settings()

    def configure(self, app: CeleriacApp, conf: Any) -> None:
        """Set what the platform needs."""
        settings = app.settings_so_far
        conf.update({**celery_settings(settings), **celeryconfig_settings()})
        use_store(app, conf, settings)

    def load_types(self, app: CeleriacApp) -> None:
        """Install what the platform brings."""
        settings = app.settings_so_far
        load(settings.imports)
        # Installed even if no service is configured: its tasks then fail with the reason instead of waiting for ever.
        install(settings, app.celeriac_registry)
        bulk.install(settings, app.celeriac_registry)
        file_process.install(settings, app.celeriac_registry)

    def module_name(self, name: str) -> str:
        """Return the name under which workers import a program: those that it publishes to know no `__main__`."""
        return module_name(name)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration of the platform's own app; each line is a deliberate decision."""
    on_redis = not settings.other_broker
    return {
        "broker_url": settings.broker_url or settings.redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # The queue has the group's name and uses the default exchange, so there are no bindings to lose.
        "task_default_queue": "default",
        "task_default_exchange": "",
        "task_default_routing_key": "default",
        "task_create_missing_queues": True,
        # The default priority is served last; on Redis that is 9.
        "task_default_priority": 9 if on_redis else 0,
        "task_acks_late": True,
        **_pool_settings(settings.worker, prefork=_asks_for_prefork(sys.argv)),
        # Definitions are in SQL, and so are the entries of beat_schedule.
        "beat_scheduler": "celeriac_tasks.beat:BeatScheduler",
        # A message leaves its queue only when a slot is free.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": on_redis,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": settings.worker.send_events,
        # With another broker, a program that publishes would need a connection to it for these events alone.
        "task_send_sent_event": settings.worker.send_events and on_redis,
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
    }


def _pool_settings(worker: WorkerSettings, *, prefork: bool) -> dict[str, Any]:
    if not prefork:
        return {"worker_pool": OWN_POOL, "worker_concurrency": worker.concurrency}
    # The default is meant for one event loop. Celery's own is one process per processor.
    return {"worker_concurrency": worker.concurrency} if "concurrency" in worker.model_fields_set else {}


def _asks_for_prefork(arguments: Sequence[str]) -> bool:
    """Whether this is `celery worker -P prefork`: Celery treats that as its default, which a setting overrides."""
    joined = " ".join(arguments)
    return any(f" {option}prefork" in joined for option in ("-P ", "-P", "--pool ", "--pool="))
