"""The app of `INSTALLED_APPS`: `celeriac.contrib.django`."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings

from celeriac.contrib.django.configuring import configure


class CeleriacConfig(AppConfig):
    """Hands `settings.CELERIAC` to Celeriac, and has the outbox' table, the checks and the admin."""

    name = "celeriac.contrib.django"
    label = "celeriac"
    verbose_name = "Celeriac"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hand the settings over, register the checks, and surround attempts, also those of `run_task`."""
        configure(getattr(settings, "CELERIAC", {}))
        from celeriac.contrib.django import checking  # noqa: F401 - registers them
        from celeriac.contrib.django.surroundings import surrounded
        from celeriac.tasks.registry import registry

        registry.surround(surrounded)
