"""The Celery settings that an operator edits: `celeryconfig.py`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def celeryconfig_settings() -> dict[str, Any]:
    """Return the settings of `celeryconfig.py` in the current folder or on the path; empty if there is none."""
    if importlib.util.find_spec("celeryconfig") is None:
        return {}
    module = importlib.import_module("celeryconfig")
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and name.islower()}
