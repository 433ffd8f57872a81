"""What `worker_pool` of an adopted app and `celeriac worker --pool` call the platform's own pool."""

from __future__ import annotations

from typing import Final

from celery.concurrency import ALIASES

NAME: Final = "celeriac"
#: Its class, as Celery's `worker_pool` has it.
CLASS: Final = "celeriac_tasks.engine.pools.pool:TaskPool"


def name_own_pool() -> None:
    """Let Celery find the pool by its name. Idempotent."""
    ALIASES[NAME] = CLASS
