"""Pools in which a worker would not work: it says so at its start, and does not start."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from celery import signals

from celeriac.threads.os_threads import greenlets_are_threads
from celeriac_tasks.engine.adopted import is_adopted

EVENTLET = "the pool eventlet is not supported, and Celery supports it up to Python 3.9 only: use --pool gevent"
_UNPATCHED = (
    "the pool gevent was chosen after other modules had been loaded: start the worker with `--pool gevent`, not with"
    " the setting worker_pool, so that Celery prepares the process for it"
)
_NO_UVLOOP = "the pool gevent needs uvloop for its event loops: install uvloop, or use another pool"


def refusal_of(pool: str) -> str | None:
    """Return why a worker cannot have a pool (the module of its class), None if it can."""
    name = pool.rpartition(".")[2]
    if name == "eventlet":
        return EVENTLET
    if name == "gevent" and not greenlets_are_threads():
        return _UNPATCHED
    if name == "gevent" and importlib.util.find_spec("uvloop") is None:
        return _NO_UVLOOP
    return None


def refuse(sender: Any = None, **_: Any) -> None:
    """End the process if its worker cannot have the pool that was chosen; Celery calls this when a worker starts."""
    if not is_adopted(sender.app):
        return
    pool = sender.pool_cls
    refusal = refusal_of(pool.partition(":")[0] if isinstance(pool, str) else pool.__module__)
    if refusal is not None:
        print(f"celeriac: {refusal}", file=sys.stderr)
        # Celery would log any other exception and go on.
        raise SystemExit(1)


signals.worker_init.connect(refuse)
