"""The app of this process: what `celery -A celeriac_tasks ...` finds, and where plain Celery tasks register.

In a process that has none yet, it is made of the settings in the environment and in the file.
"""

from __future__ import annotations

from celeriac.settings import load_settings
from celeriac_tasks.app import process_app

app = process_app(load_settings)
# After the name exists: modules of plain Celery tasks import it from here.
app.load_types()
