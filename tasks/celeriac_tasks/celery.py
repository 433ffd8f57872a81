"""The app of this process: what `celery -A celeriac_tasks ...` finds, and where plain Celery tasks register.

In a process that has none yet, it is made of the settings in the environment and in the file. Where these name no
store, it is that of the `celeriac up` that runs on the data folder: a script beside it can call `.delay()`.
"""

from __future__ import annotations

from celeriac.installation.discovery import joined_settings
from celeriac.settings import Settings
from celeriac_tasks.engine.app import process_app


def _settings() -> Settings:
    settings, _ = joined_settings(None, None)
    return settings


app = process_app(_settings)
# After the name exists: modules of plain Celery tasks import it from here.
app.load_types()
