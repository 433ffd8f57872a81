"""The app of a project: its broker and configuration count, and the platform adds what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.errors import SettingsError
from celeriac.installation.discovery import joined_settings
from celeriac.settings import Settings, load_settings
from celeriac.tasks.registry import load
from celeriac_tasks.adoption.configuration import use_store
from celeriac_tasks.compatibility.broker import on_redis, store_url_of
from celeriac_tasks.compatibility.findings import refusals
from celeriac_tasks.engine.app import CeleriacApp, SettingsSource


class ProjectSettings(SettingsSource):
    """Settings of a project's app: the platform's own come from its files, the addresses from the project."""

    follows = False
    stops_revoked = False

    def __init__(self, redis_url: str | None, overrides: Mapping[str, Any] | None = None) -> None:
        self.redis_url = redis_url
        #: Settings that count more than files and environment.
        self.overrides = dict(overrides or {})

    def find(self, app: CeleriacApp) -> Settings:
        """Return the settings with the store's address; raises `SettingsError` also for what cannot be honoured."""
        if not _has_broker(app.conf):
            return joined_settings(None, None, {**self.overrides, "redis_url": self.redis_url})[0]
        settings = self._settings(app)
        redis_url = settings.redis_url if settings.other_broker else self.redis_url
        refused = refusals(app, redis_url=redis_url, key_prefix=settings.key_prefix)
        if refused:
            raise SettingsError("; ".join(f"{finding.subject}: {finding.sentence}" for finding in refused))
        return settings

    def without_store(self, app: CeleriacApp) -> Settings:
        """Return the settings with the project's broker, if it has one."""
        return self._settings(app) if _has_broker(app.conf) else load_settings(None, self.overrides)

    def configure(self, app: CeleriacApp, conf: Any) -> None:
        """Add what the platform needs; what the project has set stays."""
        settings = app.settings_so_far
        if not _has_broker(conf):
            conf.broker_url = settings.broker_url or settings.redis_url
        use_store(app, conf, settings)
        if not settings.other_broker and not conf.value_set_for("worker_disable_prefetch"):
            # Another worker with a free slot can run what would wait in this one.
            conf.worker_disable_prefetch = True

    def load_types(self, app: CeleriacApp) -> None:
        """Import the modules of `imports` in celeriac.yaml, which may define task types beside Celery's tasks."""
        load(load_settings(None, self.overrides).imports)

    def _settings(self, app: CeleriacApp) -> Settings:
        """Return the settings for the project's broker; the store may be missing."""
        if on_redis(app):
            # REDIS_URL of a project may well be its cache, so the broker counts.
            store = store_url_of(app)
            return load_settings(None, {**self.overrides, "redis_url": store, "broker_url": store})
        overrides = {**self.overrides, "redis_url": self.redis_url, "broker_url": str(app.conf.broker_write_url)}
        try:
            return joined_settings(None, None, overrides)[0]
        except SettingsError:
            return load_settings(None, overrides)


def _has_broker(conf: Any) -> bool:
    return bool(conf.broker_url or conf.broker_write_url)
