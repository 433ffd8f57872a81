"""Which apps are ours: Celery calls receivers of signals and remote commands for every app of the process."""

from __future__ import annotations

from typing import Any


def is_adopted(app: Any) -> bool:
    """Whether the tasks of an app have records (see `app.py`). It looks for no store."""
    return hasattr(type(app), "celeriac_settings")
