"""The app of this process: `celery -A celeriac_tasks ...` finds it here, and plain Celery tasks register with it.

Importing it needs nothing that runs. At its first use it takes the settings of the environment and the file. If these
do not name a store, it uses the store of the `celeriac up` that runs on the data folder, so that a script beside it
can call `.delay()`.
"""

from __future__ import annotations

from celeriac.installation.discovery import joined_settings
from celeriac.settings import Settings
from celeriac_tasks.adoption.adopting import process_app


def _settings() -> Settings:
    settings, _ = joined_settings(None, None)
    return settings


app = process_app(_settings)
