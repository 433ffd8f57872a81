"""Whether the code that asks is called by a handler, for calls that a handler must not make."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

#: Whether a handler runs in this context: what it starts as tasks of its loop included.
HANDLER_RUNS: Final = ContextVar("handler_runs", default=False)
